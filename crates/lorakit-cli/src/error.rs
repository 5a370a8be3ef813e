//! A failed command: what to print and which code to exit with.

use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};

use lorakit::ErrorKind;
use serde_json::{Value, json};

use crate::args::Command;
use crate::{exit, hint, interrupt, units};

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The library refused or failed.
    Lorakit(lorakit::Error),
    /// Options that conflict with each other or with what is at `path`, and what to type instead.
    Usage {
        /// What was typed, or what is wrong with it.
        message: String,
        /// The input that an option conflicts with.
        path: Option<PathBuf>,
        /// What to type.
        hint: &'static str,
    },
    /// The report was printed; it says that a runtime does not take the adapter.
    Refused {
        /// The runtime.
        runtime: &'static str,
    },
    /// The report was printed; it says that inputs cannot be used.
    Audit {
        /// Inputs with a finding of severity error.
        faulty: usize,
        /// Inputs in all.
        of: usize,
    },
    /// The report was printed; adapters or models do not keep the rules that were asked for.
    Gate {
        /// Those that do not.
        refused: usize,
        /// All of them.
        of: usize,
        /// A line for each rule that is broken.
        reasons: Vec<String>,
    },
    /// The report was printed; it says what is not as it should be.
    Differs(&'static str),
    /// The report was printed; it says that the question cannot be answered.
    Unjudged(&'static str),
    /// The report was printed; it says what was not sent.
    Unsent {
        /// Why nothing more was sent; none if only some lines were not taken.
        why: Option<String>,
        /// Lines that are still in their files.
        left: u64,
        /// A line for each that was not taken.
        reasons: Vec<String>,
    },
    /// A signal ended the command early.
    Stopped(Stopped),
    /// Standard output could not be written.
    Output(io::Error),
}

/// What is left after a signal ended a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// Nothing new.
    Clean,
    /// Staged names, a line for each.
    Left(Vec<String>),
    /// The output: it was complete already.
    Published,
    /// The state of a run, after these steps; none if it had done nothing yet.
    Saved { step: u64, at: Option<String> },
    /// What a run had saved before.
    Unsaved,
}

impl Stopped {
    /// What is left now, given the lines about staged names that are still there.
    pub(crate) fn now(left: Vec<String>) -> Self {
        if !left.is_empty() {
            Stopped::Left(left)
        } else if interrupt::waits() {
            Stopped::Unsaved
        } else if lorakit_tensor::publish::has_published() {
            Stopped::Published
        } else {
            Stopped::Clean
        }
    }
}

impl From<Stopped> for Failure {
    fn from(stopped: Stopped) -> Self {
        Failure::Stopped(stopped)
    }
}

impl From<lorakit::Error> for Failure {
    fn from(error: lorakit::Error) -> Self {
        Failure::Lorakit(error)
    }
}

fn lines(count: u64) -> String {
    units::plural(usize::try_from(count).unwrap_or(usize::MAX), "line")
}

impl Failure {
    /// Options that conflict with each other.
    pub(crate) fn usage(message: &str, hint: &'static str) -> Self {
        Failure::Usage { message: message.to_string(), path: None, hint }
    }

