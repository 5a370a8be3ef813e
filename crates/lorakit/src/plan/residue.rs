//! What rounding leaves of an adapter that is taken out of a model again.
//!
//! With `W` the weights before the merge, the model holds `M`, which is `W + D` rounded; `M - D` is rounded once more
//! and stored as `R`. `W` is not known, but it was of the dtype of `M`, so it lies on that dtype's grid, and it lies
//! within half a step of `M` from `M - D`. If the grid is at least as coarse at `W` as at `M`, only one of its points is
//! so near: the one next to `M - D`. Else (the delta made the value so much larger that it got coarser steps) there are
//! as many as the steps of `W` go into one of `M`, and nothing makes one of them more likely than another.
//!
//! The values that are sure to come back show whether all weights lie on a coarser grid, as those of a 16-bit or a
//! quantised model do in F32. Then fewer points are left for the others.

use lorakit_quant::{codec, encoder};
use lorakit_tensor::DType;

use crate::tensor::step;

/// Sums over values that had a delta added and taken away again.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Residue {
    /// Number of values.
    pub values: u64,
    /// Expected number of values that are not the original ones.
    pub differing: f64,
    /// Expected sum of squares of the differences.
    pub square: f64,
    /// Sum of squares of the stored values.
    pub stored: f64,
    /// No difference is larger than this.
    pub largest: f64,
}

impl Residue {
    /// Expected share of the values that are not the original ones, 0 to 1.
    pub fn share(&self) -> f64 {
        if self.values == 0 { 0.0 } else { self.differing / self.values as f64 }
    }

    /// Expected norm of the differences.
    pub fn norm(&self) -> f64 {
        self.square.sqrt()
    }

    /// The same, relative to the norm of the stored values. `None` if that is zero.
    pub fn relative(&self) -> Option<f64> {
        (self.stored > 0.0).then(|| (self.square / self.stored).sqrt())
    }

    /// Adds the sums of other values.
    pub fn add(&mut self, other: Residue) {
        self.values += other.values;
        self.differing += other.differing;
        self.square += other.square;
        self.stored += other.stored;
        self.largest = self.largest.max(other.largest);
    }

    /// The sums for values `before` of `dtype` to which `delta` was added, with `after` what is stored of the sums.
    pub(super) fn of(dtype: DType, before: &[f32], delta: &[f32], after: &[f32]) -> Self {
        let nearest = nearest(dtype, before, delta);
        let coarser = coarser(dtype, before, delta, &nearest);
        let mut sums = Residue::default();
        for (((&m, &d), &r), &w) in before.iter().zip(delta).zip(after).zip(&nearest) {
            if d == 0.0 {
                continue;
            }
            let (r, sum) = (f64::from(r), f64::from(m) + f64::from(d));
            let (coarse, own) = (step(dtype, m), step(dtype, w));
            // The coarsest grid with a point within half of `coarse`; where the original is sure, its own.
            let mut fine = if own < coarse { own * coarser } else { own };
            let on_grid = |fine: f64| (sum / fine).round_ties_even() * fine;
            while fine > own && (on_grid(fine) - sum).abs() > coarse / 2.0 {
                fine /= 2.0;
            }
            let nearest = on_grid(fine);
            let points = (coarse / fine).max(1.0);
            sums.values += 1;
            // Half-way between two points, both are as near; on a coarser grid, it is the even one.
            if points == 1.0 && coarser == 1.0 && (sum / fine).fract().abs() == 0.5 {
                sums.differing += if r == nearest { 0.5 } else { 1.0 };
                sums.square +=
                    if r == nearest { fine * fine / 2.0 } else { (r - sum).powi(2) + fine * fine / 4.0 };
            } else {
                sums.differing += if r == nearest { 1.0 - 1.0 / points } else { 1.0 };
                sums.square += match (r == nearest, points > 1.0) {
                    (true, false) => 0.0,
                    (false, false) => (r - nearest).powi(2),
                    // From the nearest point to one of all, equally likely.
                    (true, true) => (coarse * coarse + 2.0 * fine * fine) / 12.0,
                    (false, true) => (r - sum).powi(2) + coarse * coarse / 12.0,
                };
            }
            sums.stored += r * r;
            sums.largest = sums.largest.max((r - sum).abs() + coarse / 2.0);
        }
        sums
    }
}

