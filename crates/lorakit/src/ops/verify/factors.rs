//! Which factors of the deltas round to what the merged model holds.
//!
//! Where deltas are smaller than a step of the dtype, rounding swallows some and enlarges others, and a fitted scale is
//! not the one that was merged with. But each value bounds the true one: `W + f D` rounds to `M` only if it is within
//! half a step of it. The range that all values agree on is narrow, and a proof.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use lorakit_tensor::DType;

use super::measure::step;
use super::pair::{Pair, Rows};
use crate::Result;
use crate::plan::{Progress, Stretch, in_order};

/// Share of half a step, and of the summands' magnitude, that is added to half a step: sums in f32 depend on their
/// order.
const ROOM: f64 = 1.0 / 64.0;
const ORDER: f64 = 1.0 / 1_048_576.0;
/// Factors no further apart than this, relative to their magnitude, are not told apart.
const NARROW: f64 = 0.01;

/// The factors from `least` to `most`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Factors {
    least: f64,
    most: f64,
}

impl Factors {
    pub(super) const ALL: Self = Factors { least: f64::NEG_INFINITY, most: f64::INFINITY };

    /// The factors for which every value of `pair` is a rounded `W + f D`, or `W` and `f D` rounded first.
    ///
    /// # Errors
    /// As [`Pair::for_each`].
    pub(super) fn of(pair: &Pair<'_>, stretch: &Stretch<'_>) -> Result<Self> {
        let dtype = pair.merged.info().dtype;
        let mut factors = Self::ALL;
        pair.for_each(stretch, |Rows { base, delta, found, .. }| {
            for ((&w, &d), &x) in base.iter().zip(delta).zip(found) {
                if factors.is_empty() {
                    break;
                }
                factors = factors.and(Self::of_value(dtype, w, d, x));
            }
        })?;
        Ok(factors)
    }

    /// The factors for which that is true of all tensors that adapters touch.
    ///
    /// # Errors
    /// As [`Pair::for_each`], and [`crate::ErrorKind::Interrupted`].
    pub(super) fn of_all(pairs: &[Option<Pair<'_>>], progress: &dyn Progress) -> Result<Self> {
        // If two tensors disagree, the others need not be read.
        let disagree = AtomicBool::new(false);
        let one = |pair: &Pair<'_>| {
            crate::plan::go_on(progress, "every tensor was compared")?;
            let stretch = Stretch::new(progress, pair.merged.info().byte_len());
            let factors = if disagree.load(Relaxed) { Self::ALL } else { Self::of(pair, &stretch)? };
            stretch.finish();
            disagree.fetch_or(factors.is_empty(), Relaxed);
            Ok(factors)
        };
        let touched = || pairs.iter().flatten().filter(|pair| pair.touched);
        progress.begin(touched().map(|pair| pair.merged.info().byte_len()).sum());
        Ok(in_order(touched(), one)?.into_iter().fold(Self::ALL, Self::and))
    }

    fn of_value(dtype: DType, w: f32, d: f32, x: f32) -> Self {
        let moved = f64::from(x) - f64::from(w);
        let half = |value: f32| f64::from(step(dtype, value)) / 2.0;
        let largest = w.abs().max(x.abs()).max(moved.abs() as f32);
        let reach = half(x) * (1.0 + ROOM) + 2.0 * half(moved as f32) + f64::from(largest) * ORDER;
        let d = f64::from(d);
        match (moved - reach, moved + reach) {
            _ if !x.is_finite() => Factors { least: f64::INFINITY, most: f64::NEG_INFINITY },
            (least, most) if d > 0.0 => Factors { least: least / d, most: most / d },
            (least, most) if d < 0.0 => Factors { least: most / d, most: least / d },
            _ => Self::ALL,
        }
    }

    /// The factors that are also in `other`.
    pub(super) fn and(self, other: Self) -> Self {
        Factors { least: self.least.max(other.least), most: self.most.min(other.most) }
    }

    /// Whether no factor is left.
    pub(super) fn is_empty(self) -> bool {
        self.least > self.most
    }

    /// The one factor that is left, if those left are near enough to each other: the simplest fraction among them.
    /// `None` also if nothing needs to have been added.
    pub(super) fn only(self) -> Option<f64> {
        let Factors { least, most } = self;
        match !self.is_empty() && least * most > 0.0 && most - least <= NARROW * least.abs().max(most.abs()) {
            true if least > 0.0 => Some(simplest(least, most)),
            true => Some(-simplest(-most, -least)),
            false => None,
        }
    }
}

/// The fraction with the smallest denominator from `least` to `most`, both positive and in order: the start that their
/// continued fractions share.
fn simplest(least: f64, most: f64) -> f64 {
    let whole = least.ceil();
    if whole <= most {
        whole
    } else {
        let below = least.floor();
        below + 1.0 / simplest(1.0 / (most - below), 1.0 / (least - below))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bf16(value: f32) -> f32 {
        half::bf16::from_f32(value).to_f32()
    }

    #[test]
    fn simplest_fractions() {
        assert_eq!(simplest(1.9, 2.1), 2.0);
        assert_eq!(simplest(0.69, 0.704), 0.7);
        assert_eq!(simplest(1.428, 1.429), 1.0 + 1.0 / (2.0 + 1.0 / 3.0));
        assert_eq!(Factors { least: -0.501, most: -0.499 }.only(), Some(-0.5));
        assert_eq!(Factors { least: -0.1, most: 0.1 }.only(), None);
        assert_eq!(Factors { least: 1.5, most: 2.0 }.only(), None);
        assert_eq!(Factors { least: 2.0, most: 1.5 }.only(), None);
    }

    proptest! {
        /// The factor that was merged with is among those found, for one rounding and for two; values that no factor
        /// explains leave none.
        #[test]
        fn the_factor_is_found(
            values in prop::collection::vec((-2f32..2.0, -0.02f32..0.02), 200), factor in -3f32..3.0,
        ) {
            let found = |merge: fn(f32, f32) -> f32| {
                values.iter().fold(Factors::ALL, |all, &(w, d)| {
                    let w = bf16(w);
                    all.and(Factors::of_value(DType::BF16, w, d, merge(w, factor * d)))
                })
            };
            for merge in [|w, d| bf16(w + d), |w, d| bf16(w + bf16(d))] as [fn(f32, f32) -> f32; 2] {
                let Factors { least, most } = found(merge);
                let factor = f64::from(factor);
                prop_assert!(least <= factor && factor <= most, "{} {} {}", least, factor, most);
            }
            prop_assume!(factor.abs() > 0.1);
            let other = found(|w, d| bf16(w + d + 0.02 * w.signum()));
            prop_assert!(other.is_empty(), "{:?}", other);
        }
    }
}
