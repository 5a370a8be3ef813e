//! Configurations of LLaMA-Factory, as its arguments of 2025 and 2026 are, with those of transformers below them.

mod keys;

use self::keys::{KEYS, MIXING};
use super::draft::{Draft, Noted};
use super::program::Program;
use super::why::{PREFERENCES, WHOLE};
use crate::settings::value::{self, Value};

pub(super) const PROGRAM: Program = Program {
    name: "LLaMA-Factory",
    required: &[&["model_name_or_path"], &["stage", "dataset", "finetuning_type"]],
    keys: KEYS,
    read,
};

fn read(draft: &mut Draft) {
    // What LLaMA-Factory has by default, and transformers below it.
    draft.set_or("cutoff_len", "seq_len", "2048");
    draft.set_or("lora_rank", "lora.r", "8");
    draft.set_or("lora_dropout", "lora.dropout", "0");
    draft.set_or("per_device_train_batch_size", "batch_size", "8");
    draft.set_or("gradient_accumulation_steps", "grad_accum", "1");
    draft.set_or("num_train_epochs", "epochs", "3");
    draft.set_or("learning_rate", "lr", "5e-5");
    draft.set_or("weight_decay", "weight_decay", "0");
    draft.set_or("adam_epsilon", "eps", "1e-8");
    draft.set_or("max_grad_norm", "max_grad_norm", "1");
    draft.set_or("load_best_model_at_end", "best", "false");
    draft.default("too_long", "truncate");
    draft.betas();
    method(draft);
    data(draft);
    schedule(draft);
    draft.adamw("optim", "adamw_torch");
    draft.steps("eval_steps", "eval_every");
    draft.steps("save_steps", "save_every");
    draft.resume();
    match draft.text("adapter_name_or_path") {
        Some(paths) if paths.contains(',') && !draft.is_elsewhere("adapter") => {
            draft.refuse(
                "adapter_name_or_path",
                "a run begins with one adapter; `lorakit combine` makes one of several",
            );
        }
        Some(path) => draft.set("adapter_name_or_path", "adapter", Value::text(path)),
        None => {}
    }
    draft.note(
        "per_device_train_batch_size",
        Noted::Changed,
        "it counts rows of one GPU; with several, `grad_accum` must be so many times as large",
    );
    if let Some(steps) = draft.get("max_steps").filter(|steps| steps.as_number().is_some_and(|n| n > 0.0)) {
        draft.set("max_steps", "max_steps", steps);
    }
}

/// The kind of adapter, and how the base is held.
fn method(draft: &mut Draft) {
    match draft.text("stage").as_deref() {
        None | Some("sft") => {}
        Some("pt") => draft
            .refuse("stage", "texts are trained by `format: text` and `train_on: all`; write `stage: sft`"),
        Some(_) => draft.refuse("stage", PREFERENCES),
    }
    if draft.text("finetuning_type").is_some_and(|kind| kind != "lora") {
        draft.refuse("finetuning_type", WHOLE);
    }
    if draft.get("do_train").is_some_and(|value| value.as_switch() == Some(false)) {
        draft.refuse("do_train", "it trains nothing; `lorakit eval` judges an adapter");
    }
    if draft.text("model_revision").is_some_and(|revision| revision != "main") {
        draft.refuse("model_revision", "an id of the hub may name its commit, as in `OWNER/NAME@COMMIT`");
    }
    match draft.get("lora_alpha") {
        Some(alpha) => draft.set("lora_alpha", "lora.alpha", alpha),
        // Twice the rank, as here.
        None => draft.default("lora.alpha", "null"),
    }
    match draft.text("lora_target").as_deref() {
        None | Some("all") => draft.default("lora.target", "all-linear"),
        Some(names) => draft.set("lora_target", "lora.target", Value::text(names)),
    }
    let bits = draft.get("quantization_bit").and_then(|bits| bits.as_count());
    match bits {
        _ if draft.is_elsewhere("quant") => {}
        None => draft.default("quant", "keep"),
        Some(4) => draft.default("quant", "nf4"),
        Some(_) => {
            draft.refuse(
                "quantization_bit",
                "of quantised bases there is NF4; set the key `quant` to nf4 or keep",
            );
        }
    }
    if bits.is_some()
        && draft
            .text("quantization_method")
            .is_some_and(|name| !["bnb", "bitsandbytes"].contains(&name.as_str()))
    {
        draft.refuse("quantization_method", "of quantised bases there is NF4, as bitsandbytes has it");
    }
    if bits.is_some() && draft.text("quantization_type").is_some_and(|name| name != "nf4") {
        draft.refuse("quantization_type", "of quantised bases there is NF4");
    }
    draft.set_or("double_quantization", "double_quant", "true");
}

