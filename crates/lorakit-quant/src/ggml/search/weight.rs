//! How much the error of each value counts.

use super::{lanes, transposed};

/// The weights of the values `x` of groups: the importance of the column, times the root of the square of the value
/// and `share` of the mean square of its group.
#[inline(always)]
pub(in crate::ggml) fn by_importance<const V: usize, const G: usize, const N: usize, const L: usize>(
    groups: [&[f32; V]; G],
    columns: [&[f32; V]; G],
    x: &[[f32; L]; N],
    share: f32,
) -> [[f32; L]; N] {
    let mean_squares = groups.map(|values| share * sum_of_squares(values) / V as f32);
    let mean: [f32; L] = lanes(|i| mean_squares[i / (L / G)]);
    let mut weights = transposed::<V, G, N, L>(columns);
    for (weights, x) in weights.iter_mut().zip(x) {
        *weights = lanes(|i| weights[i] * (mean[i] + x[i] * x[i]).sqrt());
    }
    weights
}

/// The sum of the squares, in order.
#[inline(always)]
pub(in crate::ggml) fn sum_of_squares(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |sum, value| sum + value * value)
}

/// The sum of the weights of each lane.
#[inline(always)]
pub(in crate::ggml) fn sums<const N: usize, const L: usize>(weights: &[[f32; L]; N]) -> [f32; L] {
    weights.iter().fold([0.0; L], |sum, weights| lanes(|i| sum[i] + weights[i]))
}

/// Puts up to 32 blocks of a row side by side, with their weights: the importance of the column, times the root of the
/// square of the value and the mean square of the row. Missing blocks are replaced by the last one.
#[inline(always)]
pub(in crate::ggml) fn side_by_side(
    blocks: &[[f32; 32]],
    columns: &[[f32; 32]],
    mean: f32,
) -> ([[f32; 32]; 32], [[f32; 32]; 32]) {
    let at = |i: usize| i.min(blocks.len() - 1);
    let x: [[f32; 32]; 32] = transposed(std::array::from_fn::<_, 32, _>(|i| &blocks[at(i)]));
    let mut w: [[f32; 32]; 32] = transposed(std::array::from_fn::<_, 32, _>(|i| &columns[at(i)]));
    for (w, x) in w.iter_mut().zip(&x) {
        *w = lanes(|i| w[i] * (mean + x[i] * x[i]).sqrt());
    }
    (x, w)
}
