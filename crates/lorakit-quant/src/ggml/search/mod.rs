//! The searches for the scales of sub-blocks, one sub-block per lane of a vector.
//!
//! The reference fits a sub-block by trying dozens of scales, each judged by sums over its values in order. Such a sum
//! cannot be spread over the lanes of a vector without changing its rounding. But sub-blocks do not depend on each
//! other: with as many side by side as the vector has lanes, each lane does exactly the operations of the reference, in
//! its order.
//!
//! So sub-blocks come transposed, `x[l][i]` being value `l` of the sub-block in lane `i`:
//!
//! ```text
//!            lane 0   lane 1        lane L - 1
//! x[0]     │  x₀₀   │  x₁₀   │  …  │          │      first values
//! x[1]     │  x₀₁   │  x₁₁   │  …  │          │      second values
//!   ⋮
//! x[N - 1] │        │        │     │          │      last values
//!             ↓ sums run down
//! ```
//!
//! Most have 32 lanes, more than the widest vectors: with 16, the compiler unrolls the loop over the lanes and then
//! vectorises it only in pieces.

use super::ROUNDING;

pub(super) mod affine;
pub(super) mod codebook;
pub(super) mod non_negative;
pub(super) mod symmetric;
pub(super) mod weight;

/// Largest magnitude below which the reference treats a sub-block as zeros.
pub(super) const NEARLY_ZERO: f32 = 1e-15;

/// The nearest integer, ties to even. From ±2²² on it wraps, as the reference does.
#[inline(always)]
pub(super) fn nearest(value: f32) -> i32 {
    ((value + ROUNDING).to_bits() & 0x7f_ffff) as i32 - 0x40_0000
}

/// The integer of `low..=high` nearest to `value`; `low` for a NaN.
#[inline(always)]
fn nearest_within(value: f32, low: f32, high: f32) -> f32 {
    let value = if value > low { value } else { low };
    let value = if value < high { value } else { high };
    (value + ROUNDING) - ROUNDING
}

/// The value of each lane.
#[inline(always)]
pub(super) fn lanes<T: Copy + Default, const L: usize>(value: impl Fn(usize) -> T) -> [T; L] {
    let mut lanes = [T::default(); L];
    for (i, lane) in lanes.iter_mut().enumerate() {
        *lane = value(i);
    }
    lanes
}

/// Lays out groups of `V` values as sub-blocks of `N`, one per lane.
#[inline(always)]
pub(super) fn transposed<const V: usize, const G: usize, const N: usize, const L: usize>(
    groups: [&[f32; V]; G],
) -> [[f32; L]; N] {
    const { assert!(V * G == N * L) };
    let mut x = [[0.0; L]; N];
    for (g, group) in groups.iter().enumerate() {
        for (j, values) in group.as_chunks::<N>().0.iter().enumerate() {
            for (x, value) in x.iter_mut().zip(values) {
                x[g * (V / N) + j] = *value;
            }
        }
    }
    x
}

/// The values of one lane.
#[inline(always)]
pub(super) fn lane<T: Copy + Default, const N: usize, const L: usize>(
    x: &[[T; L]; N],
    lane: usize,
) -> [T; N] {
    lanes(|l| x[l][lane])
}
