//! How far apart the values of a dtype are.

use lorakit_tensor::DType;

/// The distance between neighbouring values of `dtype` at `value`. For F32, where the order of a product's summands
/// shows, sixteen times that.
pub(super) fn step(dtype: DType, value: f32) -> f32 {
    let step = crate::tensor::step(dtype, value) as f32;
    if matches!(dtype, DType::F16 | DType::BF16) { step } else { 16.0 * step }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_those_of_the_dtype() {
        assert_eq!(step(DType::BF16, 1.5), 1.0 / 128.0);
        assert_eq!(step(DType::F16, 4.0), 4.0 / 1024.0);
        assert_eq!(step(DType::F16, 0.0), 2f32.powi(-24));
        assert_eq!(step(DType::F32, 1.0), f32::EPSILON * 16.0);
    }
}
