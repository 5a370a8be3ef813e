//! Initialisations that take something out of a weight whenever PEFT loads the adapter.

use super::edit::{Change, Edit, Fitting};
use super::layer::Fit;
use super::misfit::Misfit;
use super::problem::Reason;
use super::resolver::Resolver;
use crate::adapter::{Module, ModuleKind};
use crate::plan::Initial;

/// The `edits` by `module`, with what OLoRA takes out of its weight, as PEFT does it: out of the weight as it is stored,
/// so also of a square `Conv1D`; not out of embeddings, whose factors begin with zero, and not out of a weight that the
/// adapter brings along, because PEFT loads that afterwards.
///
/// # Errors
/// If PEFT knows no OLoRA on such a layer, or the base has the weight in several tensors.
pub(super) fn with(
    base: &Resolver<'_>,
    fitting: &Fitting<'_>,
    module: &Module,
    mut edits: Vec<Edit>,
) -> Fit<Vec<Edit>> {
    let olora = fitting.options.initial && fitting.adapter.config.is_olora();
    if !olora || module.kind == ModuleKind::Embedding || module.base_weight.is_some() {
        return Ok(edits);
    }
    let misfit = |reason| Err(Misfit::new(&module.path, reason));
    let unknown = |layer| misfit(Reason::InitialOf { layer });
    if module.experts.is_some() {
        return unknown("stacked experts");
    }
    if module.bias.is_some() {
        return unknown("a layer whose bias is trained (`lora_bias`)");
    }
    if module.a.info().shape.len() > 2 {
        return unknown("a convolution");
    }
    let count = edits.len();
    let [Edit { target, base: Some(index), change: Change::LowRank { terms, initial, .. }, .. }] =
        edits.as_mut_slice()
    else {
        return misfit(Reason::InitialInParts { count });
    };
    if module.path.contains(".base_layer.") || target.ends_with("in_proj_weight") {
        return unknown("`nn.MultiheadAttention`");
    }
    let [term] = terms.as_slice() else { return misfit(Reason::InitialInParts { count: terms.len() }) };
    let ((_, inputs), (outputs, _)) = (module.a.info().rows_cols(), module.b.info().rows_cols());
    let of_stack = base.tensors[*index].shape.len() > 2;
    if (term.rows.len(), term.a.cols) != (outputs, inputs) || of_stack && base.stacks_transposed() {
        return unknown("a weight that is stored as (in, out)");
    }
    *initial = Some(Initial { rows: term.rows.clone(), rank: term.rank(), scale: term.scale });
    Ok(edits)
}
