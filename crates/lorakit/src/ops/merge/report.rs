//! A merge, for programs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Merge, MergedAdapter, ResidueReport};
use crate::Finding;
use crate::plan::{Chosen, Report, TypeRetention, WriteReport};

/// What a merge does, or did.
#[derive(Debug, Clone, Serialize)]
pub struct MergeReport<'m> {
    /// The adapters.
    pub adapters: &'m [MergedAdapter],
    /// Number of tensors that hold something other than the base's; only a run shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_tensors: Option<usize>,
    /// Tensors that the base does not have.
    pub added_tensors: &'m [String],
    /// How much of the adapters survived, by the type of the output's tensors; only a run shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<BTreeMap<&'static str, TypeRetention>>,
    /// What rounding is expected to leave of adapters that are taken out of the model; only a run shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub residue: Option<ResidueReport>,
    /// What each tensor became, if types were chosen.
    pub types: &'m [Chosen],
    /// Things worth telling the user.
    pub findings: Vec<Finding>,
    /// What was written.
    #[serde(flatten)]
    pub written: Option<WriteReport<'m>>,
}

impl Merge {
    /// What `run`, a run of this merge, did.
    pub fn report<'m>(&'m self, run: &'m Report) -> MergeReport<'m> {
        let mut report = self.preview();
        report.changed_tensors = Some(self.changed(run));
        report.retention = Some(TypeRetention::by_type(&run.retention));
        report.residue = self.residue(run);
        report.findings.extend(self.doubts(run));
        report.written = Some(self.plan.report(run));
        report
    }

    /// What is known before a run.
    pub fn preview(&self) -> MergeReport<'_> {
        MergeReport {
            adapters: &self.adapters,
            changed_tensors: None,
            added_tensors: &self.added,
            retention: None,
            residue: None,
            types: &self.chosen,
            findings: self.notes.clone(),
            written: None,
        }
    }
}
