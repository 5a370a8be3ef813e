//! Schemes that store one weight as several tensors: codes, the scales of their blocks, and what describes them.
//!
//! ```text
//! bitsandbytes 4-bit   P.weight U8 [n/2, 1]     P.weight.absmax F32 | U8 [blocks]     P.weight.quant_map F32 [16]
//!                      P.weight.nested_absmax F32 [blocks/256]     P.weight.nested_quant_map F32 [256]
//!                      P.weight.quant_state.bitsandbytes__nf4 U8: JSON
//! LLM.int8             P.weight I8 [out, in]    P.SCB F32 [out]   P.weight_format U8 []
//! FP8 in tiles         P.weight F8_E4M3 [out, in]     P.weight_scale_inv F32 [out/128, in/128]
//! FP8 of rows, tensors P.weight F8_E4M3 [out, in]     P.weight_scale F32 [out, 1] | [1]
//! MXFP8                P.weight F8_E4M3 [out, in]     P.weight_scale U8 [out, in/32]: exponents, E8M0
//! MXFP4 of gpt-oss     P_blocks U8 [experts, out, in/32, 16]     P_scales U8 [experts, out, in/32]: exponents, E8M0
//! ```
//!
//! The scales of a panel are known when the panel is; doubly quantised scales, and the JSON that holds their mean, when
//! the whole tensor is. A single scale for a whole tensor needs all values before any is encoded: they are computed
//! twice (`largest.rs`). The length of that JSON depends on the digits of the mean: the longest is reserved at the end
//! of the file, which is cut once the length is known.

use lorakit_quant::bnb::double_quant::{self, Rounding};
use lorakit_quant::bnb::{FourBit, Nested, QuantState, int8};
use lorakit_quant::{fp8, mxfp4};
use lorakit_tensor::DType;

use super::float8::{Fp8, GROUP, TILE};

/// How one weight becomes several tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packer {
    /// bitsandbytes 4-bit: blocks of `block` values run over the flattened tensor.
    FourBit {
        /// The table of values.
        kind: FourBit,
        /// Values per scale.
        block: usize,
        /// Whether the scales are quantised too.
        nested: bool,
    },
    /// LLM.int8: one scale for each row.
    Int8,
    /// 8-bit floats, and which of them share a scale.
    Fp8(Fp8),
    /// 4-bit floats of a stack of matrices `(experts, in, out)`, as in gpt-oss: 32 values of a column share a power of
    /// two, and matrices are stored transposed. Columns divide into such groups.
    Mxfp4,
}

/// How a computed matrix is packed, and what a reader makes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The scheme.
    pub packing: Packer,
    /// The shape of the weight.
    pub shape: Vec<usize>,
    /// The dtype of the values that a reader gets.
    pub dtype: DType,
}

/// One of the tensors of a packed weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The scales.
    Scales,
    /// The scales of the scales.
    NestedScales,
    /// The JSON that says how to read the rest; possibly shorter than planned.
    State,
}

impl Packer {
    /// Its usual name.
    pub fn name(self) -> &'static str {
        match self {
            Packer::FourBit { kind, .. } => label(kind),
            Packer::Int8 => "INT8",
            Packer::Fp8(Fp8::Tile) => "FP8",
            Packer::Fp8(Fp8::Tensor) => "FP8-TENSOR",
            Packer::Fp8(Fp8::Row) => "FP8-CHANNEL",
            Packer::Fp8(Fp8::Group) => "MXFP8",
            Packer::Mxfp4 => "MXFP4",
        }
    }

    /// The same with `block` values per scale, and scales that are quantised or not, if the scheme has a choice.
    pub fn with_settings(self, block: usize, nested: bool) -> Self {
        match self {
            Packer::FourBit { kind, .. } => Packer::FourBit { kind, block, nested },
            other => other,
        }
    }

    /// Rows that must be encoded together, so that no block is cut.
    pub(super) fn rows_together(self, cols: usize) -> usize {
        match self {
            Packer::FourBit { block, .. } => block / gcd(block, cols.max(1)),
            Packer::Fp8(Fp8::Tile) => TILE,
            Packer::Mxfp4 => GROUP,
            Packer::Int8 | Packer::Fp8(_) => 1,
        }
    }

    /// Bytes of the codes of `values` values.
    pub(crate) fn code_bytes(self, values: usize) -> usize {
        match self {
            Packer::FourBit { .. } | Packer::Mxfp4 => values.div_ceil(2),
            Packer::Int8 | Packer::Fp8(_) => values,
        }
    }

    /// The length of a row must be a multiple of this.
    pub fn cols_together(self) -> usize {
        if self == Packer::Fp8(Fp8::Group) { GROUP } else { 1 }
    }

    /// Number of scales that are known with the first `rows` rows: none if all rows share one.
    pub(super) fn scales(self, rows: usize, cols: usize) -> usize {
        match self {
            Packer::FourBit { block, .. } => (rows * cols).div_ceil(block),
            Packer::Int8 => rows,
            Packer::Fp8(fp8) => fp8.tiles(cols).map_or(0, |t| rows.div_ceil(t.height) * t.per_row()),
            Packer::Mxfp4 => rows / GROUP * cols,
        }
    }

    /// The dtype of scales.
    pub(super) fn scale_dtype(self) -> DType {
        match self {
            Packer::FourBit { nested: true, .. } | Packer::Fp8(Fp8::Group) | Packer::Mxfp4 => DType::U8,
            _ => DType::F32,
        }
    }

    /// Scales as they are stored, if they are stored one by one.
    pub(super) fn scale_bytes(self, scales: &[f32]) -> Vec<u8> {
        match self {
            Packer::Fp8(Fp8::Group) | Packer::Mxfp4 => scales.iter().map(|scale| fp8::e8m0(*scale)).collect(),
            _ => little_endian(scales),
        }
    }

    /// Whether the largest magnitude of the whole tensor is needed before any value can be encoded.
    pub(super) fn needs_largest(self) -> bool {
        self == Packer::Fp8(Fp8::Tensor)
    }

    /// Whether the scales of the whole tensor are needed before any can be written.
    pub(super) fn nested(self) -> bool {
        matches!(self, Packer::FourBit { nested: true, .. })
    }

    /// Encodes rows that start at a multiple of [`Self::rows_together`] in a tensor whose largest magnitude is
    /// `largest`, if that is needed; adds their scales to `scales` and replaces `values` with what a reader will see
    /// (before the scales are quantised themselves).
    pub(crate) fn encode(
        self,
        cols: usize,
        largest: f32,
        values: &mut [f32],
        codes: &mut [u8],
        scales: &mut Vec<f32>,
    ) {
        let from = scales.len();
        scales.resize(from + self.scales(values.len() / cols.max(1), cols), 0.0);
        let scales = &mut scales[from..];
        match self {
            Packer::FourBit { kind, block, .. } => {
                kind.encode(values, block, codes, scales);
                kind.decode(codes, scales, block, 0, values);
            }
            Packer::Int8 => {
                int8::encode(values, cols, codes, scales);
                int8::decode(codes, scales, cols, 0, values);
            }
            Packer::Fp8(fp8) => fp8.encode(cols, largest, values, codes, scales),
            Packer::Mxfp4 => {
                let strips = values.chunks_exact_mut((GROUP * cols).max(1));
                let strips = strips.zip(codes.chunks_exact_mut((GROUP / 2 * cols).max(1)));
                for ((values, codes), scales) in strips.zip(scales.chunks_exact_mut(cols.max(1))) {
                    mxfp4::encode_columns(cols, values, codes, scales);
                }
            }
        }
    }
}

