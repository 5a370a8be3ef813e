//! The 6-bit scales and minima of `Q4_K` and `Q5_K`: eight pairs in twelve bytes.
//!
//! ```text
//! byte j     < 4 : scale j (bits 0–5), bits 4–5 of scale j + 4 (bits 6–7)
//! byte j + 4     : min j   (bits 0–5), bits 4–5 of min j + 4   (bits 6–7)
//! byte j + 8     : bits 0–3 of scale j + 4 (bits 0–3), bits 0–3 of min j + 4 (bits 4–7)
//! ```

use super::search::affine::Search;
use super::search::{lane, lanes, nearest, non_negative, transposed, weight};
use super::{half, to_half};

/// The `(scale, min)` of each of the eight sub-blocks.
#[inline(always)]
pub(super) fn unpack(packed: &[u8; 12]) -> [(u8, u8); 8] {
    let mut pairs = [(0, 0); 8];
    for j in 0..4 {
        let (scale, min, low) = (packed[j], packed[j + 4], packed[j + 8]);
        pairs[j] = (scale & 63, min & 63);
        pairs[j + 4] = ((low & 15) | (scale >> 6) << 4, (low >> 4) | (min >> 6) << 4);
    }
    pairs
}

/// Packs the `(scale, min)` of the eight sub-blocks.
#[inline(always)]
fn pack(pairs: &[(u8, u8); 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for j in 0..4 {
        let ((scale, min), (next_scale, next_min)) = (pairs[j], pairs[j + 4]);
        packed[j] = scale | next_scale >> 4 << 6;
        packed[j + 4] = min | next_min >> 4 << 6;
        packed[j + 8] = next_scale & 15 | (next_min & 15) << 4;
    }
    packed
}

/// Blocks that are searched side by side.
pub(super) const GROUP: usize = 2;

/// The fields that `Q4_K` and `Q5_K` have in common, and the codes.
pub(super) struct Coded {
    pub(super) d: [u8; 2],
    pub(super) dmin: [u8; 2],
    pub(super) scales: [u8; 12],
    pub(super) codes: [u8; 256],
}

/// Codes blocks: `plain` finds the scales if columns have no importance.
#[inline(always)]
pub(super) fn encode(
    values: [&[f32; 256]; GROUP],
    importance: Option<[&[f32; 256]; GROUP]>,
    plain: &Search,
) -> [Coded; GROUP] {
    let x: [[f32; 16]; 32] = transposed(values);
    let max_code = plain.max_code;
    let fit = match importance {
        Some(columns) => {
            let search = Search { first: -0.9, step: 0.05, last: 36, saturating: true, ..*plain };
            search.fit(&x, &weight::by_importance(values, columns, &x, 2.0))
        }
        None => {
            let squares = x.iter().fold([0.0; 16], |sum, x| lanes(|i| sum[i] + x[i] * x[i]));
            let mean: [f32; 16] = lanes(|i| (squares[i] / 32.0).sqrt());
            plain.fit(&x, &x.map(|x| lanes(|i| mean[i] + x[i].abs())))
        }
    };
    std::array::from_fn(|g| {
        let of = |all: &[f32; 16]| all.as_chunks::<8>().0[g];
        let (scale, min) = (of(&fit.scale), of(&fit.min));
        let ((d, scales), (dmin, mins)) = match importance {
            Some(_) => {
                let weights = of(&fit.weight);
                (non_negative::fit(&scale, &weights, 63), non_negative::fit(&min, &weights, 63))
            }
            None => (share(&scale, 63), share(&min, 63)),
        };
        let (d, dmin) = (to_half(d), to_half(dmin));
        // The reference limits scales that wrapped in the search for `Q5_K` alone.
        let limit = if max_code > 15.0 { 63 } else { u8::MAX };
        let packed_scales = pack(&std::array::from_fn(|j| (scales[j].min(limit), mins[j].min(limit))));
        let pairs = unpack(&packed_scales);
        let mut codes = [0; 256];
        for (j, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (scale, min) = (half(d) * f32::from(pairs[j].0), half(dmin) * f32::from(pairs[j].1));
            let values = &values[g].as_chunks::<32>().0[j];
            *codes = match scale {
                // The codes of the search stay.
                0.0 => lane(&fit.codes, 8 * g + j),
                _ => std::array::from_fn(|l| {
                    nearest((values[l] + min) / scale).max(0).min(max_code as i32) as u8
                }),
            };
        }
        Coded { d, dmin, scales: packed_scales, codes }
    })
}

/// Non-negative values as multiples of a `max_code`-th of the largest: the unit, and the multiples.
#[inline(always)]
pub(super) fn share<const N: usize>(values: &[f32; N], max_code: u8) -> (f32, [u8; N]) {
    let max = values.iter().fold(0.0, |max, &value| if value > max { value } else { max });
    let inverse = if max > 0.0 { f32::from(max_code) / max } else { 0.0 };
    let codes = values.map(|value| (nearest(inverse * value) as u8).min(max_code));
    (max / f32::from(max_code), codes)
}

#[cfg(test)]
mod tests {
    use super::{pack, unpack};

    #[test]
    fn pairs_are_packed_and_unpacked() {
        let pairs = std::array::from_fn(|j| (7 * j as u8 + 3, 63 - 5 * j as u8));
        assert_eq!(unpack(&pack(&pairs)), pairs);
    }
}
