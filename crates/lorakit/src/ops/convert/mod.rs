//! Converting models between formats: GGUF to a Hugging Face folder, and back.
//!
//! ```
//! use lorakit::ops::convert::{ConvertOptions, ToGgufOptions, gguf_to_hf, hf_to_gguf};
//! use lorakit::plan::Silent;
//!
//! let folder = tempfile::tempdir().unwrap();
//! let (file, back) = (folder.path().join("model.gguf"), folder.path().join("model"));
//! let there = ToGgufOptions::new("../../fixtures/tiny-orders", &file);
//! hf_to_gguf(&there, &Silent)?.plan.run(0, &Silent)?;
//! gguf_to_hf(&ConvertOptions::new(&file, &back), &Silent)?.plan.run(0, &Silent)?;
//! assert!(back.join("config.json").is_file());
//! # Ok::<(), lorakit::Error>(())
//! ```

pub mod adapter;
mod model;
mod report;
pub mod save;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use lorakit_tensor::{DType, Format, ReadMode, Reader, TensorInfo};

pub use model::{ToGgufOptions, hf_to_gguf};
pub use report::ConvertReport;

use crate::lineage::{Lineage, Role, Step};
use crate::ops::{MAX_SHARD, Problem};
use crate::plan::{Container, OutputTensor, Plan, Progress, Report, Target, go_on};
use crate::{Error, Finding, Model, Result};

/// What to convert, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConvertOptions {
    /// The GGUF file, or the first part of a split one.
    pub source: PathBuf,
    /// The output folder.
    pub output: PathBuf,
    /// Replace an output that exists.
    pub replace: bool,
    /// Dtype of the output; the most common one by default.
    pub dtype: Option<DType>,
    /// Largest shard, in bytes.
    pub max_shard: u64,
    /// When the output says where it came from.
    pub lineage: Lineage,
    /// Whether an output folder gets a model card.
    pub card: bool,
    /// Search tensors for NaN and infinity even if they are only copied.
    pub check_finite: bool,
    /// How inputs are read.
    pub mode: ReadMode,
}

impl ConvertOptions {
    /// Default options for a model and an output.
    pub fn new(source: impl Into<PathBuf>, output: impl Into<PathBuf>) -> Self {
        ConvertOptions {
            source: source.into(),
            output: output.into(),
            replace: false,
            dtype: None,
            max_shard: MAX_SHARD,
            lineage: Lineage::default(),
            card: true,
            check_finite: false,
            mode: ReadMode::default(),
        }
    }
}

crate::ops::setters! { ConvertOptions {
    with_replace: replace: bool,
    with_dtype: dtype: Option<DType>,
    with_max_shard: max_shard: u64,
    with_lineage: lineage: Lineage,
    with_card: card: bool,
    with_check_finite: check_finite: bool,
    with_mode: mode: ReadMode,
} }

/// A conversion that is planned.
#[derive(Debug)]
pub struct Convert {
    /// The plan.
    pub plan: Plan,
    /// Dtype of the output's tensors.
    pub dtype: DType,
    /// Dtypes of the source, with the number of tensors of each.
    pub from: BTreeMap<DType, usize>,
    /// Things worth telling the user.
    pub notes: Vec<Finding>,
}

impl Convert {
    /// Writes the output: see [`Plan::run`].
    ///
    /// # Errors
    /// As [`Plan::run`].
    pub fn run(&self, threads: usize, progress: &dyn Progress) -> Result<Report> {
        self.plan.run(threads, progress)
    }
}

/// Plans the conversion of a GGUF model to a Hugging Face folder: names translated, rows of q and k put back in
/// order, every block type decoded, configuration and tokenizer rebuilt from the metadata.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if the source is not a GGUF model of a known family;
/// whatever reading it turns up; [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted) if `progress` asks to stop.
pub fn gguf_to_hf(options: &ConvertOptions, progress: &dyn Progress) -> Result<Convert> {
    let model = Model::open_as_hf(&options.source, &Reader::new(options.mode), options.dtype)?;
    if model.checkpoint().format() != Format::Gguf {
        let problem = Problem::HfAlready { format: model.checkpoint().format().name() };
        return Err(Error::from(problem).at(&options.source));
    }
    if let Some(other @ ("safetensors" | "gguf" | "bin")) =
        options.output.extension().and_then(|e| e.to_str())
    {
        let problem = Problem::HfFile { extension: other.to_string() };
        return Err(Error::from(problem).at(&options.output));
    }
    let dtype = options.dtype.unwrap_or_else(|| model.natural_dtype());
    go_on(progress, "anything was written")?;
    let from = count_dtypes(model.tensors());
    let tensors = model.refs().map(|tensor| OutputTensor::cast(tensor, dtype)).collect();
    for info in model.tensors() {
        if lorakit_quant::codec(info.dtype).is_none() {
            let problem = Problem::NoDecoder { dtype: info.dtype };
            return Err(Error::from(problem).tensor(&info.name).at(&options.source));
        }
    }
    let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    let container = Container::Safetensors { stem: "model", metadata, max_shard: options.max_shard };
    let side_files = model.rebuilt_files()?.to_vec();
    let target = Target::Folder(options.output.clone());
    let mut step = Step::new("convert", options.lineage)
        .card(options.card)
        .plain()
        .with("to", "hf")
        .with("dtype", dtype.name());
    step = step.with("max_shard", Some(options.max_shard).filter(|max| *max != MAX_SHARD));
    step.model(Role::Model, &model);
    let mut notes = Vec::new();
    let reader = model.reader();
    let papers = step.finish(&mut notes).of_model();
    let plan = Plan::with_papers(target, options.replace, reader, container, tensors, side_files, papers)?;
    let plan = plan.checking_copies(options.check_finite)?;
    Ok(Convert { plan, dtype, from, notes })
}

/// How many tensors have each dtype.
fn count_dtypes(tensors: &[TensorInfo]) -> BTreeMap<DType, usize> {
    let mut counts = BTreeMap::new();
    for info in tensors {
        *counts.entry(info.dtype).or_default() += 1;
    }
    counts
}
