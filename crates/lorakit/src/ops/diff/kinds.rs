//! Tensors grouped by kind of layer.

use std::collections::HashMap;

use super::{Sums, TensorDiff};
use crate::arch::names::bare;

/// The tensors of one kind of layer, e.g. every `self_attn.q_proj`.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct KindDiff {
    /// The kind: the name after the number of the layer.
    pub kind: String,
    /// Number of tensors that A and B have in the same shape.
    pub tensors: usize,
    /// Those that differ.
    pub differing: usize,
    /// `||B - A|| / ||A||`, averaged over the tensors that differ; 0 if none does.
    pub mean: f64,
    /// The largest.
    pub max: f64,
    /// Of the values of A and B, all tensors together.
    #[serde(rename = "values")]
    pub whole: Sums,
    /// Of what A and B add to the base, where that is known.
    pub deltas: Option<Sums>,
}

/// Groups what could be measured; the kind that changed most on average comes first.
pub(super) fn by_kind(tensors: &[TensorDiff]) -> Vec<KindDiff> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut kinds: Vec<KindDiff> = Vec::new();
    for tensor in tensors {
        let Some(change) = &tensor.change else { continue };
        let kind = kind_of(&tensor.name);
        let place = *places.entry(kind.clone()).or_insert(kinds.len());
        if place == kinds.len() {
            kinds.push(KindDiff {
                kind,
                tensors: 0,
                differing: 0,
                mean: 0.0,
                max: 0.0,
                whole: Sums::default(),
                deltas: None,
            });
        }
        let group = &mut kinds[place];
        let distance = change.whole.distance().unwrap_or(f64::INFINITY);
        group.tensors += 1;
        if tensor.state.differs() {
            group.differing += 1;
            group.mean += distance;
            group.max = group.max.max(distance);
        }
        group.whole += change.whole;
        if let Some(deltas) = change.deltas {
            *group.deltas.get_or_insert_default() += deltas;
        }
    }
    kinds.iter_mut().for_each(|group| group.mean /= group.differing.max(1) as f64);
    kinds.sort_by(|a, b| b.mean.total_cmp(&a.mean));
    kinds
}

/// The name after the number of the layer, with `*` for the number of an expert, without `.weight`.
fn kind_of(name: &str) -> String {
    let name = name.strip_suffix(".weight").unwrap_or(name);
    let parts: Vec<&str> = name.split('.').collect();
    let number = |part: &&str| part.bytes().all(|b| b.is_ascii_digit());
    let Some(layer) = parts.iter().position(number) else {
        return bare(name).to_string();
    };
    let rest = parts[layer + 1..].iter().map(|part| if number(part) { "*" } else { part });
    rest.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_layers() {
        for (name, kind) in [
            ("model.layers.11.self_attn.q_proj.weight", "self_attn.q_proj"),
            ("model.layers.0.mlp.experts.7.up_proj.weight", "mlp.experts.*.up_proj"),
            ("transformer.h.3.attn.c_attn.bias", "attn.c_attn.bias"),
            ("model.embed_tokens.weight", "embed_tokens"),
            ("lm_head.weight", "lm_head"),
        ] {
            assert_eq!(kind_of(name), kind);
        }
    }
}
