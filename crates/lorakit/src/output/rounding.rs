//! How far what is written may be from what was meant: as far as rounding to the stored dtype explains.

use lorakit_quant::{codec, encoder};
use lorakit_tensor::DType;
use ndarray::{Array2, ArrayView1};

/// The largest error of a scale that is written as an f32, and of values that are multiplied in f32 on their way,
/// relative to them.
const COMPUTED: f64 = 1.0 / (1u64 << 22) as f64;

/// What rounding to one dtype does to a value at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rounding {
    /// The error of a normal number, relative to it.
    relative: f64,
    /// The error of a number so small that the dtype has fewer digits for it.
    absolute: f64,
}

impl Rounding {
    /// That of `dtype`, which has no blocks: see [`of_blocks`].
    pub(super) fn of(dtype: DType) -> Self {
        let (digits, least) = match dtype {
            DType::F16 => (11, -25),
            DType::BF16 => (8, -134),
            DType::F8_E4M3 => (4, -10),
            DType::F8_E5M2 => (3, -17),
            _ => (24, -150),
        };
        Rounding { relative: 2f64.powi(-digits) + COMPUTED, absolute: 2f64.powi(least) }
    }

    /// No rounding: the values are the same.
    pub(super) fn none() -> Self {
        Rounding { relative: 0.0, absolute: 0.0 }
    }

    /// The largest norm of the error of `count` values of the norm `norm`.
    pub(super) fn error(self, norm: f64, count: usize) -> f64 {
        self.relative * norm + self.absolute * (count as f64).sqrt()
    }
}

/// The norm of the error of `meant` in blocks of `dtype`: what the codec makes of it, and a little for steps that the
/// rounding of scales and products tips. `stored` is the size of the stored matrix, which may be padded with zeros.
pub(super) fn of_blocks(dtype: DType, meant: &Array2<f64>, stored: (usize, usize)) -> f64 {
    let (rows, cols) = stored;
    let Some(errors) = errors_of_rows(dtype, meant, cols) else { return 0.0 };
    let off: f64 = errors.iter().take(rows).map(|(_, off)| off).sum();
    1.01 * off.sqrt() + COMPUTED * norm(meant)
}

/// For each row of `meant` in `dtype`, padded with zeros to `cols` values: the sum of its squares, and of the squares of
/// the errors that the codec makes. `None` for a dtype that has no codec.
pub(crate) fn errors_of_rows(dtype: DType, meant: &Array2<f64>, cols: usize) -> Option<Vec<(f64, f64)>> {
    let (encoder, decoder) = (encoder(dtype)?, codec(dtype)?);
    let size = dtype.byte_len(cols as u64)? as usize;
    let (mut bytes, mut values, mut read) = (vec![0; size], vec![0f32; cols], vec![0f32; cols]);
    let square = |value: f32| f64::from(value) * f64::from(value);
    let of_row = |row: ArrayView1<'_, f64>| {
        values.iter_mut().zip(&row).for_each(|(value, meant)| *value = *meant as f32);
        encoder.encode(&values, &mut bytes);
        decoder.decode(&bytes, &mut read);
        let whole = values.iter().map(|value| square(*value)).sum();
        (whole, values.iter().zip(&read).map(|(meant, read)| square(meant - read)).sum())
    };
    Some(meant.rows().into_iter().map(of_row).collect())
}

/// The norm of a factor and the largest norm of its error.
pub(super) type Rounded = (f64, f64);

/// The largest norm of `D' - D`, of a delta `D = scale * B * A` whose factors and scale were rounded.
pub(super) fn of_product(scale: f64, (b, off_b): Rounded, (a, off_a): Rounded) -> f64 {
    scale.abs() * (off_b * a + b * off_a + off_b * off_a + COMPUTED * b * a)
}

/// The Frobenius norm.
pub(super) fn norm<'a>(values: impl IntoIterator<Item = &'a f64>) -> f64 {
    values.into_iter().map(|v| v * v).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored(dtype: DType, value: f32) -> f32 {
        let (mut bytes, mut kept) = (vec![0; dtype.block().bytes], [0.0]);
        encoder(dtype).unwrap().encode(&[value], &mut bytes);
        codec(dtype).unwrap().decode(&bytes, &mut kept);
        kept[0]
    }

    proptest! {
        /// No value that a dtype can hold is rounded further, and some are rounded nearly as far.
        #[test]
        fn rounding_is_within(value in -2f32..2.0, exponent in -40i32..6) {
            let value = value * 2f32.powi(exponent);
            for dtype in [DType::F32, DType::F16, DType::BF16] {
                let off = f64::from((stored(dtype, value) - value).abs());
                prop_assert!(off <= Rounding::of(dtype).error(f64::from(value.abs()), 1), "{dtype} {value}");
            }
        }
    }

    #[test]
    fn blocks_explain_what_their_codec_does() {
        let meant = Array2::from_shape_fn((3, 40), |(i, j)| ((7 * i + 13 * j) % 29) as f64 / 29.0 - 0.5);
        let whole = norm(&meant);
        // Half a step of 127, or of 8, of the largest value; evenly spread, the root of a third of that.
        let (fine, coarse) =
            (of_blocks(DType::Q8_0, &meant, (3, 64)), of_blocks(DType::Q4_0, &meant, (3, 64)));
        assert!(fine > 0.001 * whole && fine < 0.006 * whole, "{fine} of {whole}");
        assert!(coarse > 0.02 * whole && coarse < 0.12 * whole, "{coarse} of {whole}");
    }

    #[test]
    fn bounds_are_tight() {
        for (dtype, value) in [(DType::F16, 1.0 + 2f32.powi(-11)), (DType::BF16, 1.0 + 2f32.powi(-8))] {
            let off = f64::from((stored(dtype, value) - value).abs());
            assert!(off > 0.99 * Rounding::of(dtype).error(1.0, 1), "{dtype}");
        }
        let least = 2f32.powi(-25);
        let off = f64::from((stored(DType::F16, least * 1.001) - least).abs());
        assert!(off > 0.99 * Rounding::of(DType::F16).error(0.0, 1), "{off}");
    }
}
