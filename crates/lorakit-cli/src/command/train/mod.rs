//! `lorakit train`.

mod check;
mod estimate;
mod import;
pub(super) mod page;
mod reports;
mod watch;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lorakit::Reader;
use lorakit_train::run::{self, Observer as _, Outcome, Summary};
use lorakit_train::settings::{Held, Settings};
use serde::Serialize;

use self::reports::Watchers;
use self::watch::Watch;
use crate::args::{self, Common};
use crate::command::page::check as check_page;
use crate::error::{Failure, Stopped};
use crate::trace::Report as TraceReport;
use crate::ui::Ui;
use crate::{hub, interrupt, names, units};

const SCHEMA: &str = "lorakit.train/1";

pub(crate) fn run(args: &args::Train, common: &Common, ui: &Ui) -> Result<(), Failure> {
    if let Some(path) = &args.fixed.import {
        return import::run(path, args, common, ui);
    }
    let mut settings = settings(args, common)?;
    ui.notes(&hub::resolve([&mut settings.model].into_iter().chain(&mut settings.adapter).collect()));
    if args.fixed.print_config {
        return match ui.json {
            true => ui.json(SCHEMA, serde_json::json!({ "dry_run": true, "settings": settings.json() })),
            false => ui.raw(settings.print().as_bytes()),
        };
    }
    share_work(settings.threads.unwrap_or(0));
    hub::verify(ui, false)?;
    if args.fixed.check_data {
        return check::run(&settings, ui);
    }
    if let Some(path) = &args.fixed.config {
        check_config(path, &settings)?;
    }
    let mut watchers = Watchers::new(&settings, Watch::new(ui))?;
    if args.fixed.estimate {
        let estimate = run::estimate(&settings, watchers.progress())?;
        watchers.terminal.finish();
        return match ui.json {
            true => ui.json(
                SCHEMA,
                serde_json::json!({ "dry_run": true, "estimate": estimate::object(&estimate) }),
            ),
            false => ui.result(&estimate::text(&estimate)),
        };
    }
    let replace = args.fixed.force || settings.resume.is_some();
    if let Some(page) = &args.fixed.html {
        check_page(page, replace, inputs(&settings, args))?;
    }
    interrupt::wait_for_the_run();
    let trained = run::train(&settings, &mut watchers).map_err(Failure::from);
    let estimate = watchers.terminal.finish().as_ref().map(estimate::object);
    let trace = watchers.traced.and_then(|traced| traced.end(trained.as_ref().err(), ui));
    let summary = trained?;
    let report = Report { estimate, trace, ..Report::new(&summary) };
    let html = args.fixed.html.as_deref().filter(|_| summary.steps > 0);
    if summary.outcome == Outcome::Interrupted {
        if let Some(page) = html {
            page::run(page, replace, &settings.output, report)?;
        }
        let saved = summary.saved.as_deref().map(names::path);
        return Err(Stopped::Saved { step: summary.steps, at: saved }.into());
    }
    if ui.json {
        ui.json(SCHEMA, Report { html, ..report.clone() })?;
    } else {
        ui.result(&text(&summary, &settings))?;
    }
    let Some(page) = html else { return Ok(()) };
    let bytes = page::run(page, replace, &settings.output, report)?;
    if ui.json {
        return Ok(());
    }
    ui.result(&format!("wrote `{}`, {}\n", names::path(page), units::size(bytes)))
}

/// Makes this thread one of those that work, of which there are `threads`, or one for each core. What this one allocates
/// goes back to the heap that does not fragment; on a thread of the pool a run would take half as much again.
fn share_work(threads: usize) {
    // Where the pool was built before, or cannot be built, the one that there is does the work.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread().build_global();
}

/// What the file says, then what is typed.
fn settings(args: &args::Train, common: &Common) -> Result<Settings, Failure> {
    let settings = match &args.fixed.config {
        Some(path) => Settings::open(path)?,
        None => Settings::new(),
    };
    typed(settings, args, common)
}

/// What is typed, on top of `settings`.
fn typed(mut settings: Settings, args: &args::Train, common: &Common) -> Result<Settings, Failure> {
    for pair in &args.fixed.pairs {
        settings.set_pair(pair)?;
    }
    for (key, text) in &args.keys {
        settings.set(key, text)?;
    }
    if common.threads > 0 {
        settings.threads = Some(common.threads);
    }
    settings.finish()?;
    Ok(settings)
}

