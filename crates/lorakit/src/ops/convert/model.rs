//! A Hugging Face model to GGUF.

use std::path::PathBuf;

use lorakit_tensor::{DType, ReadMode, Reader};

use super::{Convert, count_dtypes};
use crate::lineage::{Lineage, Role, Step};
use crate::model::gguf::write::{forth, unheld, with_dtype};
use crate::ops::Problem;
use crate::plan::{Container, OutputTensor, Plan, Progress, Target, go_on};
use crate::{Error, Model, Result};

/// What to convert, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ToGgufOptions {
    /// The model's folder.
    pub source: PathBuf,
    /// The output file.
    pub output: PathBuf,
    /// Replace an output that exists.
    pub replace: bool,
    /// Dtype of the matrices; by default that of the source if it is a float of 16 or 32 bits.
    pub dtype: Option<DType>,
    /// `tokenizer.ggml.pre`, if it cannot be identified.
    pub pre: Option<String>,
    /// When the output says where it came from.
    pub lineage: Lineage,
    /// Whether an output folder gets a model card.
    pub card: bool,
    /// Search tensors for NaN and infinity even if they are only copied.
    pub check_finite: bool,
    /// How inputs are read.
    pub mode: ReadMode,
}

impl ToGgufOptions {
    /// Default options for a model and an output.
    pub fn new(source: impl Into<PathBuf>, output: impl Into<PathBuf>) -> Self {
        ToGgufOptions {
            source: source.into(),
            output: output.into(),
            replace: false,
            dtype: None,
            pre: None,
            lineage: Lineage::default(),
            card: true,
            check_finite: false,
            mode: ReadMode::default(),
        }
    }
}

crate::ops::setters! { ToGgufOptions {
    with_replace: replace: bool,
    with_dtype: dtype: Option<DType>,
    with_pre: pre: Option<String>,
    with_lineage: lineage: Lineage,
    with_card: card: bool,
    with_check_finite: check_finite: bool,
    with_mode: mode: ReadMode,
} }

/// Plans the conversion of a Hugging Face folder to a GGUF file.
///
/// # Errors
/// What the writer of GGUF models refuses; [`ErrorKind::Usage`](crate::ErrorKind::Usage) if the source is not a folder
/// of an unquantised model; [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted) if `progress` asks to stop.
pub fn hf_to_gguf(options: &ToGgufOptions, progress: &dyn Progress) -> Result<Convert> {
    crate::ops::quantize::require_name(&options.output, true)?;
    let model = Model::open(&options.source, &Reader::new(options.mode))?;
    if model.is_gguf() {
        return Err(Error::from(Problem::GgufAlready).at(&options.source));
    }
    let model = model.into_hf(None)?;
    let dtype = options.dtype.unwrap_or_else(|| model.natural_dtype());
    go_on(progress, "anything was written")?;
    let from = count_dtypes(model.tensors());
    let copies = model.refs().map(OutputTensor::copy).collect();
    let (metadata, tensors) = forth(&model, copies, dtype, options.pre.as_deref())?;
    go_on(progress, "anything was written")?;
    let container = Container::Gguf(metadata);
    let target = Target::File(options.output.clone());
    let tensors = with_dtype(tensors, dtype);
    let mut step = Step::new("convert", options.lineage).card(options.card).plain().with("to", "gguf");
    step = step.with("dtype", dtype.name()).with("pre", &options.pre);
    step.model(Role::Model, &model);
    let mut notes = model.config.as_ref().map(unheld).transpose()?.unwrap_or_default();
    let reader = model.reader();
    let papers = step.finish(&mut notes).of_model();
    let plan = Plan::with_papers(target, options.replace, reader, container, tensors, Vec::new(), papers)?;
    let plan = plan.checking_copies(options.check_finite)?;
    Ok(Convert { plan, dtype, from, notes })
}
