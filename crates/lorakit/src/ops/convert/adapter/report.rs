//! The conversion of an adapter, for programs.

use serde::Serialize;

use super::{AdapterConvert, AdapterReport, Approximated, ModuleError};
use crate::Finding;
use crate::adapter::Mapped;
use crate::plan::WriteReport;

/// What a conversion does, or did.
#[derive(Debug, Clone, Serialize)]
pub struct AdapterConvertReport<'c> {
    /// Format of the input.
    pub from: &'static str,
    /// Format of the output.
    pub to: &'static str,
    /// What became of each module.
    pub modules: &'c [Mapped],
    /// Things worth telling the user.
    pub findings: &'c [Finding],
    /// Modules that were approximated, and how well.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub approximated: &'c [Approximated],
    /// How far each module of the output is from the intended one; only a run shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<&'c [ModuleError]>,
    /// The largest of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_error: Option<f64>,
    /// What was written.
    #[serde(flatten)]
    pub written: Option<WriteReport<'c>>,
}

impl AdapterConvert {
    /// What `run`, a run of this plan, did.
    pub fn report<'c>(&'c self, run: &'c AdapterReport) -> AdapterConvertReport<'c> {
        AdapterConvertReport {
            errors: Some(&run.errors),
            max_error: Some(run.errors.iter().map(|e| e.error).fold(0.0, f64::max)),
            written: Some(self.output.plan.report(&run.report)),
            ..self.preview()
        }
    }

    /// What is known before a run.
    pub fn preview(&self) -> AdapterConvertReport<'_> {
        AdapterConvertReport {
            from: self.from,
            to: self.output.to,
            modules: &self.output.mapped,
            findings: &self.notes,
            approximated: &self.approximated,
            errors: None,
            max_error: None,
            written: None,
        }
    }
}
