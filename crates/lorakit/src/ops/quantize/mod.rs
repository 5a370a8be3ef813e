//! Quantising models: to GGUF files in the mixes of llama.cpp, and to Hugging Face folders with packed weights.
//!
//! ```
//! use lorakit::ops::quantize::{self, Mix, Quantization, QuantizeOptions};
//! use lorakit::plan::Silent;
//! use lorakit::{FileType, MixOptions};
//!
//! let folder = tempfile::tempdir().unwrap();
//! let mix = Mix { file_type: Some(FileType::Q8_0), options: MixOptions::default(), promote: None };
//! let to = Quantization::Gguf { mix, imatrix: None };
//! let output = folder.path().join("model.gguf");
//! let quantize =
//!     quantize::plan(&QuantizeOptions::new("../../fixtures/golden/convert/llama", &output, to), &Silent)?;
//! quantize.plan.run(0, &Silent)?;
//! assert!(quantize.chosen.iter().any(|tensor| tensor.to == "Q8_0"));
//! # Ok::<(), lorakit::Error>(())
//! ```

mod gguf;
mod imatrix;
mod kind;
mod metadata;
mod mix;
pub(crate) mod problem;
mod quantization;
mod recorded;
mod report;

use std::path::{Path, PathBuf};

use lorakit_tensor::{ReadMode, Reader, TensorInfo};

pub use crate::model::packed::PackedType;
pub use imatrix::Imatrix;
pub use kind::QuantType;
pub use mix::Mix;
pub use quantization::Quantization;
pub use report::{QuantizeReport, TypeInfo, TypeList};

pub use crate::plan::Chosen;

pub(crate) use crate::model::packed::pack;
pub(crate) use gguf::of_hugging_face;
pub(crate) use recorded::recorded;

use crate::lineage::{Lineage, Role, Step};
use crate::model::folder::{adapter_in, config_among, doubts, set_config, side_files_of, travelling};
use crate::ops::inspect::count_dtypes;
use crate::ops::{MAX_SHARD, Problem as VerbProblem};
use crate::plan::{Container, OutputTensor, Packer, Plan, Progress, Report, Target, go_on};
use crate::{Error, Finding, Model, Result};
pub(crate) use problem::Problem;

/// What to quantise, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct QuantizeOptions {
    /// The model: a Hugging Face folder, or a GGUF file.
    pub source: PathBuf,
    /// The output: a file for GGUF, else a folder.
    pub output: PathBuf,
    /// Replace an output that exists.
    pub replace: bool,
    /// What it becomes.
    pub quantization: Quantization,
    /// Whether a source that is already quantised is accepted.
    pub requantize: bool,
    /// The largest shard of a folder, in bytes.
    pub max_shard: u64,
    /// The name of the pre-tokenizer, if it cannot be identified.
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

impl QuantizeOptions {
    /// Default options for a model, an output and what it becomes.
    pub fn new(source: impl Into<PathBuf>, output: impl Into<PathBuf>, quantization: Quantization) -> Self {
        QuantizeOptions {
            source: source.into(),
            output: output.into(),
            replace: false,
            quantization,
            requantize: false,
            max_shard: MAX_SHARD,
            pre: None,
            lineage: Lineage::default(),
            card: true,
            check_finite: false,
            mode: ReadMode::default(),
        }
    }
}

crate::ops::setters! { QuantizeOptions {
    with_replace: replace: bool,
    with_requantize: requantize: bool,
    with_max_shard: max_shard: u64,
    with_pre: pre: Option<String>,
    with_lineage: lineage: Lineage,
    with_card: card: bool,
    with_check_finite: check_finite: bool,
    with_mode: mode: ReadMode,
} }

/// A quantisation that is planned.
#[derive(Debug)]
pub struct Quantize {
    /// The plan.
    pub plan: Plan,
    /// What each tensor becomes, in file order.
    pub chosen: Vec<Chosen>,
    /// Things worth telling the user.
    pub notes: Vec<Finding>,
}

impl Quantize {
    /// Writes the output: see [`Plan::run`].
    ///
    /// # Errors
    /// As [`Plan::run`].
    pub fn run(&self, threads: usize, progress: &dyn Progress) -> Result<Report> {
        self.plan.run(threads, progress)
    }
}

/// Decides the type of every tensor and plans the output.
///
/// # Errors
/// [`ErrorKind::Quantized`](crate::ErrorKind::Quantized) for a source that is already quantised, unless that is
/// accepted; [`ErrorKind::Mix`](crate::ErrorKind::Mix) for a tensor that fits no type;
/// [`ErrorKind::Imatrix`](crate::ErrorKind::Imatrix) for one of another model; whatever reading the files turns up;
/// [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted) if `progress` asks to stop.
pub fn plan(options: &QuantizeOptions, progress: &dyn Progress) -> Result<Quantize> {
    let reader = &Reader::new(options.mode);
    let mut notes = Vec::new();
    let (plan, chosen) = match &options.quantization {
        Quantization::Gguf { mix, imatrix } => {
            let imatrix = imatrix.as_deref().map(|path| Imatrix::open(path, reader)).transpose()?;
            to_gguf(options, reader, mix, imatrix.as_ref(), &mut notes, progress)?
        }
        Quantization::Packed { packing, .. } => to_packed(options, reader, *packing, &mut notes, progress)?,
    };
    let plan = plan.checking_copies(options.check_finite)?;
    Ok(Quantize { plan, chosen, notes })
}

