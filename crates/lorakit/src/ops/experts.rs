//! What is worth telling about experts in a written adapter.

use std::collections::{HashMap, HashSet};

use crate::adapter::{Adapter, Experts, Module};
use crate::arch::names;
use crate::{Finding, Severity};

/// The notes for `adapter`, which is written in the format `to`.
pub(crate) fn expert_notes(adapter: &Adapter, to: &str) -> Vec<Finding> {
    if to == "peft" { single(adapter).into_iter().chain(padded(adapter)).collect() } else { Vec::new() }
}

/// Experts as layers of their own: not every version of transformers has such layers.
fn single(adapter: &Adapter) -> Option<Finding> {
    let one = |module: &&Module| {
        let expert = names::expert_of(&module.path);
        module.parameter.is_none() && expert.is_some_and(|(.., leaf)| names::projection(leaf).is_some())
    };
    let single: Vec<&Module> = adapter.modules.iter().filter(one).collect();
    let first = single.first()?;
    let of = |module: &Module| (module.rank(), module.scale(module.rank()).to_bits());
    let alike = single.iter().all(|module| of(module) == of(first)) && is_complete(&single);
    let (severity, message) = if alike {
        let message = "single experts are modules of their own: PEFT applies them where each expert is a layer \
                       (transformers 4), and packs them itself where a layer's experts are one parameter (transformers \
                       5)";
        (Severity::Note, message)
    } else {
        let message = "single experts differ in rank or scale, or some are missing: PEFT applies them where each expert is a layer \
                       (transformers 4), and cannot load them where a layer's experts are one parameter (transformers \
                       5)";
        (Severity::Warning, message)
    };
    Some(Finding::new(severity, "single-experts", &first.path, message))
}

/// Whether each layer has the same matrices of all its experts, gate and up together.
fn is_complete(single: &[&Module]) -> bool {
    use names::Projection::{Gate, Up};
    let mut of_layer: HashMap<&str, HashMap<usize, Vec<names::Projection>>> = HashMap::new();
    for module in single {
        let Some((layer, expert, leaf)) = names::expert_of(&module.path) else { continue };
        of_layer.entry(layer).or_default().entry(expert).or_default().extend(names::projection(leaf));
    }
    of_layer.values().all(|experts| {
        let Some(first) = experts.get(&0) else { return false };
        let has = |all: &[names::Projection], one| all.contains(&one);
        has(first, Gate) == has(first, Up)
            && (0..experts.len()).all(|expert| {
                experts.get(&expert).is_some_and(|own| {
                    own.len() == first.len() && own.iter().all(|projection| first.contains(projection))
                })
            })
    })
}

/// Experts of one parameter share a rank.
fn padded(adapter: &Adapter) -> Option<Finding> {
    let mut ranks: HashMap<&str, HashSet<usize>> = HashMap::new();
    for module in &adapter.modules {
        if let Some(Experts::One { .. }) = module.experts {
            ranks.entry(names::module_of(&module.path)).or_default().insert(module.rank());
        }
    }
    let first = ranks.iter().filter(|(_, ranks)| ranks.len() > 1).map(|(path, _)| *path).min()?;
    let message = "the experts of one parameter are stored with the highest rank among them, padded with zeros: PEFT \
                   packs them so";
    Some(Finding::new(Severity::Note, "experts-padded", first, message))
}
