//! How a pass is done: what it keeps in memory, what it drops, and what it is given.

use multiversion::multiversion;

use super::real::Real;
use super::shape::Slot;
use crate::kernel::Products;
use crate::random::mixed;

/// How a training pass is done.
#[derive(Debug, Clone, Copy)]
pub struct How<'a> {
    /// Types of operands, and threads.
    pub products: Products,
    /// What is kept for the backward pass.
    pub recompute: Recompute,
    /// Zeros in the inputs of adapters, if any.
    pub dropout: Option<Dropout>,
    /// What [`Model::states`](super::Model::states) found for the lowest layer with factors: `(tokens, hidden)`.
    /// Layers below it are not computed then.
    pub states: Option<&'a [f32]>,
}

impl How<'_> {
    /// Everything is kept and nothing is dropped.
    pub fn new(products: Products) -> How<'static> {
        How { products, recompute: Recompute::Nothing, dropout: None, states: None }
    }
}

/// What is computed again in the backward pass, instead of being kept: the less memory, the more time.
///
/// Gradients with [`Self::Nothing`] and [`Self::Layers`] have the same bits, and so have those with [`Self::Halves`]
/// and [`Self::Mlp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recompute {
    /// Nothing but norms and activations: the rest is kept in f32.
    #[default]
    Nothing,
    /// As much, kept in bf16.
    Halves,
    /// What is wider than the residual stream too, the inside of the MLP: the rest is kept in bf16.
    Mlp,
    /// Whole layers: only their inputs are kept, in f32.
    Layers,
}

impl Recompute {
    /// All of them, the largest memory first.
    pub const LEVELS: [Self; 4] = [Self::Nothing, Self::Halves, Self::Mlp, Self::Layers];

    /// Whether bf16 is kept.
    pub fn halves(self) -> bool {
        matches!(self, Self::Halves | Self::Mlp)
    }
}

/// Zeros in the inputs of adapters; what is left is divided by `1 - rate`.
///
/// Whether a value is dropped depends on the seed, the step, the token's place in the step, the linear and the column:
/// not on how a step is split into passes, nor on what was drawn before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// The share of values that are dropped, less than 1.
    pub rate: f64,
    /// Of the run.
    pub seed: u64,
    /// Of the run, from 0.
    pub step: u64,
    /// Tokens of this step in the passes before this one.
    pub place: u64,
}

impl Dropout {
    /// The inputs `x (rows, width)` of the adapter of a linear, some of them dropped. The rows are those of the tokens
    /// `rows`, or of all.
    pub(super) fn apply<R: Real>(
        &self,
        (layer, slot): (usize, Slot),
        rows: Option<&[usize]>,
        width: usize,
        x: &[R],
    ) -> Vec<R> {
        let keep = R::of(1.0 / (1.0 - self.rate));
        let bound = (self.rate * 4_294_967_296.0) as u32;
        let step = mixed(mixed(self.seed) ^ self.step);
        let mut left = x.to_vec();
        for (row, left) in left.chunks_exact_mut(width).enumerate() {
            let row = rows.map_or(row, |rows| rows[row]);
            let place = mixed(step ^ self.place.wrapping_add(row as u64));
            drop_some(mixed(place ^ (layer * Slot::ALL.len() + slot as usize) as u64), bound, keep, left);
        }
        left
    }
}

/// Drops the values whose column gives less than `bound` with `key` (by the finaliser of MurmurHash3).
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn drop_some<R: Real>(key: u64, bound: u32, keep: R, values: &mut [R]) {
    let (low, high) = (key as u32, (key >> 32) as u32);
    for (column, value) in values.iter_mut().enumerate() {
        let bits = (column as u32).wrapping_mul(0x9e37_79b1).wrapping_add(low);
        let bits = (bits ^ bits >> 16).wrapping_mul(0x85eb_ca6b) ^ high;
        let bits = (bits ^ bits >> 13).wrapping_mul(0xc2b2_ae35);
        let bits = bits ^ bits >> 16;
        *value = if bits < bound { R::ZERO } else { *value * keep };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_inputs_have_their_share() {
        let how = Dropout { rate: 0.25, seed: 1, step: 2, place: 3 };
        let x = vec![1.0f64; 400 * 100];
        let dropped = how.apply((4, Slot::Up), None, 100, &x);
        let zeros = dropped.iter().filter(|value| **value == 0.0).count();
        assert!((9_600..10_400).contains(&zeros), "{zeros} of 40000");
        assert!(dropped.iter().all(|value| *value == 0.0 || (*value - 4.0 / 3.0).abs() < 1e-12));
        let others = [
            Dropout { seed: 5, ..how }.apply((4, Slot::Up), None, 100, &x),
            Dropout { step: 5, ..how }.apply((4, Slot::Up), None, 100, &x),
            how.apply((5, Slot::Up), None, 100, &x),
            how.apply((4, Slot::Gate), None, 100, &x),
        ];
        for other in others {
            let same = other.iter().zip(&dropped).filter(|(a, b)| a == b).count();
            assert!((24_200..25_800).contains(&same), "{same} of 40000 are the same");
        }
        let later = Dropout { place: 13, ..how }.apply((4, Slot::Up), None, 100, &x);
        assert_eq!(later[..390 * 100], dropped[10 * 100..]);
        assert_eq!(how.apply((4, Slot::Up), Some(&[7, 9]), 100, &x[..200])[100..], dropped[900..1000]);
    }
}
