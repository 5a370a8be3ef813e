//! A reduction, for programs.

use serde::Serialize;

use super::{AdapterReport, Alternative, Reduce, Reduced};
use crate::Finding;
use crate::plan::WriteReport;

/// What a reduction does, or did.
#[derive(Debug, Clone, Serialize)]
pub struct ReduceReport<'r> {
    /// Format of the input.
    pub from: &'static str,
    /// Format of the output.
    pub to: &'static str,
    /// What became of each module.
    pub modules: &'r [Reduced],
    /// Share of the whole adapter's energy that is kept, 0 to 1.
    pub energy: f64,
    /// `||D' - D|| / ||D||` of all modules together.
    pub error: f64,
    /// Parameters of all factors before.
    pub parameters_before: u64,
    /// Parameters of all factors after.
    pub parameters: u64,
    /// Bytes of the input's tensor files.
    pub bytes_before: u64,
    /// See [`Reduce::level`].
    pub level: Option<f64>,
    /// See [`Reduce::alternatives`].
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub alternatives: &'r [Alternative],
    /// Things worth telling the user.
    pub findings: &'r [Finding],
    /// What was written.
    #[serde(flatten)]
    pub written: Option<WriteReport<'r>>,
}

impl Reduce {
    /// What was computed, and what `run` wrote of it.
    pub fn report<'r>(&'r self, run: &'r AdapterReport) -> ReduceReport<'r> {
        ReduceReport { written: Some(self.output.plan.report(&run.report)), ..self.preview() }
    }

    /// What was computed.
    pub fn preview(&self) -> ReduceReport<'_> {
        let (energy, error) = self.overall();
        let (parameters_before, parameters) = self.parameters();
        ReduceReport {
            from: self.from,
            to: self.output.to,
            modules: &self.modules,
            energy,
            error,
            parameters_before,
            parameters,
            bytes_before: self.bytes,
            level: self.level,
            alternatives: &self.alternatives,
            findings: &self.notes,
            written: None,
        }
    }
}
