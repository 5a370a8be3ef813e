//! `lorakit diff`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lorakit diff one/ two/                          # two adapters, in any formats
  lorakit diff adapter/ adapter.gguf --base base/ # formats that need the base
  lorakit diff base/ tuned/                       # two models
  lorakit diff base/ base-q8_0.gguf               # what quantising lost
  lorakit diff tuned/ other/ --base base/         # do two fine-tunes pull the same way?
  lorakit diff one/ two/ --exit-code --quiet      # for scripts")]
pub(crate) struct Diff {
    /// A: an adapter or a model, a folder or file
    pub(crate) a: PathBuf,
    /// B: another of the same kind, in any format
    pub(crate) b: PathBuf,
    /// The base of both: needed by some adapter formats; for models, compares what each adds to it
    #[arg(long, value_name = "BASE")]
    pub(crate) base: Option<PathBuf>,
    /// Exit with 1 if they differ
    #[arg(long)]
    pub(crate) exit_code: bool,
}
