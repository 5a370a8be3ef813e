//! Experts in the form that transformers 5 has in memory and writes on request: all experts of a layer in two tensors.
//!
//! ```text
//! mlp.experts.gate_up_proj [E, 2I, H]   rows of expert e: I of its gate, I of its up      ffn_gate_exps, ffn_up_exps
//! mlp.experts.down_proj    [E, H, I]                                                      ffn_down_exps
//! ```

use crate::arch::Match;
use crate::model::Params;
use crate::model::gguf::Problem;
use crate::plan::OutputTensor;
use crate::tensor::RowOrder;
use crate::{Error, Result};

/// A tensor, and the rule that it matches.
pub(in crate::model) struct Found {
    /// The Hugging Face name by which it is sorted; for all experts of a layer, it contains the expert's placeholder.
    pub(in crate::model) name: String,
    pub(in crate::model) found: Match<'static>,
    pub(in crate::model) tensor: OutputTensor,
}

/// The stacks of which `tensor` consists; `parts` are their rules.
///
/// # Errors
/// [`ErrorKind::File`](crate::ErrorKind::File) if its shape contradicts `config.json`; as
/// [`OutputTensor::gather_rows`].
pub(in crate::model) fn unpack(
    params: &Params<'_>,
    parts: Vec<Match<'static>>,
    tensor: OutputTensor,
) -> Result<Vec<Found>> {
    let experts = params.experts()?;
    let hidden = params.required_integer("hidden_size")? as usize;
    let contradicts = |needed: &'static str| {
        let problem = Problem::Experts { shape: tensor.info.shape.clone(), needed, experts, hidden };
        Err(Error::from(problem).tensor(&tensor.info.name))
    };
    let rows = match (parts.len(), tensor.info.shape.as_slice()) {
        (1, &[e, rows, _]) if (e, rows) == (experts, hidden) => rows,
        (1, _) => return contradicts("[experts, hidden, inner]"),
        (n, &[e, rows, cols]) if (e, cols) == (experts, hidden) && rows.is_multiple_of(n) => rows / n,
        _ => return contradicts("[experts, 2 * inner, hidden]"),
    };
    let count = parts.len();
    let one = |(n, found): (usize, Match<'static>)| {
        let of_expert = |expert: usize| (expert * count + n) * rows..(expert * count + n + 1) * rows;
        let order = RowOrder::of_ranges((0..experts).map(of_expert));
        let stack = tensor.clone().gather_rows(experts * count * rows, &order, &[experts, rows])?;
        let name = found.hf_name().unwrap_or_default();
        Ok(Found { name, found, tensor: stack })
    };
    parts.into_iter().enumerate().map(one).collect()
}
