//! The tensors that a packed weight consists of: their names, dtypes and shapes.

use std::sync::Arc;

use lorakit_quant::bnb::double_quant;
use lorakit_tensor::{DType, TensorInfo};

use super::float8::{Fp8, GROUP, TILE};
use super::pack::{Packed, Packer, Part, little_endian, state};
use super::recipe::{Compute, OutputTensor, Recipe};

impl OutputTensor {
    /// The tensors that hold `weight`, a computed matrix, in this packing. A reader gets values of `dtype`.
    ///
    /// The module of `P.weight` is `P`. For [`Packer::Mxfp4`], `compute` has the rows of all matrices of a stack.
    pub fn packed(weight: TensorInfo, compute: Compute, packing: Packer, dtype: DType) -> Vec<Self> {
        let (rows, cols) = (compute.rows, compute.cols);
        let name = weight.name.clone();
        let module = name.strip_suffix(".weight").unwrap_or(&name).to_string();
        let scales = packing.scales(rows, cols);
        let scale_dtype = packing.scale_dtype();
        let (dtype_of_codes, shape_of_codes) = match packing {
            Packer::FourBit { .. } => (DType::U8, vec![packing.code_bytes(rows * cols), 1]),
            Packer::Int8 => (DType::I8, weight.shape.clone()),
            Packer::Fp8(_) => (DType::F8_E4M3, weight.shape.clone()),
            Packer::Mxfp4 => (DType::U8, [stored_groups(&weight.shape), vec![GROUP / 2]].concat()),
        };
        let name_of_codes = if packing == Packer::Mxfp4 { format!("{name}_blocks") } else { name.clone() };
        let tensor = |name: String, dtype, shape: Vec<usize>, recipe| OutputTensor {
            info: TensorInfo { name, dtype, shape },
            recipe,
        };
        let part = |part| Recipe::Part { of: name_of_codes.clone(), part };
        let given = |bytes: Vec<u8>| Recipe::Bytes(Arc::from(bytes));
        let shape = weight.shape.clone();
        let compute = Compute { packing: Some(Packed { packing, shape: shape.clone(), dtype }), ..compute };
        let codes = Recipe::Compute(Box::new(compute));
        let mut tensors = vec![tensor(name_of_codes.clone(), dtype_of_codes, shape_of_codes, codes)];
        match packing {
            Packer::FourBit { kind, block, nested } => {
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
            Packer::Int8 => {
                tensors.push(tensor(format!("{module}.SCB"), DType::F32, vec![rows], part(Part::Scales)));
                let format = tensor(format!("{module}.weight_format"), DType::U8, Vec::new(), given(vec![0]));
                tensors.push(format);
            }
            Packer::Fp8(fp8) => {
                let (suffix, shape) = match fp8 {
                    Fp8::Tensor => ("scale", vec![1]),
                    Fp8::Row => ("scale", vec![rows, 1]),
                    Fp8::Group => ("scale", vec![rows, cols / GROUP]),
                    Fp8::Tile => ("scale_inv", vec![rows.div_ceil(TILE), cols.div_ceil(TILE)]),
                };
                let name = format!("{module}.weight_{suffix}");
                tensors.push(tensor(name, scale_dtype, shape, part(Part::Scales)));
            }
            Packer::Mxfp4 => {
                let groups = stored_groups(&weight.shape);
                tensors.push(tensor(format!("{name}_scales"), scale_dtype, groups, part(Part::Scales)));
            }
        }
        tensors
    }
}

/// The shape of the groups of a stack `(experts, in, out)` that is stored transposed.
fn stored_groups(shape: &[usize]) -> Vec<usize> {
    match shape {
        [stack @ .., inputs, outputs] => [stack, &[*outputs, inputs / GROUP]].concat(),
        _ => Vec::new(),
    }
}
