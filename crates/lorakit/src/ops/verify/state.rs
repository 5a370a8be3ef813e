//! From sums to a word: what one tensor of the merged model is.

use super::noise::Encoding;
use super::sums::Measured;

/// Share of values that may be further than a step from the sum: kernels differ where summands cancel.
const OFF: f64 = 1e-3;
/// A scale this near to another is the same.
pub(super) const NEAR: f64 = 0.02;
/// The same for quantised tensors.
pub(super) const NEAR_QUANTISED: f64 = 0.05;
/// Share of values that may differ from the sum encoded here where every program encodes alike. Another kernel's sums in
/// BF16 differ in one of 30,000 values; with the scale of a block, 256 values change.
const OTHERWISE: f64 = 0.02;
/// The largest share of that error that a factor for each run of values explains, if their scales are right. Formats that
/// clip, or store scales in few bits, come to a tenth; four bits with the scales of other blocks to nine tenths.
const SCALES: f64 = 0.25;
/// The share of values that independent rounding leaves as they are at most.
const HIDDEN: f64 = 0.1;

/// What a tensor of the merged model is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum State {
    /// No adapter touches it, and it is the base's.
    Kept,
    /// The sum, byte for byte, by one rounding or quantisation, by PEFT's, or by several rules where they agree.
    Exact {
        /// The sum rounded once.
        once: bool,
        /// The base and the rounded delta, rounded (PEFT with `safe_merge=True`).
        twice: bool,
        /// The deltas of several adapters added one after the other, and rounded after each (PEFT).
        in_turn: bool,
    },
    /// Within a step of the sum.
    Near,
    /// The sum, or a tensor that no adapter touches, as far as quantisation lets one tell.
    Quantised,
    /// The base, and the delta times a number that is not 1.
    Scaled(f64),
    /// The base's, though an adapter touches it.
    Missing,
    /// Something else, though an adapter touches it: not the base and any multiple of the delta.
    Other,
    /// No adapter touches it, and it is not the base's.
    Changed,
    /// It holds NaN or infinity, which base and adapters do not.
    NonFinite,
    /// Its values, or those of the base, cannot be read, or its quantisation hides what is asked for.
    Unjudged,
    /// Of another shape.
    Reshaped,
    /// In base or adapters and not in the merged model.
    Absent,
    /// In the merged model only.
    Extra,
}

impl State {
    /// Whether it is what base and adapters make.
    pub fn holds(self) -> bool {
        matches!(self, State::Kept | State::Exact { .. } | State::Near | State::Quantised)
    }

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            State::Kept => "kept",
            State::Exact { .. } => "exact",
            State::Near => "near",
            State::Quantised => "quantised",
            State::Scaled(_) => "wrong_scale",
            State::Missing => "missing",
            State::Other => "other",
            State::Changed => "changed",
            State::NonFinite => "non_finite",
            State::Unjudged => "unjudged",
            State::Reshaped => "reshaped",
            State::Absent => "absent",
            State::Extra => "extra",
        }
    }

    /// The state of a tensor that an adapter touches.
    pub(super) fn touched(m: &Measured, quantised: bool) -> Self {
        if m.bad > 0 {
            return State::NonFinite;
        }
        if m.once || m.twice || m.in_turn {
            return State::Exact { once: m.once, twice: m.twice, in_turn: m.in_turn };
        }
        if m.copy {
            return State::Missing;
        }
        let (scale, spread) = (m.scale(), 4.0 * m.uncertainty());
        // Deltas below a step are rounded away in part, even if all is well.
        let usual = m.usual();
        // What noise alone leaves of `M - W - f D`.
        let noise = if quantised { of_encoding(m) } else { 2.5 * (m.rounding * m.turns as f64).sqrt() };
        let explained = m.residual().sqrt() <= noise + NEAR * scale.abs() * m.delta.sqrt();
        if quantised {
            // Of deltas below the steps, codes that differ are few.
            let is_usual = (scale - usual).abs() <= NEAR_QUANTISED + spread;
            return if is_encoded(m) && is_usual {
                State::Quantised
            } else if hides(m) {
                State::Unjudged
            } else if m.encoding.is_free()
                && m.moved.sqrt() <= noise
                && scale.abs() <= NEAR_QUANTISED + spread
            {
                State::Missing
            } else if explained && (scale - usual).abs() > NEAR_QUANTISED + spread {
                State::Scaled(scale)
            } else {
                State::Other
            };
        }
        let off_by = (scale - usual).abs().min((scale - m.usual_in_turn()).abs());
        if m.far == 0 && m.off as f64 <= OFF * m.values as f64 && !m.is_alone() && off_by <= NEAR + spread {
            return State::Near;
        }
        // Equal to the base it is only if every value is: a small multiple of the delta is another thing.
        if explained && (scale - 1.0).abs() > NEAR { State::Scaled(scale) } else { State::Other }
    }

    /// The state of a tensor that no adapter touches.
    pub(super) fn untouched(m: &Measured, quantised: bool) -> Self {
        match quantised {
            _ if m.bad > 0 => State::NonFinite,
            _ if m.once => State::Kept,
            true if is_encoded(m) => State::Quantised,
            _ => State::Changed,
        }
    }
}

