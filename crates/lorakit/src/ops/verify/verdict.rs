//! From what each tensor is to what the model is.

use std::fmt;

use super::measure::Measured;
use super::state::{NEAR, NEAR_QUANTISED, State};

/// The residual, relative to the norm of the weights, above which they are another model's.
const UNLIKE: f64 = 0.5;
/// A cosine above this is worth reporting.
const LIKE: f64 = 0.5;
/// The largest share of a delta, taken away by rounding, that excuses another scale.
const UNEVEN: f64 = 0.1;

/// What the merged model is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// Base and adapters, byte for byte, rounded once.
    ExactOnce,
    /// The same, deltas rounded first everywhere (PEFT with `safe_merge=True`).
    ExactTwice,
    /// The same, deltas rounded first in some tensors (PEFT with `safe_merge=False`, for embeddings and experts).
    ExactMixed,
    /// The same, the deltas of several adapters added one after the other to some tensors, which were rounded after
    /// each (PEFT).
    ExactInTurn,
    /// Base and adapters within a step of the dtype.
    WithinRounding,
    /// Base and adapters as far as quantisation lets one tell; the scale of all deltas together.
    Quantised(f64),
    /// Quantisation leaves too much noise to tell.
    Unclear,
    /// The base and the adapters times this number.
    WrongScale(f64, Proof),
    /// The base: no touched tensor holds the adapters.
    Missing,
    /// Some touched tensors are not what they should be.
    Partly,
    /// The base and the adapters, with another number in each touched tensor: the least and the largest.
    WrongScales(f64, f64),
    /// The base, and something else in the touched tensors; the cosine between that and the deltas.
    OtherAdapter(f64),
    /// Not the base.
    OtherBase,
    /// Tensors that no adapter touches are not the base's.
    Changed,
}

/// A tensor, for the verdict on all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seen {
    /// What it is.
    pub(super) state: State,
    /// The share of its delta that rounding takes or adds.
    pub(super) uneven: f64,
    /// The standard error of its scale.
    pub(super) uncertainty: f64,
}

/// How a wrong scale is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It fits best, and about alike in all tensors.
    Fit,
    /// With it, every value is the sum, rounded.
    Values,
    /// Every byte is what two merges, one on top of the other, leave.
    MergedTwice,
}

