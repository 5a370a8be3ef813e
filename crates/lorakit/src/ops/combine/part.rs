//! Adapters of which modules were left out.

use serde_json::Value;

use crate::adapter::{Adapter, Module, Strength};
use crate::arch::names;
use crate::{Base, Finding, Result, Severity};

/// The adapter with a module for each expert.
///
/// # Errors
/// As [`Adapter::unpacked`].
pub(super) fn separate(adapter: &Adapter, base: Option<&Base>) -> Result<Adapter> {
    let packed = adapter.modules.iter().any(Module::is_packed);
    let mut separate = adapter.clone().unpacked(base)?;
    if packed {
        separate.config.raw.remove("target_parameters");
    }
    Ok(separate)
}

/// Whether some of the experts that share a module are left out. PEFT finds such modules by the order in which it
/// wraps them, so one of several cannot go alone.
pub(super) fn lacks_experts(strength: &Strength) -> bool {
    strength.left_out.iter().any(|path| names::is_experts(&path.replace(".base_layer", "")))
}

/// Makes PEFT's configuration name the modules that are left and no others: a pattern that also matches one that was
/// left out would make PEFT add an empty module there.
pub(super) fn describe(adapter: &mut Adapter) {
    let has = |part: fn(&Module) -> bool| adapter.modules.iter().any(part);
    let (packed, dora, bias) =
        (has(Module::is_packed), has(|m| m.magnitude.is_some()), has(|m| m.bias.is_some()));
    let plain = adapter.modules.iter().filter(|module| !module.is_packed());
    let paths: Vec<Value> = plain.map(|module| module.path.as_str().into()).collect();
    let raw = &mut adapter.config.raw;
    const LISTS: &[&str] = &[
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
        "modules_to_save",
        "trainable_token_indices",
    ];
    raw.retain(|name, _| {
        !LISTS.contains(&name.as_str())
            && (packed || name != "target_parameters")
            && (dora || name != "use_dora")
            && (bias || name != "lora_bias")
    });
    raw.insert("target_modules".into(), paths.into());
}

/// Notes that factors do not reach what adapters replace.
pub(super) fn taken_whole(adapters: &[(Adapter, f64)], strengths: &[Strength]) -> Vec<Finding> {
    let replacing = adapters.iter().zip(strengths).filter(|(_, strength)| strength.replacing > 0);
    let note = |((adapter, _), strength): (&(Adapter, f64), &Strength)| {
        let message =
            format!("weights apply to its deltas; {} saved tensors are taken over whole", strength.replacing);
        Finding::new(Severity::Warning, "weight-ignored", &adapter.path.display().to_string(), message)
    };
    replacing.map(note).collect()
}
