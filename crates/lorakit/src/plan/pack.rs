//! Schemes that store one weight as several tensors: codes, the scales of their blocks, and what describes them.
//!
//! ```text
//! bitsandbytes 4-bit   P.weight U8 [n/2, 1]     P.weight.absmax F32 | U8 [blocks]     P.weight.quant_map F32 [16]
//!                      P.weight.nested_absmax F32 [blocks/256]     P.weight.nested_quant_map F32 [256]
//!                      P.weight.quant_state.bitsandbytes__nf4 U8: JSON
//! LLM.int8             P.weight I8 [out, in]    P.SCB F32 [out]   P.weight_format U8 []
//! FP8                  P.weight F8_E4M3 [out, in]     P.weight_scale_inv F32 [out/128, in/128]
//! ```
//!
//! The scales of a panel are known when the panel is; doubly quantised ones, and the JSON that holds their mean,
//! when the whole tensor is. The length of that JSON depends on the digits of the mean: the longest is reserved, at
//! the end of the file, and the file is cut when it is known.

use std::sync::Arc;

use lorakit_quant::bnb::double_quant::{self, Rounding};
use lorakit_quant::bnb::{FourBit, Nested, QuantState, int8};
use lorakit_quant::codec;
use lorakit_quant::fp8::{ScaleRule, Tiles};
use lorakit_tensor::{DType, TensorInfo};

use super::recipe::{Compute, OutputTensor, Recipe};

/// How one weight becomes several tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// bitsandbytes 4-bit: blocks of `block` values run over the flattened tensor.
    FourBit {
        /// The table of values.
        kind: FourBit,
        /// Values of one scale.
        block: usize,
        /// Whether the scales are quantised too.
        nested: bool,
    },
    /// LLM.int8: one scale for each row.
    Int8,
    /// 8-bit floats with one scale for each tile of 128 rows and 128 columns.
    Fp8Tiles,
}

/// How a computed matrix is packed, and what a reader makes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The scheme.
    pub packing: Packing,
    /// The shape of the weight.
    pub shape: Vec<usize>,
    /// The dtype of the values that a reader gets.
    pub dtype: DType,
}

/// Which of a packed weight's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The scales.
    Scales,
    /// The scales of the scales.
    NestedScales,
    /// The JSON that says how to read the rest; shorter than planned, perhaps.
    State,
}

/// The side of an FP8 tile.
const TILE: usize = 128;

impl Packing {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Packing::FourBit { kind, .. } => label(kind),
            Packing::Int8 => "INT8",
            Packing::Fp8Tiles => "FP8",
        }
    }

    /// Rows that must be encoded together, so that no block is cut.
    pub(super) fn rows_together(self, cols: usize) -> usize {
        match self {
            Packing::FourBit { block, .. } => block / gcd(block, cols.max(1)),
            Packing::Int8 => 1,
            Packing::Fp8Tiles => TILE,
        }
    }

    /// Bytes of the codes of `values` values.
    pub(super) fn code_bytes(self, values: usize) -> usize {
        match self {
            Packing::FourBit { .. } => values.div_ceil(2),
            Packing::Int8 | Packing::Fp8Tiles => values,
        }
    }

    /// Number of scales of the first `rows` rows.
    pub(super) fn scales(self, rows: usize, cols: usize) -> usize {
        match self {
            Packing::FourBit { block, .. } => (rows * cols).div_ceil(block),
            Packing::Int8 => rows,
            Packing::Fp8Tiles => rows.div_ceil(TILE) * cols.div_ceil(TILE),
        }
    }

    /// Whether the scales of the whole tensor are needed before any can be written.
    pub(super) fn nested(self) -> bool {
        matches!(self, Packing::FourBit { nested: true, .. })
    }

    /// Encodes rows that start at a multiple of [`Self::rows_together`]; adds their scales to `scales` and replaces
    /// `values` by what a reader will see (before the scales are quantised themselves).
    pub(super) fn encode(self, cols: usize, values: &mut [f32], codes: &mut [u8], scales: &mut Vec<f32>) {
        let from = scales.len();
        scales.resize(from + self.scales(values.len() / cols.max(1), cols), 0.0);
        let scales = &mut scales[from..];
        match self {
            Packing::FourBit { kind, block, .. } => {
                kind.encode(values, block, codes, scales);
                kind.decode(codes, scales, block, 0, values);
            }
            Packing::Int8 => {
                int8::encode(values, cols, codes, scales);
                int8::decode(codes, scales, cols, 0, values);
            }
            Packing::Fp8Tiles => {
                let tiles = Tiles { cols, height: TILE, width: TILE };
                tiles.encode(ScaleRule::Reciprocal, values, codes, scales);
                if let Some(codec) = codec(DType::F8_E4M3) {
                    codec.decode(codes, values);
                }
                tiles.scale(scales, 0, values);
            }
        }
    }
}