impl Packed {
    /// The fewest rows of a panel whose codes and scales are stored one after another.
    pub(super) fn rows_of_panel(&self, cols: usize) -> usize {
        self.transposed_rows().unwrap_or(self.packing.rows_together(cols)).max(1)
    }

    /// Rows of a matrix that is stored transposed.
    fn transposed_rows(&self) -> Option<usize> {
        match (self.packing, self.shape.as_slice()) {
            (Packer::Mxfp4, [.., rows, _]) => Some(*rows),
            _ => None,
        }
    }

    /// Brings the codes and scales of a panel, as made by [`Packer::encode`], into the order in which they are stored.
    pub(super) fn arrange(&self, cols: usize, codes: &mut Vec<u8>, scales: &mut Vec<f32>) {
        if let Some(rows) = self.transposed_rows() {
            transpose(codes, GROUP / 2, rows / GROUP, cols);
            transpose(scales, 1, rows / GROUP, cols);
        }
    }

    /// The parts that need all scales of a tensor, or its largest magnitude.
    pub(super) fn finish(&self, scales: &[f32], largest: f32) -> Vec<(Part, Vec<u8>)> {
        let (kind, block) = match self.packing {
            Packer::FourBit { kind, block, nested: true } => (kind, block),
            Packer::Fp8(fp8 @ Fp8::Tensor) => {
                return vec![(Part::Scales, little_endian(&[fp8.scale(largest)]))];
            }
            _ => return Vec::new(),
        };
        let offset = double_quant::offset(scales);
        let mut codes = vec![0; scales.len()];
        let mut nested = vec![0.0; scales.len().div_ceil(double_quant::BLOCK)];
        double_quant::encode(scales, offset, Rounding::Nearest, &mut codes, &mut nested);
        let state = state(kind, block, &self.shape, self.dtype, Some(offset));
        vec![
            (Part::Scales, codes),
            (Part::NestedScales, little_endian(&nested)),
            (Part::State, state.to_json().into_bytes()),
        ]
    }
}

pub(super) fn state(
    kind: FourBit,
    block: usize,
    shape: &[usize],
    dtype: DType,
    offset: Option<f32>,
) -> QuantState {
    let nested = offset.map(|offset| Nested { offset });
    QuantState { quant_type: kind, block_size: block, dtype, shape: shape.to_vec(), nested }
}

/// Transposes matrices of `rows` x `cols` units, of `unit` items each.
fn transpose<T: Copy>(items: &mut Vec<T>, unit: usize, rows: usize, cols: usize) {
    let mut turned = Vec::with_capacity(items.len());
    for matrix in items.chunks_exact((unit * rows * cols).max(1)) {
        for (col, row) in (0..cols).flat_map(|col| (0..rows).map(move |row| (col, row))) {
            turned.extend_from_slice(&matrix[(row * cols + col) * unit..][..unit]);
        }
    }
    *items = turned;
}

/// The bytes of `values` as they are stored.
pub(super) fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn label(kind: FourBit) -> &'static str {
    match kind {
        FourBit::Nf4 => "NF4",
        FourBit::Fp4 => "FP4",
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