/// Refuses an output that holds the file of settings, unless that is as runs write theirs: nothing in it would be lost.
fn check_config(path: &Path, settings: &Settings) -> Result<(), Failure> {
    if lorakit_train::files::read_to_string(path)
        .is_ok_and(|text| Settings::open(path).is_ok_and(|own| own.print() == text))
    {
        return Ok(());
    }
    let reader = Reader::default();
    reader.name(path);
    Ok(reader.check_output(&settings.output).map_err(lorakit::Error::from)?)
}

/// The files and folders that a run reads.
fn inputs<'s>(settings: &'s Settings, args: &'s args::Train) -> Vec<&'s PathBuf> {
    let held = match &settings.val {
        Some(Held::Files(paths)) => paths.as_slice(),
        _ => &[],
    };
    let rows = settings.data.iter().map(|source| &source.path).chain(held);
    let others = [&settings.adapter, &settings.chat_template, &settings.sample_prompts, &args.fixed.config];
    rows.chain([&settings.model]).chain(others.into_iter().flatten()).collect()
}

/// A finished run as an object.
#[derive(Clone, Serialize)]
struct Report<'s> {
    outcome: &'static str,
    steps: u64,
    loss: Option<f64>,
    before: Option<f64>,
    best: Option<Best>,
    tokens: u64,
    output: Option<&'s Path>,
    best_at: Option<&'s Path>,
    seconds: f64,
    peak_bytes: Option<u64>,
    estimate: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<&'s Path>,
    trace: Option<TraceReport>,
}

/// The best validation.
#[derive(Clone, Serialize)]
struct Best {
    step: u64,
    loss: f64,
}

impl<'s> Report<'s> {
    fn new(summary: &'s Summary) -> Self {
        Report {
            outcome: word(summary.outcome),
            steps: summary.steps,
            loss: summary.loss,
            before: summary.before,
            best: summary.best.map(|(step, loss)| Best { step, loss }),
            tokens: summary.tokens,
            output: summary.saved.as_deref(),
            best_at: summary.best_at.as_deref(),
            seconds: summary.wall_s,
            peak_bytes: summary.peak,
            estimate: None,
            html: None,
            trace: None,
        }
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Finished => "finished",
        Outcome::StoppedEarly => "stopped-early",
        Outcome::Interrupted => "interrupted",
    }
}

/// What a run did, for people.
fn text(summary: &Summary, settings: &Settings) -> String {
    let mut text = String::new();
    let steps = units::plural(usize::try_from(summary.steps).unwrap_or(usize::MAX), "step");
    let time = units::duration(Duration::from_secs_f64(summary.wall_s));
    let speed = summary.tokens as f64 / summary.wall_s.max(1e-9);
    let early = match summary.outcome {
        Outcome::StoppedEarly => " (stopped early: the validation loss did not fall any more)",
        _ => "",
    };
    let _ = writeln!(
        text,
        "trained {steps}, {} tokens in {time}, {speed:.0} tokens/s{early}",
        units::count(summary.tokens)
    );
    if let Some(loss) = summary.loss {
        let _ = writeln!(text, "  loss of the last step  {loss:.4}");
    }
    if let (Some(before), Some((step, best))) = (summary.before, summary.best) {
        let _ =
            writeln!(text, "  validation loss        {before:.4} before, {best:.4} at best (step {step})");
        if best >= before {
            let _ = writeln!(text, "  no validation was better than the adapter that the run began with");
        }
    }
    if let Some(peak) = summary.peak {
        let _ = writeln!(text, "  memory                 {} at most", units::size(peak));
    }
    if let Some(path) = &summary.saved {
        let _ = writeln!(text, "wrote `{}`", names::path(path));
    }
    if let Some(path) = &summary.best_at {
        let _ = writeln!(text, "the best adapter is in `{}`", names::path(path));
    }
    if let Some(path) = summary.best_at.as_ref().or(summary.saved.as_ref()) {
        let _ = writeln!(
            text,
            "next: lorakit merge {} {} -o merged/",
            names::path(&settings.model),
            names::path(path)
        );
    }
    text
}