impl Packed {
    /// The parts that need all scales of a tensor.
    pub(super) fn finish(&self, scales: &[f32]) -> Vec<(Part, Vec<u8>)> {
        let Packing::FourBit { kind, block, nested: true } = self.packing else { return Vec::new() };
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

impl OutputTensor {
    /// The tensors that hold `weight`, a computed matrix, in this packing. A reader gets values of `dtype`.
    ///
    /// The module of `P.weight` is `P`.
    pub fn packed(weight: TensorInfo, compute: Compute, packing: Packing, dtype: DType) -> Vec<Self> {
        let (rows, cols) = (compute.rows, compute.cols);
        let name = weight.name.clone();
        let module = name.strip_suffix(".weight").unwrap_or(&name).to_string();
        let scales = packing.scales(rows, cols);
        let (dtype_of_codes, shape_of_codes) = match packing {
            Packing::FourBit { .. } => (DType::U8, vec![packing.code_bytes(rows * cols), 1]),
            Packing::Int8 => (DType::I8, weight.shape.clone()),
            Packing::Fp8Tiles => (DType::F8_E4M3, weight.shape.clone()),
        };
        let tensor = |name: String, dtype, shape: Vec<usize>, recipe| OutputTensor {
            info: TensorInfo { name, dtype, shape },
            recipe,
        };
        let part = |part| Recipe::Part { of: name.clone(), part };
        let given = |bytes: Vec<u8>| Recipe::Bytes(Arc::from(bytes));
        let shape = weight.shape.clone();
        let compute = Compute { packing: Some(Packed { packing, shape: shape.clone(), dtype }), ..compute };
        let mut tensors =
            vec![tensor(name.clone(), dtype_of_codes, shape_of_codes, Recipe::Compute(Box::new(compute)))];
        match packing {
            Packing::FourBit { kind, block, nested } => {
                let scale_dtype = if nested { DType::U8 } else { DType::F32 };
                tensors.push(tensor(format!("{name}.absmax"), scale_dtype, vec![scales], part(Part::Scales)));
                let map = given(little_endian(kind.table()));
                tensors.push(tensor(format!("{name}.quant_map"), DType::F32, vec![16], map));
                let key = format!("{name}.quant_state.bitsandbytes__{}", kind.name());
                if nested {
                    let count = scales.div_ceil(double_quant::BLOCK);
                    let nested = part(Part::NestedScales);
                    tensors.push(tensor(format!("{name}.nested_absmax"), DType::F32, vec![count], nested));
                    let map = given(little_endian(&double_quant::MAP));
                    tensors.push(tensor(format!("{name}.nested_quant_map"), DType::F32, vec![256], map));
                    let longest = state(kind, block, &shape, dtype, Some(0.0)).json_len_max();
                    tensors.push(tensor(key, DType::U8, vec![longest], part(Part::State)));
                } else {
                    let json = state(kind, block, &shape, dtype, None).to_json().into_bytes();
                    tensors.push(tensor(key, DType::U8, vec![json.len()], given(json)));
                }
            }
            Packing::Int8 => {
                tensors.push(tensor(format!("{module}.SCB"), DType::F32, vec![rows], part(Part::Scales)));
                let format = tensor(format!("{module}.weight_format"), DType::U8, Vec::new(), given(vec![0]));
                tensors.push(format);
            }
            Packing::Fp8Tiles => {
                let tiles = vec![rows.div_ceil(TILE), cols.div_ceil(TILE)];
                let name = format!("{module}.weight_scale_inv");
                tensors.push(tensor(name, DType::F32, tiles, part(Part::Scales)));
            }
        }
        tensors
    }
}

fn state(kind: FourBit, block: usize, shape: &[usize], dtype: DType, offset: Option<f32>) -> QuantState {
    let nested = offset.map(|offset| Nested { offset });
    QuantState { quant_type: kind, block_size: block, dtype, shape: shape.to_vec(), nested }
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
