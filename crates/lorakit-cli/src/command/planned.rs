//! Shared by commands that write: printing a plan, reporting a run.

use std::fmt::Write as _;
use std::time::Instant;

use lorakit::ops::convert::adapter::{AdapterOutput, AdapterReport};
use lorakit::plan::{Plan, Report};
use lorakit_tensor::publish::listed;
use serde::Serialize;

use crate::args::Common;
use crate::error::Failure;
use crate::progress::Bar;
use crate::ui::Ui;
use crate::{hint, units};

/// Deltas that differ by less are the same except for f32 rounding.
const EXACT: f64 = 1e-6;

/// The plan as text: files, one line for each tensor, totals.
pub(super) fn describe(plan: &Plan, threads: usize) -> String {
    let mut text = String::new();
    let target = plan.target().path().display();
    let _ = writeln!(text, "would write `{target}`");
    text += &standing(plan);
    for file in plan.files() {
        let tensors = units::plural(file.tensors.len(), "tensor");
        let _ = writeln!(text, "\n{} ({}, {tensors})", file.name, units::size(file.len));
        for (_, tensor) in &file.tensors {
            let _ = writeln!(text, "  {}  {tensor}", tensor.info.name);
        }
    }
    text.push('\n');
    text + &totals(plan, threads)
}

/// What is in the way of an output, or which files it replaces: a line, or nothing.
pub(super) fn standing(plan: &Plan) -> String {
    match plan.check() {
        Ok(replaced) if replaced.is_empty() => String::new(),
        Ok(replaced) => {
            let names: Vec<String> = replaced.iter().map(|name| format!("`{}`", name.display())).collect();
            format!("would replace {}\n", names.join(", "))
        }
        Err(error) => {
            let hint = hint::of(&error, None).map_or_else(String::new, |hint| format!("; {hint}"));
            format!("as things stand it would fail: {error}{hint}\n")
        }
    }
}

/// What would be written, for an output whose tensors are computed already.
pub(super) fn would_write(plan: &Plan) -> String {
    let files = plan.files().iter().map(|f| f.name.clone());
    let files: Vec<String> = files.chain(side_files(plan)).collect();
    format!(
        "would write `{}` ({}, {}): {}\n",
        plan.target().path().display(),
        units::size(plan.output_bytes()),
        units::plural(plan.tensors().count(), "tensor"),
        files.join(", ")
    ) + &standing(plan)
}

/// An adapter that a command computed.
pub(super) trait Computed {
    /// The schema of its report.
    const SCHEMA: &'static str;

    /// What is written.
    fn output(&self) -> &AdapterOutput;

    /// The result of the computation, and what `run` wrote of it.
    fn report<'r>(&'r self, run: Option<&'r AdapterReport>) -> impl Serialize;
}

/// Ends a command that computed an adapter since `started`: writes it, unless this is a dry run, and reports.
///
/// # Errors
/// As [`AdapterOutput::run`].
pub(super) fn write_adapter<C: Computed>(
    computed: &C,
    (dry_run, started): (bool, Instant),
    (common, ui): (&Common, &Ui),
    summary: impl FnOnce() -> String,
) -> Result<(), Failure> {
    let output = computed.output();
    let plan = &output.plan;
    if dry_run {
        return if ui.json {
            ui.dry_run(C::SCHEMA, computed.report(None), plan, common.threads)
        } else {
            ui.result(&(summary() + &would_write(plan)))
        };
    }
    let bar = Bar::new(ui, "writing");
    let mut report = output.run(common.threads, &bar)?;
    bar.finish();
    report.report.elapsed = started.elapsed();
    if ui.json {
        return ui.json(C::SCHEMA, computed.report(Some(&report)));
    }
    let text = if ui.quiet { String::new() } else { summary() + &proof(&report, "as computed") + "\n" };
    ui.result(&(text + &wrote_in(plan, &report.report) + "\n"))
}

/// Names of the files besides the tensors.
fn side_files(plan: &Plan) -> impl Iterator<Item = String> {
    plan.side_files().iter().map(|file| file.name.display().to_string())
}

/// Other files, sizes, memory.
pub(super) fn totals(plan: &Plan, threads: usize) -> String {
    let mut text = String::new();
    if !plan.side_files().is_empty() {
        let names: Vec<String> = side_files(plan).collect();
        let _ = writeln!(text, "other files: {}\n", names.join(", "));
    }
    let copied = plan.tensors().filter(|t| t.is_copied()).count();
    let computed = plan.tensors().filter(|t| t.is_computed()).count();
    let _ = writeln!(
        text,
        "output {}, {} copied and {} computed, peak memory about {}",
        units::size(plan.output_bytes()),
        units::plural(copied, "tensor"),
        computed,
        units::size(plan.peak_memory(thread_count(threads))),
    );
    text
}

/// What was copied unchecked; or, if checks were asked for, that every tensor passed.
pub(super) fn unchecked(report: &Report, asked: bool) -> String {
    let unchecked = report.unchecked;
    match unchecked.tensors {
        0 if asked => "checked: no tensor holds NaN or infinity\n".into(),
        0 => String::new(),
        n => format!(
            "unchecked: {} ({}) copied without a search for NaN and infinity; `--check-finite` searches them too\n",
            units::plural(n, "tensor"),
            units::size(unchecked.bytes)
        ),
    }
}

/// `wrote ...`: the last line of a command that wrote something.
pub(super) fn wrote(plan: &Plan, report: &Report) -> String {
    let seconds = report.elapsed.as_secs_f64().max(1e-9);
    format!("{} ({:.2} GB/s)\n", wrote_in(plan, report), report.bytes as f64 / seconds / 1e9)
}

fn wrote_in(plan: &Plan, report: &Report) -> String {
    let (files, tensors) = (plan.files().len(), plan.tensors().count());
    beside(plan, report)
        + &format!(
            "{} `{}` ({}, {}, {}) in {}",
            crate::ui::good("wrote"),
            plan.target().path().display(),
            units::size(report.bytes),
            units::plural(tensors, "tensor"),
            units::plural(files, "file"),
            units::duration(report.elapsed),
        )
}

/// What happened to other things at the output.
fn beside(plan: &Plan, report: &Report) -> String {
    let mut text = String::new();
    if !report.replaced.is_empty() {
        let _ = writeln!(text, "replaced {}", listed(&report.replaced));
    }
    if let Some(kept) = &report.kept {
        let target = plan.target().path().display();
        let _ = writeln!(text, "kept in `{}` what appeared in `{target}` at the last moment", kept.display());
    }
    if !report.leftovers.is_empty() {
        let left = listed(&report.leftovers);
        let _ = writeln!(
            text,
            "left alone {left}: from before a restart, or of another machine; remove it if none is at work"
        );
    }
    text
}

/// The result of reading the output again: deltas are as `meant`, such as "the same".
pub(super) fn proof(report: &AdapterReport, meant: &str) -> String {
    let worst = report.errors.iter().max_by(|a, b| a.error.total_cmp(&b.error));
    match worst {
        None => "read again: every tensor is the same".into(),
        Some(worst) if worst.error == 0.0 => format!("read again: every delta is {meant}, bit for bit"),
        Some(worst) if worst.error <= EXACT => {
            format!("read again: every delta is {meant} within rounding (at most {:.1e} off)", worst.error)
        }
        Some(worst) => format!(
            "read again: deltas are up to {:.2e} off, relative to their norm; most in `{}`",
            worst.error, worst.path
        ),
    }
}

pub(super) fn thread_count(threads: usize) -> usize {
    match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
}