/// The largest distance between a tensor and its encoding.
fn of_encoding(m: &Measured) -> f64 {
    m.encoding.most_of_tensor() * m.rounding.sqrt()
}

/// Whether next to all values are those of the sum, encoded.
pub(super) fn is_alike(m: &Measured) -> bool {
    m.differing as f64 <= OTHERWISE * m.values as f64
}

/// Whether the values are those of the sum, encoded: value for value, or as near to it as encoding leaves them, nowhere
/// further away, and each block with a scale of its own.
fn is_encoded(m: &Measured) -> bool {
    m.off == 0 && (is_alike(m) || m.error.sqrt() <= of_encoding(m) && has_own_scales(m))
}

/// Whether the base's values lie where the merged model's can, so that deltas below half a step leave no trace, and how
/// the rounding went is not known.
fn hides(m: &Measured) -> bool {
    let is_unknown = matches!(m.encoding, Encoding::Unknown(_));
    is_unknown && m.same as f64 > HIDDEN * m.values as f64 && m.same < m.values
}

/// Whether what quantisation left is noise, and not blocks with the scales of others.
fn has_own_scales(m: &Measured) -> bool {
    // Noise alone: one value of each run, and four standard errors.
    let runs = m.noise.runs as f64;
    let noise = (runs + 4.0 * (2.0 * runs).sqrt()) / m.values.max(1) as f64;
    m.noise.scaled_runs <= (SCALES + noise) * m.error
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where another encoder may have chosen otherwise, scales of blocks and of deltas must still be right.
    #[test]
    fn what_another_encoder_may_leave() {
        // Half of the values' norm, as the type leaves of it.
        let mut m = Measured {
            values: 3200,
            differing: 3200,
            sum: 100.0,
            delta: 1.0,
            along: 1.0,
            rounded_along: 1.0,
            moved: 26.0,
            error: 25.0,
            rounding: 25.0,
            encoding: Encoding::Unknown(0.5),
            ..Measured::default()
        };
        m.noise.runs = 100;
        assert_eq!(State::touched(&m, true), State::Quantised);
        assert_eq!(State::untouched(&m, true), State::Quantised);
        m.noise.scaled_runs = 12.0;
        assert_eq!(State::touched(&m, true), State::Other);
        assert_eq!(State::untouched(&m, true), State::Changed);
        m.noise.scaled_runs = 0.0;
        m.along = -0.5;
        assert_eq!(State::touched(&m, true), State::Scaled(-0.5));
        // One place that is too far away.
        m.along = 1.0;
        m.off = 32;
        assert_eq!(State::touched(&m, true), State::Other);
        // An encoder that has no choice leaves no more than that.
        (m.off, m.error) = (0, 26.0);
        m.encoding = Encoding::Alike;
        assert_eq!(State::untouched(&m, true), State::Changed);
        m.differing = 30;
        assert_eq!(State::untouched(&m, true), State::Quantised);
    }
}
