//! Traces: whether one is made, and `lorakit trace`.

use std::path::PathBuf;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Args, Subcommand};

use super::values::one_of;

/// Who is told what a command did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// A receiver of OpenTelemetry.
    Otlp,
}

/// Whether a command makes a trace.
#[derive(Debug, Args)]
#[command(next_help_heading = "Traces")]
pub(crate) struct Reported {
    /// Trace what is done, for Langfuse or any receiver of OpenTelemetry that variables name; without one, into a file
    #[arg(long, value_name = "TO", value_parser = told())]
    pub(crate) report: Option<Told>,
    /// Put prompts and answers into the trace, too
    #[arg(long, requires = "report")]
    pub(crate) trace_content: bool,
}

fn told() -> impl TypedValueParser<Value = Told> {
    one_of(vec![(PossibleValue::new("otlp").help("spans of OpenTelemetry, scores of Langfuse"), Told::Otlp)])
}

#[derive(Debug, Subcommand)]
pub(crate) enum TraceAction {
    /// Send traces that wait in files
    Push(Push),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lorakit trace push                     # what evaluations and answers left
  lorakit trace push adapter/            # what a training run left
  lorakit trace push -n adapter/         # what that is

Variables say where to: `LANGFUSE_BASE_URL` with `LANGFUSE_PUBLIC_KEY` and `LANGFUSE_SECRET_KEY`, or
`OTEL_EXPORTER_OTLP_ENDPOINT`.")]
pub(crate) struct Push {
    /// Files of traces, or folders with some: the output of a run, too [default: where eval and generate leave them]
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Print what would be sent, and send nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}
