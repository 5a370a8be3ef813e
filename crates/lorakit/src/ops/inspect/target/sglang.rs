//! SGLang: `sglang/srt/lora/lora_config.py`, `lora_manager.py` (`validate_new_adapter`), `lora.py`, `utils.py`.

use std::collections::{BTreeMap, BTreeSet};

use super::case::Case;
use super::program::Program;
use crate::adapter::ModuleKind;

/// SGLang.
pub(super) const SGLANG: Program = Program {
    id: "sglang",
    aliases: &[],
    title: "SGLang",
    about: "PEFT folders of plain LoRA with one rank and one scale",
    format: "peft",
    ask,
};

fn ask(case: &mut Case<'_>) {
    case.needs("peft", "SGLang reads PEFT folders");
    case.plain_peft("SGLang");
    if case.adapter.format == "peft" {
        configuration(case);
    }
    attention(case);
    if case.adapter.modules.iter().any(|module| module.kind == ModuleKind::Embedding) {
        let reason = "SGLang takes a low-rank embedding only on one GPU (`--tp 1`)";
        case.warn("embedding", reason.into(), None);
    }
}

/// What it reads from `adapter_config.json`.
fn configuration(case: &mut Case<'_>) {
    let adapter = case.adapter;
    let (config, raw) = (&adapter.config, &adapter.config.raw);
    let missing: Vec<&str> = ["target_modules", "r", "lora_alpha"]
        .into_iter()
        .filter(|key| raw.get(*key).is_none_or(serde_json::Value::is_null))
        .collect();
    let text = raw.get("target_modules").and_then(|targets| targets.as_str());
    let expression = text.filter(|text| !["all", "all-linear"].contains(text));
    if config.use_rslora {
        let fix = case.folded();
        let reason =
            "SGLang overlooks `use_rslora`: its scale is alpha / r, so the adapter is too weak by sqrt(r)";
        case.refuse("rslora", reason.into(), Some(fix));
    }
    if !missing.is_empty() {
        let fix = case.convert("peft");
        let keys = missing.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(" and ");
        case.refuse("configuration", format!("SGLang needs {keys} in `adapter_config.json`"), Some(fix));
    }
    if expression.is_some() {
        let ends = adapter.modules.iter().filter_map(|module| module.path.rsplit('.').next());
        let names: Vec<String> =
            ends.collect::<BTreeSet<_>>().iter().map(|name| format!("\"{name}\"")).collect();
        let fix = format!("write `[{}]` there", names.join(", "));
        let reason =
            "`target_modules` is an expression, and SGLang takes a list of names, `all` or `all-linear`";
        case.refuse("targets", reason.into(), Some(fix));
    }
    if adapter.folder().join("added_tokens.json").is_file() {
        let reason = "`added_tokens.json` is beside it: SGLang refuses adapters that add tokens to the base's vocabulary";
        case.warn("added-tokens", reason.into(), None);
    }
}

/// It stacks q, k and v: k may be missing, the others may not. Attention with latent keys (MLA) is not stacked.
fn attention(case: &mut Case<'_>) {
    let mut layers: BTreeMap<&str, [bool; 3]> = BTreeMap::new();
    for module in &case.adapter.modules {
        let Some((parent, name)) = module.path.rsplit_once('.') else { continue };
        if ["kv_a_proj_with_mqa", "kv_b_proj"].contains(&name) {
            return;
        }
        if let Some(place) = ["q_proj", "k_proj", "v_proj"].iter().position(|one| *one == name) {
            layers.entry(parent).or_default()[place] = true;
        }
    }
    let Some((layer, has)) = layers.into_iter().find(|(_, [q, _, v])| !(*q && *v)) else { return };
    let missing = if has[0] { "v_proj" } else { "q_proj" };
    let reason = format!("`{layer}` has no `{missing}`: SGLang stacks q, k and v, and does without k only");
    case.warn("attention", reason, None);
}
