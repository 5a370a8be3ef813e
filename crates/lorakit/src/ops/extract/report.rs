//! An extraction, for programs.

use serde::{Serialize, Serializer};

use super::{AdapterReport, Became, Changed, Extract};
use crate::Finding;
use crate::plan::WriteReport;

/// What an extraction does, or did.
#[derive(Debug, Clone, Serialize)]
pub struct ExtractReport<'e> {
    /// Format of the output.
    pub to: &'static str,
    /// What became of each change, in the order of the base.
    pub changes: &'e [Changed],
    /// Number of tensors and modules that are the same in both models.
    pub unchanged: usize,
    /// Share of the energy of all changes that the adapter holds, 0 to 1.
    pub energy: f64,
    /// The norm of what it does not hold, relative to that of all changes.
    pub residual: f64,
    /// See [`Extract::rounding`].
    pub rounding: Option<f64>,
    /// See [`Extract::identical`].
    pub identical: Option<f64>,
    /// Things worth telling the user.
    pub findings: &'e [Finding],
    /// What was written.
    #[serde(flatten)]
    pub written: Option<WriteReport<'e>>,
}

impl Extract {
    /// What was computed, and what `run` wrote of it.
    pub fn report<'e>(&'e self, run: &'e AdapterReport) -> ExtractReport<'e> {
        ExtractReport { written: Some(self.output.plan.report(&run.report)), ..self.preview() }
    }

    /// What was computed.
    pub fn preview(&self) -> ExtractReport<'_> {
        let (energy, residual) = self.overall();
        ExtractReport {
            to: self.output.to,
            changes: &self.changes,
            unchanged: self.same,
            energy,
            residual,
            rounding: self.rounding(),
            identical: self.identical(),
            findings: &self.notes,
            written: None,
        }
    }
}

impl Serialize for Changed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'c> {
            name: &'c str,
            became: Became,
            rank: usize,
            shape: (usize, usize),
            norm: f64,
            relative_norm: Option<f64>,
            moved: Option<f64>,
            residual: f64,
            rounding: Option<f64>,
            identical: Option<f64>,
        }
        let fields = Fields {
            name: &self.name,
            became: self.became,
            rank: self.became.rank(),
            shape: self.shape,
            norm: self.norm,
            relative_norm: self.relative,
            moved: self.moved,
            residual: self.residual,
            rounding: self.rounding,
            identical: self.identical,
        };
        fields.serialize(serializer)
    }
}

crate::report::by_name! { Became: name }