    /// An option that conflicts with what is at `path`.
    pub(crate) fn usage_at(path: &Path, message: &str, hint: &'static str) -> Self {
        Failure::Usage { message: message.to_string(), path: Some(path.to_path_buf()), hint }
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Lorakit(error) => exit::of(error.kind()),
            Failure::Usage { .. } => exit::USAGE,
            Failure::Refused { .. }
            | Failure::Audit { .. }
            | Failure::Gate { .. }
            | Failure::Differs(_)
            | Failure::Unjudged(_) => exit::BAD_INPUT,
            Failure::Stopped(_) => exit::of(ErrorKind::Interrupted),
            Failure::Unsent { why: Some(_), .. } => exit::IO,
            Failure::Unsent { why: None, .. } => exit::BAD_INPUT,
            // The reader of our output has seen enough.
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => exit::OK,
            Failure::Output(_) => exit::IO,
        }
    }

    pub(crate) fn message(&self) -> String {
        match self {
            Failure::Lorakit(error) => error.to_string(),
            Failure::Usage { message, path: None, .. } => message.clone(),
            Failure::Usage { message, path: Some(path), .. } => format!("`{}`: {message}", path.display()),
            Failure::Refused { runtime } => {
                format!("{runtime} cannot load this adapter as is; see above")
            }
            Failure::Audit { faulty, of: 1 } if *faulty == 1 => {
                "this adapter cannot be used as is; see the findings above".into()
            }
            Failure::Audit { faulty, of } => {
                format!("{faulty} of {of} inputs cannot be used as they are; see the findings above")
            }
            Failure::Gate { refused, of, .. } => {
                format!("{refused} of {of} adapters and models must not be used")
            }
            Failure::Differs(what) | Failure::Unjudged(what) => (*what).into(),
            Failure::Unsent { why: Some(why), left, .. } => format!("not sent: {} ({why})", lines(*left)),
            Failure::Unsent { why: None, left, .. } => format!("not taken: {}", lines(*left)),
            Failure::Stopped(Stopped::Clean) => "interrupted".into(),
            Failure::Stopped(Stopped::Left(_)) => "interrupted, and ended without cleaning up".into(),
            Failure::Stopped(Stopped::Published) => "interrupted after the output was complete".into(),
            Failure::Stopped(Stopped::Saved { step, at: Some(path) }) => {
                format!("interrupted after step {step}; the state is in `{path}`")
            }
            Failure::Stopped(Stopped::Saved { at: None, .. }) => {
                "interrupted before the first step was done".into()
            }
            Failure::Stopped(Stopped::Unsaved) => "interrupted, and ended without saving the state".into(),
            Failure::Output(_) => "cannot write to standard output".into(),
        }
    }

    pub(crate) fn details(&self) -> &[String] {
        match self {
            Failure::Lorakit(error) => error.detail_lines(),
            Failure::Gate { reasons, .. } | Failure::Unsent { reasons, .. } => reasons,
            Failure::Stopped(Stopped::Left(names)) => names,
            _ => &[],
        }
    }

    /// Whether each of the details is a reason of its own, so that none is left out.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self, Failure::Gate { .. })
    }

    pub(crate) fn causes(&self) -> Vec<String> {
        let first = match self {
            Failure::Lorakit(error) => error.source(),
            Failure::Output(error) => Some(error as &dyn std::error::Error),
            _ => None,
        };
        let mut causes = Vec::new();
        let mut next = first;
        while let Some(error) = next {
            causes.push(error.to_string());
            next = error.source();
        }
        causes
    }

    pub(crate) fn hint(&self, command: Option<&Command>) -> Option<String> {
        match self {
            Failure::Lorakit(error) => hint::of(error, command),
            Failure::Usage { hint, .. } => Some((*hint).to_string()),
            Failure::Stopped(stopped) => Some(hint::of_stopped(stopped).into()),
            Failure::Unsent { why, .. } => {
                why.as_ref().map(|_| "they stay in their files: the same command sends them later".into())
            }
            Failure::Refused { .. }
            | Failure::Audit { .. }
            | Failure::Gate { .. }
            | Failure::Differs(_)
            | Failure::Unjudged(_)
            | Failure::Output(_) => None,
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Failure::Lorakit(error) => error.kind().name(),
            Failure::Usage { .. } => ErrorKind::Usage.name(),
            Failure::Refused { .. } | Failure::Audit { .. } | Failure::Gate { .. } => "Audit",
            Failure::Differs(_) => "Differs",
            Failure::Unjudged(_) => "Unjudged",
            Failure::Unsent { .. } => "Unsent",
            Failure::Stopped(_) => ErrorKind::Interrupted.name(),
            Failure::Output(_) => "Io",
        }
    }

    /// The object printed on stderr under `--json`.
    pub(crate) fn json(&self, command: Option<&Command>) -> Value {
        let (path, tensor) = match self {
            Failure::Lorakit(error) => (error.path(), error.tensor_name()),
            Failure::Usage { path, .. } => (path.as_deref(), None),
            _ => (None, None),
        };
        let path = path.map(|path| path.display().to_string());
        json!({ "error": {
            "kind": self.kind(), "message": self.message(), "path": path, "tensor": tensor,
            "details": self.details(), "causes": self.causes(), "hints": self.hint(command).into_iter().collect::<Vec<_>>(),
            "exit_code": self.exit_code(),
        } })
    }
}
