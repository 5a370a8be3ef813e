//! Float8 weights with separate scales: see [`lorakit_quant::fp8`] for their layouts.
//!
//! The shapes of weight and scales determine the size of a tile, because one checkpoint may hold several sizes.

use lorakit_quant::fp8::Tiles;
use lorakit_tensor::{Checkpoint, DType, Result as TensorResult, TensorInfo};
use serde_json::{Value, json};

use super::kind::{PackedType, PackingKind};
use super::result::PackedModel;
use super::scheme::{Packed, Scheme, Weight};
use super::stored::{Stored, decode, values};
use super::{Problem, write};
use crate::Result;
use crate::arch::names::{HEAD, is_head};
use crate::model::ModelConfig;
use crate::plan::{Fp8, Packer};

/// FP8 in tiles, rows and whole tensors, and MXFP8.
pub(super) const FP8: PackingKind = PackingKind {
    find,
    types: &[
        PackedType {
            name: "fp8",
            packer: Packer::Fp8(Fp8::Tile),
            bits: 8.0,
            about: "8-bit floats, one scale for each tile of 128 x 128 (DeepSeek, Qwen)",
        },
        PackedType {
            name: "fp8-channel",
            packer: Packer::Fp8(Fp8::Row),
            bits: 8.0,
            about: "8-bit floats, one scale for each row (compressed-tensors)",
        },
        PackedType {
            name: "fp8-tensor",
            packer: Packer::Fp8(Fp8::Tensor),
            bits: 8.0,
            about: "8-bit floats, one scale for each matrix (compressed-tensors)",
        },
        PackedType {
            name: "mxfp8",
            packer: Packer::Fp8(Fp8::Group),
            bits: 8.25,
            about: "8-bit floats, a power of two for 32 values (compressed-tensors)",
        },
    ],
    pack: write::linear_layers,
    config,
};

/// Name endings of the tensor of scales.
const SCALES: &[&str] = &["_scale_inv", "_scale"];
/// Scales of activations, for which a decoded weight has no use.
const ACTIVATION_SCALES: &[&str] = &["input_scale", "input_scale_ub", "activation_scale"];
/// Tile lengths to try before dividing the shapes: those of FP8 blocks and of MXFP8.
const USUAL: [usize; 2] = [128, 32];

/// A stack of matrices of `rows` rows, each cut into the same tiles.
struct Fp8Weight {
    info: TensorInfo,
    codes: usize,
    codes_dtype: DType,
    scales: usize,
    scales_dtype: DType,
    rows: usize,
    tiles: Tiles,
    /// Whether each matrix has its own scales.
    stacked: bool,
}

/// Every float8 tensor that has scales.
fn find(stored: &Stored<'_>) -> Result<Vec<Packed>> {
    let mut packed = Vec::new();
    for (codes, info) in stored.tensors().iter().enumerate() {
        let float8 = matches!(info.dtype, DType::F8_E4M3 | DType::F8_E5M2);
        if !float8 || info.shape.len() < 2 || info.elements() == 0 {
            continue;
        }
        if let Some(scales) = SCALES.iter().find_map(|end| stored.find(&format!("{}{end}", info.name))) {
            packed.push(weight(stored, codes, scales)?);
        }
    }
    Ok(packed)
}

