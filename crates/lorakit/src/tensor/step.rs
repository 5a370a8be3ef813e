//! How far apart the values of a float dtype are.

use lorakit_tensor::DType;

/// The distance between neighbouring values of `dtype` at `value`: exact, and a power of two. Of dtypes other than F16
/// and BF16, that of F32.
pub(crate) fn step(dtype: DType, value: f32) -> f64 {
    /// What f64 adds to an exponent, less what f32 adds.
    const BIAS: u32 = 1023 - 127;
    let (bits, least) = match dtype {
        DType::F16 => (10, 127 - 14),
        DType::BF16 => (7, 1),
        _ => (23, 1),
    };
    let exponent = (value.to_bits() >> 23 & 0xff).max(least);
    f64::from_bits(u64::from(exponent + BIAS - bits) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_those_of_the_dtype() {
        assert_eq!(step(DType::F32, 1.0), f64::from(f32::EPSILON));
        assert_eq!(step(DType::F32, 0.0), f64::from(f32::from_bits(1)));
        assert_eq!(step(DType::BF16, 1.5), 1.0 / 128.0);
        assert_eq!(step(DType::F16, 4.0), 4.0 / 1024.0);
        assert_eq!(step(DType::F16, -4.0), 4.0 / 1024.0);
        assert_eq!(step(DType::F16, 0.0), 2f64.powi(-24));
        assert_eq!(step(DType::F16, 1e-6), 2f64.powi(-24));
    }
}
