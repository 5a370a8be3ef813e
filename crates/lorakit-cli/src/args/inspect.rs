//! `lorakit inspect`.

use std::path::PathBuf;

use clap::Args;
use lorakit::ops::audit::{FailOn, Filter, Sort};
use lorakit::ops::inspect::Runtime;

use super::output::output_path;
use super::values::choice;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lorakit inspect adapter/
  lorakit inspect adapter/ --norms
  lorakit inspect adapter/ --spectrum
  lorakit inspect adapter/ --base base/
  lorakit inspect adapter/ --for llama.cpp --base base/
  lorakit inspect adapter/ --html report.html
  lorakit inspect model.gguf
  lorakit inspect --recursive adapters/ --sort findings
  lorakit inspect --recursive adapters/ --filter format=peft --filter rank=16..
  lorakit inspect --recursive deploy/ --policy policy.toml --html report.html")]
pub(crate) struct Inspect {
    /// Adapters and models: folders or files
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Also read the values: the norm of each delta, NaN, factors that were never trained
    #[arg(long)]
    pub(crate) norms: bool,
    /// Compute the singular values of each delta: how much of its rank is in use (implies --norms)
    #[arg(long)]
    pub(crate) spectrum: bool,
    /// Write the reports as one self-contained HTML page with figures (implies --spectrum, unless --recursive)
    #[arg(long, value_name = "FILE", value_parser = output_path())]
    pub(crate) html: Option<PathBuf>,
    /// Replace an existing page
    #[arg(long, requires = "html")]
    pub(crate) force: bool,
    /// Check adapters against this base model: shapes, coverage, strength (implies --norms)
    #[arg(long, value_name = "BASE")]
    pub(crate) base: Option<PathBuf>,
    /// Check whether this program can load the adapter; if not, say what to do and exit with 1
    #[arg(long = "for", value_name = "RUNTIME", value_parser = choice::<Runtime>())]
    pub(crate) runtime: Option<Runtime>,
    /// List every adapter and model under PATH, one line each (headers only, unless --norms or --spectrum)
    #[arg(short, long, conflicts_with_all = ["base", "runtime"])]
    pub(crate) recursive: bool,
    /// With --recursive, the order [default: path]
    #[arg(long, value_name = "BY", requires = "recursive", value_parser = choice::<Sort>())]
    pub(crate) sort: Option<Sort>,
    /// With --recursive, list only what meets this: `format=peft`, `base=meta-llama/*`, `rank=16..64`,
    /// `size=100MB..`, `findings=warning`; keys: path, kind, format, base, license, rank, size, findings; `!=` for the
    /// opposite; repeatable, all must hold
    #[arg(long = "filter", value_name = "KEY=VALUE", requires = "recursive", value_parser = filter)]
    pub(crate) filters: Vec<Filter>,
    /// With --recursive, also look into hidden folders
    #[arg(long, requires = "recursive")]
    pub(crate) hidden: bool,
    /// Exit with 1 if there are findings of this severity or a graver one
    #[arg(long, value_name = "SEVERITY", value_parser = choice::<FailOn>())]
    pub(crate) fail_on: Option<FailOn>,
    /// Exit with 1 if anything breaks a rule of this policy, and say which: a TOML file
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
}

fn filter(text: &str) -> Result<Filter, String> {
    Filter::parse(text).map_err(|error| error.to_string())
}
