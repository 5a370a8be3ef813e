//! `lorakit inspect --recursive`: everything under a folder, one line each.

mod json;
mod table;

use lorakit::Severity;
use lorakit::ops::audit::{self, AuditOptions, AuditReport};

use super::{gate, html};
use crate::args::{self, Common};
use crate::command::page;
use crate::error::Failure;
use crate::progress::Bar;
use crate::ui::{self, Ui};
use crate::{names, units};

pub(super) fn run(args: &args::Inspect, common: &Common, ui: &Ui) -> Result<(), Failure> {
    let options = AuditOptions::new()
        .with_norms(args.norms)
        .with_spectrum(args.spectrum)
        .with_hidden(args.hidden)
        .with_filters(args.filters.clone())
        .with_sort(args.sort.unwrap_or_default())
        .with_policy(gate::policy(args, common)?)
        .with_fail_on(args.fail_on)
        .with_mode(common.read_mode())
        .with_threads(common.threads);
    let bar = Bar::new(ui, "reading");
    let report = audit::audit(&args.paths, &options, &bar)?;
    bar.finish();
    let mut wrote = String::new();
    if let Some(page) = &args.html {
        let object = ui::enveloped(json::SCHEMA, json::Listing::new(&report, None));
        let bytes = page::write(page, args.force, &html::LISTING, &object)?;
        wrote = format!("\nwrote `{}`, {}\n", names::path(page), units::size(bytes));
    }
    if ui.json {
        ui.json(json::SCHEMA, json::Listing::new(&report, args.html.as_deref()))?;
    } else {
        ui.result(&(render(&report, args, ui) + &wrote))?;
    }
    gate::verdict(&report.violations, report.counts.in_violation, report.counts.entries)
}

fn render(report: &AuditReport, args: &args::Inspect, ui: &Ui) -> String {
    let mut text = String::new();
    if !report.entries.is_empty() {
        table::render(&mut text, report, ui.verbose);
        text.push('\n');
    }
    text + &summary(report, args)
}

/// `12 adapters and 3 models, 213 MB; 2 with errors, 3 with warnings`.
fn summary(report: &AuditReport, args: &args::Inspect) -> String {
    let counts = &report.counts;
    if counts.found == 0 {
        let hidden = match counts.hidden_folders {
            0 => String::new(),
            n => format!(" ({} not searched: `--hidden`)", units::plural(n, "hidden folder")),
        };
        return format!("no adapter and no model{hidden}\n");
    }
    let mut text = match counts.entries {
        n if n == counts.found => String::new(),
        0 => return format!("0 of {} match\n", counts.found),
        n => format!("{n} of {} match: ", counts.found),
    };
    let kinds = [(counts.adapters, "adapter"), (counts.models, "model")];
    let unknown = counts.entries - counts.adapters - counts.models;
    let kinds = kinds.into_iter().chain([(unknown, "unreadable folder")]);
    let kinds: Vec<String> = kinds.filter(|(n, _)| *n > 0).map(|(n, noun)| units::plural(n, noun)).collect();
    text += &kinds.join(", ");
    if counts.bytes > 0 {
        text += &format!(", {}", units::size(counts.bytes));
    }
    let grave = [(counts.with_errors, Severity::Error), (counts.with_warnings, Severity::Warning)];
    let grave = grave.iter().filter(|(n, _)| *n > 0);
    let grave: Vec<String> =
        grave.map(|(n, severity)| format!("{n} with {}s", ui::severity(*severity))).collect();
    if !grave.is_empty() {
        text += &format!("; {}", grave.join(", "));
    }
    text.push('\n');
    if !(args.norms || args.spectrum) && counts.adapters > 0 {
        text += "headers only: `--norms` also reads the values (NaN, untrained factors)\n";
    }
    text
}