impl Verdict {
    /// Whether the model is what base and adapters make.
    pub fn holds(self) -> bool {
        use Verdict::*;
        matches!(self, ExactOnce | ExactTwice | ExactMixed | ExactInTurn | WithinRounding | Quantised(_))
    }

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::ExactOnce => "exact_once",
            Verdict::ExactTwice => "exact_twice",
            Verdict::ExactMixed => "exact_mixed",
            Verdict::ExactInTurn => "exact_in_turn",
            Verdict::WithinRounding => "within_rounding",
            Verdict::Quantised(_) => "quantised",
            Verdict::Unclear => "unclear",
            Verdict::WrongScale(..) => "wrong_scale",
            Verdict::Missing => "adapter_missing",
            Verdict::Partly => "partly",
            Verdict::WrongScales(..) => "wrong_scales",
            Verdict::OtherAdapter(_) => "other_adapter",
            Verdict::OtherBase => "other_base",
            Verdict::Changed => "changed",
        }
    }

    /// The verdict on all tensors; `touched` are the sums of those with a delta, all together.
    pub(super) fn of(tensors: &[Seen], touched: &Measured) -> Self {
        let states: Vec<State> = tensors.iter().map(|seen| seen.state).collect();
        let count = |wanted: fn(&State) -> bool| states.iter().filter(|s| wanted(s)).count();
        let kept = count(|s| matches!(s, State::Kept));
        let changed = count(|s| matches!(s, State::Changed));
        let held = count(|s| s.holds()) - kept;
        let (missing, other) = (count(|s| *s == State::Missing), count(|s| *s == State::Other));
        // Differences are left where no adapter reaches, or are as large as the weights if adapters reach everywhere.
        let unlike = other > 0 && kept == 0 && touched.residual() > UNLIKE * UNLIKE * touched.base;
        let everywhere = other > 0 && held == 0 && changed > 0;
        if count(|s| matches!(s, State::Reshaped)) > 0 || changed > kept || unlike || everywhere {
            return Verdict::OtherBase;
        }
        if changed + count(|s| matches!(s, State::Absent | State::Extra)) > 0 {
            return Verdict::Changed;
        }
        let scale = touched.scale();
        let near = |f: f64, seen: &Seen| {
            let apart = (NEAR_QUANTISED / 2.0 + 2.0 * seen.uneven.min(UNEVEN)) * scale.abs();
            (f - scale).abs() <= apart + 4.0 * (touched.uncertainty() + seen.uncertainty)
        };
        let scaled =
            |seen: &Seen| if let State::Scaled(f) = seen.state { Some((f, near(f, seen))) } else { None };
        let scales: Vec<(f64, bool)> = tensors.iter().filter_map(scaled).collect();
        match (missing, other, scales.len()) {
            (0, 0, 0) => Self::holding(&states, touched),
            (_, 0, 0) if held == 0 => Verdict::Missing,
            (0, 0, _) if held == 0 && !is_one(scale, Proof::Fit) && scales.iter().all(|(_, near)| *near) => {
                Verdict::WrongScale(scale, Proof::Fit)
            }
            (0, 0, _) if held == 0 => {
                let (least, most) =
                    scales.iter().fold((f64::MAX, f64::MIN), |(a, b), (f, _)| (a.min(*f), b.max(*f)));
                Verdict::WrongScales(least, most)
            }
            (0, _, _) if held == 0 => Verdict::OtherAdapter(touched.cosine()),
            _ => Verdict::Partly,
        }
    }

    fn holding(states: &[State], touched: &Measured) -> Self {
        let rules = states.iter().filter_map(|s| match s {
            State::Exact { once, twice, .. } => Some((*once, *twice)),
            _ => None,
        });
        let rules: Vec<_> = rules.collect();
        if states.contains(&State::Quantised) {
            let (scale, spread) = (touched.scale(), 4.0 * touched.uncertainty());
            let has_delta = touched.delta > 0.0;
            let is_off = (scale - touched.usual()).abs() > NEAR_QUANTISED + spread;
            return if !has_delta {
                Verdict::Quantised(1.0)
            } else if spread > 0.5 {
                Verdict::Unclear
            } else if !is_off || is_one(scale, Proof::Fit) {
                Verdict::Quantised(scale)
            } else if scale.abs() <= spread {
                Verdict::Missing
            } else {
                Verdict::WrongScale(scale, Proof::Fit)
            };
        }
        if states.contains(&State::Near) {
            Verdict::WithinRounding
        } else if rules.iter().all(|r| r.0) {
            Verdict::ExactOnce
        } else if rules.iter().all(|r| r.1) {
            Verdict::ExactTwice
        } else if rules.contains(&(false, false)) {
            Verdict::ExactInTurn
        } else {
            Verdict::ExactMixed
        }
    }
}

/// A scale that every value agrees on, as it is printed.
fn shown(scale: f64) -> f64 {
    (scale * 1e4).round() / 1e4
}

