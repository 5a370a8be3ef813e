//! Maps GGUF tensors to Hugging Face tensors.

use std::collections::HashSet;

use lorakit_tensor::TensorInfo;
use lorakit_tensor::format::gguf::Metadata;

use super::keys::Keys;
use crate::arch::{Architecture, Heads, Match, RowPermutation};
use crate::model::gguf::Problem;
use crate::{Error, Result};

/// A tensor of the Hugging Face checkpoint, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HfTensor {
    /// The name in the checkpoint.
    pub(crate) name: String,
    /// Position of the GGUF tensor.
    pub(crate) source: usize,
    /// Where its rows come from. For a bias, rows are its values.
    pub(crate) rows: RowMap,
}

/// The order of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowMap {
    /// The same as in the source.
    Identity,
    /// Row `n` is row `gguf_row(n)` of the source.
    Permuted(RowPermutation),
    /// The rows of one expert in a stack.
    Expert(usize),
}

/// The tensors of the checkpoint, in the order of `tensors`. Every GGUF tensor is used once, except for those that
/// the family drops (see [`TensorRule::dropped`](crate::arch::TensorRule::dropped)), and stacks of experts, which are
/// used once per expert.
///
/// # Errors
/// `Unsupported` for a tensor that the family does not know; `Incomplete` if a required tensor is missing; `Corrupt`
/// if the shape of a tensor contradicts the metadata.
pub(crate) fn hf_tensors(
    architecture: &'static Architecture,
    metadata: &Metadata,
    tensors: &[TensorInfo],
) -> Result<Vec<HfTensor>> {
    let keys = Keys { metadata, architecture };
    let layers = keys.required_integer("block_count")?;
    let heads = heads(keys)?;
    let present: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    let experts = keys.integer("expert_count")?.unwrap_or(0);
    require_all(architecture, experts > 0, layers, &present)?;

    let mut mapped = Vec::with_capacity(tensors.len());
    for (source, tensor) in tensors.iter().enumerate() {
        let fail = |problem: Problem| Err(Error::from(problem).tensor(&tensor.name));
        let Some(found) = architecture.match_gguf(&tensor.name) else {
            return fail(Problem::UnknownTensor { family: architecture.gguf() });
        };
        if found.layer.is_some_and(|layer| layer as u64 >= layers) {
            return fail(Problem::Layer { layers });
        }
        if found.rule.is_stacked() {
            if tensor.shape.len() != 3 || tensor.shape[0] as u64 != experts || tensor.elements() == 0 {
                return fail(Problem::Stack { shape: tensor.shape.clone(), experts });
            }
            let one = |expert| {
                let name = Match { expert: Some(expert), ..found }.hf_name()?;
                Some(HfTensor { name, source, rows: RowMap::Expert(expert) })
            };
            mapped.extend((0..tensor.shape[0]).filter_map(one));
            continue;
        }
        let Some(name) = found.hf_name() else { continue };
        let rows = tensor.shape.first().copied().unwrap_or(1);
        let permutation = found.rule.permutation(rows, heads).map_err(|e| e.tensor(&tensor.name))?;
        mapped.push(HfTensor { name, source, rows: permutation.map_or(RowMap::Identity, RowMap::Permuted) });
    }
    Ok(mapped)
}

/// The head counts of the model.
pub(in crate::model) fn heads(keys: Keys<'_>) -> Result<Heads> {
    let query = keys.required_integer("attention.head_count")?;
    let key_value = keys.integer("attention.head_count_kv")?.unwrap_or(query);
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    Ok(Heads { query: count(query), key_value: count(key_value) })
}

/// The `config.json` switches that tell which optional tensors the layers have.
///
/// # Errors
/// `Unsupported` if some layers have such a tensor and some do not.
pub(in crate::model) fn flags(keys: Keys<'_>, tensors: &[TensorInfo]) -> Result<Vec<(&'static str, bool)>> {
    let layers = keys.required_integer("block_count")?;
    let mut flags: Vec<(&str, bool)> = Vec::new();
    for rule in keys.architecture.tensors() {
        let Some(flag) = rule.flag.as_deref() else { continue };
        let of_rule = |tensor: &&TensorInfo| {
            keys.architecture.match_gguf(&tensor.name).is_some_and(|found| std::ptr::eq(found.rule, rule))
        };
        let count = tensors.iter().filter(of_rule).count() as u64;
        let all = count == layers;
        match flags.iter().find(|(name, _)| *name == flag) {
            None if count == 0 || all => flags.push((flag, all)),
            Some((_, value)) if count == 0 && !value || all && *value => {}
            _ => {
                let problem = Problem::SomeLayers { count, layers, flag };
                return Err(Error::from(problem).tensor(&rule.gguf_name(None)));
            }
        }
    }
    Ok(flags)
}

/// # Errors
/// `Incomplete` with the first GGUF tensor that a model of the family needs but `present` lacks.
pub(in crate::model) fn require_all(
    architecture: &Architecture,
    experts: bool,
    layers: u64,
    present: &[&str],
) -> Result<()> {
    let present: HashSet<&str> = present.iter().copied().collect();
    for rule in architecture.tensors().iter().filter(|rule| rule.is_required(experts)) {
        let repeats = if rule.is_layered() { layers } else { 1 };
        for layer in 0..repeats {
            let name = rule.gguf_name(rule.is_layered().then_some(layer as usize));
            if !present.contains(name.as_str()) {
                return Err(Error::from(Problem::MissingTensor).tensor(&name));
            }
        }
    }
    Ok(())
}
