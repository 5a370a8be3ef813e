//! Types for rows that do not divide into blocks.

use lorakit_tensor::DType;

/// The type that replaces `wanted` in rows of `columns` values: `wanted` itself if it fits, `None` if there is no
/// rule.
pub(super) fn fallback(wanted: DType, columns: usize) -> Option<DType> {
    let fits = |dtype: DType| columns.is_multiple_of(dtype.block().elements);
    if fits(wanted) {
        return Some(wanted);
    }
    let smaller = match wanted {
        DType::IQ4_XS => DType::IQ4_NL,
        DType::Q2_K | DType::Q3_K | DType::TQ1_0 | DType::TQ2_0 => DType::Q4_0,
        DType::Q4_K => DType::Q5_0,
        DType::Q5_K => DType::Q5_1,
        DType::Q6_K => DType::Q8_0,
        small if small.block().elements <= 32 => small,
        _ => return None,
    };
    Some(if fits(smaller) { smaller } else { DType::F16 })
}
