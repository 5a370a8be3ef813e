//! `lorakit inspect`.

mod adapter;
mod grid;
mod json;
mod model;
mod text;

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
        return ui.json(&json::object(&reports));
    }
    let render = |report: &Inspection| match report {
        Inspection::Adapter(report) => adapter::render(report, ui.verbose),
        Inspection::Model(report) => model::render(report),
    };
    ui.result(&reports.iter().map(render).collect::<Vec<_>>().join("\n"))
}
