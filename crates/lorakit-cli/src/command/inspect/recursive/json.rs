//! The listing as JSON, `lorakit.inspect.recursive/1`.

use std::path::Path;

use lorakit::ops::audit::AuditReport;
use serde::Serialize;

pub(super) const SCHEMA: &str = "lorakit.inspect.recursive/1";

/// The report, and the page that was written.
#[derive(Serialize)]
pub(super) struct Listing<'r> {
    #[serde(flatten)]
    report: &'r AuditReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<String>,
}

impl<'r> Listing<'r> {
    pub(super) fn new(report: &'r AuditReport, page: Option<&Path>) -> Self {
        Listing { report, html: page.map(|page| page.display().to_string()) }
    }
}
