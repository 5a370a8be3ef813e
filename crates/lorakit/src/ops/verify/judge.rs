//! From what each tensor is to what the model is.

use super::state::{NEAR_QUANTISED, State};
use super::sums::Measured;
use super::verdict::{Proof, Verdict};

/// The residual, relative to the norm of the weights, above which they are another model's.
const UNLIKE: f64 = 0.5;
/// The distance, relative to the norm of the weights, at which they are not a change of the base's (of independent ones it
/// is 1.4).
const UNRELATED: f64 = 1.2;
/// The largest share of a delta, taken away by rounding, that excuses another scale.
const UNEVEN: f64 = 0.1;

/// A tensor, for the verdict on all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seen {
    /// What it is.
    pub(super) state: State,
    /// Whether an adapter touches it.
    pub(super) touched: bool,
    /// Whether it rounds to the base although an adapter touches it.
    pub(super) swallowed: bool,
    /// Whether it has rows and columns.
    pub(super) is_matrix: bool,
    /// How far it is from the base, relative to that; of tensors that no adapter touches.
    pub(super) apart: f64,
    /// The share of its delta that rounding takes or adds.
    pub(super) uneven: f64,
    /// The standard error of its scale.
    pub(super) uncertainty: f64,
}

impl Seen {
    /// Something that was not measured.
    pub(super) fn of(state: State) -> Self {
        Seen {
            state,
            touched: false,
            swallowed: false,
            is_matrix: false,
            apart: 1.0,
            uneven: 0.0,
            uncertainty: 0.0,
        }
    }
}

impl Verdict {
    /// The verdict on all tensors; `touched` are the sums of those with a delta, all together.
    pub(super) fn of(tensors: &[Seen], touched: &Measured) -> Self {
        let has = |state| tensors.iter().any(|seen| seen.state == state);
        if has(State::NonFinite) {
            return Verdict::NonFinite;
        }
        let verdict = Self::of_values(tensors, touched);
        match verdict.holds() || verdict == Verdict::Unclear {
            true if has(State::Absent) => Verdict::Incomplete,
            true if has(State::Unjudged) => Verdict::Unjudged,
            _ => verdict,
        }
    }

