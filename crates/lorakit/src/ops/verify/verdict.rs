//! What a model is, in words.

use std::fmt;

use super::Verified;
use super::state::{NEAR, State};

/// A cosine above this is worth reporting.
const LIKE: f64 = 0.5;
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
    /// The base and the adapters, some of them with other weights.
    WrongWeights(Proof),
    /// The base, and something else in the touched tensors; the cosine between that and the deltas.
    OtherAdapter(f64),
    /// Not the base.
    OtherBase,
    /// Tensors that no adapter touches are not the base's.
    Changed,
    /// Some tensors hold NaN or infinity.
    NonFinite,
    /// Some tensors are not there; the others are what they should be.
    Incomplete,
    /// Some tensors cannot be compared; the others are what they should be.
    Unjudged,
}

/// What a verification comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The model is what base and adapters make.
    Holds,
    /// It is something else.
    Differs,
    /// It may be that or not.
    Unjudged,
}

impl Outcome {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Holds => "holds",
            Outcome::Differs => "differs",
            Outcome::Unjudged => "unjudged",
        }
    }
}

/// How a wrong scale is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It fits best, and about alike in all tensors.
    Fit,
    /// With it, every value is the sum, rounded: that was computed.
    Values,
    /// With it, every value is within a step of the sum: that was computed.
    Steps,
    /// Every byte is what two merges, one on top of the other, leave.
    MergedTwice,
}

impl Verdict {
    /// Whether the model is what base and adapters make.
    pub fn holds(self) -> bool {
        use Verdict::*;
        matches!(self, ExactOnce | ExactTwice | ExactMixed | ExactInTurn | WithinRounding | Quantised(_))
    }

    /// Whether it is about some tensors only.
    pub(super) fn is_of_some(self) -> bool {
        use Verdict::*;
        matches!(self, Partly | Changed | NonFinite | Incomplete | Unjudged)
    }

    /// Whether a tensor is what it is about.
    pub(super) fn blames(self, tensor: &Verified) -> bool {
        match self {
            Verdict::NonFinite => tensor.state == State::NonFinite,
            Verdict::Incomplete => tensor.state == State::Absent,
            Verdict::Unjudged => tensor.state == State::Unjudged,
            _ => !tensor.state.holds(),
        }
    }

    /// What it comes to.
    pub fn outcome(self) -> Outcome {
        match self {
            verdict if verdict.holds() => Outcome::Holds,
            Verdict::Unclear | Verdict::Unjudged => Outcome::Unjudged,
            _ => Outcome::Differs,
        }
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
            Verdict::WrongWeights(_) => "wrong_weights",
            Verdict::OtherAdapter(_) => "other_adapter",
            Verdict::OtherBase => "other_base",
            Verdict::Changed => "changed",
            Verdict::NonFinite => "non_finite",
            Verdict::Incomplete => "incomplete",
            Verdict::Unjudged => "cannot_be_judged",
        }
    }
}

/// A number as it is printed: without what the last digits of f64 add to a decimal.
pub(super) fn shown(number: f64) -> f64 {
    (number * 1e9).round() / 1e9
}

/// How well values agree, for the end of a sentence.
pub(super) fn agreement(proof: Proof) -> &'static str {
    match proof {
        Proof::Values => "; every value agrees",
        Proof::Steps => "; every value agrees within a step",
        Proof::Fit | Proof::MergedTwice => "",
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
                f.write_str("cannot be judged: quantisation left more noise than the adapters add, over all tensors")
            }
            Verdict::WrongScale(scale, proof) => {
                f.write_str("wrong scale: the adapters were added ")?;
                let twice = (scale - 2.0).abs() < NEAR;
                match proof {
                    Proof::Fit if twice => write!(f, "{scale:.3} times (merged twice?)"),
                    Proof::Fit => write!(f, "{scale:.3} times"),
                    Proof::Values | Proof::Steps => write!(f, "{} times{}", shown(*scale), agreement(*proof)),
                    Proof::MergedTwice => f.write_str("2 times, and rounded after each (merged twice?)"),
                }
            }
            Verdict::Missing => f.write_str("adapter missing: the touched tensors are those of the base"),
            Verdict::Partly => f.write_str("in part: some tensors are not the sum"),
            Verdict::WrongScales(least, most) => {
                write!(f, "wrong scales: the adapters were added {least:.3} to {most:.3} times, by tensor")
            }
            Verdict::WrongWeights(proof) => {
                write!(f, "wrong weights: the adapters were added with other weights{}", agreement(*proof))
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
            Verdict::NonFinite => f.write_str("NaN or infinity, which base and adapters do not have"),
            Verdict::Incomplete => f.write_str("incomplete: some tensors are not there"),
            Verdict::Unjudged => f.write_str("cannot be judged: the values of some tensors cannot be compared"),
        }
    }
}
