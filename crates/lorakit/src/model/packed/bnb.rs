//! Weights of bitsandbytes: see [`lorakit_quant::bnb`] for the tensors that belong together.

use lorakit_quant::bnb::{FourBit, Nested, QuantState, double_quant, int8 as llm_int8};
use lorakit_tensor::{Checkpoint, DType, Result as TensorResult, TensorInfo, TensorSource};
use serde_json::{Value, json};

use super::kind::{PackedType, PackingKind, USUAL_BLOCK};
use super::result::PackedModel;
use super::scheme::{FourBitParts, NestedScales, Packed, Scheme, Weight};
use super::stored::{Stored, values};
use super::{Problem, write};
use crate::Result;
use crate::model::torch_name;
use crate::plan::Packer;

/// NF4 and FP4.
pub(super) const FOUR_BIT: PackingKind = PackingKind {
    find: four_bit,
    types: &[
        PackedType {
            name: "nf4",
            packer: Packer::FourBit { kind: FourBit::Nf4, block: USUAL_BLOCK, nested: false },
            bits: 4.5,
            about: "bitsandbytes NF4, the base of QLoRA; 4.13 bits with `--double-quant`",
        },
        PackedType {
            name: "fp4",
            packer: Packer::FourBit { kind: FourBit::Fp4, block: USUAL_BLOCK, nested: false },
            bits: 4.5,
            about: "bitsandbytes FP4: a third more error than NF4",
        },
    ],
    pack: write::linear_layers,
    config,
};

/// LLM.int8.
pub(super) const INT8: PackingKind = PackingKind {
    find: int8,
    types: &[PackedType {
        name: "int8",
        packer: Packer::Int8,
        bits: 8.0,
        about: "bitsandbytes LLM.int8, one scale for each row",
    }],
    pack: write::linear_layers,
    config,
};

fn config(model: &PackedModel) -> Value {
    let (four, kind, nested, compute) = match model.packing {
        Packer::FourBit { kind, nested, .. } => {
            (true, kind.name(), nested, torch_name(model.dtype).unwrap_or("float32"))
        }
        _ => (false, "fp4", false, "float32"),
    };
    json!({
        "quant_method": "bitsandbytes",
        "_load_in_8bit": !four,
        "_load_in_4bit": four,
        "llm_int8_threshold": 6.0,
        "llm_int8_skip_modules": model.modules_to_skip(),
        "llm_int8_enable_fp32_cpu_offload": false,
        "llm_int8_has_fp16_weight": false,
        "bnb_4bit_quant_type": kind,
        "bnb_4bit_use_double_quant": nested,
        "bnb_4bit_compute_dtype": compute,
        "bnb_4bit_quant_storage": "uint8",
        "load_in_4bit": four,
        "load_in_8bit": !four,
    })
}

const QUANT_STATE: &str = ".quant_state.bitsandbytes__";
/// The largest description, in bytes.
const MAX_QUANT_STATE: u64 = 1 << 16;

/// An `NF4` or `FP4` weight.
struct FourBitWeight {
    info: TensorInfo,
    parts: FourBitParts,
}

/// Every tensor that has a `quant_state`.
fn four_bit(stored: &Stored<'_>) -> Result<Vec<Packed>> {
    let mut packed = Vec::new();
    for (state, info) in stored.tensors().iter().enumerate() {
        if let Some((name, _)) = info.name.split_once(QUANT_STATE) {
            packed.push(four_bit_weight(stored, name, state)?);
        }
    }
    Ok(packed)
}

fn four_bit_weight(stored: &Stored<'_>, name: &str, state: usize) -> Result<Packed> {
    if stored.tensors()[state].byte_len() > MAX_QUANT_STATE {
        return Err(stored.place(state, Problem::LongDescription));
    }
    let parsed = QuantState::parse(&stored.bytes(state)?).map_err(|e| stored.place(state, e))?;
    let QuantState { quant_type, block_size, dtype, shape, nested } = parsed;
    let info = TensorInfo { name: name.to_string(), dtype, shape };

    let codes = stored.need(name, state)?;
    let (bytes, needed) = (stored.tensors()[codes].byte_len(), info.elements().div_ceil(2));
    if bytes != needed {
        return Err(stored.place(codes, Problem::CodeBytes { bytes, needed, shape: info.shape }));
    }
    let mut sidecars = vec![state];
    if let Some(map) = stored.find(&format!("{name}.quant_map")) {
        let right = stored.tensors()[map].dtype == DType::F32 && stored.tensors()[map].elements() == 16;
        if !right || values(stored.checkpoint, map, DType::F32, 0..16)? != quant_type.table() {
            return Err(stored.place(map, Problem::Table { kind: quant_type.name() }));
        }
        sidecars.push(map);
    }
    let blocks = info.elements().div_ceil(block_size as u64);
    let absmax_dtype = if nested.is_some() { DType::U8 } else { DType::F32 };
    let absmax = stored.need_values(&format!("{name}.absmax"), state, absmax_dtype, blocks)?;
    sidecars.push(absmax);
    let scheme = Scheme::FourBit { quant_type, block_size, nested: nested.is_some() };
    let nested = match nested {
        None => None,
        Some(Nested { offset }) => {
            let nested_blocks = blocks.div_ceil(double_quant::BLOCK as u64);
            let absmax =
                stored.need_values(&format!("{name}.nested_absmax"), state, DType::F32, nested_blocks)?;
            let map = stored.need_values(&format!("{name}.nested_quant_map"), state, DType::F32, 256)?;
            sidecars.extend([absmax, map]);
            let values = values(stored.checkpoint, map, DType::F32, 0..256)?;
            Some(NestedScales { offset, scales: absmax, map: std::array::from_fn(|i| values[i]) })
        }
    };
    let parts = FourBitParts { kind: quant_type, block: block_size, codes, scales: absmax, nested };
    let weight = FourBitWeight { info, parts };
    Ok(Packed { weight: Box::new(weight), scheme, codes, sidecars })
}

