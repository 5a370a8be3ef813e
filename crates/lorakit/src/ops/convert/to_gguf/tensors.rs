//! Which Hugging Face tensor becomes which GGUF tensor.

use std::collections::HashSet;
use std::sync::Arc;

use lorakit_tensor::DType;

use crate::arch::{Architecture, Heads};
use crate::plan::OutputTensor;
use crate::{Error, ErrorKind, Result};

/// Buffers of old checkpoints that the configuration says better.
const BUFFERS: &[&str] =
    &[".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.masked_bias"];

/// The tensors of a GGUF file: `tensors`, named as in Hugging Face files and perhaps edited, with the names, row
/// order and dtypes that llama.cpp expects.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for a tensor that the family does not know; [`ErrorKind::Unmatched`] if one that it
/// needs is missing; [`ErrorKind::Shape`] if rows do not form the heads of the model.
pub(crate) fn gguf_tensors(
    architecture: &Architecture,
    layers: usize,
    heads: Heads,
    tensors: Vec<OutputTensor>,
) -> Result<Vec<OutputTensor>> {
    let mut written = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let name = tensor.info.name.clone();
        if BUFFERS.iter().any(|buffer| name.ends_with(buffer)) {
            continue;
        }
        let Some(found) = architecture.match_hf(&name).filter(|found| found.layer.is_none_or(|l| l < layers))
        else {
            let message = format!(
                "is not a tensor of a {}-layer model of the family `{}` as llama.cpp knows it",
                layers,
                architecture.gguf()
            );
            return Err(Error::new(ErrorKind::Unsupported, message).tensor(&name));
        };
        let shape = tensor.info.shape.clone();
        let rows = shape.first().copied().unwrap_or(1);
        let permutation = found.rule.permutation(rows, heads).map_err(|e| Error::from(e).tensor(&name))?;
        let tensor = match permutation {
            None => tensor,
            Some(permutation) => {
                let order: Arc<[usize]> = (0..rows).map(|row| permutation.hf_row(row)).collect();
                tensor.with_rows(order, shape.clone())?
            }
        };
        let float = lorakit_quant::codec(tensor.info.dtype).is_some();
        let tensor = tensor.renamed(found.gguf_name(), shape);
        // Vectors and norms are read as F32 by every kernel of ggml; other types abort it.
        written.push(match tensor.info.shape.len() < 2 && float {
            true => tensor.stored_in(DType::F32),
            false => tensor,
        });
    }
    require_all(architecture, layers, &written)?;
    Ok(written)
}

fn require_all(architecture: &Architecture, layers: usize, tensors: &[OutputTensor]) -> Result<()> {
    let present: HashSet<&str> = tensors.iter().map(|t| t.info.name.as_str()).collect();
    for rule in architecture.tensors().iter().filter(|rule| !rule.optional && rule.flag.is_none()) {
        let repeats = if rule.is_layered() { layers } else { 1 };
        for layer in 0..repeats {
            let name = rule.gguf_name(rule.is_layered().then_some(layer));
            if !present.contains(name.as_str()) {
                let message = "the model needs it and has none under any name that is known";
                return Err(Error::new(ErrorKind::Unmatched, message).tensor(&name));
            }
        }
    }
    Ok(())
}
