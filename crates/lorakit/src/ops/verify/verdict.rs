//! From sums to words: what each tensor is, and what that makes of the model.

use std::fmt;

use super::measure::Measured;

/// Share of values that may be further than a step from the sum: kernels differ where summands cancel.
const OFF: f64 = 1e-3;
/// A scale this near to another is the same.
const NEAR: f64 = 0.02;
/// The same for quantised tensors, and the largest error they have, relative to the norm (two bits: a quarter).
const NEAR_QUANTISED: f64 = 0.05;
const QUANTISED: f64 = 0.3;
/// What is left, relative to the norm of the weights, where these are another model's.
const UNLIKE: f64 = 0.5;

/// What a tensor of the merged model is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum State {
    /// No adapter touches it, and it is the base's.
    Kept,
    /// The sum, byte for byte, by one rounding, by PEFT's two, or by both where they agree.
    Exact {
        /// The sum rounded once.
        once: bool,
        /// The base and the rounded delta, rounded (PEFT with `safe_merge=True`).
        twice: bool,
    },
    /// Within a step of the sum.
    Near,
    /// The sum, or what no adapter touches, as far as quantisation lets it be known.
    Quantised,
    /// The base, and the delta times a number that is not 1.
    Scaled(f64),
    /// The base's, though an adapter touches it.
    Missing,
    /// Something else, though an adapter touches it: not the base and any multiple of the delta.
    Other,
    /// No adapter touches it, and it is not the base's.
    Changed,
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
            State::Reshaped => "reshaped",
            State::Absent => "absent",
            State::Extra => "extra",
        }
    }

    /// The state of a tensor that an adapter touches.
    pub(super) fn touched(m: &Measured, quantised: bool) -> Self {
        if m.once || m.twice {
            return State::Exact { once: m.once, twice: m.twice };
        }
        if m.copy {
            return State::Missing;
        }
        let (scale, spread) = (m.scale(), 4.0 * m.uncertainty());
        // What noise alone leaves of `M - W - f D`.
        let noise = if quantised { QUANTISED * m.sum.sqrt() } else { 2.5 * m.rounding.sqrt() };
        let explained = m.residual().sqrt() <= noise + NEAR * scale.abs() * m.delta.sqrt();
        if quantised {
            return match explained {
                true if (scale - 1.0).abs() <= NEAR_QUANTISED + spread => State::Quantised,
                true if scale.abs() <= NEAR_QUANTISED + spread => State::Missing,
                true => State::Scaled(scale),
                false => State::Other,
            };
        }
        // Deltas below a step are rounded away in part, also where all is well.
        let usual = m.rounded_along / m.delta;
        if m.off as f64 <= OFF * m.values as f64 && (scale - usual).abs() <= NEAR + spread {
            return State::Near;
        }
        match explained {
            true if scale.abs() <= NEAR + spread => State::Missing,
            true if (scale - 1.0).abs() > NEAR => State::Scaled(scale),
            _ => State::Other,
        }
    }

    /// The state of a tensor that no adapter touches.
    pub(super) fn untouched(m: &Measured, quantised: bool) -> Self {
        match quantised {
            _ if m.once => State::Kept,
            true if m.error.sqrt() <= QUANTISED * m.sum.sqrt() => State::Quantised,
            _ => State::Changed,
        }
    }
}

/// What the merged model is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// Base and adapters, byte for byte, rounded once.
    ExactOnce,
    /// The same, deltas rounded first everywhere (PEFT with `safe_merge=True`).
    ExactTwice,
    /// The same, deltas rounded first in some tensors (PEFT with `safe_merge=False`, for embeddings and experts).
    ExactMixed,
    /// Base and adapters within a step of the dtype.
    WithinRounding,
    /// Base and adapters as far as quantisation lets it be known; the scale of all deltas together.
    Quantised(f64),
    /// Quantisation leaves too much noise to tell.
    Unclear,
    /// The base and the adapters times this number.
    WrongScale(f64),
    /// The base: no touched tensor holds the adapters.
    Missing,
    /// Some touched tensors are not what they should be.
    Partly,
    /// The base, and something else in the touched tensors.
    OtherAdapter,
    /// Not the base.
    OtherBase,
    /// Tensors that no adapter touches are not the base's.
    Changed,
}

