//! Options shared by commands that write.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};
use lorakit::lineage::Lineage;

use super::formats::{self, Format};
use super::values::{DtypeOrKeep, choice, float_or_keep, is_gguf_file};

/// Options of every command that writes.
#[derive(Debug, Args)]
pub(crate) struct Output {
    /// Where to write: a folder, or a file that ends in `.gguf` or `.safetensors`
    #[arg(short, long, value_name = "OUT", value_parser = output_path())]
    pub(crate) output: PathBuf,
    /// Print the plan - files, tensors, size, memory - and write nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Replace an existing output once the new one is complete
    #[arg(long)]
    pub(crate) force: bool,
    /// Also refuse NaN and infinity in tensors that are only copied; adapters are always checked
    #[arg(long)]
    pub(crate) check_finite: bool,
    /// Whether the output records what it was made from
    #[arg(long, value_name = "WHEN", value_parser = choice::<Lineage>(), default_value = "auto",
          env = "LORAKIT_LINEAGE", hide_env_values = true)]
    pub(crate) lineage: Lineage,
    /// Write no model card (`README.md`) into an output folder, and leave one that travels along unchanged
    #[arg(long)]
    pub(crate) no_card: bool,
}

/// The format that adapters are written in, and what it may need.
#[derive(Debug, Args)]
pub(crate) struct WrittenIn {
    /// Format of the output [default: gguf for a name ending in `.gguf`, else the input's format, or peft]
    #[arg(long, value_name = "FORMAT", value_parser = formats::of_adapters())]
    pub(crate) to: Option<Format>,
    /// The base model, if the format needs it: a folder or file
    #[arg(long, value_name = "BASE")]
    pub(crate) base: Option<PathBuf>,
}

impl WrittenIn {
    /// The name of the format of `output`, if the user or that name tells.
    pub(crate) fn name(&self, output: &Path) -> Option<String> {
        let own = is_gguf_file(output).then_some(Format::GGUF);
        self.to.or(own).map(|to| to.name().into())
    }
}

/// What adapters are written as.
#[derive(Debug, Args)]
pub(crate) struct WrittenAs {
    #[command(flatten)]
    pub(crate) format: WrittenIn,
    /// Dtype of the factors
    #[arg(long, value_name = "DTYPE", default_value = "keep", ignore_case = true, value_parser = float_or_keep())]
    pub(crate) dtype: DtypeOrKeep,
}

/// The path of an output. It is never a stream: an output is a folder, or is complete before it gets its name.
pub(super) fn output_path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| {
        if path.as_os_str() == "-" {
            Err("output goes to a file or folder, not to standard output")
        } else {
            Ok(path)
        }
    })
}
