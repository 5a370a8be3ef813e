//! Configurations of axolotl, as its schemas of 2025 and 2026 have them.

mod keys;
mod rows;

use self::keys::KEYS;
use self::rows::{TEMPLATE, data};
use super::draft::{Draft, Noted};
use super::program::Program;
use super::why::{KERNELS, TOKENS};
use crate::settings::value::{self, Value};

pub(super) const PROGRAM: Program =
    Program { name: "axolotl", required: &[&["base_model"], &["datasets"]], keys: KEYS, read };

fn read(draft: &mut Draft) {
    // What axolotl has by default, and transformers below it.
    draft.set_or("sequence_len", "seq_len", "512");
    draft.set_or("lora_dropout", "lora.dropout", "0");
    draft.set_or("num_epochs", "epochs", "1");
    draft.set_or("weight_decay", "weight_decay", "0");
    draft.set_or("adam_epsilon", "eps", "1e-8");
    draft.set_or("max_grad_norm", "max_grad_norm", "1");
    draft.set_or("load_best_model_at_end", "best", "false");
    draft.betas();
    data(draft);
    template(draft);
    adapter(draft);
    batches(draft);
    schedule(draft);
    draft.adamw("optimizer", "adamw_torch_fused");
    draft.steps("eval_steps", "eval_every");
    draft.steps("save_steps", "save_every");
    for (key, ours) in [("evals_per_epoch", "eval_every"), ("saves_per_epoch", "save_every")] {
        if draft.get(key).is_some_and(|value| value.as_number() != Some(1.0)) {
            draft.note(
                key,
                Noted::Changed,
                format!("`{ours}` counts steps, and is an epoch if it is not set; `--estimate` says how many an epoch has"),
            );
        }
    }
    if draft.is_on("auto_resume_from_checkpoints") {
        draft.default("resume", "auto");
    }
    draft.resume();
    if draft.get("peft_init_lora_weights").is_some_and(|value| value.as_switch() != Some(true)) {
        draft.refuse("peft_init_lora_weights", "factors begin as PEFT's do by default, A uniform and B zero");
    }
    if draft.get("shuffle_merged_datasets").is_some_and(|value| value.as_switch() == Some(false)) {
        draft.refuse("shuffle_merged_datasets", "rows are shuffled");
    }
    let kernels = |plugin: &Value| {
        plugin.as_text().is_some_and(|name| name.contains("Liger") || name.contains("CutCrossEntropy"))
    };
    match draft.get("plugins") {
        Some(Value::List(plugins)) if plugins.iter().all(kernels) => {
            draft.note("plugins", Noted::LeftOut, KERNELS);
        }
        Some(_) => draft.refuse("plugins", "plugins may change anything, and none is run here"),
        None => {}
    }
    if let Some(Value::Map(tokens)) = draft.get("special_tokens")
        && let Some((name, _)) =
            tokens.iter().find(|(name, value)| name != "pad_token" && *value != Value::Null)
    {
        draft.refuse("special_tokens", &format!("`{name}` would change; {TOKENS}"));
    }
}

fn template(draft: &mut Draft) {
    if draft.is_elsewhere("chat_template") {
        return;
    }
    match (draft.text("chat_template").as_deref(), draft.text("chat_template_jinja")) {
        (_, Some(path)) if path.ends_with(".jinja") => {
            draft.set("chat_template_jinja", "chat_template", Value::text(path));
        }
        (_, Some(_)) => draft.refuse("chat_template_jinja", "save the template as a file, and name that"),
        (None | Some("tokenizer_default"), None) => {}
        (Some(_), None) => draft.note("chat_template", Noted::Changed, TEMPLATE),
    }
}

/// The kind of adapter, and how the base is held.
fn adapter(draft: &mut Draft) {
    let quantised = draft.is_on("load_in_4bit");
    match draft.text("adapter").as_deref() {
        Some("lora" | "qlora") => {}
        None => draft
            .refuse("adapter", "without it axolotl trains all weights, and here only adapters are trained"),
        Some(_) => draft.refuse("adapter", "there are lora and qlora"),
    }
    if draft.is_on("load_in_8bit") && !draft.is_elsewhere("quant") {
        draft.refuse("load_in_8bit", "int8 bases are not trained on; set the key `quant` to nf4 or keep");
    }
    draft.default("quant", if quantised { "nf4" } else { "keep" });
    draft.default("double_quant", "true");
    for key in ["lora_r", "lora_alpha"] {
        let ours = key.replace('_', ".");
        if draft.get(key).is_none() && !draft.is_elsewhere(&ours) {
            draft.refuse(key, "it is not set, and axolotl has no default of its own");
        }
    }
    let linear = draft.is_on("lora_target_linear");
    match draft.get("lora_target_modules") {
        _ if draft.is_elsewhere("lora.target") => {}
        _ if linear => draft.default("lora.target", "all-linear"),
        Some(modules) => draft.set("lora_target_modules", "lora.target", modules),
        None => draft.refuse("lora_target_modules", "neither it nor `lora_target_linear` is set"),
    }
}

/// Rows of a step.
fn batches(draft: &mut Draft) {
    let count = |draft: &Draft, name: &str| draft.get(name).and_then(|value| value.as_count());
    draft.set_or("micro_batch_size", "batch_size", "1");
    let (all, some) = (count(draft, "batch_size"), count(draft, "micro_batch_size").unwrap_or(1));
    match (draft.get("gradient_accumulation_steps"), all) {
        (None, Some(all)) if some > 0 && all.is_multiple_of(some) => {
            draft.set("batch_size", "grad_accum", Value::plain(all / some));
        }
        (None, Some(_)) => draft.refuse("batch_size", "it is no multiple of `micro_batch_size`"),
        _ => draft.set_or("gradient_accumulation_steps", "grad_accum", "1"),
    }
    let unit = if draft.is_on("sample_packing") { "bins of up to seq_len tokens" } else { "rows" };
    draft.note(
        "micro_batch_size",
        Noted::Changed,
        format!("it counts {unit} of one GPU; with several, `grad_accum` must be so many times as large"),
    );
    if let Some(steps) = draft.get("max_steps").filter(|steps| steps.as_number().is_some_and(|n| n > 0.0)) {
        draft.set("max_steps", "max_steps", steps);
    }
}

/// The learning rate.
fn schedule(draft: &mut Draft) {
    if draft.get("learning_rate").is_none() && !draft.is_elsewhere("lr") {
        draft.refuse("learning_rate", "it is not set, and axolotl has no default");
    }
    draft.course("lr_scheduler", "cosine");
    let end = draft.get("cosine_min_lr_ratio").unwrap_or_else(|| value::number(0.0));
    draft.set("cosine_min_lr_ratio", "lr_end", end);
    match (draft.get("warmup_steps"), draft.get("warmup_ratio")) {
        (Some(steps), _) => draft.set("warmup_steps", "warmup_steps", steps),
        (None, Some(ratio)) => draft.set("warmup_ratio", "warmup_ratio", ratio),
        (None, None) => {
            draft.default("warmup_ratio", "0.03");
            draft.note(
                "",
                Noted::Changed,
                "axolotl warms up for 3 % of the steps, and at most for 100; here it is 3 %",
            );
        }
    }
}
