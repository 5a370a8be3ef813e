//! An edit, for programs.

use serde::Serialize;

use super::prefix::Renamed;
use super::rounding::Rounding;
use super::work::Change;
use crate::Finding;
use crate::output::ModuleError;
use crate::plan::WriteReport;

/// What an edit does, or did.
#[derive(Debug, Clone, Serialize)]
pub struct EditReport<'e> {
    /// The format, of input and output.
    pub format: &'static str,
    /// What says something else afterwards.
    pub changes: &'e [Change],
    /// Paths that begin otherwise.
    pub renamed: &'e [Renamed],
    /// What rounding did, if values were multiplied or got another dtype.
    pub rounding: Option<Rounding>,
    /// Number of tensors that are copied byte for byte.
    pub copied_tensors: usize,
    /// Things worth telling the user.
    pub findings: &'e [Finding],
    /// How far each module of the output is from what it was; only a run shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<&'e [ModuleError]>,
    /// The largest of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_error: Option<f64>,
    /// What was written.
    #[serde(flatten)]
    pub written: Option<WriteReport<'e>>,
}
