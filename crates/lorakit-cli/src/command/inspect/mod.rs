//! `lorakit inspect`.

mod adapter;
mod gate;
mod grid;
pub(super) mod html;
mod json;
mod lineage;
mod model;
mod recursive;
mod spectrum;
pub(super) mod text;

use std::collections::BTreeSet;
use std::path::Path;

use lorakit::ErrorKind;
use lorakit::Finding;
use lorakit::Severity;
use lorakit::ops::audit::{Policy, Violation};
use lorakit::ops::inspect::{self, AdapterReport, InspectOptions, Inspection};

use crate::args::{self, Common};
use crate::command::page;
use crate::error::Failure;
use crate::names;
use crate::progress::Bar;
use crate::ui::{self, Ui};
use crate::units;
use json::Reports;

pub(crate) fn run(args: &args::Inspect, common: &Common, ui: &Ui) -> Result<(), Failure> {
    if let Some(page) = &args.html {
        html::check(page, args)?;
    }
    if args.recursive {
        return recursive::run(args, common, ui);
    }
    let policy = gate::policy(args, common)?;
    let options = InspectOptions::new()
        .with_norms(args.norms)
        .with_spectrum(args.spectrum || args.html.is_some())
        .with_base(args.base.clone())
        .with_runtime(args.runtime)
        .with_mode(common.read_mode())
        .with_threads(common.threads);
    let bar = Bar::new(ui, "reading");
    if let [path] = args.paths.as_slice() {
        let report = inspect::inspect(path, &options, &bar)?;
        bar.finish();
        return show(&[report], &[], policy.as_ref(), args, ui);
    }
    // One bad path does not hide the reports on the others.
    let (mut reports, mut failures) = (Vec::new(), Vec::new());
    for path in &args.paths {
        match inspect::inspect(path, &options, &bar) {
            Ok(report) => reports.push(report),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error.into()),
            Err(error) => failures.push(Failure::from(error)),
        }
    }
    bar.finish();
    show(&reports, &failures, policy.as_ref(), args, ui)
}

fn show(
    reports: &[Inspection],
    failures: &[Failure],
    policy: Option<&Policy>,
    args: &args::Inspect,
    ui: &Ui,
) -> Result<(), Failure> {
    let violations = gate::violations(reports, policy, args);
    let mut wrote = String::new();
    if let Some(page) = &args.html {
        let object = ui::enveloped(json::SCHEMA, Reports::of_page(reports, failures));
        let bytes = page::write(page, args.force, &html::REPORTS, &object)?;
        wrote = format!("\nwrote `{}`, {}\n", names::path(page), units::size(bytes));
    }
    if ui.json {
        let judged = (policy.is_some() || args.fail_on.is_some()).then_some(violations.as_slice());
        ui.json(json::SCHEMA, Reports::new(reports, failures, args.html.as_deref(), judged))?;
        return verdict(reports, failures.len(), &violations, policy);
    }
    let render = |report: &Inspection| match report {
        Inspection::Adapter(report) => adapter::render(report, ui.verbose),
        Inspection::Model(report) => model::render(report),
    };
    ui.result(&reports.iter().map(render).collect::<Vec<_>>().join("\n"))?;
    ui.result(&wrote)?;
    ui.notes(&ignored(reports, args));
    failures.iter().for_each(|failure| ui.failure(failure, None));
    verdict(reports, failures.len(), &violations, policy)
}

/// Notes about options that do not apply to what was found.
fn ignored(reports: &[Inspection], args: &args::Inspect) -> Vec<Finding> {
    let models = reports.iter().filter_map(|report| match report {
        Inspection::Model(report) => Some(report.path.display().to_string()),
        Inspection::Adapter(_) => None,
    });
    let note = |model: String| {
        let message = "a model has no factors, and `--spectrum` is of those; `lorakit diff BASE MODEL` says what it \
                       adds to its base, `lorakit extract BASE MODEL -o OUT` makes an adapter of that";
        Finding::new(Severity::Note, "no-factors", &model, message)
    };
    if args.spectrum { models.map(note).collect() } else { Vec::new() }
}

/// Makes the command fail, after the whole report, if a rule is broken, or if an adapter cannot be used as it is, or
/// not by the requested program. With a policy, it says which findings are forbidden.
fn verdict(
    reports: &[Inspection],
    failed: usize,
    violations: &[Violation],
    policy: Option<&Policy>,
) -> Result<(), Failure> {
    let refused: BTreeSet<&Path> = violations.iter().map(|violation| violation.path.as_path()).collect();
    gate::verdict(violations, refused.len(), reports.len() + failed)?;
    let is_error = |finding: &Finding| finding.severity == Severity::Error;
    let damaged = |report: &AdapterReport| policy.is_none() && report.findings.iter().any(is_error);
    let refused = |report: &AdapterReport| report.target.as_ref().is_some_and(|target| !target.is_accepted());
    if let ([Inspection::Adapter(report)], 0) = (reports, failed)
        && let Some(target) = report.target.as_ref().filter(|_| !damaged(report) && refused(report))
    {
        return Err(Failure::Refused { runtime: target.runtime.title() });
    }
    let faulty = |report: &&Inspection| match report {
        Inspection::Adapter(report) => damaged(report) || refused(report),
        Inspection::Model(_) => false,
    };
    match reports.iter().filter(faulty).count() + failed {
        0 => Ok(()),
        faulty => Err(Failure::Audit { faulty, of: reports.len() + failed }),
    }
}
