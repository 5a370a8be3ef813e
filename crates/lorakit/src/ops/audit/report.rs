//! The report on a folder.

use serde::Serialize;

use super::entry::{Entry, EntryKind};
use super::judge::Violation;
use crate::Severity;

/// What is under one or more folders.
#[derive(Debug, Clone, Serialize)]
pub struct AuditReport {
    /// The adapters and models that meet all filters, in the order that was asked for.
    pub entries: Vec<Entry>,
    /// How many there are.
    pub counts: Counts,
    /// The rules that they do not keep.
    pub violations: Vec<Violation>,
}

/// How many there are of what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Adapters and models that were found, whether or not they meet the filters.
    pub found: usize,
    /// Entries of the report.
    pub entries: usize,
    /// Of these, adapters.
    pub adapters: usize,
    /// Of these, models.
    pub models: usize,
    /// Entries whose gravest finding is an error.
    pub with_errors: usize,
    /// Entries whose gravest finding is a warning.
    pub with_warnings: usize,
    /// Entries that do not keep a rule.
    pub in_violation: usize,
    /// Size of all tensor files in bytes.
    pub bytes: u64,
    /// Hidden folders that were not looked into.
    pub hidden_folders: usize,
}

impl AuditReport {
    pub(super) fn new(
        entries: Vec<Entry>,
        violations: Vec<Violation>,
        found: usize,
        hidden_folders: usize,
    ) -> Self {
        let count = |test: &dyn Fn(&Entry) -> bool| entries.iter().filter(|entry| test(entry)).count();
        let violated =
            |entry: &Entry| violations.iter().any(|v| v.path == entry.path && v.root == entry.root);
        let counts = Counts {
            found,
            entries: entries.len(),
            adapters: count(&|entry| entry.kind == EntryKind::Adapter),
            models: count(&|entry| entry.kind == EntryKind::Model),
            with_errors: count(&|entry| entry.gravest() == Some(Severity::Error)),
            with_warnings: count(&|entry| entry.gravest() == Some(Severity::Warning)),
            in_violation: count(&violated),
            bytes: entries.iter().map(|entry| entry.bytes).sum(),
            hidden_folders,
        };
        AuditReport { entries, counts, violations }
    }
}
