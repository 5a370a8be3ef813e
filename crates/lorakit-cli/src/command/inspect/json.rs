//! Reports as JSON, `lorakit.inspect/1`.

use std::path::Path;

use lorakit::ops::audit::Violation;
use lorakit::ops::inspect::{Grid, Inspection};
use serde::Serialize;
use serde_json::Value;

use crate::error::Failure;

pub(super) const SCHEMA: &str = "lorakit.inspect/1";

/// One report for each path, then the paths that could not be read.
#[derive(Serialize)]
pub(super) struct Reports<'r> {
    reports: Vec<Entry<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    violations: Option<&'r [Violation]>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Entry<'r> {
    Report {
        #[serde(flatten)]
        report: &'r Inspection,
        #[serde(skip_serializing_if = "Option::is_none")]
        grids: Option<&'r [Grid]>,
    },
    Failed {
        kind: &'static str,
        #[serde(flatten)]
        error: Value,
    },
}

impl<'r> Reports<'r> {
    /// The reports to print; `page` is the page that was written, `violations` are given if there are rules.
    pub(super) fn new(
        reports: &'r [Inspection],
        failures: &[Failure],
        page: Option<&Path>,
        violations: Option<&'r [Violation]>,
    ) -> Self {
        let html = page.map(|page| page.display().to_string());
        Reports { reports: entries(reports, failures, |_| None), html, violations }
    }

    /// The reports of a page, with each module's place in the figures.
    pub(super) fn of_page(reports: &'r [Inspection], failures: &[Failure]) -> Self {
        let grids = |report: &'r Inspection| match report {
            Inspection::Adapter(report) => Some(report.grids.as_slice()),
            Inspection::Model(_) => None,
        };
        Reports { reports: entries(reports, failures, grids), html: None, violations: None }
    }
}

fn entries<'r>(
    reports: &'r [Inspection],
    failures: &[Failure],
    grids: impl Fn(&'r Inspection) -> Option<&'r [Grid]>,
) -> Vec<Entry<'r>> {
    let reports = reports.iter().map(|report| Entry::Report { report, grids: grids(report) });
    let failures = failures.iter().map(|failure| Entry::Failed { kind: "error", error: failure.json(None) });
    reports.chain(failures).collect()
}