/// Whether a scale is printed as 1, and so cannot be called wrong.
pub(super) fn is_one(scale: f64, proof: Proof) -> bool {
    match proof {
        Proof::Fit => (scale - 1.0).abs() < 5e-4,
        Proof::Values => shown(scale) == 1.0,
        Proof::MergedTwice => false,
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
            Verdict::ExactInTurn => f.write_str(
                "exact by PEFT's roundings of several adapters: they were added one after the other, rounded after each",
            ),
            Verdict::WithinRounding => f.write_str("within rounding: no further from the sum than a step"),
            Verdict::Quantised(scale) => {
                write!(f, "within quantisation: the fitted scale of all deltas is {scale:.3}")
            }
            Verdict::Unclear => {
                f.write_str("unclear: quantisation left more noise than the adapters add, over all tensors")
            }
            Verdict::WrongScale(scale, proof) => {
                f.write_str("wrong scale: the adapters were added ")?;
                let twice = (scale - 2.0).abs() < NEAR;
                match proof {
                    Proof::Fit if twice => write!(f, "{scale:.3} times (merged twice?)"),
                    Proof::Fit => write!(f, "{scale:.3} times"),
                    Proof::Values => write!(f, "{} times; every value agrees", shown(*scale)),
                    Proof::MergedTwice => f.write_str("2 times, and rounded after each (merged twice?)"),
                }
            }
            Verdict::Missing => f.write_str("adapter missing: the touched tensors are those of the base"),
            Verdict::Partly => f.write_str("in part: some tensors are not the sum"),
            Verdict::WrongScales(least, most) => {
                write!(f, "wrong scales: the adapters were added {least:.3} to {most:.3} times, by tensor")
            }
            Verdict::OtherAdapter(cosine) if *cosine > LIKE => {
                write!(f, "other adapter: what was added is like these deltas, and is not them (cosine {cosine:.3})")
            }
            Verdict::OtherAdapter(_) => {
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

    const EXACT: State = State::Exact { once: true, twice: false, in_turn: false };

    fn verdict(states: &[State]) -> Verdict {
        uneven(&states.iter().map(|s| (*s, 0.0)).collect::<Vec<_>>())
    }

    fn uneven(tensors: &[(State, f64)]) -> Verdict {
        let seen = |(state, uneven): &(State, f64)| Seen { state: *state, uneven: *uneven, uncertainty: 0.0 };
        let tensors: Vec<Seen> = tensors.iter().map(seen).collect();
        Verdict::of(
            &tensors,
            &Measured { values: 100, delta: 1.0, along: 0.5, moved: 0.25, ..Measured::default() },
        )
    }

    #[test]
    fn rules_of_rounding() {
        let exact = |once, twice, in_turn| State::Exact { once, twice, in_turn };
        let (twice, both, in_turn) =
            (exact(false, true, false), exact(true, true, false), exact(false, false, true));
        assert_eq!(verdict(&[State::Kept, EXACT, both]), Verdict::ExactOnce);
        assert_eq!(verdict(&[twice, both]), Verdict::ExactTwice);
        assert_eq!(verdict(&[EXACT, twice]), Verdict::ExactMixed);
        assert_eq!(verdict(&[EXACT, both, in_turn]), Verdict::ExactInTurn);
        assert_eq!(verdict(&[in_turn, State::Near]), Verdict::WithinRounding);
        assert_eq!(verdict(&[EXACT, State::Near]), Verdict::WithinRounding);
    }

    /// Whatever is printed as 1 is not called wrong, and nothing else is right.
    #[test]
    fn a_scale_is_wrong_only_if_it_does_not_print_as_one() {
        for (scale, proof, one) in [
            (1.0, Proof::Values, true),
            (1.00004, Proof::Values, true),
            (0.99996, Proof::Values, true),
            (1.0001, Proof::Values, false),
            (1.0004, Proof::Fit, true),
            (0.9991, Proof::Fit, false),
            (1.02, Proof::Fit, false),
            (-1.0, Proof::Values, false),
            (2.0, Proof::MergedTwice, false),
        ] {
            assert_eq!(is_one(scale, proof), one, "{scale} {proof:?}");
            let text = Verdict::WrongScale(scale, proof).to_string();
            assert_eq!(text.contains(" 1 times") || text.contains(" 1.000 times"), one, "{text}");
        }
    }

    #[test]
    fn one_fault_in_all_is_named_and_faults_in_some_are_not() {
        assert_eq!(verdict(&[State::Kept, State::Missing]), Verdict::Missing);
        assert_eq!(verdict(&[EXACT, State::Missing]), Verdict::Partly);
        assert_eq!(
            verdict(&[State::Scaled(0.5), State::Scaled(0.501)]),
            Verdict::WrongScale(0.5, Proof::Fit)
        );
        assert_eq!(verdict(&[State::Scaled(0.5), State::Scaled(2.0)]), Verdict::WrongScales(0.5, 2.0));
        assert_eq!(verdict(&[State::Scaled(0.5), State::Scaled(0.45)]), Verdict::WrongScales(0.45, 0.5));
        assert_eq!(verdict(&[EXACT, State::Scaled(0.5)]), Verdict::Partly);
        let swallowed = [(State::Scaled(0.5), 0.0), (State::Scaled(0.45), 0.05)];
        assert_eq!(uneven(&swallowed), Verdict::WrongScale(0.5, Proof::Fit));
        // About 1 on the whole, and 1 nowhere.
        let around = [State::Scaled(0.97), State::Scaled(1.03)].map(|state| Seen {
            state,
            uneven: 0.1,
            uncertainty: 0.0,
        });
        let sums = Measured { values: 100, delta: 1.0, along: 1.0, moved: 1.0, ..Measured::default() };
        assert_eq!(Verdict::of(&around, &sums), Verdict::WrongScales(0.97, 1.03));
        let other = [(State::Scaled(0.5), 0.0), (State::Scaled(0.2), 1.0)];
        assert_eq!(uneven(&other), Verdict::WrongScales(0.2, 0.5));
        assert_eq!(verdict(&[State::Kept, State::Other]), Verdict::OtherAdapter(1.0));
        assert_eq!(verdict(&[State::Scaled(0.5), State::Other]), Verdict::OtherAdapter(1.0));
        assert_eq!(verdict(&[State::Kept, State::Changed, State::Changed]), Verdict::OtherBase);
        assert_eq!(verdict(&[EXACT, State::Kept, State::Kept, State::Changed]), Verdict::Changed);
        assert_eq!(verdict(&[EXACT, State::Absent]), Verdict::Changed);
    }
}
