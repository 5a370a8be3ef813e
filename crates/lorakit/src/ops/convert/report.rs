//! The conversion of a model, for programs.

use std::collections::BTreeMap;

use lorakit_tensor::DType;
use serde::Serialize;

use super::Convert;
use crate::Finding;
use crate::plan::{Report, WriteReport};

/// What a conversion does, or did.
#[derive(Debug, Clone, Serialize)]
pub struct ConvertReport<'c> {
    /// Dtype of the output's tensors.
    pub dtype: DType,
    /// Dtypes of the source, with the number of tensors of each.
    pub dtypes_before: &'c BTreeMap<DType, usize>,
    /// Things worth telling the user.
    pub findings: &'c [Finding],
    /// What was written.
    #[serde(flatten)]
    pub written: Option<WriteReport<'c>>,
}

impl Convert {
    /// What `run`, a run of this plan, did.
    pub fn report<'c>(&'c self, run: &'c Report) -> ConvertReport<'c> {
        ConvertReport { written: Some(self.plan.report(run)), ..self.preview() }
    }

    /// What is known before a run.
    pub fn preview(&self) -> ConvertReport<'_> {
        let (dtype, dtypes_before, findings) = (self.dtype, &self.from, self.notes.as_slice());
        ConvertReport { dtype, dtypes_before, findings, written: None }
    }
}
