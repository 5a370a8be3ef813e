//! A verification, for programs.

use serde::Serialize;

use super::{State, Verdict, Verification, Verified};
use crate::Finding;

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyReport<'v> {
    /// Whether the model is the base plus the adapters.
    pub holds: bool,
    /// What the model is.
    pub verdict: Verdict,
    /// The same in words.
    pub message: String,
    /// The factor of all deltas together that fits best; `None` without deltas.
    pub scale: Option<f64>,
    /// Number of modules of all adapters that are left out.
    pub left_out: usize,
    /// Number of modules of all adapters with a weight of their own.
    pub weighted: usize,
    /// Every tensor, in the order of the base.
    pub tensors: &'v [Verified],
    /// Things worth telling the user.
    pub findings: &'v [Finding],
}

impl Verification {
    /// What was found, for programs.
    pub fn report(&self) -> VerifyReport<'_> {
        VerifyReport {
            holds: self.verdict.holds(),
            verdict: self.verdict,
            message: self.verdict.to_string(),
            scale: self.scale,
            left_out: self.left_out,
            weighted: self.weighted,
            tensors: &self.tensors,
            findings: &self.notes,
        }
    }
}

crate::report::by_name! { Verdict: name, State: name }
