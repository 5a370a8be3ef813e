//! Where things are printed: results on stdout, everything else on stderr.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use lorakit::Finding;
use lorakit::Severity;
use lorakit::plan::{Plan, PlanReport};
use serde::Serialize;
use serde_json::Value;

use crate::args::{Color, Command, Common};
use crate::error::Failure;
use crate::names::shown;
use crate::{hub, registry, width};

const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const GREEN: Style = AnsiColor::Green.on_default().bold();
const CYAN: Style = AnsiColor::Cyan.on_default().bold();

/// Detail lines printed with an error; `--json` has them all.
const MAX_DETAILS: usize = 10;

/// What the command adds to a report of the library.
#[derive(Serialize)]
struct Envelope<'e, R> {
    schema: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dry_run: Option<bool>,
    #[serde(flatten)]
    report: R,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<PlanReport<'e, Value>>,
}

/// The terminal, as the options set it up.
pub(crate) struct Ui {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    /// Not even results are printed.
    silent: bool,
    pub(crate) verbose: bool,
    pub(crate) progress: bool,
}

impl Ui {
    pub(crate) fn new(common: &Common) -> Self {
        match common.color {
            Color::Auto => {}
            Color::Always => anstream::ColorChoice::Always.write_global(),
            Color::Never => anstream::ColorChoice::Never.write_global(),
        }
        let quiet = common.quiet > 0;
        let progress = !common.no_progress && !quiet && !common.json && io::stderr().is_terminal();
        Ui { json: common.json, quiet, silent: common.quiet > 1, verbose: common.verbose > 0, progress }
    }

    /// For what is printed before the options are known.
    pub(crate) fn of_json() -> Self {
        Ui { json: true, quiet: true, silent: false, verbose: false, progress: false }
    }

    /// Prints a result, with lines that a terminal can hold; in a file or a pipe a line stays a line, to be searched.
    pub(crate) fn result(&self, text: &str) -> Result<(), Failure> {
        if self.silent {
            return Ok(());
        }
        let text = width::fit(&as_typed(text), width::of_results());
        let mut out = anstream::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Output)
    }

    /// Prints a result as it is.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(Failure::Output)
    }

    /// Prints the one JSON object of a command: its schema and the fields of `report`.
    pub(crate) fn json(&self, schema: &str, report: impl Serialize) -> Result<(), Failure> {
        self.object(&enveloped(schema, report))
    }

    /// Prints the one JSON object of a command that wrote nothing: its schema, the fields of `report`, and its plan.
    pub(crate) fn dry_run(
        &self,
        schema: &str,
        report: impl Serialize,
        plan: &Plan,
        threads: usize,
    ) -> Result<(), Failure> {
        let say = |error| Failure::from(error).json(None)["error"].take();
        let plan = Some(plan.description(threads).map_obstacle(say));
        self.object(&Envelope { schema, dry_run: Some(true), report, plan })
    }

    fn object(&self, object: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(object).map_err(|error| Failure::Output(error.into()))?;
        self.raw((as_typed(&text).into_owned() + "\n").as_bytes())
    }

    /// Prints notes and warnings on stderr.
    pub(crate) fn notes(&self, notes: &[Finding]) {
        if self.json || self.quiet {
            return;
        }
        let mut text = String::new();
        for note in notes {
            let _ = writeln!(text, "{}: {}", severity(note.severity), shown(&note.to_string()));
        }
        message(&text);
    }

    /// Prints a failure on stderr: message, details, causes, hint.
    pub(crate) fn failure(&self, failure: &Failure, command: Option<&Command>) {
        say_failure(self.json, failure, command);
    }
}

/// A report with its schema.
pub(crate) fn enveloped<R: Serialize>(schema: &str, report: R) -> impl Serialize {
    Envelope { schema, dry_run: None, report, plan: None }
}

/// Prints a failure on stderr, as an object if `json`.
pub(crate) fn say_failure(json: bool, failure: &Failure, command: Option<&Command>) {
    if failure.exit_code() == crate::exit::OK {
        return;
    }
    if json {
        return stderr(&format!("{}\n", failure.json(command)));
    }
    let mut text = format!("{RED}error{RED:#}: {}\n", shown(&failure.message()));
    let details = failure.details();
    let most = if failure.is_list() { details.len() } else { MAX_DETAILS };
    for line in details.iter().take(most) {
        let _ = writeln!(text, "  {}", shown(line));
    }
    if details.len() > most {
        let _ = writeln!(text, "  ... {} more (all with `--json`)", details.len() - most);
    }
    for cause in failure.causes() {
        let _ = writeln!(text, "  Caused by: {}", shown(&cause));
    }
    if let Some(hint) = failure.hint(command) {
        let _ = writeln!(text, "\n{CYAN}hint{CYAN:#}: {}", shown(&hint));
    }
    message(&text);
}

/// Prints what is wrong with a command line, in the words of its parser.
pub(crate) fn usage(text: &str) {
    message(text);
}

/// Prints a line on stderr while a run goes on.
pub(crate) fn note(line: &str) {
    message(&format!("{line}\n"));
}

/// Prints lines on stderr that a terminal can hold.
fn message(text: &str) {
    stderr(&width::fit(&as_typed(text), width::of_messages()));
}

fn stderr(text: &str) {
    let _ = anstream::stderr().lock().write_all(as_typed(text).as_bytes());
}

/// Prints the error of a command line as the one JSON object on stderr.
pub(crate) fn usage_json(text: &str) {
    let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    let details: Vec<&str> =
        text.lines().skip(1).map(str::trim).take_while(|line| !line.is_empty()).collect();
    let hints: Vec<&str> = text.lines().filter_map(|l| l.trim().strip_prefix("tip: ")).collect();
    let object = serde_json::json!({ "error": {
        "kind": "Usage", "message": message, "path": null, "tensor": null, "details": details, "causes": [],
        "hints": hints, "exit_code": crate::exit::USAGE,
    } });
    let _ = anstream::stderr().lock().write_all(format!("{object}\n").as_bytes());
}

/// The text with inputs named as they were typed.
fn as_typed(text: &str) -> Cow<'_, str> {
    registry::as_typed(hub::as_typed(text))
}

/// A severity as a coloured word.
pub(crate) fn severity(severity: Severity) -> String {
    let style = match severity {
        Severity::Note => CYAN,
        Severity::Warning => YELLOW,
        Severity::Error => RED,
    };
    format!("{style}{severity}{style:#}")
}

/// A word that says that something went well.
pub(crate) fn good(word: &str) -> String {
    format!("{GREEN}{word}{GREEN:#}")
}

/// A word that says that something went wrong.
pub(crate) fn bad(word: &str) -> String {
    format!("{RED}{word}{RED:#}")
}
