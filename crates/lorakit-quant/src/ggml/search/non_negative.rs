//! Non-negative values as `scale · code`, codes from 0: how the scales of sub-blocks are themselves coded.

use super::{NEARLY_ZERO, nearest};

/// Fits the values `x`, each error counted with its weight: the largest value at the largest code or up to 0.4 away
/// from it, then each code in turn to where it is best given the others, up to five times.
#[inline(always)]
pub(in crate::ggml) fn fit<const N: usize>(x: &[f32; N], w: &[f32; N], max_code: u8) -> (f32, [u8; N]) {
    let max = x.iter().fold(0.0, |max, x| if max > *x { max } else { *x });
    if max < NEARLY_ZERO {
        return (0.0, [0; N]);
    }
    let error = |inverse: f32, code: fn(f32, u8) -> i32| {
        let scale = 1.0 / inverse;
        let mut error = 0.0;
        for (x, w) in x.iter().zip(w) {
            let difference = x - scale * code(inverse * x, max_code) as f32;
            error += w * difference * difference;
        }
        error
    };

    let mut inverse = f32::from(max_code) / max;
    // If nearly all weights are 0, a scale can be negative: then the first codes wrap, and the others do not.
    let mut best = error(inverse, |position, _| i32::from(nearest(position) as u8));
    for step in (-4..=4).filter(|step| *step != 0) {
        let candidate = (0.1 * step as f32 + f32::from(max_code)) / max;
        let error = error(candidate, code);
        if error < best {
            best = error;
            inverse = candidate;
        }
    }

    let mut codes = [0; N];
    let (mut sum_lx, mut sum_ll) = (0.0, 0.0);
    for ((l, x), w) in codes.iter_mut().zip(x).zip(w) {
        let code = code(inverse * x, max_code);
        *l = code as u8;
        sum_lx += w * x * code as f32;
        sum_ll += w * code as f32 * code as f32;
    }
    for _ in 0..5 {
        let mut changed = false;
        for ((l, x), w) in codes.iter_mut().zip(x).zip(w) {
            let old = f32::from(*l);
            let (other_lx, other_ll) = (sum_lx - w * x * old, sum_ll - w * old * old);
            if other_lx > 0.0 && other_ll > 0.0 {
                let code = code(x * other_ll / other_lx, max_code);
                let (new_lx, new_ll) =
                    (other_lx + w * x * code as f32, other_ll + w * code as f32 * code as f32);
                if code != i32::from(*l) && new_lx * new_lx * sum_ll > sum_lx * sum_lx * new_ll {
                    *l = code as u8;
                    (sum_lx, sum_ll) = (new_lx, new_ll);
                    changed = true;
                }
            }
        }
        if !changed {
            break;
        }
    }
    (if sum_ll > 0.0 { sum_lx / sum_ll } else { 0.0 }, codes)
}

#[inline(always)]
fn code(position: f32, max_code: u8) -> i32 {
    nearest(position).min(i32::from(max_code))
}