fn to_gguf(
    options: &QuantizeOptions,
    reader: &Reader,
    mix: &Mix,
    imatrix: Option<&Imatrix>,
    notes: &mut Vec<Finding>,
    progress: &dyn Progress,
) -> Result<(Plan, Vec<Chosen>)> {
    require_name(&options.output, true)?;
    let source = Model::open(&options.source, reader)?;
    // A GGUF file stays one, under its own names.
    let model = if source.is_gguf() { source } else { source.into_hf(None)? };
    refuse_quantized(&model, options.requantize)?;
    go_on(progress, "anything was written")?;
    let tensors = model.refs().map(OutputTensor::copy).collect();
    let (metadata, tensors, chosen) = if model.is_gguf() {
        gguf::of_gguf(&model, tensors, mix, imatrix, notes)?
    } else {
        gguf::of_hugging_face(&model, tensors, mix, imatrix, options.pre.as_deref(), notes)?
    };
    go_on(progress, "anything was written")?;
    let target = Target::File(options.output.clone());
    let mut step = step(options, reader, progress)?.with("pre", &options.pre);
    step.model(Role::Model, &model);
    let container = Container::Gguf(metadata);
    let papers = step.finish(notes).of_model();
    let plan = Plan::with_papers(target, options.replace, reader, container, tensors, Vec::new(), papers)?;
    Ok((plan, chosen))
}

fn to_packed(
    options: &QuantizeOptions,
    reader: &Reader,
    packing: Packer,
    notes: &mut Vec<Finding>,
    progress: &dyn Progress,
) -> Result<(Plan, Vec<Chosen>)> {
    require_name(&options.output, false)?;
    let model = Model::open_as_hf(&options.source, reader, None)?;
    refuse_quantized(&model, options.requantize)?;
    go_on(progress, "anything was written")?;
    let dtype = model.natural_dtype();
    let tensors = model.refs().map(|tensor| {
        let float = lorakit_quant::codec(tensor.info().dtype).is_some();
        let dtype = if float { dtype } else { tensor.info().dtype };
        OutputTensor::cast(tensor, dtype)
    });
    let packed = pack(&model, tensors.collect(), packing, dtype, false)?;
    go_on(progress, "anything was written")?;
    notes.extend(adapter_in(&model));
    let mut files = travelling(&model)?;
    let Some(mut json) = config_among(&files, &model)? else {
        return Err(Error::from(Problem::NoConfig).at(&options.source));
    };
    json["quantization_config"] = packed.quantization_config();
    set_config(&mut files, &json);
    notes.extend(doubts(&files, reader)?);
    let metadata = [("format".to_string(), "pt".to_string())].into();
    let container = Container::Safetensors { stem: model.stem(), metadata, max_shard: options.max_shard };
    let target = Target::Folder(options.output.clone());
    let mut step = step(options, reader, progress)?;
    step = step.with("max_shard", Some(options.max_shard).filter(|max| *max != MAX_SHARD));
    step.model(Role::Model, &model);
    let tensors = packed.tensors;
    let side_files = side_files_of(files);
    let papers = step.finish(notes).of_model();
    let plan = Plan::with_papers(target, options.replace, reader, container, tensors, side_files, papers)?;
    Ok((plan, packed.chosen))
}

/// What the output says about how it was made.
fn step(options: &QuantizeOptions, reader: &Reader, progress: &dyn Progress) -> Result<Step> {
    let step = Step::new("quantize", options.lineage).card(options.card).plain();
    recorded(step, &options.quantization, reader, progress)
}

/// Refuses a model whose weights are quantised: what was lost then cannot be recovered, and errors add up.
fn refuse_quantized(model: &Model, accepted: bool) -> Result<()> {
    let blocks = || model.tensors().iter().filter(|t| t.dtype.block().elements > 1);
    let packed = model.packing.as_ref().map_or(0, |packing| packing.tensors.len());
    let quantized = blocks().count() + packed;
    if accepted || quantized == 0 {
        return Ok(());
    }
    let how = match &model.packing {
        Some(packing) => packing.scheme.to_string(),
        None => each_dtype(blocks()),
    };
    let problem = Problem::Twice { quantized, of: model.tensors().len(), how };
    Err(Error::from(problem).at(&model.path))
}

/// `Q8_0`; of several dtypes each with its number of tensors, most bytes first.
fn each_dtype<'t>(tensors: impl Iterator<Item = &'t TensorInfo>) -> String {
    match count_dtypes(tensors).as_slice() {
        [one] => one.dtype.to_string(),
        many => {
            let each = many.iter().map(|count| format!("{} ({})", count.dtype, count.tensors));
            each.collect::<Vec<_>>().join(", ")
        }
    }
}

/// GGUF models are files, packed ones folders.
pub(crate) fn require_name(output: &Path, gguf: bool) -> Result<()> {
    let extension = output.extension().and_then(|e| e.to_str());
    let problem = match extension {
        Some("gguf") if gguf => return Ok(()),
        _ if gguf => VerbProblem::NotGgufName,
        Some(other @ ("gguf" | "safetensors" | "bin" | "pt")) => {
            VerbProblem::PackedFile { extension: other.to_string() }
        }
        _ => return Ok(()),
    };
    Err(Error::from(problem).at(output))
}

#[cfg(test)]
mod tests {
    use lorakit_tensor::DType;

    use super::*;

    #[test]
    fn each_dtype_is_counted() {
        let info = |dtype, rows| TensorInfo { name: String::new(), dtype, shape: vec![rows, 256] };
        let mixed = [info(DType::Q8_0, 1), info(DType::Q4_K, 9), info(DType::Q4_K, 9)];
        assert_eq!(each_dtype(mixed.iter()), "Q4_K (2), Q8_0 (1)");
        assert_eq!(each_dtype(mixed[1..].iter()), "Q4_K");
    }
}
