//! What a record says about a quantisation.

use lorakit_tensor::Reader;

use super::Quantization;
use crate::Result;
use crate::lineage::{Step, sha256};
use crate::plan::{Packer, Progress};

/// `step` with what decides the types and their bytes among its options. An importance matrix is identified by its
/// SHA-256.
///
/// # Errors
/// If that file cannot be read; [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted).
pub(crate) fn recorded(
    step: Step,
    quantization: &Quantization,
    reader: &Reader,
    progress: &dyn Progress,
) -> Result<Step> {
    let (mix, imatrix) = match quantization {
        Quantization::Gguf { mix, imatrix } => (mix, imatrix),
        Quantization::Packed { packing, promote } => {
            let (block, nested) = match packing {
                Packer::FourBit { block, nested, .. } => (Some(*block), *nested),
                _ => (None, false),
            };
            let step = step.with("type", packing.name()).with("block", block);
            return Ok(step
                .with("double_quant", nested.then_some(true))
                .with("promote", promote.then_some(true)));
        }
    };
    let sha256 = match imatrix {
        Some(path) => {
            let file = reader.open(path)?;
            progress.begin(file.len());
            Some(format!("sha256:{}", sha256(&file, progress)?))
        }
        None => None,
    };
    let types: Vec<String> = mix.options.overrides.iter().map(ToString::to_string).collect();
    Ok(step
        .with("type", mix.file_type.map_or("keep", |file_type| file_type.name()))
        .with("tensor_types", Some(types).filter(|types| !types.is_empty()))
        .with("output_type", mix.options.output.map(|dtype| dtype.name()))
        .with("token_embedding_type", mix.options.token_embedding.map(|dtype| dtype.name()))
        .with("pure", mix.options.pure.then_some(true))
        .with("leave_output", mix.options.leave_output.then_some(true))
        .with("promote", mix.promote.map(|dtype| dtype.name()))
        .with("imatrix", sha256))
}
