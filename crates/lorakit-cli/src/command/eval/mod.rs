//! `lorakit eval`.

pub(super) mod page;
mod text;

use std::path::{Path, PathBuf};

use lorakit::plan::Progress;
use lorakit::{Finding, Severity};
use lorakit_train::eval::{self, Check, Evaluation, Options, Outcome, Schema, Watch};
use serde::Serialize;

use crate::args::{self, Common, FailOnOutcome};
use crate::command::page::{check, write};
use crate::command::passes::Passes;
use crate::error::Failure;
use crate::trace::Report as TraceReport;
use crate::trace::eval::Traced;
use crate::ui::{self, Ui};
use crate::{names, units};

const SCHEMA: &str = "lorakit.eval/1";

pub(crate) fn run(args: &args::Eval, common: &Common, ui: &Ui) -> Result<(), Failure> {
    if let Some(page) = &args.html {
        check(page, args.force, inputs(args))?;
    }
    let options = options(args, common)?;
    let mut watch = Watched { passes: Passes::new(ui, false), traced: Traced::new(args)? };
    let found = eval::evaluate(&options, &mut watch).map_err(Failure::from);
    let traced = watch.traced.take();
    drop(watch);
    let trace = traced.map(|traced| traced.end(found.as_ref().ok(), found.as_ref().err(), ui));
    let found = found?;
    let mut wrote = None;
    if let Some(page) = &args.html {
        let object = ui::enveloped(SCHEMA, Report { found: &found, html: None, trace: None });
        let bytes = write(page, args.force, &page::EVALUATION, &object)?;
        wrote = Some(format!("\nwrote `{}`, {}\n", names::path(page), units::size(bytes)));
    }
    if ui.json {
        ui.json(SCHEMA, Report { found: &found, html: args.html.as_deref(), trace })?;
        return verdict(&found, args);
    }
    ui.result(&text::render(&found, ui.verbose))?;
    if let Some(wrote) = wrote {
        ui.result(&wrote)?;
    }
    let note = |text: &String| Finding::new(Severity::Note, "evaluation", "", text.clone());
    ui.notes(&found.notes.iter().map(note).collect::<Vec<_>>());
    verdict(&found, args)
}

/// What was found, and where the page of it is.
#[derive(Serialize)]
struct Report<'r> {
    #[serde(flatten)]
    found: &'r Evaluation,
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<&'r Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<TraceReport>,
}

/// The files and folders that are read.
fn inputs(args: &args::Eval) -> Vec<&PathBuf> {
    let adapters = args.adapters.iter().chain(&args.against).map(|(path, _)| path);
    let files = [&args.regression, &args.schema, &args.chat_template].into_iter().flatten();
    args.models.iter().chain(adapters).chain(&args.data).chain(files).collect()
}

fn options(args: &args::Eval, common: &Common) -> Result<Options, Failure> {
    let mut options = Options::new(PathBuf::new(), PathBuf::new());
    options.models.clone_from(&args.models);
    options.adapters.clone_from(&args.adapters);
    options.against.clone_from(&args.against);
    options.data.clone_from(&args.data);
    options.regression.clone_from(&args.regression);
    options.checks = checks(args)?;
    options.quant = args.quant;
    options.general = args.general.clone().unwrap_or_default();
    options.threshold = args.forgetting;
    options.scales.clone_from(&args.scales);
    options.null = args.null;
    options.answers = args.answers.unwrap_or(usize::MAX);
    options.most_tokens = args.max_tokens;
    options.context = args.context;
    options.chat_template.clone_from(&args.chat_template);
    options.seed = args.seed;
    if common.threads > 0 {
        options.threads = common.threads;
    }
    Ok(options)
}

/// What every answer is checked for.
fn checks(args: &args::Eval) -> Result<Vec<Check>, Failure> {
    let mut checks = Vec::new();
    if let Some(path) = &args.schema {
        checks.push(Check::JsonSchema(Schema::open(path)?));
    }
    checks.extend(args.regex.iter().cloned().map(Check::Regex));
    checks.extend(args.contains.iter().cloned().map(Check::Contains));
    checks.extend(args.not_contains.iter().cloned().map(Check::NotContains));
    Ok(checks)
}

/// Makes the command fail, after the whole report, if an item that must pass fails, or if something holds that it was
/// told to fail on.
fn verdict(found: &Evaluation, args: &args::Eval) -> Result<(), Failure> {
    let (mut refused, mut of, mut reasons) = (0, 0, Vec::new());
    for candidate in &found.candidates {
        let Some(verdict) = &candidate.verdict else { continue };
        let name = &candidate.name;
        let before = reasons.len();
        of += 1;
        for item in candidate.regression.iter().flat_map(|regression| &regression.must_failed) {
            reasons.push(format!("`{name}`: `{item}` must pass, and fails"));
        }
        if args.fail_on.contains(&FailOnOutcome::Regressed) && verdict.outcome == Outcome::Regressed {
            reasons.extend(verdict.worse.iter().map(|worse| format!("`{name}` regressed: {worse}")));
        }
        let flagged = candidate.general.as_ref().is_some_and(|general| general.flagged);
        if args.fail_on.contains(&FailOnOutcome::Forgetting) && flagged {
            reasons.push(format!("`{name}` forgets more than {} nats per token", args.forgetting));
        }
        refused += usize::from(reasons.len() > before);
    }
    if reasons.is_empty() { Ok(()) } else { Err(Failure::Gate { refused, of, reasons }) }
}

/// The terminal, and a trace.
struct Watched<'u> {
    passes: Passes<'u>,
    traced: Option<Traced>,
}

impl Watch for Watched<'_> {
    fn progress(&self) -> &dyn Progress {
        self.passes.progress()
    }

    fn passes(&mut self, done: u64, of: u64, what: &str) {
        if let Some(traced) = &mut self.traced {
            traced.passes();
        }
        self.passes.passes(done, of, what);
    }

    fn begins(&mut self, what: &str) {
        if let Some(traced) = &mut self.traced {
            traced.begins(what);
        }
    }

    fn asks(&mut self) {
        if let Some(traced) = &mut self.traced {
            traced.asks();
        }
    }

    fn asked(&mut self, question: usize) {
        if let Some(traced) = &mut self.traced {
            traced.asked(question);
        }
    }

    fn answered(&mut self, question: usize) {
        if let Some(traced) = &mut self.traced {
            traced.answered(question);
        }
    }
}
