//! Traces of what the command does: where they go, what is said of the run, and what became of them.
//!
//! ```text
//!   train  eval  generate    spans of each
//!   carrier                  requests, if this build sends any
//! ```
//!
//! Nothing is sent anywhere unless a variable names a receiver, and no text of rows, prompts or answers unless that was
//! asked for. Of paths, only the last part is recorded.

#[cfg(feature = "remote")]
mod carrier;
pub(crate) mod eval;
pub(crate) mod generate;
pub(crate) mod train;

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lorakit_trace::{Attributes, Carrier, Destination, Options, Outcome, Status, Trace};
use lorakit_train::settings::{KEYS, Settings};
use serde::Serialize;

use crate::command::about::{COMMIT, VERSION};
use crate::error::Failure;
use crate::ui::{self, Ui};
use crate::{hub, interrupt, names, units};

/// Settings that a run itself may add.
const PASSING: &[&str] = &["template_day"];
/// What else a run is known by.
const NAMED: &[&str] = &["model", "adapter", "data", "val", "output"];

/// Where traces go, as variables say.
pub(crate) fn destination() -> Result<Destination, Failure> {
    Ok(Destination::new(&|name| env::var(name).ok(), VERSION)?)
}

/// What carries requests; nothing in a build that sends none.
pub(crate) fn carrier() -> Option<Arc<dyn Carrier>> {
    #[cfg(feature = "remote")]
    return Some(Arc::new(carrier::Remote::new()));
    #[cfg(not(feature = "remote"))]
    None
}

/// Where traces of commands without an output wait.
pub(crate) fn state_folder() -> Result<PathBuf, Failure> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let state = state.or_else(|| Some(set("HOME")?.join(".local/state")));
    let state = state.ok_or_else(|| {
        Failure::usage(
            "there is no folder for traces: neither `XDG_STATE_HOME` nor `HOME` is set",
            "set `XDG_STATE_HOME` to a folder",
        )
    })?;
    Ok(state.join("lorakit/traces"))
}

/// A trace of a command.
pub(crate) fn begin(
    name: &str,
    session: Option<String>,
    folder: PathBuf,
    content: bool,
    destination: Destination,
) -> Trace {
    let attributes =
        Attributes::default().maybe("langfuse.release", COMMIT).with("langfuse.version", VERSION);
    let version = VERSION.to_string();
    let (name, carrier) = (format!("lorakit {name}"), carrier());
    Trace::begin(Options { name, session, attributes, content, folder, destination, carrier, version })
}

/// Ends a trace with how the command ended, and says what became of it.
pub(crate) fn end(trace: Trace, attributes: Attributes, failure: Option<&Failure>, ui: &Ui) -> Report {
    // The message of an error may hold what users wrote.
    let status = failure.map_or(Status::Ok, |failure| Status::Error(failure.kind().into()));
    let id = trace.id().to_string();
    let outcome = trace.end(attributes, status, interrupt::asked());
    tell(&outcome, ui);
    Report {
        id,
        to: outcome.to,
        spans: outcome.spans,
        scores: outcome.scores,
        waiting: outcome.waiting,
        lost: outcome.lost,
        files: outcome.files,
        why: outcome.why,
        warnings: outcome.warnings,
    }
}

/// What became of a trace.
#[derive(Clone, Serialize)]
pub(crate) struct Report {
    id: String,
    to: Option<String>,
    spans: u64,
    scores: u64,
    waiting: u64,
    lost: u64,
    files: Vec<PathBuf>,
    why: Option<String>,
    warnings: Vec<String>,
}

