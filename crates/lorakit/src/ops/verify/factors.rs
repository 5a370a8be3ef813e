//! Which factors of the deltas round to what the merged model holds.
//!
//! Where deltas are smaller than a step of the dtype, rounding swallows some and enlarges others, and a fitted scale is
//! not the one that was merged with. But each value bounds the true one: `W + f D` rounds to `M` only if it is within
//! half a step of it. The range that all values agree on is narrow, and a proof.

use lorakit_tensor::DType;

use super::pair::{Pair, Rows};
use super::step::step;
use crate::Result;
use crate::plan::Stretch;

/// Share of half a step, and of the summands' magnitude, that is added to half a step: sums in f32 depend on their
/// order.
const ROOM: f64 = 1.0 / 64.0;
const ORDER: f64 = 1.0 / 1_048_576.0;
/// Factors no further apart than this, relative to their magnitude, are not told apart.
const NARROW: f64 = 0.01;
/// The most digits after the point, and the most decimals of as many digits on each side of the middle.
const DIGITS: i32 = 9;
const MANY: usize = 10;
/// The largest number whose root, and the largest divisor whose quotients, are tried.
const ROOTS: u32 = 1024;
const QUOTIENTS: u32 = 12;

/// The factors from `least` to `most`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Factors {
    least: f64,
    most: f64,
}

impl Factors {
    pub(super) const ALL: Self = Factors { least: f64::NEG_INFINITY, most: f64::INFINITY };
    const NONE: Self = Factors { least: f64::INFINITY, most: f64::NEG_INFINITY };

    /// The factors for which every value of `pair` is a rounded `W + f D`, or `W` and `f D` rounded first.
    ///
    /// # Errors
    /// As [`Pair::for_each`].
    pub(super) fn of(pair: &Pair<'_>, stretch: &Stretch<'_>) -> Result<Self> {
        let dtype = pair.grid();
        let mut factors = Self::ALL;
        pair.for_each(stretch, |Rows { base, delta, found, panel, .. }| {
            for (at, ((&w, &d), &x)) in base.iter().zip(delta).zip(found).enumerate() {
                if factors.is_empty() {
                    break;
                }
                // Sixteen bits hide the order in which products were summed.
                let summands = if dtype == DType::F32 { panel.summands(at) } else { 0.0 };
                factors = factors.and(Self::of_value(dtype, w, d, x, summands));
            }
        })?;
        Ok(factors)
    }

