//! Weights on their way into memory: a panel of rows at a time, checked, converted, and digested.

use std::borrow::Cow;
use std::ops::Range;

use lorakit::plan::Hash;
use lorakit::{Model as Files, TensorRef};
use lorakit_quant::bnb::FourBit;
use lorakit_quant::{codec, encoder};
use lorakit_tensor::{DType, TensorInfo};

use super::problem::Problem;
use super::{Quant, four_bit};
use crate::kernel::{FloatMatrix, FrozenMatrix, PackedMatrix};
use crate::{Error, Result};

/// Values that are read at a time.
const PANEL: u64 = 1 << 19;

/// A matrix in memory.
pub(super) struct Loaded {
    pub(super) matrix: Box<dyn FrozenMatrix>,
    /// The memory it takes.
    pub(super) bytes: u64,
    /// What it is stored as, with the hashes of the bytes.
    pub(super) parts: Vec<(TensorInfo, Hash)>,
}

/// The linear at `index` in the form `quant`.
pub(super) fn linear(files: &Files, index: usize, quant: Quant) -> Result<Loaded> {
    let tensor = files.tensor(index);
    let info = tensor.info();
    let packed = files.packing.as_ref().filter(|packing| packing.contains(index));
    let float = matches!(info.dtype, DType::F32 | DType::F16 | DType::BF16 | DType::F64);
    let loaded = match (quant, packed) {
        (Quant::Nf4 { double }, None) if float => four_bit::quantised(&tensor, FourBit::Nf4, double),
        (Quant::Nf4 { .. }, _) => Err(Problem::Requantised { stored_as: stored_as(files, &tensor) }.into()),
        (Quant::Keep, Some(packing)) => match packing.four_bit(index) {
            Some(parts) => four_bit::packed(files, info, parts),
            None => Err(Problem::Packed { stored_as: stored_as(files, &tensor) }.into()),
        },
        (Quant::Keep, None) => kept(&tensor),
        (Quant::F32 | Quant::F16 | Quant::Bf16, _) => cast(&tensor, quant.dtype().unwrap_or(DType::F32)),
    };
    loaded.map_err(|error| error.tensor(&info.name).at(tensor.path()))
}

fn stored_as(files: &Files, tensor: &TensorRef) -> String {
    match &files.packing {
        Some(packing) => packing.scheme.to_string(),
        None => tensor.info().dtype.to_string(),
    }
}

/// The matrix as it is stored.
pub(super) fn kept(tensor: &TensorRef) -> Result<Loaded> {
    let info = tensor.info();
    let (rows, cols) = info.rows_cols();
    let codec = match codec(info.dtype) {
        Some(codec) if !matches!(info.dtype, DType::F32 | DType::F64) => codec,
        _ => return cast(tensor, DType::F32),
    };
    let mut bytes = Vec::with_capacity(info.byte_len() as usize);
    for_each_panel(tensor, |first, panel| {
        if !codec.all_finite(panel) {
            let mut values = vec![0.0; elements(info, panel.len())];
            codec.decode(panel, &mut values);
            tensor.refuse_non_finite(first, &values)?;
        }
        bytes.extend_from_slice(panel);
        Ok(())
    })?;
    let (parts, taken) = (vec![(info.clone(), hash(&bytes))], bytes.len() as u64);
    let matrix = PackedMatrix::new(codec, bytes, rows, cols).ok_or(Problem::Parts)?;
    Ok(Loaded { matrix: Box::new(matrix), bytes: taken, parts })
}

/// The matrix in single values of `dtype`: F32, F16 or BF16.
fn cast(tensor: &TensorRef, dtype: DType) -> Result<Loaded> {
    let (rows, cols) = tensor.info().rows_cols();
    let info = TensorInfo { dtype, ..tensor.info().clone() };
    let beyond = || Error::from(Problem::Beyond { dtype });
    if dtype == DType::F32 {
        let mut values = Vec::with_capacity(rows * cols);
        let mut hasher = blake3::Hasher::new();
        for_each_values(tensor, |_, panel| {
            let bytes: Vec<u8> = panel.iter().flat_map(|value| value.to_le_bytes()).collect();
            hasher.update(&bytes);
            values.extend_from_slice(panel);
            Ok(())
        })?;
        let bytes = size_of_val(values.as_slice()) as u64;
        let parts = vec![(info, *hasher.finalize().as_bytes())];
        return Ok(Loaded { matrix: Box::new(FloatMatrix { values, cols }), bytes, parts });
    }
    let (codec, encoder) = codec(dtype).zip(encoder(dtype)).ok_or_else(beyond)?;
    let size = dtype.block().bytes;
    let mut bytes = Vec::with_capacity(rows * cols * size);
    for_each_values(tensor, |_, panel| {
        let from = bytes.len();
        bytes.resize(from + panel.len() * size, 0);
        encoder.encode(panel, &mut bytes[from..]);
        if codec.all_finite(&bytes[from..]) { Ok(()) } else { Err(beyond()) }
    })?;
    let (parts, taken) = (vec![(info, hash(&bytes))], bytes.len() as u64);
    let matrix = PackedMatrix::new(codec, bytes, rows, cols).ok_or(Problem::Parts)?;
    Ok(Loaded { matrix: Box::new(matrix), bytes: taken, parts })
}

/// A vector in f32, with what it is stored as.
pub(super) fn vector(tensor: &TensorRef) -> Result<(Vec<f32>, (TensorInfo, Hash))> {
    let values = tensor.values()?;
    tensor.refuse_non_finite(0, &values)?;
    let stored = tensor.read(0..tensor.info().byte_len())?;
    Ok((values, (tensor.info().clone(), hash(&stored))))
}

/// Calls `each` with panels of finite values, and the position of the first of each.
pub(super) fn for_each_values(
    tensor: &TensorRef,
    mut each: impl FnMut(u64, &[f32]) -> Result<()>,
) -> Result<()> {
    let info = tensor.info();
    let mut values = Vec::new();
    for range in panels(info) {
        values.resize((range.end - range.start) as usize, 0.0);
        tensor.decode(range.clone(), &mut values)?;
        tensor.refuse_non_finite(range.start, &values)?;
        each(range.start, &values)?;
    }
    Ok(())
}

/// Calls `each` with the bytes of panels, and the position of the first value of each.
fn for_each_panel(tensor: &TensorRef, mut each: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
    let info = tensor.info();
    let byte = |element| info.dtype.byte_len(element).unwrap_or_default();
    for range in panels(info) {
        let bytes: Cow<'_, [u8]> = tensor.read(byte(range.start)..byte(range.end))?;
        each(range.start, &bytes)?;
    }
    Ok(())
}

/// Ranges of values that end at multiples of [`PANEL`], and so at the ends of all kinds of blocks.
fn panels(info: &TensorInfo) -> impl Iterator<Item = Range<u64>> {
    let count = info.elements();
    (0..count).step_by(PANEL as usize).map(move |start| start..(start + PANEL).min(count))
}

fn elements(info: &TensorInfo, bytes: usize) -> usize {
    let block = info.dtype.block();
    bytes / block.bytes * block.elements
}

pub(super) fn hash(bytes: &[u8]) -> Hash {
    *blake3::hash(bytes).as_bytes()
}