    /// The same without regard to tensors that are not there, or cannot be judged.
    fn of_values(tensors: &[Seen], touched: &Measured) -> Self {
        let states: Vec<State> = tensors.iter().map(|seen| seen.state).collect();
        let count = |wanted: fn(&State) -> bool| states.iter().filter(|s| wanted(s)).count();
        let kept = count(|s| matches!(s, State::Kept));
        let changed = count(|s| matches!(s, State::Changed));
        // A sum that rounds to the base holds without any adapter.
        let held = tensors.iter().filter(|seen| seen.state.holds() && !seen.swallowed).count() - kept;
        let (missing, other) = (count(|s| *s == State::Missing), count(|s| *s == State::Other));
        // Differences are left where no adapter reaches, or are as large as the weights if adapters reach everywhere.
        let unlike = other > 0 && kept == 0 && touched.residual() > UNLIKE * UNLIKE * touched.base;
        // What another adapter reaches are matrices, and what it leaves is related to them.
        let beside = |seen: &Seen| seen.state != State::Changed || seen.is_matrix && seen.apart < UNRELATED;
        let reaches_further = other > 0 && held == 0 && kept > 0 && tensors.iter().all(beside);
        let everywhere = other > 0 && held == 0 && changed > 0;
        let reshaped =
            |touched| tensors.iter().filter(|s| s.state == State::Reshaped && s.touched == touched).count();
        let alien = reshaped(false) + reshaped(true) > 0
            && held + kept + missing + count(|s| matches!(s, State::Scaled(_))) == 0;
        // Where tensors hold the sum, base and adapters are these, whatever happened to others.
        if held == 0 && (alien || (changed > kept || unlike || everywhere) && !reaches_further) {
            return Verdict::OtherBase;
        }
        let scale = touched.scale();
        let near = |f: f64, seen: &Seen| {
            let apart = (NEAR_QUANTISED / 2.0 + 2.0 * seen.uneven.min(UNEVEN)) * scale.abs();
            (f - scale).abs() <= apart + 4.0 * (touched.uncertainty() + seen.uncertainty)
        };
        let scaled =
            |seen: &Seen| if let State::Scaled(f) = seen.state { Some((f, near(f, seen))) } else { None };
        let scales: Vec<(f64, bool)> = tensors.iter().filter_map(scaled).collect();
        if other > 0 && held == 0 && (changed == 0 || reaches_further) {
            return Verdict::OtherAdapter(touched.cosine());
        }
        if changed + reshaped(false) + count(|s| matches!(s, State::Extra)) > 0 {
            return Verdict::Changed;
        }
        match (missing, other + reshaped(true), scales.len()) {
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
            let spread = 4.0 * touched.uncertainty();
            let has_delta = touched.delta > 0.0;
            // Of what quantisation leaves of the sum.
            let scale = touched.scale() - touched.usual() + 1.0;
            let is_off = (scale - 1.0).abs() > NEAR_QUANTISED + spread;
            return if !has_delta {
                Verdict::Quantised(1.0)
            } else if spread > 0.5 {
                Verdict::Unclear
            } else if !is_off || is_one(scale, Proof::Fit) {
                Verdict::Quantised(scale)
            } else if touched.scale().abs() <= spread {
                Verdict::Missing
            } else {
                Verdict::WrongScale(touched.scale(), Proof::Fit)
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

/// Whether a fitted scale is printed as 1, and so cannot be called wrong.
pub(super) fn is_one(scale: f64, proof: Proof) -> bool {
    proof == Proof::Fit && (scale - 1.0).abs() < 5e-4
}

#[cfg(test)]
mod tests {
    use super::super::verdict::Outcome;
    use super::*;

    const EXACT: State = State::Exact { once: true, twice: false, in_turn: false };

    fn verdict(states: &[State]) -> Verdict {
        uneven(&states.iter().map(|s| (*s, 0.0)).collect::<Vec<_>>())
    }

    fn uneven(tensors: &[(State, f64)]) -> Verdict {
        let seen = |(state, uneven): &(State, f64)| Seen { uneven: *uneven, ..Seen::of(*state) };
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
            (1.00001, Proof::Values, false),
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
        assert!(Verdict::WrongScale(0.7 / 0.1 * 0.1, Proof::Values).to_string().contains(" 0.7 times;"));
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
        let around =
            [State::Scaled(0.97), State::Scaled(1.03)].map(|state| Seen { uneven: 0.1, ..Seen::of(state) });
        let sums = Measured { values: 100, delta: 1.0, along: 1.0, moved: 1.0, ..Measured::default() };
        assert_eq!(Verdict::of(&around, &sums), Verdict::WrongScales(0.97, 1.03));
        let other = [(State::Scaled(0.5), 0.0), (State::Scaled(0.2), 1.0)];
        assert_eq!(uneven(&other), Verdict::WrongScales(0.2, 0.5));
        assert_eq!(verdict(&[State::Kept, State::Other]), Verdict::OtherAdapter(1.0));
        assert_eq!(verdict(&[State::Scaled(0.5), State::Other]), Verdict::OtherAdapter(1.0));
        assert_eq!(verdict(&[State::Kept, State::Changed, State::Changed]), Verdict::OtherBase);
        assert_eq!(verdict(&[EXACT, State::Kept, State::Kept, State::Changed]), Verdict::Changed);
        assert_eq!(verdict(&[EXACT, State::Absent]), Verdict::Incomplete);
        assert_eq!(verdict(&[EXACT, State::Other, State::Absent]), Verdict::Partly);
        assert_eq!(verdict(&[State::Missing, State::Other]), Verdict::OtherAdapter(1.0));
        assert_eq!(verdict(&[State::Scaled(0.5), State::Missing]), Verdict::Partly);
        assert_eq!(verdict(&[State::NonFinite, State::Missing]), Verdict::NonFinite);
    }

    /// Tensors that hold the sum say that base and adapters are these; then other shapes and values are faults.
    #[test]
    fn another_base_holds_no_sum() {
        let of = |states: &[State], touched: State| {
            let reshaped = Seen { touched: true, ..Seen::of(touched) };
            let seen = states.iter().map(|state| Seen::of(*state)).chain([reshaped]);
            Verdict::of(&seen.collect::<Vec<_>>(), &Measured::default())
        };
        assert_eq!(of(&[EXACT, State::Kept, State::Changed, State::Changed], EXACT), Verdict::Changed);
        assert_eq!(of(&[State::Kept, State::Reshaped], EXACT), Verdict::Changed);
        assert_eq!(of(&[State::Kept, EXACT], State::Reshaped), Verdict::Partly);
        assert_eq!(of(&[State::Kept, State::Missing], State::Reshaped), Verdict::Partly);
        assert_eq!(of(&[State::Reshaped, State::Other], State::Reshaped), Verdict::OtherBase);
        assert_eq!(of(&[State::Changed, State::Kept, State::Changed], State::Missing), Verdict::OtherBase);
    }

    /// A sum that rounds to the base is no evidence of the adapter.
    #[test]
    fn swallowed_deltas_are_no_evidence() {
        let swallowed = Seen { swallowed: true, ..Seen::of(EXACT) };
        let sums = Measured { values: 100, delta: 1.0, ..Measured::default() };
        let of = |states: &[State]| {
            let seen = states.iter().map(|state| Seen::of(*state)).chain([swallowed]);
            Verdict::of(&seen.collect::<Vec<_>>(), &sums).name()
        };
        assert_eq!(of(&[]), "exact_once");
        assert_eq!(of(&[State::Missing]), "adapter_missing");
        assert_eq!(of(&[State::Missing, State::Other]), "other_adapter");
        assert_eq!(of(&[State::Missing, EXACT]), "partly");
    }

    /// An adapter that reaches further leaves vectors alone, and the weights related; another base does neither.
    #[test]
    fn another_adapter_reaches_further() {
        let seen = |is_matrix, apart| {
            let changed = Seen { is_matrix, apart, ..Seen::of(State::Changed) };
            let all = [Seen::of(State::Kept), Seen::of(State::Other), changed, changed];
            let sums = Measured { values: 100, delta: 1.0, along: 0.5, moved: 0.25, ..Measured::default() };
            Verdict::of(&all, &sums)
        };
        assert_eq!(seen(true, 0.1), Verdict::OtherAdapter(1.0));
        assert_eq!(seen(false, 0.1), Verdict::OtherBase);
        assert_eq!(seen(true, 1.4), Verdict::OtherBase);
    }

    /// What cannot be compared is neither right nor wrong, unless something else is wrong.
    #[test]
    fn a_third_outcome() {
        let outcome = |states: &[State]| verdict(states).outcome();
        assert_eq!(outcome(&[EXACT, State::Kept]), Outcome::Holds);
        assert_eq!(outcome(&[EXACT, State::Unjudged]), Outcome::Unjudged);
        assert_eq!(outcome(&[EXACT, State::Unjudged, State::Other]), Outcome::Differs);
        assert_eq!(outcome(&[EXACT, State::Unjudged, State::Absent]), Outcome::Differs);
        assert_eq!(Verdict::Unclear.outcome(), Outcome::Unjudged);
    }
}
