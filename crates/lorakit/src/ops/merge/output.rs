//! The form of the output: floats or packed weights in a folder, or a GGUF file.

use std::collections::BTreeMap;
use std::path::Path;

use lorakit_tensor::DType;

use super::tied::Untied;
use super::{MergeOptions, files};
use crate::adapter::Adapter;
use crate::ops::Problem as VerbProblem;
use crate::ops::quantize::{self, Chosen, Imatrix, Mix, Quantization};
use crate::plan::{Container, OutputTensor, SideFile, Target};
use crate::{Error, Finding, Model, Result, Severity};

/// What a plan needs.
pub(super) struct Output {
    pub(super) target: Target,
    pub(super) container: Container,
    pub(super) tensors: Vec<OutputTensor>,
    pub(super) side_files: Vec<SideFile>,
    pub(super) chosen: Vec<Chosen>,
}

/// The form that `options` ask for; the merged `tensors` are named as in Hugging Face files.
pub(super) fn of(
    base: &Model,
    adapters: &[(Adapter, f64)],
    tensors: Vec<OutputTensor>,
    untied: &Untied,
    options: &MergeOptions,
    notes: &mut Vec<Finding>,
) -> Result<Output> {
    let (packing, promote) = match &options.quantization {
        Some(Quantization::Gguf { mix, imatrix }) => {
            return gguf(base, tensors, mix, imatrix.as_deref(), options, notes);
        }
        Some(Quantization::Packed { packing, promote }) => (Some(*packing), *promote),
        None => (None, false),
    };
    let target = target(&options.output, packing.is_some())?;
    let written = options.dtype.or(base.packed_dtype());
    let dtype = written.unwrap_or(DType::BF16);
    if let (Some(decoded), Some(dtype), None) = (&base.packing, written, packing) {
        let message =
            format!("weights are packed ({}); they are decoded and written as {dtype}", decoded.scheme);
        notes.push(Finding::new(Severity::Note, "packed", &base.path.display().to_string(), message));
    }
    let packed =
        packing.map(|packing| quantize::pack(base, tensors.clone(), packing, dtype, promote)).transpose()?;
    let config = packed.as_ref().map(|packed| packed.quantization_config());
    let side_files = files::side_files(base, adapters, &tensors, untied, written, config, notes)?;
    let mut metadata: BTreeMap<String, String> = base.checkpoint().metadata().clone();
    metadata.insert("format".into(), "pt".into());
    let container = Container::Safetensors { stem: base.stem(), metadata, max_shard: options.max_shard };
    let (tensors, chosen) = match packed {
        Some(packed) => (packed.tensors, packed.chosen),
        None => (tensors, Vec::new()),
    };
    Ok(Output { target, container, tensors, side_files, chosen })
}

fn gguf(
    base: &Model,
    tensors: Vec<OutputTensor>,
    mix: &Mix,
    imatrix: Option<&Path>,
    options: &MergeOptions,
    notes: &mut Vec<Finding>,
) -> Result<Output> {
    quantize::require_name(&options.output, true)?;
    let opened = imatrix.map(|path| Imatrix::open(path, base.reader())).transpose()?;
    let (metadata, tensors, chosen) =
        quantize::of_hugging_face(base, tensors, mix, opened.as_ref(), options.pre.as_deref(), notes)?;
    Ok(Output {
        target: Target::File(options.output.clone()),
        container: Container::Gguf(metadata),
        tensors,
        side_files: Vec::new(),
        chosen,
    })
}

/// A folder, or, for floats, a file if the name says so.
fn target(output: &Path, packed: bool) -> Result<Target> {
    match output.extension().and_then(|e| e.to_str()) {
        Some("safetensors") if !packed => Ok(Target::File(output.to_path_buf())),
        _ if packed => {
            quantize::require_name(output, false)?;
            Ok(Target::Folder(output.to_path_buf()))
        }
        Some(other @ ("bin" | "pt" | "pth")) => {
            Err(Error::from(VerbProblem::MergedFile { extension: other.to_string() }).at(output))
        }
        _ => Ok(Target::Folder(output.to_path_buf())),
    }
}