impl FourBitWeight {
    /// The scales of blocks `start..end`.
    fn scales(&self, stored: &Checkpoint, start: u64, end: u64) -> TensorResult<Vec<f32>> {
        const BLOCK: u64 = double_quant::BLOCK as u64;
        let Some(NestedScales { offset, scales, map }) = &self.parts.nested else {
            return values(stored, self.parts.scales, DType::F32, start..end);
        };
        let first = start / BLOCK;
        let codes = stored.read(self.parts.scales, first * BLOCK..end)?;
        let nested = values(stored, *scales, DType::F32, first..end.div_ceil(BLOCK))?;
        let mut decoded = vec![0.0; (end - start) as usize];
        let skip = (start - first * BLOCK) as usize;
        double_quant::decode(&codes, &nested, map, *offset, skip, &mut decoded);
        Ok(decoded)
    }
}

impl Weight for FourBitWeight {
    fn info(&self) -> &TensorInfo {
        &self.info
    }

    fn decode(&self, stored: &Checkpoint, first: u64, values: &mut [f32]) -> TensorResult<()> {
        let (end, size) = (first + values.len() as u64, self.parts.block as u64);
        let block = first / size;
        let codes = stored.read(self.parts.codes, block * size / 2..end.div_ceil(2))?;
        let scales = self.scales(stored, block, end.div_ceil(size))?;
        let skip = (first - block * size) as usize;
        self.parts.kind.decode(&codes, &scales, self.parts.block, skip, values);
        Ok(())
    }

    fn four_bit(&self) -> Option<&FourBitParts> {
        Some(&self.parts)
    }
}

/// An `LLM.int8` weight.
struct Int8Weight {
    info: TensorInfo,
    codes: usize,
    scb: usize,
}

/// Every matrix that has an `SCB`.
fn int8(stored: &Stored<'_>) -> Result<Vec<Packed>> {
    let mut packed = Vec::new();
    for (scb, info) in stored.tensors().iter().enumerate() {
        if let Some(module) = info.name.strip_suffix(".SCB") {
            packed.push(int8_weight(stored, module, scb)?);
        }
    }
    Ok(packed)
}

fn int8_weight(stored: &Stored<'_>, module: &str, scb: usize) -> Result<Packed> {
    let name = format!("{module}.weight");
    let codes = stored.need(&name, scb)?;
    let (TensorInfo { dtype, shape, .. }, scales) = (&stored.tensors()[codes], &stored.tensors()[scb]);
    let [rows, _] = shape.as_slice() else {
        return Err(stored.place(codes, Problem::NoMatrix { shape: shape.clone() }));
    };
    if *dtype != DType::I8 {
        return Err(stored.place(codes, Problem::CodeType { dtype: *dtype }));
    }
    stored.need_values(&scales.name, scb, DType::F32, *rows as u64)?;
    let mut sidecars = vec![scb];
    if let Some(format) = stored.find(&format!("{module}.weight_format")) {
        if stored.bytes(format)?.iter().any(|&b| b != 0) {
            return Err(stored.place(format, Problem::Rearranged));
        }
        sidecars.push(format);
    }
    let info = TensorInfo { name, dtype: DType::F32, shape: shape.clone() };
    Ok(Packed { weight: Box::new(Int8Weight { info, codes, scb }), scheme: Scheme::Int8, codes, sidecars })
}

impl Weight for Int8Weight {
    fn info(&self) -> &TensorInfo {
        &self.info
    }

    fn decode(&self, stored: &Checkpoint, first: u64, values_out: &mut [f32]) -> TensorResult<()> {
        let cols = self.info.shape[1] as u64;
        let end = first + values_out.len() as u64;
        let row = first / cols.max(1);
        let codes = stored.read(self.codes, row * cols..end)?;
        let scb = values(stored, self.scb, DType::F32, row..end.div_ceil(cols.max(1)))?;
        llm_int8::decode(&codes, &scb, cols as usize, (first - row * cols) as usize, values_out);
        Ok(())
    }
}
