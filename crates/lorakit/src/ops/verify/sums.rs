//! Sums over all values of one tensor.

use lorakit_tensor::DType;

use super::noise::{Encoding, Noise};
use super::step::step;

/// Values that differ for each one that is off, if another order of summands is the reason.
const CROWD: u64 = 10;

/// Sums over the values of a tensor, with `W` the base's, `D` what the adapters add, `S = W + D` in f32 and `M` the
/// merged model's.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    /// Number of values.
    pub(super) values: u64,
    /// `<D, D>`.
    pub(super) delta: f64,
    /// `<M - W, D>`.
    pub(super) along: f64,
    /// `<M - W, M - W>`.
    pub(super) moved: f64,
    /// `<W, W>`.
    pub(super) base: f64,
    /// `<S, S>`.
    pub(super) sum: f64,
    /// `<M - S, M - S>`.
    pub(super) error: f64,
    /// `<R - W, D>`, with `R` the sum rounded to the stored dtype; the sum itself where rounding takes too long.
    pub(super) rounded_along: f64,
    /// `<R - S, R - S>`; the usual error where nothing here encodes.
    pub(super) rounding: f64,
    /// How the values are encoded.
    pub(super) encoding: Encoding,
    /// If not one by one: what is too far from the sum.
    pub(super) noise: Noise,
    /// Values further than a step of the stored dtype from the rounded sum, or than its blocks explain.
    pub(super) off: u64,
    /// Where the first of them is; in blocks, the furthest.
    pub(super) place: Option<u64>,
    /// The first and the last row with one.
    pub(super) rows_from_to: Option<(u64, u64)>,
    /// `<M, M>`, of those that are finite.
    pub(super) norm: f64,
    /// Whether every value is one of BF16, and of F16.
    pub(super) fits: [bool; 2],
    /// Values many steps from the rounded sum, which no order of summands explains.
    pub(super) far: u64,
    /// Values that are not the rounded sum, by however little: by the rule by which these are fewest.
    pub(super) differing: u64,
    /// Rows with a value further than a step from it.
    pub(super) rows_off: u64,
    /// Number of rows.
    pub(super) rows: u64,
    /// Values that are NaN or infinite; they are left out of all sums.
    pub(super) bad: u64,
    /// `<M, S>`.
    pub(super) with_sum: f64,
    /// Values that are the base's although they have a delta.
    pub(super) same: u64,
    /// Whether every stored byte is that of the sum rounded once; of a packed tensor, whether every value is.
    pub(super) once: bool,
    /// Whether every stored byte is that of the sum of the base and the rounded delta, rounded.
    pub(super) twice: bool,
    /// Whether every stored byte is that of the base with one delta after another added, rounded after each, as PEFT
    /// merges several adapters; or the same of rounded deltas.
    pub(super) in_turn: bool,
    /// Number of adapters whose deltas are added in turn to most values; at least 1.
    pub(super) turns: usize,
    /// `<T - W, D>`, with `T` what comes of adding them in turn.
    pub(super) in_turn_along: f64,
    /// Whether every stored byte is that of the sum rounded once, with the delta added again and rounded again.
    pub(super) again: bool,
    /// Whether every stored byte is that of the base.
    pub(super) copy: bool,
}

impl Measured {
    /// The factor of `D` that comes nearest to `M - W`.
    pub(super) fn scale(&self) -> f64 {
        self.along / self.delta
    }

    /// `||M - W - f D||` for that factor `f`, squared.
    pub(super) fn residual(&self) -> f64 {
        (self.moved - self.along * self.along / self.delta).max(0.0)
    }

    /// The standard error of [`Self::scale`], if what is left is noise.
    pub(super) fn uncertainty(&self) -> f64 {
        (self.residual() / self.delta / self.values.max(1) as f64).sqrt()
    }

    /// The factor of `D` that is left where the sum is stored.
    pub(super) fn usual(&self) -> f64 {
        self.rounded_along / self.delta
    }

    /// The same where several adapters were added in turn.
    pub(super) fn usual_in_turn(&self) -> f64 {
        self.in_turn_along / self.delta
    }

    /// The cosine between `M - W` and `D`.
    pub(super) fn cosine(&self) -> f64 {
        self.along / (self.moved * self.delta).sqrt()
    }

    /// The factor of the sum that comes nearest to `M`, if rounding to `dtype` explains what is left and not the factor.
    pub(super) fn times_sum(&self, dtype: DType) -> Option<f64> {
        /// A factor nearer to 1 is printed as 1.
        const TOLD: f64 = 5e-4;

        let factor = self.with_sum / self.sum;
        let norm = self.norm;
        let left = (norm - factor * self.with_sum).max(0.0).sqrt();
        // The errors of rounding twice are below a step, and a factor must show in most values.
        let noise = f64::from(step(dtype, 1.0)) * norm.sqrt();
        let apart = (factor - 1.0).abs();
        (self.bad == 0 && left <= noise && apart > TOLD && apart * self.sum.sqrt() > 2.0 * left)
            .then_some(factor)
    }

    /// Whether values are off and few others differ at all: kernels that differ do so in many values, and seldom by
    /// more than a step.
    pub(super) fn is_alone(&self) -> bool {
        self.off * CROWD > self.differing
    }

    /// The share of the delta that rounding the sum takes away or adds.
    pub(super) fn uneven(&self) -> f64 {
        if self.delta > 0.0 { (1.0 - self.rounded_along / self.delta).abs() } else { 0.0 }
    }

    /// Adds the sums of another tensor.
    pub(super) fn add(&mut self, other: &Measured) {
        self.values += other.values;
        self.delta += other.delta;
        self.along += other.along;
        self.moved += other.moved;
        self.base += other.base;
        self.rounded_along += other.rounded_along;
    }
}