    fn of_value(dtype: DType, w: f32, d: f32, x: f32, summands: f32) -> Self {
        let moved = f64::from(x) - f64::from(w);
        let half = |value: f32| f64::from(step(dtype, value)) / 2.0;
        // What was added may have been several times these deltas.
        let times = if d == 0.0 { 1.0 } else { (moved / f64::from(d)).abs().clamp(1.0, 1e3) as f32 };
        let largest = w.abs().max(x.abs()).max(moved.abs() as f32).max(times * summands);
        let reach = half(x) * (1.0 + ROOM) + 2.0 * half(moved as f32) + f64::from(largest) * ORDER;
        let d = f64::from(d);
        match (moved - reach, moved + reach) {
            _ if !x.is_finite() => Self::NONE,
            (least, most) if d > 0.0 => Factors { least: least / d, most: most / d },
            (least, most) if d < 0.0 => Factors { least: most / d, most: least / d },
            (least, most) if least <= 0.0 && most >= 0.0 => Self::ALL,
            _ => Self::NONE,
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

    /// Those within `by` of `factor`.
    pub(super) fn around(factor: f64, by: f64) -> Self {
        Factors { least: factor - by, most: factor + by }
    }

    /// Each multiplied by `by`, which is not negative.
    pub(super) fn times(self, by: f64) -> Self {
        Factors { least: self.least * by, most: self.most * by }
    }

    /// Whether `factor` is left.
    pub(super) fn contains(self, factor: f64) -> bool {
        self.least <= factor && factor <= self.most
    }

    /// Whether those left are near enough to each other to be one number, and it is not 0.
    pub(super) fn is_narrow(self) -> bool {
        self.is_within(NARROW)
    }

    /// Whether they differ by at most this share of the largest, and have one sign.
    pub(super) fn is_within(self, share: f64) -> bool {
        let Factors { least, most } = self;
        !self.is_empty() && least * most > 0.0 && most - least <= share * least.abs().max(most.abs())
    }

    /// Those left by which rsLoRA and LoRA of this rank differ.
    pub(super) fn of_rank(self, rank: usize) -> impl Iterator<Item = f64> {
        let root = (rank as f64).sqrt();
        [root, 1.0 / root].into_iter().filter(move |factor| rank > 1 && self.contains(*factor))
    }

    /// Those left that settings differ by: the square root of a rank (rsLoRA) or its inverse, and quotients of small
    /// numbers (ranks, alphas).
    pub(super) fn of_settings(self) -> impl Iterator<Item = f64> {
        let roots = (2..=ROOTS).flat_map(|n: u32| [f64::from(n).sqrt(), 1.0 / f64::from(n).sqrt()]);
        let quotients = (3..=QUOTIENTS).flat_map(|n| (1..8 * n).map(move |m| f64::from(m) / f64::from(n)));
        roots
            .chain(quotients)
            .flat_map(|factor| [factor, -factor])
            .filter(move |factor| self.contains(*factor))
    }

    /// The decimals that are left, those with the fewest digits first, and of these the ones in the middle.
    pub(super) fn decimals(self) -> impl Iterator<Item = f64> {
        let middle = f64::midpoint(self.least, self.most);
        (0..=DIGITS).flat_map(move |digits| {
            let unit = 10f64.powi(digits);
            let (first, last) = ((self.least * unit).ceil(), (self.most * unit).floor());
            let from = (middle * unit).round().clamp(first, last.max(first));
            let nearest = (0..MANY)
                .flat_map(move |i| if i == 0 { vec![from] } else { vec![from - i as f64, from + i as f64] });
            let in_range = nearest.filter(move |n| first <= *n && *n <= last && *n != 0.0);
            in_range.filter(move |n| digits == 0 || n % 10.0 != 0.0).map(move |n| n / unit)
        })
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
    fn shortest_decimals() {
        let shortest = |least, most| Factors { least, most }.decimals().next();
        for (least, most, wanted) in [
            (1.9, 2.1, 2.0),
            (0.69, 0.704, 0.7),
            (1.0476, 1.0533, 1.05),
            (1.0199, 1.0238, 1.02),
            (0.3288, 0.3301, 0.33),
            (0.331, 0.335, 0.333),
            (0.33329, 0.33337, 0.3333),
            (-0.501, -0.499, -0.5),
            (1.00001, 1.00001, 1.00001),
            (99.9, 100.2, 100.0),
        ] {
            assert_eq!(shortest(least, most), Some(wanted), "{least} {most}");
        }
        let all: Vec<f64> = Factors { least: 1.012, most: 1.038 }.decimals().take(4).collect();
        assert_eq!(all, [1.02, 1.03, 1.025, 1.024]);
        assert_eq!(shortest(2.0, 1.5), None);
    }

    #[test]
    fn factors_of_settings() {
        let found = |least, most| Factors { least, most }.of_settings().next();
        assert_eq!(found(2.82, 2.829), Some(8f64.sqrt()));
        assert_eq!(found(-0.334, -0.3331), Some(-1.0 / 3.0));
        assert_eq!(found(0.6666, 0.6667), Some(2.0 / 3.0));
        assert_eq!(found(1.00001, 1.00002), None);
    }

    #[test]
    fn factors_that_are_one_number() {
        let is_narrow = |least, most| Factors { least, most }.is_narrow();
        assert!(is_narrow(-0.501, -0.499) && is_narrow(0.995, 1.004));
        assert!(!is_narrow(-0.1, 0.1) && !is_narrow(1.5, 2.0) && !is_narrow(2.0, 1.5));
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
                    all.and(Factors::of_value(DType::BF16, w, d, merge(w, factor * d), 0.0))
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