impl Verdict {
    /// Whether the model is what base and adapters make.
    pub fn holds(self) -> bool {
        use Verdict::*;
        matches!(self, ExactOnce | ExactTwice | ExactMixed | WithinRounding | Quantised(_))
    }

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::ExactOnce => "exact_once",
            Verdict::ExactTwice => "exact_twice",
            Verdict::ExactMixed => "exact_mixed",
            Verdict::WithinRounding => "within_rounding",
            Verdict::Quantised(_) => "quantised",
            Verdict::Unclear => "unclear",
            Verdict::WrongScale(_) => "wrong_scale",
            Verdict::Missing => "adapter_missing",
            Verdict::Partly => "partly",
            Verdict::OtherAdapter => "other_adapter",
            Verdict::OtherBase => "other_base",
            Verdict::Changed => "changed",
        }
    }

    /// The verdict on all tensors; `touched` are the sums of those with a delta, all together.
    pub(super) fn of(states: &[State], touched: &Measured) -> Self {
        let count = |wanted: fn(&State) -> bool| states.iter().filter(|s| wanted(s)).count();
        let kept = count(|s| matches!(s, State::Kept));
        let changed = count(|s| matches!(s, State::Changed));
        let held = count(|s| s.holds()) - kept;
        let (missing, other) = (count(|s| *s == State::Missing), count(|s| *s == State::Other));
        // What is left is there where no adapter reaches, or as large as the weights where adapters reach everywhere.
        let unlike = other > 0 && kept == 0 && touched.residual() > UNLIKE * UNLIKE * touched.base;
        let everywhere = other > 0 && held == 0 && changed > 0;
        if count(|s| matches!(s, State::Reshaped)) > 0 || changed > kept || unlike || everywhere {
            return Verdict::OtherBase;
        }
        if changed + count(|s| matches!(s, State::Absent | State::Extra)) > 0 {
            return Verdict::Changed;
        }
        let scales: Vec<f64> =
            states.iter().filter_map(|s| if let State::Scaled(f) = s { Some(*f) } else { None }).collect();
        match (missing, other, scales.len()) {
            (0, 0, 0) => Self::holding(states, touched),
            (_, 0, 0) if held == 0 => Verdict::Missing,
            (0, _, 0) if held == 0 => Verdict::OtherAdapter,
            (0, 0, _) if held == 0 => {
                let (least, most) =
                    scales.iter().fold((f64::MAX, f64::MIN), |(a, b), &f| (a.min(f), b.max(f)));
                let scale = touched.scale();
                if most - least <= NEAR_QUANTISED * scale.abs() + 8.0 * touched.uncertainty() {
                    Verdict::WrongScale(scale)
                } else {
                    Verdict::Partly
                }
            }
            _ => Verdict::Partly,
        }
    }

    fn holding(states: &[State], touched: &Measured) -> Self {
        let rules = states.iter().filter_map(|s| match s {
            State::Exact { once, twice } => Some((*once, *twice)),
            _ => None,
        });
        let rules: Vec<_> = rules.collect();
        if states.contains(&State::Quantised) {
            let (scale, spread) = (touched.scale(), 4.0 * touched.uncertainty());
            return match touched.delta > 0.0 {
                true if spread > 0.5 => Verdict::Unclear,
                true if (scale - 1.0).abs() > NEAR_QUANTISED + spread => match scale.abs() <= spread {
                    true => Verdict::Missing,
                    false => Verdict::WrongScale(scale),
                },
                true => Verdict::Quantised(scale),
                false => Verdict::Quantised(1.0),
            };
        }
        match () {
            () if states.contains(&State::Near) => Verdict::WithinRounding,
            () if rules.iter().all(|r| r.0) => Verdict::ExactOnce,
            () if rules.iter().all(|r| r.1) => Verdict::ExactTwice,
            () => Verdict::ExactMixed,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::ExactOnce => f.write_str("exact: every byte is that of the sum, rounded once"),
            Verdict::ExactTwice => f.write_str(
                "exact by PEFT's two roundings (`safe_merge=True`): every delta was rounded before it was added",
            ),
            Verdict::ExactMixed => f.write_str(
                "exact by PEFT's roundings (`safe_merge=False`): some deltas were rounded before they were added",
            ),
            Verdict::WithinRounding => f.write_str("within rounding: no further from the sum than a step"),
            Verdict::Quantised(scale) => {
                write!(f, "within quantisation: the fitted scale of all deltas is {scale:.3}")
            }
            Verdict::Unclear => {
                f.write_str("unclear: quantisation left more noise than the adapters add, over all tensors")
            }
            Verdict::WrongScale(scale) => {
                write!(f, "wrong scale: the adapters were added {scale:.3} times")?;
                let twice = (scale - 2.0).abs() < NEAR;
                f.write_str(if twice { " (merged twice?)" } else { "" })
            }
            Verdict::Missing => f.write_str("adapter missing: the touched tensors are those of the base"),
            Verdict::Partly => f.write_str("in part: some tensors are not the sum"),
            Verdict::OtherAdapter => {
                f.write_str("other adapter: the touched tensors hold no multiple of these deltas")
            }
            Verdict::OtherBase => f.write_str("other base: the differences are not those that these adapters make"),
            Verdict::Changed => {
                f.write_str("changed: some tensors that no adapter touches are not those of the base")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXACT: State = State::Exact { once: true, twice: false };

    fn verdict(states: &[State]) -> Verdict {
        Verdict::of(
            states,
            &Measured { values: 100, delta: 1.0, along: 0.5, moved: 0.25, ..Measured::default() },
        )
    }

    #[test]
    fn rules_of_rounding() {
        let (twice, both) =
            (State::Exact { once: false, twice: true }, State::Exact { once: true, twice: true });
        assert_eq!(verdict(&[State::Kept, EXACT, both]), Verdict::ExactOnce);
        assert_eq!(verdict(&[twice, both]), Verdict::ExactTwice);
        assert_eq!(verdict(&[EXACT, twice]), Verdict::ExactMixed);
        assert_eq!(verdict(&[EXACT, State::Near]), Verdict::WithinRounding);
    }

    #[test]
    fn one_fault_in_all_is_named_and_faults_in_some_are_not() {
        assert_eq!(verdict(&[State::Kept, State::Missing]), Verdict::Missing);
        assert_eq!(verdict(&[EXACT, State::Missing]), Verdict::Partly);
        assert_eq!(verdict(&[State::Scaled(0.5), State::Scaled(0.501)]), Verdict::WrongScale(0.5));
        assert_eq!(verdict(&[State::Scaled(0.5), State::Scaled(2.0)]), Verdict::Partly);
        assert_eq!(verdict(&[State::Kept, State::Other]), Verdict::OtherAdapter);
        assert_eq!(verdict(&[State::Kept, State::Changed, State::Changed]), Verdict::OtherBase);
        assert_eq!(verdict(&[EXACT, State::Kept, State::Kept, State::Changed]), Verdict::Changed);
        assert_eq!(verdict(&[EXACT, State::Absent]), Verdict::Changed);
    }
}
