//! Sub-blocks as `scale · (code - n)`, codes from 0 to `2n - 1`.

use super::{NEARLY_ZERO, lanes, nearest, nearest_within};

/// The fit of `L` sub-blocks of `N` values.
pub(in crate::ggml) struct Fit<const N: usize, const L: usize> {
    pub scale: [f32; L],
    /// All 0, with a scale of 0, where the values are nearly zero.
    pub codes: [[u8; L]; N],
}

/// Fits the values `x`, each error counted with its weight: the largest value at the end of the range of
/// codes, or up to 0.9 beyond or short of it, then the scale by least squares.
#[inline(always)]
pub(in crate::ggml) fn fit<const N: usize, const L: usize>(
    x: &[[f32; L]; N],
    w: &[[f32; L]; N],
    n: f32,
) -> Fit<N, L> {
    let (max, zero) = extremes(x);
    let mut wx = [[0.0; L]; N];
    for ((wx, w), x) in wx.iter_mut().zip(w).zip(x) {
        *wx = lanes(|i| w[i] * x[i]);
    }
    let mut best_inverse: [f32; L] = lanes(|i| -n / max[i]);
    let (sum_lx, sum_ll) = sums(x, w, &wx, n, &best_inverse);
    let mut scale: [f32; L] = lanes(|i| if sum_ll[i] != 0.0 { sum_lx[i] / sum_ll[i] } else { 0.0 });
    let mut best: [f32; L] = lanes(|i| scale[i] * sum_lx[i]);
    for step in (-9..=9).filter(|step| *step != 0) {
        let inverse: [f32; L] = lanes(|i| -(n + 0.1 * step as f32) / max[i]);
        let (sum_lx, sum_ll) = sums(x, w, &wx, n, &inverse);
        let better: [bool; L] = lanes(|i| (sum_ll[i] > 0.0) & (sum_lx[i] * sum_lx[i] > best[i] * sum_ll[i]));
        best_inverse = lanes(|i| if better[i] { inverse[i] } else { best_inverse[i] });
        scale = lanes(|i| if better[i] { sum_lx[i] / sum_ll[i] } else { scale[i] });
        best = lanes(|i| if better[i] { scale[i] * sum_lx[i] } else { best[i] });
    }

    let mut codes = [[0; L]; N];
    for (codes, x) in codes.iter_mut().zip(x) {
        *codes = lanes(|i| {
            let code = nearest_within(best_inverse[i] * x[i], -n, n - 1.0) + n;
            if zero[i] { 0 } else { code as u8 }
        });
    }
    Fit { scale: lanes(|i| if zero[i] { 0.0 } else { scale[i] }), codes }
}

/// The weighted sums of codes times values and of codes squared.
#[inline(always)]
fn sums<const N: usize, const L: usize>(
    x: &[[f32; L]; N],
    w: &[[f32; L]; N],
    wx: &[[f32; L]; N],
    n: f32,
    inverse: &[f32; L],
) -> ([f32; L], [f32; L]) {
    let (mut sum_lx, mut sum_ll) = ([0.0f32; L], [0.0f32; L]);
    for ((x, w), wx) in x.iter().zip(w).zip(wx) {
        // One loop: three short ones would be unrolled, and vectorised only in part.
        for i in 0..L {
            let code = nearest_within(inverse[i] * x[i], -n, n - 1.0);
            sum_lx[i] += wx[i] * code;
            sum_ll[i] += w[i] * code * code;
        }
    }
    (sum_lx, sum_ll)
}

/// Fits the values `x`, each error weighted by the square of its value: the largest value at the end of the range of
/// codes, then each code in turn to where it is best given the others, up to five times.
#[inline(always)]
pub(in crate::ggml) fn refine<const N: usize, const L: usize>(x: &[[f32; L]; N], n: f32) -> Fit<N, L> {
    let (max, zero) = extremes(x);
    let inverse: [f32; L] = lanes(|i| -n / max[i]);
    let (mut sum_lx, mut sum_ll) = ([0.0f32; L], [0.0f32; L]);
    let mut codes = [[0.0; L]; N];
    for (code, x) in codes.iter_mut().zip(x) {
        *code = lanes(|i| nearest_within(inverse[i] * x[i], -n, n - 1.0));
        sum_lx = lanes(|i| sum_lx[i] + x[i] * x[i] * x[i] * code[i]);
        sum_ll = lanes(|i| sum_ll[i] + x[i] * x[i] * code[i] * code[i]);
    }

    for _ in 0..5 {
        let mut changed = false;
        for (code, x) in codes.iter_mut().zip(x) {
            let w: [f32; L] = lanes(|i| x[i] * x[i]);
            let other_lx: [f32; L] = lanes(|i| sum_lx[i] - w[i] * x[i] * code[i]);
            let other_ll: [f32; L] = lanes(|i| sum_ll[i] - w[i] * code[i] * code[i]);
            let new_code: [f32; L] = lanes(|i| {
                let position = x[i] * other_ll[i] / other_lx[i];
                nearest(position).max(-n as i32).min(n as i32 - 1) as f32
            });
            let new_lx: [f32; L] = lanes(|i| other_lx[i] + w[i] * x[i] * new_code[i]);
            let new_ll: [f32; L] = lanes(|i| other_ll[i] + w[i] * new_code[i] * new_code[i]);
            let better: [bool; L] = lanes(|i| {
                (other_lx[i] > 0.0)
                    & (new_code[i] != code[i])
                    & (new_ll[i] > 0.0)
                    & (new_lx[i] * new_lx[i] * sum_ll[i] > sum_lx[i] * sum_lx[i] * new_ll[i])
            });
            *code = lanes(|i| if better[i] { new_code[i] } else { code[i] });
            sum_lx = lanes(|i| if better[i] { new_lx[i] } else { sum_lx[i] });
            sum_ll = lanes(|i| if better[i] { new_ll[i] } else { sum_ll[i] });
            changed |= better.contains(&true);
        }
        if !changed {
            break;
        }
    }

    let scale = lanes(|i| if !zero[i] & (sum_ll[i] > 0.0) { sum_lx[i] / sum_ll[i] } else { 0.0 });
    Fit { scale, codes: codes.map(|code| lanes(|i| if zero[i] { 0 } else { (code[i] + n) as u8 })) }
}

/// The value of largest magnitude of each sub-block, the first of several; and whether it is nearly zero.
#[inline(always)]
fn extremes<const N: usize, const L: usize>(x: &[[f32; L]; N]) -> ([f32; L], [bool; L]) {
    let mut max = [0.0f32; L];
    for x in x {
        max = lanes(|i| if x[i].abs() > max[i].abs() { x[i] } else { max[i] });
    }
    (max, lanes(|i| max[i].abs() < NEARLY_ZERO))
}