/// Says what became of a trace.
fn tell(outcome: &Outcome, ui: &Ui) {
    if ui.json || ui.quiet {
        return;
    }
    for warning in &outcome.warnings {
        ui::note(&format!("trace: {}", names::shown(warning)));
    }
    if outcome.lost > 0 {
        let why = outcome.why.as_deref().unwrap_or_default();
        ui::note(&format!("trace: {} lost, {}", lines(outcome.lost), names::shown(why)));
    }
    match (&outcome.to, outcome.files.first().and_then(|file| file.parent())) {
        (_, Some(folder)) => {
            let why = match (&outcome.to, &outcome.why) {
                (Some(_), Some(why)) => format!(" ({})", names::shown(why)),
                (Some(_), None) => String::new(),
                (None, _) if cfg!(feature = "remote") => " (no variable names a receiver)".into(),
                (None, _) => " (this build sends nothing)".into(),
            };
            let folder = names::path(folder);
            let waiting = lines(outcome.waiting);
            ui::note(&format!(
                "trace: {waiting} in `{folder}`{why}; `lorakit trace push {folder}` sends them"
            ));
        }
        (Some(to), None) if outcome.lost == 0 => {
            let sent = [(outcome.spans, "span"), (outcome.scores, "score")];
            let sent = sent.iter().filter(|(count, _)| *count > 0).map(|(count, noun)| counted(*count, noun));
            let sent = sent.collect::<Vec<_>>().join(" and ");
            ui::note(&format!("trace: sent {sent} to `{}`", names::shown(to)));
        }
        _ => {}
    }
}

fn lines(count: u64) -> String {
    counted(count, "line")
}

fn counted(count: u64, noun: &str) -> String {
    units::plural(usize::try_from(count).unwrap_or(usize::MAX), noun)
}

/// What a run is known by: a digest of the settings that decide its result. So a run that is repeated or goes on belongs to
/// the same session, and so does what is done with its adapter, which has them beside it.
pub(crate) fn session(settings: &Settings) -> String {
    let mut own = settings.clone();
    for key in KEYS {
        if PASSING.contains(&key.name) || !key.fixed && !NAMED.contains(&key.name) {
            // Defaults are values that the key can have.
            let _ = own.set(key.name, key.default);
        }
    }
    format!("run-{}", lorakit_trace::digest(&own.print()))
}

/// The session of the run that made an adapter, if its folder tells.
pub(crate) fn session_of(adapter: Option<&PathBuf>) -> Option<String> {
    let path = adapter?.join("run.yaml");
    Settings::open(&path).ok().filter(|_| path.is_file()).map(|settings| session(&settings))
}

/// What a model or an adapter is called in a trace: its id in the hub, or the last part of its path.
pub(crate) fn short(path: &Path) -> String {
    let shown = path.display().to_string();
    let typed = hub::as_typed(&shown);
    if typed != shown {
        return typed.into_owned();
    }
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    whole.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned())
}

/// An adapter with its weight.
pub(crate) fn weighted((path, weight): &(PathBuf, f64)) -> String {
    let name = short(path);
    if *weight == 1.0 { name } else { format!("{name}={weight}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(yaml: &str) -> Settings {
        Settings::from_yaml(yaml).unwrap()
    }

    #[test]
    fn a_session_is_known_by_what_decides_the_result() {
        let of = |yaml: &str| session(&settings(&format!("model: base\ndata: rows.jsonl\n{yaml}")));
        let own = of("output: out\n");
        assert_eq!(own.len(), "run-".len() + 16);
        for same in [
            "threads: 3\n",
            "template_day: 2026-11-30\n",
            "resume: auto\n",
            "log_every: 1\n",
            "report: [otlp]\n",
        ] {
            assert_eq!(of(&format!("output: out\n{same}")), own, "{same}");
        }
        for other in ["output: out\nseed: 1\n", "output: other\n", "output: out\nlora: {r: 4}\n"] {
            assert_ne!(of(other), own, "{other}");
        }
    }

    #[test]
    fn only_the_last_part_of_a_path_is_told() {
        let folder = env::temp_dir();
        let path = folder.join("private/adapter");
        assert_eq!(short(&path), "adapter");
        assert_eq!(short(Path::new("/")), "model");
        assert_eq!(weighted(&(path.clone(), 1.0)), "adapter");
        assert_eq!(weighted(&(path, 0.5)), "adapter=0.5");
    }
}
