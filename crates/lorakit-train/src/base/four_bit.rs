//! Weights in 4-bit codes of bitsandbytes: quantised while they stream in, or as a folder holds them.
//!
//! What they are made of has the names and bytes that bitsandbytes and `lorakit quantize` write, so the digest of a base
//! that was quantised here is that of the folder that holds the same weights.

use lorakit::model::packed::FourBitParts;
use lorakit::plan::Hash;
use lorakit::{Model as Files, TensorRef};
use lorakit_quant::bnb::double_quant::{self, Rounding};
use lorakit_quant::bnb::{FourBit, Nested, QuantState};
use lorakit_tensor::{DType, TensorInfo, TensorSource};

use super::problem::Problem;
use super::weights::{Loaded, for_each_values, hash};
use crate::kernel::{FourBitMatrix, Scales};
use crate::{Error, Result};

/// Values that share a scale.
const BLOCK: usize = 64;

/// Quantises a weight. Only a panel of it is in memory besides the codes.
pub(super) fn quantised(tensor: &TensorRef, kind: FourBit, double: bool) -> Result<Loaded> {
    let info = tensor.info();
    let (rows, cols) = info.rows_cols();
    let count = rows * cols;
    let mut codes = vec![0; count.div_ceil(2)];
    let mut absmax = vec![0.0; count.div_ceil(BLOCK)];
    for_each_values(tensor, |first, values| {
        let first = first as usize;
        let (codes, absmax) = (&mut codes[first / 2..], &mut absmax[first / BLOCK..]);
        let (codes, absmax) =
            (&mut codes[..values.len().div_ceil(2)], &mut absmax[..values.len().div_ceil(BLOCK)]);
        kind.encode(values, BLOCK, codes, absmax);
        Ok(())
    })?;
    let scales = if double {
        let offset = double_quant::offset(&absmax);
        let mut nested = vec![0.0; absmax.len().div_ceil(double_quant::BLOCK)];
        let mut codes = vec![0; absmax.len()];
        double_quant::encode(&absmax, offset, Rounding::Nearest, &mut codes, &mut nested);
        Scales::Double { codes, nested, map: Box::new(double_quant::MAP), offset }
    } else {
        Scales::Plain(absmax)
    };
    loaded(info, kind, BLOCK, codes, scales)
}

/// A weight as a folder of bitsandbytes holds it.
pub(super) fn packed(files: &Files, info: &TensorInfo, parts: &FourBitParts) -> Result<Loaded> {
    let stored = files.checkpoint();
    let bytes = |index: usize| stored.read(index, 0..stored.tensors()[index].byte_len());
    let floats = |index: usize| -> Result<Vec<f32>> {
        let bytes = bytes(index)?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect())
    };
    let scales = match &parts.nested {
        None => Scales::Plain(floats(parts.scales)?),
        Some(nested) => Scales::Double {
            codes: bytes(parts.scales)?.into_owned(),
            nested: floats(nested.scales)?,
            map: Box::new(nested.map),
            offset: nested.offset,
        },
    };
    let numbers = match &scales {
        Scales::Plain(scales) => scales.clone(),
        Scales::Double { nested, map, offset, .. } => [nested, map.as_slice(), &[*offset]].concat(),
    };
    if let Some((block, value)) = numbers.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        return Err(Problem::Scale { value: *value, block }.into());
    }
    loaded(info, parts.kind, parts.block, bytes(parts.codes)?.into_owned(), scales)
}

fn loaded(info: &TensorInfo, kind: FourBit, block: usize, codes: Vec<u8>, scales: Scales) -> Result<Loaded> {
    let (rows, cols) = info.rows_cols();
    let parts = parts(info, kind, block, &codes, &scales);
    let bytes = match &scales {
        Scales::Plain(scales) => size_of_val(scales.as_slice()),
        Scales::Double { codes, nested, map, .. } => {
            codes.len() + size_of_val(nested.as_slice()) + size_of_val(map.as_slice())
        }
    };
    let bytes = (codes.len() + bytes) as u64;
    let matrix = FourBitMatrix::new(kind, codes, scales, block, rows, cols);
    let matrix = matrix.ok_or_else(|| Error::from(Problem::Parts))?;
    Ok(Loaded { matrix: Box::new(matrix), bytes, parts })
}

/// The tensors that such a weight is stored as.
fn parts(
    info: &TensorInfo,
    kind: FourBit,
    block: usize,
    codes: &[u8],
    scales: &Scales,
) -> Vec<(TensorInfo, Hash)> {
    let part = |end: &str, dtype, shape: Vec<usize>, bytes: &[u8]| {
        (TensorInfo { name: format!("{}{end}", info.name), dtype, shape }, hash(bytes))
    };
    let floats = |end: &str, values: &[f32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        part(end, DType::F32, vec![values.len()], &bytes)
    };
    let mut parts =
        vec![part("", DType::U8, vec![codes.len(), 1], codes), floats(".quant_map", kind.table().as_slice())];
    let nested = match scales {
        Scales::Plain(scales) => {
            parts.push(floats(".absmax", scales));
            None
        }
        Scales::Double { codes, nested, map, offset } => {
            parts.push(part(".absmax", DType::U8, vec![codes.len()], codes));
            parts.push(floats(".nested_absmax", nested));
            parts.push(floats(".nested_quant_map", map.as_slice()));
            Some(Nested { offset: *offset })
        }
    };
    let dtype = if matches!(info.dtype, DType::F16 | DType::BF16) { info.dtype } else { DType::F32 };
    let (block_size, shape) = (block, info.shape.clone());
    let state = QuantState { quant_type: kind, block_size, dtype, shape, nested }.to_json().into_bytes();
    let end = format!(".quant_state.bitsandbytes__{}", kind.name());
    parts.push(part(&end, DType::U8, vec![state.len()], &state));
    parts
}
