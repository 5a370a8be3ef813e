//! Selects the modules to pack in Hugging Face folders.

use lorakit_tensor::DType;

use super::Problem;
use super::result::PackedModel;
use crate::arch::names::{is_embedding, is_head, is_stored_transposed};
use crate::plan::{Chosen, Compute, OutputTensor, Packer, Recipe};
use crate::{Error, Model, Result};

/// Packs the linear layers among `tensors`; with `promote`, without those that adapters change. Readers get values
/// of `dtype`.
///
/// Embeddings, the output, norms, routers and stacked experts stay as they are, as transformers leaves them.
///
/// # Errors
/// `Unsupported` for a model whose layers are not stored as `(out, in)`.
pub(super) fn linear_layers(
    model: &Model,
    tensors: Vec<OutputTensor>,
    packing: Packer,
    dtype: DType,
    promote: bool,
) -> Result<PackedModel> {
    let family = model.config.as_ref().and_then(|c| c.model_type()).unwrap_or_default();
    let transposed = |module: Option<&str>| module.is_some_and(|module| is_stored_transposed(family, module));
    if tensors.iter().any(|tensor| transposed(tensor.info.name.strip_suffix(".weight"))) {
        return Err(Error::from(Problem::Transposed { packing: packing.name() }).at(&model.path));
    }
    let (mut written, mut chosen) = (Vec::new(), Vec::new());
    let (mut skipped, mut unpacked) = (Vec::new(), Vec::new());
    for tensor in tensors {
        let from = tensor.source_dtype().unwrap_or(tensor.info.dtype).name();
        let module = tensor.info.name.strip_suffix(".weight").map(str::to_string);
        let why = match reason_to_keep(&tensor, module.as_deref(), packing) {
            Some(Kept { why, linear }) => {
                unpacked.extend(module.filter(|_| linear));
                Some(why)
            }
            None if promote && tensor.edited() => {
                unpacked.extend(module.clone());
                skipped.extend(module);
                Some("changed by the adapter: promoted")
            }
            None => None,
        };
        let name = tensor.info.name.clone();
        let to = if why.is_some() { tensor.stored_as() } else { packing.name() };
        let why_text = why.map_or_else(|| "linear layer".to_string(), |why| format!("kept: {why}"));
        chosen.push(Chosen { name, from, to, why: why_text, fallback: false });
        if why.is_some() {
            written.push(tensor);
            continue;
        }
        let compute = match tensor.recipe {
            Recipe::Compute(compute) => *compute,
            Recipe::Copy(source) => Compute::cast(source),
            Recipe::Bytes(_) | Recipe::Part { .. } => {
                written.push(tensor);
                continue;
            }
        };
        written.extend(OutputTensor::packed(tensor.info, compute, packing, dtype));
    }
    Ok(PackedModel { tensors: written, chosen, skipped, unpacked, dtype, packing })
}

/// Why a tensor is not packed, and whether it belongs to a linear module.
struct Kept {
    why: &'static str,
    linear: bool,
}

fn reason_to_keep(tensor: &OutputTensor, module: Option<&str>, packing: Packer) -> Option<Kept> {
    let shape = tensor.info.shape.as_slice();
    let kept = |why| Some(Kept { why, linear: false });
    let linear = |why| Some(Kept { why, linear: true });
    let Some(module) = module else { return kept("not a weight") };
    let last = module.rsplit('.').next().unwrap_or_default();
    match shape {
        _ if is_embedding(module) => kept("an embedding"),
        _ if is_head(module) => linear("the output"),
        [_, _] if module.contains("norm") => kept("a norm"),
        [_, _] if matches!(last, "gate" | "router" | "shared_expert_gate") => linear("routes experts"),
        [_, cols] if !cols.is_multiple_of(packing.cols_together()) => {
            linear("rows do not divide into groups of 32")
        }
        [_, _] => None,
        [_] => kept("a vector"),
        _ => kept("not a matrix"),
    }
}
