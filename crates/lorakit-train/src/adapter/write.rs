//! The folder that training leaves: a PEFT adapter with its configuration, card, record, tokenizer and template.

use std::path::PathBuf;

use lorakit::adapter::{Adapter as Opened, AdapterConfig, Module, ModuleKind, Scaling};
use lorakit::lineage::{Lineage, Step, TrainedAs};
use lorakit::ops::convert::save::{self, AdapterReport, SaveOptions};
use lorakit::plan::{Progress, SideFile};
use lorakit::{DType, Reader, TensorRef};

use super::problem::Problem;
use crate::base::Base;
use crate::model::{Adapter, Lora, Slot};
use crate::{Error, Result};

/// Where an adapter is written, and how.
#[derive(Debug, Clone)]
pub struct Written {
    /// The folder.
    pub output: PathBuf,
    /// Replace an adapter that is there.
    pub replace: bool,
    /// The type of the factors: BF16, F16 or F32.
    pub dtype: DType,
    /// Whether scales are `alpha / sqrt(rank)`.
    pub rslora: bool,
    /// The rate of dropout, which the configuration tells.
    pub dropout: f64,
    /// What the record says: see [`step`].
    pub step: Step,
    /// More files for the folder: settings, the state of the optimiser, a template instead of the base's.
    pub beside: Vec<SideFile>,
}

/// What the record of an adapter that is trained on `base` says: the base with its digests, and the adapter that it
/// started from. Options are added by the caller; it may be used for every adapter of a run.
///
/// # Errors
/// If the adapter cannot be read; [`Interrupted`](lorakit::ErrorKind::Interrupted).
pub fn step(base: &Base, parent: Option<&Opened>, wanted: Lineage, progress: &dyn Progress) -> Result<Step> {
    let mut step = Step::new("train", wanted);
    step.trained_on(base.opened(), &base.weights, TrainedAs::new(base.form(), &base.trained_on));
    if let Some(parent) = parent {
        step.adapter(parent, None, &Reader::default(), progress)?;
    }
    Ok(step)
}

/// Writes `adapter` as a folder that PEFT loads. It is staged, read again and compared, and gets its name when it is
/// complete.
///
/// # Errors
/// [`Damaged`](lorakit::ErrorKind::Damaged) if it is empty; [`NonFinite`](lorakit::ErrorKind::NonFinite) for values that
/// are no numbers, or that the type cannot hold; as [`save::plan`] and [`AdapterOutput::run`](save::AdapterOutput::run).
pub fn write(
    adapter: &Adapter<f32>,
    base: &Base,
    written: &Written,
    threads: usize,
    progress: &dyn Progress,
) -> Result<AdapterReport> {
    let saved = saved(adapter, base, written)?;
    let mut beside = base.text.beside();
    beside.retain(|file| written.beside.iter().all(|own| own.name != file.name));
    beside.extend(written.beside.iter().cloned());
    let options = SaveOptions::new(&written.output, "peft")
        .with_replace(written.replace)
        .with_step(written.step.clone())
        .with_beside(beside);
    save::plan(&saved, &options, progress)?.run(threads, progress)
}

/// The adapter as `lorakit` writes it.
fn saved(adapter: &Adapter<f32>, base: &Base, written: &Written) -> Result<Opened> {
    let output = &written.output;
    let mut modules = Vec::new();
    for (layer, loras) in adapter.layers.iter().enumerate() {
        for (slot, lora) in Slot::ALL.into_iter().zip(loras) {
            if let Some(lora) = lora {
                let path = base.module(layer, slot);
                let size = base.model.shape.size(slot);
                modules.push(module(&path, lora, size, written).map_err(|e| e.at(output))?);
            }
        }
    }
    if modules.is_empty() {
        return Err(Error::from(Problem::Nothing).at(output));
    }
    let mut config = AdapterConfig::default();
    config.base_model = Some(lorakit::lineage::name_of(base.opened()));
    config.task_type = Some("CAUSAL_LM".into());
    // One rank and alpha for all modules; where they differ, the writer finds what they have in common.
    let said: Vec<(usize, f64)> = modules.iter().map(|m| (m.rank(), m.scaling.alpha(m.rank()))).collect();
    if let [(rank, alpha), rest @ ..] = said.as_slice()
        && rest.iter().all(|other| other == &(*rank, *alpha))
    {
        (config.r, config.alpha, config.use_rslora) = (Some(*rank as u64), Some(*alpha), written.rslora);
    }
    Opened::in_memory(output, config.with_dropout(written.dropout), modules, Vec::new())
}

fn module(path: &str, lora: &Lora<f32>, (out, inputs): (usize, usize), written: &Written) -> Result<Module> {
    let rank = lora.a.len() / inputs;
    let tensor = |side: &str, shape: [usize; 2], values: &[f32]| {
        TensorRef::of_values(format!("{path}.lora_{side}.weight"), written.dtype, shape, values)
    };
    let a = tensor("A", [rank, inputs], &lora.a)?;
    let b = tensor("B", [out, rank], &lora.b)?;
    let scaling = match written.rslora {
        true => Scaling::RankStabilised(alpha(lora.scale, (rank as f64).sqrt())),
        false => Scaling::Alpha(alpha(lora.scale, rank as f64)),
    };
    Ok(Module::new(path, ModuleKind::Linear, a, b, scaling))
}

/// The alpha that, divided by `by`, gives `scale`: the shortest decimal of those next to the product that does.
fn alpha(scale: f64, by: f64) -> f64 {
    let product = scale * by;
    let short = |digits: usize| format!("{product:.digits$e}").parse().unwrap_or(product);
    (0..16).map(short).find(|alpha| alpha / by == scale).unwrap_or(product)
}