/// Of how many steps of `dtype` the steps of the grid are on which the originals lie, as far as those that are sure to
/// come back tell: a power of two.
fn coarser(dtype: DType, before: &[f32], delta: &[f32], nearest: &[f32]) -> f64 {
    // How many end in so many zeros, at least.
    let mut ending = [0usize; 24];
    for ((&m, &d), &w) in before.iter().zip(delta).zip(nearest) {
        let fine = step(dtype, w);
        if d != 0.0 && w != 0.0 && fine >= step(dtype, m) {
            let zeros = ((f64::from(w) / fine) as i64).trailing_zeros() as usize;
            ending[..=zeros.min(23)].iter_mut().for_each(|count| *count += 1);
        }
    }
    if ending[0] < ENOUGH {
        return 1.0;
    }
    // On a grid of their own, half of the values would end in one zero more than all do.
    let nearly_all = |count: &usize| *count as f64 >= 0.9 * ending[0] as f64;
    let zeros = ending.iter().rposition(nearly_all).unwrap_or(0);
    f64::from(1u32 << zeros)
}

/// So many values show what grid they are on.
const ENOUGH: usize = 64;

/// The points of the grid of `dtype` next to `before + delta`.
fn nearest(dtype: DType, before: &[f32], delta: &[f32]) -> Vec<f32> {
    let mut sums: Vec<f32> = before.iter().zip(delta).map(|(m, d)| m + d).collect();
    if let Some((encoder, decoder)) = encoder(dtype).zip(codec(dtype)).filter(|_| dtype != DType::F32) {
        let mut bytes = vec![0; dtype.byte_len(sums.len() as u64).unwrap_or(0) as usize];
        encoder.encode(&sums, &mut bytes);
        decoder.decode(&bytes, &mut sums);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(dtype: DType, value: f32) -> f32 {
        nearest(dtype, &[value], &[0.0])[0]
    }

    /// What is expected agrees with what happens, and nothing exceeds the bound.
    #[test]
    fn expectations_come_true() {
        for seed in 0..16u32 {
            for ratio in [0.05, 0.3, 1.0, 4.0] {
                check(seed, ratio);
            }
        }
    }

    fn check(seed: u32, ratio: f32) {
        let mut state = seed;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        for dtype in [DType::BF16, DType::F16, DType::F32] {
            // Also weights that were rounded to less before.
            let grid = if seed.is_multiple_of(2) { dtype } else { DType::BF16 };
            // The sum of two uniform numbers: small values occur, as in weights. The factor takes them off the grid on
            // which the numbers lie.
            let original: Vec<f32> =
                (0..4000).map(|_| rounded(grid, 0.7331 * (random() + random()))).collect();
            let original: Vec<f32> = original.into_iter().map(|w| rounded(dtype, w)).collect();
            let delta: Vec<f32> = original.iter().map(|_| ratio * (random() + random())).collect();
            let merged: Vec<f32> = original.iter().zip(&delta).map(|(w, d)| rounded(dtype, w + d)).collect();
            let minus: Vec<f32> = delta.iter().map(|d| -d).collect();
            for stored_as in [dtype, DType::F32] {
                let after: Vec<f32> =
                    merged.iter().zip(&minus).map(|(m, d)| rounded(stored_as, m + d)).collect();
                let expected = Residue::of(dtype, &merged, &minus, &after);
                let (mut differing, mut square) = (0.0, 0.0);
                for (r, w) in after.iter().zip(&original) {
                    let off = f64::from(*r) - f64::from(*w);
                    differing += f64::from(u8::from(off != 0.0));
                    square += off * off;
                    assert!(off.abs() <= expected.largest);
                }
                let told = format!("{seed} {ratio} {dtype} {stored_as}");
                let apart = (expected.differing - differing).abs() / expected.values as f64;
                assert!(apart < 0.03, "{told}: {} {differing}", expected.differing);
                let of_actual = expected.square / f64::max(square, 1e-30);
                // Of few values that differ, a single one may be most of the sum.
                let few = differing < 100.0;
                assert!(few || (0.6..1.6).contains(&of_actual), "{told}: {} {square}", expected.square);
            }
        }
    }
}
