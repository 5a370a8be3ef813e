//! A verification, for programs.

use serde::Serialize;

use super::verdict::{agreement, shown};
use super::{Outcome, State, Verdict, Verification, Verified};
use crate::Finding;

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyReport<'v> {
    /// Whether the model is the base plus the adapters.
    pub holds: bool,
    /// Whether it is that, or not, or cannot be judged.
    pub outcome: Outcome,
    /// What the model is.
    pub verdict: Verdict,
    /// The same in words.
    pub message: String,
    /// The factor of all deltas together that fits best; `None` without deltas.
    pub scale: Option<f64>,
    /// The weights of the adapters that make this model, if they are not those given and were proved.
    pub weights: Option<&'v [f64]>,
    /// Number of modules of all adapters that are left out.
    pub left_out: usize,
    /// Number of modules of all adapters with a weight of their own.
    pub weighted: usize,
    /// Every tensor, in the order of the base.
    pub tensors: &'v [Verified],
    /// Things worth telling the user.
    pub findings: &'v [Finding],
}

/// Tensors that a message names.
const NAMED: usize = 3;

impl Verification {
    /// The verdict in words, with the names of the first tensors at fault.
    pub fn message(&self) -> String {
        let remark = self.remark.as_ref().map_or(String::new(), |remark| format!("; {remark}"));
        self.finding() + &remark + &self.roundings()
    }

    /// What sums were rounded to before they were stored, if they were and nothing else is to be said.
    fn roundings(&self) -> String {
        if self.verdict.is_of_some() {
            return String::new();
        }
        let mut dtypes: Vec<&str> = self.tensors.iter().filter_map(|tensor| tensor.through).collect();
        dtypes.sort_unstable();
        dtypes.dedup();
        let few = self.tensors.iter().filter(|tensor| tensor.touched && tensor.through.is_none()).count() > 0;
        match dtypes[..] {
            [] => String::new(),
            _ if few => {
                format!("; some tensors were rounded to {} before they were stored", dtypes.join(" and "))
            }
            _ => format!("; rounded to {} before it was stored", dtypes.join(" and ")),
        }
    }

    fn finding(&self) -> String {
        let list = |weights: &[f64]| {
            let weights: Vec<String> = weights.iter().map(|weight| shown(*weight).to_string()).collect();
            weights.join(" and ")
        };
        match (self.verdict, &self.weights) {
            (Verdict::WrongWeights(proof), Some(weights)) => {
                let (weights, agreement) = (list(weights), agreement(proof));
                let (adapters, order) = match self.weights.as_deref() {
                    Some([_]) => ("adapter was", ""),
                    _ => ("adapters were", ", in this order"),
                };
                format!("wrong weights: the {adapters} added {weights} times{order}{agreement}")
            }
            (Verdict::WrongScale(factor, _), Some(weights))
                if weights.iter().any(|w| shown(*w) != shown(factor)) =>
            {
                format!("{}; that is a weight of {}", self.verdict, list(weights))
            }
            (verdict, _) if verdict.is_of_some() => {
                let mut faulty = self.tensors.iter().filter(|tensor| verdict.blames(tensor));
                let named: Vec<String> =
                    faulty.by_ref().take(NAMED).map(|t| format!("`{}`", t.name)).collect();
                let more = faulty.count();
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!("{verdict}: {}{more}", named.join(", "))
            }
            (verdict, _) => verdict.to_string(),
        }
    }

    /// What was found, for programs.
    pub fn report(&self) -> VerifyReport<'_> {
        VerifyReport {
            holds: self.verdict.holds(),
            outcome: self.verdict.outcome(),
            verdict: self.verdict,
            message: self.message(),
            scale: self.scale,
            weights: self.weights.as_deref(),
            left_out: self.left_out,
            weighted: self.weighted,
            tensors: &self.tensors,
            findings: &self.notes,
        }
    }
}

crate::report::by_name! { Verdict: name, Outcome: name, State: name }
