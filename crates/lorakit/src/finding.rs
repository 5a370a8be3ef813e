//! Findings of an audit of an adapter.

use std::fmt;

use serde::Serialize;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Probably not what was meant.
    Warning,
    /// The adapter cannot be used as it is.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

/// One finding of an audit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// A stable name, e.g. `zero-size-tensor`.
    pub code: &'static str,
    /// The tensor or module it is about; empty for the adapter as a whole.
    pub subject: String,
    /// What was found, and what it means.
    pub message: String,
}

impl Finding {
    /// A finding about `subject`.
    pub fn new(severity: Severity, code: &'static str, subject: &str, message: impl Into<String>) -> Self {
        Finding { severity, code, subject: subject.to_string(), message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.subject.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "`{}`: {}", self.subject, self.message)
    }
}
