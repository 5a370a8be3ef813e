//! Schemes that can be recognised by their tensors but not decoded.

use lorakit_tensor::DType;

use super::Problem;
use super::stored::Stored;
use crate::Result;

/// The sign of a scheme: a tensor `M.suffix` of a given dtype, and other tensors of the same module `M`.
struct Sign {
    scheme: &'static str,
    suffix: &'static str,
    dtype: Option<DType>,
    beside: &'static [&'static str],
    /// The `quant_method`, if tensors alone do not tell.
    method: Option<&'static str>,
}

const fn sign(
    scheme: &'static str,
    suffix: &'static str,
    dtype: Option<DType>,
    beside: &'static [&'static str],
) -> Sign {
    Sign { scheme, suffix, dtype, beside, method: None }
}

/// Known signs; the first match counts.
const SIGNS: &[Sign] = &[
    sign("GPTQ", "qweight", Some(DType::I32), &["g_idx"]),
    Sign { method: Some("gptq"), ..sign("GPTQ", "qweight", Some(DType::I32), &["scales"]) },
    sign("AWQ", "qweight", Some(DType::I32), &["qzeros", "scales"]),
    sign("EETQ", "qweight", Some(DType::I8), &["weight_scales"]),
    sign("HQQ", "W_q", None, &[]),
    sign("NVFP4", "weight_packed", Some(DType::U8), &["weight_scale", "weight_global_scale"]),
    sign("NVFP4", "weight", Some(DType::U8), &["weight_scale", "weight_scale_2"]),
    sign("compressed-tensors", "weight_packed", None, &["weight_scale"]),
    sign("compressed-tensors", "weight", Some(DType::I8), &["weight_scale"]),
    sign("AQLM", "codes", None, &["codebooks"]),
    sign("VPTQ", "indices", None, &["centroids"]),
    sign("quanto", "weight._data", None, &["weight._scale"]),
    sign("torchao", "weight_qdata", None, &["weight_scale"]),
    sign("BitNet", "weight", Some(DType::U8), &["weight_scale"]),
    sign("MLX", "weight", Some(DType::U32), &["scales"]),
];

/// Refuses a checkpoint with tensors of such a scheme.
pub(super) fn refuse(stored: &Stored<'_>) -> Result<()> {
    let method = stored.config.and_then(|c| c.quantization());
    for info in stored.tensors() {
        let matches = |sign: &&Sign| {
            let Some(module) = info.name.strip_suffix(sign.suffix).filter(|m| m.ends_with('.')) else {
                return false;
            };
            sign.dtype.is_none_or(|dtype| dtype == info.dtype)
                && sign.method.is_none_or(|needed| method == Some(needed))
                && sign.beside.iter().all(|other| stored.find(&format!("{module}{other}")).is_some())
        };
        if let Some(sign) = SIGNS.iter().find(matches) {
            let &Sign { scheme, beside, method, .. } = sign;
            let tensor = info.name.escape_debug().to_string();
            let beside = beside.to_vec();
            return Err(Problem::Scheme { scheme, tensor, dtype: info.dtype, beside, method }.into());
        }
    }
    Ok(())
}
