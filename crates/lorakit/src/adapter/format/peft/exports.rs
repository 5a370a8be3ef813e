//! Exports to PEFT's format that are known to be wrong.

use crate::adapter::Adapter;
use crate::{Finding, Severity};

/// torchtune writes `adapter_model.pt` in its own layout and a conversion to PEFT's next to it. The conversion
/// reorders the rows of q and k in every family, even if the model itself is not reordered (Qwen 2 and 3), and never
/// those of the magnitudes (`models/convert_weights.py`, `training/checkpointing/_checkpointer.py`, April 2026).
pub(super) fn of_torchtune(adapter: &Adapter) -> Option<Finding> {
    let own = adapter.folder().join("adapter_model.pt");
    let rotated = |path: &str| path.ends_with(".q_proj") || path.ends_with(".k_proj");
    let mut turned = adapter.modules.iter().filter(|module| rotated(&module.path));
    let first = turned.next()?;
    if adapter.config.peft_version.is_some() || !own.is_file() || adapter.file() == Some(&*own) {
        return None;
    }
    let base = adapter.config.base_model.as_deref().unwrap_or_default().to_lowercase();
    let what = if base.contains("qwen") {
        "the rows of q and k are reordered, though torchtune's model of this family has them as they were"
    } else if first.magnitude.is_some() {
        "the magnitudes of q and k are in another order than the rows they belong to"
    } else {
        return None;
    };
    let message = format!("was exported by torchtune, and {what}; `adapter_model.pt` beside it is right");
    Some(Finding::new(Severity::Warning, "torchtune-export", "", message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::adapter::format::testing::{Folder, read};

    #[test]
    fn wrong_exports_are_told_from_right_ones() {
        let folder = Folder::new();
        let codes = |base: &str, module: &str, beside: bool| {
            let config = json!({"r": 1, "lora_alpha": 1, "target_modules": [module], "peft_type": "LORA",
                                "base_model_name_or_path": base});
            let names =
                ["A", "B"].map(|half| format!("base_model.model.model.layers.0.{module}.lora_{half}.weight"));
            let path = folder.adapter(
                "export",
                "adapter_model.safetensors",
                config,
                &[(&names[0], &[1, 1], &[1.0]), (&names[1], &[2, 1], &[1.0, 2.0])],
            );
            let own = path.join("adapter_model.pt");
            if beside {
                std::fs::write(&own, "x").unwrap();
            } else {
                drop(std::fs::remove_file(&own));
            }
            let findings = read(&path, None).unwrap().findings;
            // The right file is another form of the adapter, and a pickle, which are findings as well.
            let of_files = ["other-adapters", "pickles-beside"];
            let own = findings.iter().map(|finding| finding.code).filter(|code| !of_files.contains(code));
            own.collect::<Vec<_>>()
        };
        assert_eq!(codes("Qwen/Qwen2.5-7B", "self_attn.q_proj", true), ["torchtune-export"]);
        assert!(codes("Qwen/Qwen2.5-7B", "self_attn.v_proj", true).is_empty());
        assert!(codes("meta-llama/Llama-3.2-1B", "self_attn.q_proj", true).is_empty());
        assert!(codes("Qwen/Qwen2.5-7B", "self_attn.q_proj", false).is_empty());
    }
}
