//! Sub-blocks as `scale · CODEBOOK[code]`: the codebook of `IQ4_NL` and `IQ4_XS`, denser around zero.

use super::{NEARLY_ZERO, lanes};

/// The values of the codes, before scaling.
pub(in crate::ggml) const CODEBOOK: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0,
];

/// From `CUTS[k]` on, `CODEBOOK[k + 1]` is nearer than `CODEBOOK[k]`. The reference compares the distances to both;
/// they are exact around the middle, so comparing with the middle is the same.
const CUTS: [f32; 15] = {
    let mut cuts = [0.0; 15];
    let mut k = 0;
    while k < 15 {
        cuts[k] = (CODEBOOK[k] + CODEBOOK[k + 1]) / 2.0;
        k += 1;
    }
    cuts
};

/// The code nearest to `position`; the last one for a NaN.
#[inline(always)]
pub(in crate::ggml) fn nearest_code(position: f32) -> u8 {
    let mut code = 15;
    for cut in CUTS {
        code -= u8::from(position < cut);
    }
    code
}

/// The value of the code nearest to `position`.
#[inline(always)]
fn nearest_value(position: f32) -> f32 {
    let mut value = CODEBOOK[15];
    for (k, cut) in CUTS.iter().enumerate() {
        // Small integers, whose sums are exact.
        value -= if position < *cut { CODEBOOK[k + 1] - CODEBOOK[k] } else { 0.0 };
    }
    value
}

/// `Σ w q x` and `Σ w q q` of each lane, where `q` is the value nearest to `inverse · x`.
#[inline(always)]
fn sums<const N: usize, const L: usize>(
    x: &[[f32; L]; N],
    w: &[[f32; L]; N],
    inverse: &[f32; L],
) -> ([f32; L], [f32; L]) {
    let (mut sum_qx, mut sum_qq) = ([0.0f32; L], [0.0f32; L]);
    for (x, w) in x.iter().zip(w) {
        let q: [f32; L] = lanes(|i| nearest_value(inverse[i] * x[i]));
        sum_qx = lanes(|i| sum_qx[i] + w[i] * q[i] * x[i]);
        sum_qq = lanes(|i| sum_qq[i] + w[i] * q[i] * q[i]);
    }
    (sum_qx, sum_qq)
}

/// The scales that fit the values `x`, each error counted with its weight; 0 where the values are nearly zero.
/// The largest value is tried at the lowest code and at positions up to 7 away from it.
#[inline(always)]
pub(in crate::ggml) fn scales<const N: usize, const L: usize>(
    x: &[[f32; L]; N],
    w: &[[f32; L]; N],
) -> [f32; L] {
    let mut max = [0.0f32; L];
    for x in x {
        max = lanes(|i| if x[i].abs() > max[i].abs() { x[i] } else { max[i] });
    }
    let first: [f32; L] = lanes(|i| 1.0 / (-max[i] / CODEBOOK[0]));
    let (sum_qx, sum_qq) = sums(x, w, &first);
    let mut scale: [f32; L] = lanes(|i| if sum_qq[i] > 0.0 { sum_qx[i] / sum_qq[i] } else { 0.0 });
    let mut best: [f32; L] = lanes(|i| scale[i] * sum_qx[i]);
    for step in -7..=7 {
        let inverse: [f32; L] = lanes(|i| (step as f32 + CODEBOOK[0]) / max[i]);
        let (sum_qx, sum_qq) = sums(x, w, &inverse);
        let better: [bool; L] = lanes(|i| (sum_qq[i] > 0.0) & (sum_qx[i] * sum_qx[i] > best[i] * sum_qq[i]));
        scale = lanes(|i| if better[i] { sum_qx[i] / sum_qq[i] } else { scale[i] });
        best = lanes(|i| if better[i] { scale[i] * sum_qx[i] } else { best[i] });
    }
    lanes(|i| if max[i].abs() < NEARLY_ZERO { 0.0 } else { scale[i] })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code as the reference finds it.
    fn by_distance(x: f32) -> u8 {
        if x <= CODEBOOK[0] {
            return 0;
        }
        if x >= CODEBOOK[15] {
            return 15;
        }
        let upper = CODEBOOK.iter().position(|value| x < *value).unwrap_or(15);
        (if x - CODEBOOK[upper - 1] < CODEBOOK[upper] - x { upper - 1 } else { upper }) as u8
    }

    #[test]
    fn cuts_are_where_the_distances_say() {
        let around =
            |x: f32| (-100..=100).map(move |ulps| f32::from_bits(x.to_bits().wrapping_add_signed(ulps)));
        let near = CUTS.iter().chain(&CODEBOOK).flat_map(|&x| around(x));
        let spread = (-200_000..200_000).map(|n| n as f32 * 0.0007);
        for x in near.chain(spread).chain([f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 0.0, -0.0]) {
            let code = nearest_code(x);
            assert_eq!(code, by_distance(x), "{x}");
            assert_eq!(nearest_value(x), CODEBOOK[usize::from(code)], "{x}");
        }
    }
}