fn weight(stored: &Stored<'_>, codes: usize, scales: usize) -> Result<Packed> {
    let (info, scale) = (&stored.tensors()[codes], &stored.tensors()[scales]);
    let scales_dtype = match scale.dtype {
        DType::U8 => DType::F8_E8M0,
        dtype @ (DType::F32 | DType::BF16 | DType::F16 | DType::F8_E8M0) => dtype,
        dtype => return Err(stored.place(scales, Problem::ScaleType { dtype })),
    };
    let (matrices, rows, cols) = matrices(&info.shape);
    let grid = grid(&info.shape, &scale.shape).and_then(|(stacked, down, across)| {
        let [height, width] = config_block(stored.config).unwrap_or([USUAL[0]; 2]);
        Some((stacked, tile(rows, down, height)?, tile(cols, across, width)?))
    });
    let Some((stacked, height, width)) = grid else {
        let (shape, weights) = (scale.shape.clone(), info.shape.clone());
        return Err(stored.place(scales, Problem::ScaleShape { shape, weights }));
    };
    let scheme = match (height, width) {
        (1, 32) if scales_dtype == DType::F8_E8M0 => Scheme::Mxfp8,
        (1, w) if w == cols => Scheme::Fp8Row,
        (h, w) if (h, w) == (rows, cols) => Scheme::Fp8Tensor,
        (h, w) => Scheme::Fp8Block(h, w),
    };
    let module = info.name.strip_suffix(".weight").unwrap_or(&info.name);
    let activations = ACTIVATION_SCALES.iter().filter_map(|end| stored.find(&format!("{module}.{end}")));
    let sidecars = std::iter::once(scales).chain(activations).collect();
    let weight = Fp8Weight {
        info: TensorInfo { dtype: DType::F32, ..info.clone() },
        codes,
        codes_dtype: info.dtype,
        scales,
        scales_dtype,
        rows,
        tiles: Tiles { cols, height, width },
        stacked: stacked && matrices > 1,
    };
    Ok(Packed { weight: Box::new(weight), scheme, codes, sidecars })
}

/// The number of matrices in a stack, and their rows and columns.
fn matrices(shape: &[usize]) -> (usize, usize, usize) {
    match shape {
        [stack @ .., rows, cols] => (stack.iter().product(), *rows, *cols),
        _ => (1, 1, shape.iter().product()),
    }
}

/// Whether scales are stacked like the weights, and their number down and across a matrix.
fn grid(weights: &[usize], scales: &[usize]) -> Option<(bool, usize, usize)> {
    let (stack, rows, _) = matrices(weights);
    let (scale_stack, down, across) = matrices(scales);
    match scales {
        _ if scales.iter().all(|&d| d == 1) => Some((false, 1, 1)),
        [n] if weights.len() > 2 && *n == stack => Some((true, 1, 1)),
        [n] if weights.len() == 2 && *n == rows => Some((false, *n, 1)),
        _ if scales.len() < 2 || down == 0 || across == 0 => None,
        _ if scale_stack == stack => Some((true, down, across)),
        _ if scale_stack == 1 => Some((false, down, across)),
        _ => None,
    }
}

/// The tile length with which `count` tiles cover `length`: `likely`, a usual length, or an equal part.
fn tile(length: usize, count: usize, likely: usize) -> Option<usize> {
    if count == 1 {
        return Some(length);
    }
    if count == length {
        return Some(1);
    }
    let usual = [likely].into_iter().chain(USUAL).find(|&tile| tile > 0 && length.div_ceil(tile) == count);
    usual.or_else(|| length.is_multiple_of(count).then(|| length / count))
}

/// `weight_block_size` of `quantization_config`.
fn config_block(config: Option<&ModelConfig>) -> Option<[usize; 2]> {
    let size = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
    let block = &config?.json["quantization_config"]["weight_block_size"];
    Some([size(&block[0])?, size(&block[1])?])
}

impl Weight for Fp8Weight {
    fn info(&self) -> &TensorInfo {
        &self.info
    }

    fn decode(&self, stored: &Checkpoint, first: u64, out: &mut [f32]) -> TensorResult<()> {
        decode(stored, self.codes, self.codes_dtype, first, out)?;
        let Tiles { cols, height, .. } = self.tiles;
        let across = self.tiles.per_row() as u64;
        let down = self.rows.div_ceil(height) as u64;
        let (matrix_len, strip_len) = ((self.rows * cols) as u64, (height * cols) as u64);
        let mut at = first;
        let mut rest = out;
        while !rest.is_empty() {
            let (matrix, inside) = (at / matrix_len, at % matrix_len);
            let n = (matrix_len - inside).min(rest.len() as u64);
            let (part, after) = rest.split_at_mut(n as usize);
            // The rows of tiles that overlap the part.
            let (top, bottom) = (inside / strip_len, (inside + n).div_ceil(strip_len));
            let before = if self.stacked { matrix * down } else { 0 };
            let range = (before + top) * across..(before + bottom) * across;
            let scales = values(stored, self.scales, self.scales_dtype, range)?;
            self.tiles.scale(&scales, (inside - top * strip_len) as usize, part);
            at += n;
            rest = after;
        }
        Ok(())
    }
}

