//! `lorakit inspect`.

mod adapter;
mod grid;
mod json;
mod model;
mod text;

use lorakit::adapter::Severity;
use lorakit::ops::inspect::{self, InspectOptions, Inspection};

use crate::args::{self, Common};
use crate::error::Failure;
use crate::ui::Ui;

pub(crate) fn run(args: &args::Inspect, common: &Common, ui: &Ui) -> Result<(), Failure> {
    let options = InspectOptions {
        norms: args.norms,
        base: args.base.clone(),
        mode: common.read_mode(),
        threads: common.threads,
    };
    let reports = args.paths.iter().map(|path| inspect::inspect(path, &options));
    let reports = reports.collect::<lorakit::Result<Vec<_>>>()?;
    if ui.json {
        ui.json(&json::object(&reports))?;
        return verdict(&reports);
    }
    let render = |report: &Inspection| match report {
        Inspection::Adapter(report) => adapter::render(report, ui.verbose),
        Inspection::Model(report) => model::render(report),
    };
    ui.result(&reports.iter().map(render).collect::<Vec<_>>().join("\n"))?;
    verdict(&reports)
}

/// An adapter that cannot be used as it is makes the command fail, after the whole report.
fn verdict(reports: &[Inspection]) -> Result<(), Failure> {
    let faulty = |report: &&Inspection| match report {
        Inspection::Adapter(report) => report.findings.iter().any(|f| f.severity == Severity::Error),
        Inspection::Model(_) => false,
    };
    match reports.iter().filter(faulty).count() {
        0 => Ok(()),
        faulty => Err(Failure::Audit { faulty, of: reports.len() }),
    }
}
