//! `lorakit inspect`.

use std::path::PathBuf;

use clap::Args;
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
  lorakit inspect model.gguf")]
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
    /// Write the reports as one self-contained HTML page with figures (implies --spectrum)
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
}