fn config(model: &PackedModel) -> Value {
    match model.packing {
        Packer::Fp8(Fp8::Tile) => json!({
            "quant_method": "fp8",
            "activation_scheme": "dynamic",
            "weight_block_size": [128, 128],
            "modules_to_not_convert": model.modules_to_skip(),
        }),
        Packer::Fp8(Fp8::Group) => {
            let mut group = args("group");
            group["group_size"] = 32.into();
            group["scale_dtype"] = "torch.uint8".into();
            group["zp_dtype"] = "torch.uint8".into();
            compressed_tensors(model, "mxfp8-quantized", &group, &group)
        }
        Packer::Fp8(Fp8::Tensor) => {
            compressed_tensors(model, "float-quantized", &args("tensor"), &args("token"))
        }
        _ => compressed_tensors(model, "float-quantized", &args("channel"), &args("token")),
    }
}

/// The configuration of compressed-tensors for weights and activations with the scales that `weights` and
/// `activations` describe. Activations are quantised dynamically.
fn compressed_tensors(model: &PackedModel, format: &str, weights: &Value, activations: &Value) -> Value {
    let args = |args: &Value, dynamic: bool| {
        let mut args = args.clone();
        args["dynamic"] = dynamic.into();
        args
    };
    let mut ignore = model.unpacked.clone();
    if !ignore.iter().any(|module| is_head(module)) {
        ignore.push(HEAD.to_string());
    }
    json!({
        "quant_method": "compressed-tensors",
        "format": format,
        "quantization_status": "compressed",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": args(weights, false),
                "input_activations": args(activations, true),
                "output_activations": null,
            },
        },
        "ignore": ignore,
        "kv_cache_scheme": null,
        "global_compression_ratio": null,
    })
}

/// The `QuantizationArgs` of 8-bit floats.
fn args(strategy: &str) -> Value {
    json!({ "num_bits": 8, "type": "float", "strategy": strategy, "symmetric": true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_say_how_large_tiles_are() {
        assert_eq!(tile(256, 2, 128), Some(128));
        assert_eq!(tile(300, 3, 128), Some(128), "the last is ragged");
        assert_eq!(tile(256, 8, 128), Some(32));
        assert_eq!(tile(256, 4, 64), Some(64), "as configured");
        assert_eq!(tile(192, 2, 128), Some(128), "not 96");
        assert_eq!(tile(300, 5, 128), Some(60));
        assert_eq!(tile(300, 300, 128), Some(1));
        assert_eq!(tile(300, 1, 128), Some(300));
        assert_eq!(tile(300, 7, 128), None);
        assert_eq!(tile(300, 0, 0), None);
    }

    #[test]
    fn scales_lie_as_the_weights_do() {
        let matrix = &[256, 384];
        assert_eq!(grid(matrix, &[]), Some((false, 1, 1)));
        assert_eq!(grid(matrix, &[1]), Some((false, 1, 1)));
        assert_eq!(grid(matrix, &[256]), Some((false, 256, 1)));
        assert_eq!(grid(matrix, &[256, 1]), Some((true, 256, 1)));
        assert_eq!(grid(matrix, &[2, 3]), Some((true, 2, 3)));
        assert_eq!(grid(matrix, &[384]), None);
        let experts = &[8, 256, 384];
        assert_eq!(grid(experts, &[8]), Some((true, 1, 1)));
        assert_eq!(grid(experts, &[8, 1, 1]), Some((true, 1, 1)));
        assert_eq!(grid(experts, &[8, 2, 3]), Some((true, 2, 3)));
        assert_eq!(grid(experts, &[2, 3]), Some((false, 2, 3)));
        assert_eq!(grid(experts, &[4, 2, 3]), None);
        assert_eq!(grid(experts, &[0, 2, 3]), None);
    }
}
