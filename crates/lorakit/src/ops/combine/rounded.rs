//! What the rounding of factors to their dtype does to a product of them.

use lorakit_linalg::Mixed;
use lorakit_quant::{codec, encoder};
use lorakit_tensor::DType;

/// If rounding is less than this share of a distance, the two are as good as orthogonal, and how much it is need not be
/// known well: the distance has four correct digits all the same.
const SMALL: f64 = 0.01;

/// The distance that `mixed` has, after its factors `b`, by rows, and `a`, by rows, are stored as `dtype`; `None` if
/// that takes a look at what is stored.
pub(super) fn distance(mixed: &Mixed, dtype: DType, b: &[f32], a: &[f32]) -> Option<f64> {
    let (columns, rows) = (&mixed.columns, &mixed.rows);
    let lost_b = lost(dtype, b, Lines::Columns(columns.len()))?;
    let lost_a = lost(dtype, a, Lines::Rows(rows.len()))?;
    // The roundings of single values are independent, so their squares add up.
    let mut square = 0.0;
    for i in 0..columns.len() {
        // The factors themselves are f32.
        let narrow = 2.0 * (f64::from(f32::EPSILON) * columns[i] * rows[i]).powi(2);
        square += lost_b[i] * rows[i].powi(2) + columns[i].powi(2) * lost_a[i] + narrow;
    }
    let rounding = square.sqrt();
    (rounding <= SMALL * mixed.distance).then(|| mixed.distance.hypot(rounding))
}

/// The lines of a matrix that is stored by rows, and how many there are.
#[derive(Clone, Copy)]
enum Lines {
    Rows(usize),
    Columns(usize),
}

/// The sum of the squares of what each line loses.
fn lost(dtype: DType, values: &[f32], lines: Lines) -> Option<Vec<f64>> {
    let count = match lines {
        Lines::Rows(count) | Lines::Columns(count) => count,
    };
    let mut sums = vec![0.0; count];
    if dtype == DType::F32 || values.is_empty() {
        return Some(sums);
    }
    let (encoder, decoder) = (encoder(dtype)?, codec(dtype)?);
    if dtype.block().elements != 1 || count == 0 {
        return None;
    }
    let cols = match lines {
        Lines::Rows(rows) => values.len() / rows,
        Lines::Columns(cols) => cols,
    };
    let (mut bytes, mut held) = (vec![0; cols * dtype.block().bytes], vec![0f32; cols]);
    for (i, row) in values.chunks_exact(cols).enumerate() {
        encoder.encode(row, &mut bytes);
        decoder.decode(&bytes, &mut held);
        held.iter_mut().zip(row).for_each(|(held, value)| *held -= value);
        match lines {
            Lines::Rows(_) => sums[i] = held.iter().map(|off| f64::from(*off).powi(2)).sum(),
            Lines::Columns(_) => {
                sums.iter_mut().zip(&held).for_each(|(sum, off)| *sum += f64::from(*off).powi(2));
            }
        }
    }
    Some(sums)
}

#[cfg(test)]
mod tests {
    use lorakit_linalg::random::gaussian;
    use lorakit_linalg::{Coordinates, difference_norm, stack};
    use ndarray::Array2;

    use super::*;

    fn stored(dtype: DType, matrix: &Array2<f32>) -> Array2<f64> {
        let values: Vec<f32> = matrix.iter().copied().collect();
        let mut bytes = vec![0; values.len() * dtype.block().bytes];
        encoder(dtype).unwrap().encode(&values, &mut bytes);
        let mut held = vec![0f32; values.len()];
        codec(dtype).unwrap().decode(&bytes, &mut held);
        Array2::from_shape_vec(matrix.dim(), held.into_iter().map(f64::from).collect()).unwrap()
    }

    /// What is told without a look at the stored product is what is measured in it, to four digits.
    #[test]
    fn a_distance_includes_rounding() {
        let [b, d] = [1, 2].map(|seed| gaussian(200, 8, seed));
        let [a, c] = [3, 4].map(|seed| gaussian(8, 150, seed));
        let terms = [(0.25, b.view(), a.view()), (0.16, d.view(), c.view())];
        let (sum_b, sum_a) = stack(&terms).unwrap();
        let (wide, tall) = stack(&terms.map(|(_, b, a)| (1.0, b, a))).unwrap();
        let coordinates = Coordinates::of(wide.view(), tall.view(), &[8, 8]).unwrap();
        let mixed = coordinates.mixed(&[0.5, 0.4], &[0.5, 0.4], &[0.25, 0.16]).unwrap();
        let left = (0.5 * &b + 0.4 * &d).mapv(|x| x as f32);
        let right = (0.5 * &a + 0.4 * &c).mapv(|x| x as f32);
        let slice = |matrix: &Array2<f32>| matrix.iter().copied().collect::<Vec<f32>>();
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let told = distance(&mixed, dtype, &slice(&left), &slice(&right)).unwrap();
            let (held_b, held_a) = (stored(dtype, &left), stored(dtype, &right));
            let sum = (1.0, sum_b.view(), sum_a.view());
            let measured = difference_norm((1.0, held_b.view(), held_a.view()), sum).unwrap();
            assert!((told / measured - 1.0).abs() < 1e-4, "{dtype} {told} {measured}");
        }
        // Nothing but rounding is left.
        let alone = coordinates.mixed(&[1.0, 0.0], &[1.0, 0.0], &[1.0, 0.0]).unwrap();
        let [b, a] = [b, a].map(|matrix| matrix.mapv(|x| x as f32));
        assert!(distance(&alone, DType::BF16, &slice(&b), &slice(&a)).is_none());
    }
}
