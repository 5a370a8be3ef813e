//! A combination, for programs.

use crate::Choice;
use serde::Serialize;

use super::{AdapterReport, Against, Combine, Combined, Interference, Part};
use crate::Finding;
use crate::plan::WriteReport;

/// What a combination does, or did.
#[derive(Debug, Clone, Serialize)]
pub struct CombineReport<'c> {
    /// Name of the method.
    pub method: &'static str,
    /// Format of the output.
    pub to: &'static str,
    /// The adapters.
    pub adapters: &'c [Part],
    /// What became of each module; empty for one adapter that stays as it is.
    pub modules: &'c [Combined],
    /// The error of all modules together, relative to their norm.
    pub error: f64,
    /// What errors are measured against.
    pub error_of: Against,
    /// Every pair of adapters in every module that both have.
    pub interference: &'c [Interference],
    /// Things worth telling the user.
    pub findings: &'c [Finding],
    /// What was written.
    #[serde(flatten)]
    pub written: Option<WriteReport<'c>>,
}

impl Combine {
    /// What was computed, and what `run` wrote of it.
    pub fn report<'c>(&'c self, run: &'c AdapterReport) -> CombineReport<'c> {
        CombineReport { written: Some(self.output.plan.report(&run.report)), ..self.preview() }
    }

    /// What was computed.
    pub fn preview(&self) -> CombineReport<'_> {
        CombineReport {
            method: self.method.name(),
            to: self.output.to,
            adapters: &self.adapters,
            modules: &self.modules,
            error: self.overall(),
            error_of: self.against,
            interference: &self.interference,
            findings: &self.notes,
            written: None,
        }
    }
}
