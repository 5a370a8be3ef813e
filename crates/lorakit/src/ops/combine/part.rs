//! Adapters of which modules were left out.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::Value;

use crate::adapter::{Adapter, Module, Strength};
use crate::arch::names;
use crate::plan::{Progress, go_on};
use crate::{Base, Finding, Result, Severity};

/// The adapters with a module for each expert: of a parameter, if `packs` and all of them have the same packed, else of
/// each projection.
///
/// # Errors
/// As [`Adapter::unpacked`].
pub(super) fn separate(
    adapters: &mut [(Adapter, f64)],
    packs: bool,
    base: Option<&Base>,
    progress: &dyn Progress,
) -> Result<()> {
    let packs = packs && agree(adapters);
    for (adapter, _) in adapters {
        go_on(progress, "anything was written")?;
        let whole = adapter.clone();
        *adapter = if packs { whole.split()? } else { whole.unpacked(base)? };
    }
    Ok(())
}

/// Whether experts that one adapter packs are packed in all that change them, in the same order and number, and for the
/// same shapes.
fn agree(adapters: &[(Adapter, f64)]) -> bool {
    let mut known: HashMap<String, (usize, usize, usize)> = HashMap::new();
    let mut layers: HashSet<String> = HashSet::new();
    for module in adapters.iter().flat_map(|(adapter, _)| &adapter.modules).filter(|m| m.is_packed()) {
        let Some(experts) = module.packed_experts() else { return false };
        let shape = (experts, module.a.info().rows_cols().1, module.b.info().rows_cols().0);
        if *known.entry(names::meaning(&module.path).into_owned()).or_insert(shape) != shape {
            return false;
        }
        layers.extend(module.layer().map(|layer| names::meaning(&layer).into_owned()));
    }
    let single = |module: &Module| {
        let expert = names::expert_of(&module.path).map(|(experts, ..)| experts);
        let listed = names::listed(&module.path).map(|(experts, ..)| experts);
        expert.or(listed).is_some_and(|experts| layers.contains(names::meaning(experts).as_ref()))
    };
    !adapters.iter().flat_map(|(adapter, _)| &adapter.modules).any(single)
}

/// Makes PEFT's configuration name the modules that are left and no others: a pattern that also matches one that was
/// left out would make PEFT add an empty module there.
pub(super) fn describe(adapter: &mut Adapter) {
    let has = |part: fn(&Module) -> bool| adapter.modules.iter().any(part);
    let (dora, bias) = (has(|m| m.magnitude.is_some()), has(|m| m.bias.is_some()));
    let plain = adapter.modules.iter().filter(|module| module.parameter.is_none());
    let paths: Vec<Value> = plain.map(|module| module.path.as_str().into()).collect();
    let of_parameters = adapter.modules.iter().filter(|module| module.parameter.is_some());
    let parameters: BTreeSet<String> = of_parameters.map(Module::key).collect();
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
            && name != "target_parameters"
            && (dora || name != "use_dora")
            && (bias || name != "lora_bias")
    });
    raw.insert("target_modules".into(), paths.into());
    if !parameters.is_empty() {
        let parameters: Vec<Value> = parameters.into_iter().map(Value::from).collect();
        raw.insert("target_parameters".into(), parameters.into());
    }
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