/// Rows, and what of them is trained.
fn data(draft: &mut Draft) {
    for (key, ours) in [("dataset", "data"), ("eval_dataset", "val")] {
        if draft.is_on(key) && !draft.is_elsewhere(ours) {
            draft.refuse(
                key,
                &format!("it names entries of dataset_info.json, which is not read; name their files by the key `{ours}`"),
            );
        }
    }
    if !draft.is_on("eval_dataset") {
        draft.held("val_size");
    }
    if draft.text("mix_strategy").is_some_and(|how| how != "concat") {
        draft.refuse("mix_strategy", MIXING);
    }
    let (packs, neat) = (draft.is_on("packing"), draft.is_on("neat_packing"));
    draft.default("packing", if packs || neat { "true" } else { "false" });
    if packs && !neat {
        draft.note(
            "packing",
            Noted::Changed,
            "there rows in a bin see each other unless `neat_packing` is on; here they never do",
        );
    }
    let all = draft.is_on("train_on_prompt");
    let last = draft.is_on("mask_history");
    match (all, last) {
        (true, true) => draft.refuse("mask_history", "it contradicts `train_on_prompt`"),
        (true, false) => draft.default("train_on", "all"),
        (false, true) => draft.default("train_on", "last-turn"),
        (false, false) => draft.default("train_on", "auto"),
    }
    if draft.text("template").is_some() && !draft.is_elsewhere("chat_template") {
        draft.note(
            "template",
            Noted::Changed,
            "rows go through the model's own template, not one of that name; `chat_template` names a file with another",
        );
    }
    if let Some(thinks) = draft.get("enable_thinking") {
        let variables = Value::Map(vec![("enable_thinking".into(), thinks)]);
        draft.set("enable_thinking", "template_kwargs", variables);
    }
}

/// The learning rate.
fn schedule(draft: &mut Draft) {
    let mut end = value::number(0.0);
    match (draft.text("lr_scheduler_type").as_deref(), draft.get("lr_scheduler_kwargs")) {
        (Some("cosine_with_min_lr"), Some(Value::Map(told))) => match told.as_slice() {
            [(name, ratio)] if name == "min_lr_rate" => {
                end = ratio.clone();
                draft.default("schedule", "cosine");
            }
            _ => draft.refuse(
                "lr_scheduler_kwargs",
                "of a cosine's end there is the share of the learning rate, `min_lr_rate`",
            ),
        },
        (_, told) => {
            draft.course("lr_scheduler_type", "linear");
            if told.is_some_and(|told| told != Value::Map(Vec::new())) {
                draft.refuse(
                    "lr_scheduler_kwargs",
                    "the schedules are cosine and linear down to `lr_end`, and constant",
                );
            }
        }
    }
    draft.set("lr_scheduler_kwargs", "lr_end", end);
    let steps = draft.get("warmup_steps").filter(|steps| steps.as_number() != Some(0.0));
    match steps {
        Some(steps) => draft.set("warmup_steps", "warmup_steps", steps),
        None => draft.set_or("warmup_ratio", "warmup_ratio", "0"),
    }
}
