//! The state of a run: what it must know to go on as if nothing had happened.

use std::collections::BTreeMap;
use std::path::Path;

use lorakit_tensor::format::safetensors;
use lorakit_tensor::{Checkpoint, DType, Reader, TensorInfo, TensorSource, json};
use serde_json::{Map, Value, json};

use super::problem::Problem;
use crate::data::Day;
use crate::error::{Error, Result};
use crate::kernel::Compute;
use crate::model::{Adapter, Slot};
use crate::optimise::{AdamW, Moments};
use crate::settings::{KEYS, Settings};

/// What is beside the adapter in a checkpoint.
pub(crate) const STATE: &str = "trainer_state.json";
pub(crate) const OPTIMISER: &str = "optimizer.safetensors";

/// The version of [`STATE`].
const FORMAT: u64 = 1;

/// Where a run is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    /// Steps done.
    pub(crate) step: u64,
    /// The epoch of the next step.
    pub(crate) epoch: u64,
    /// Steps of that epoch which are done.
    pub(crate) place: u64,
    /// Tokens so far.
    pub(crate) tokens: u64,
    /// Tokens that were predicted so far.
    pub(crate) supervised: u64,
    /// Whether the validation after this step was interrupted.
    pub(crate) unevaluated: bool,
    /// The validation loss before the first step.
    pub(crate) before: Option<f64>,
    /// The best validation loss and its step.
    pub(crate) best: Option<(u64, f64)>,
    /// Validations since then.
    pub(crate) worse: u64,
    /// Seconds so far.
    pub(crate) wall_s: f64,
    pub(crate) adapter: Adapter<f32>,
    pub(crate) optimiser: AdamW,
}

/// What a run was begun with, and must go on with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Origin {
    pub(crate) compute: Compute,
    /// Whether what the backward pass needs is rounded to bf16.
    pub(crate) halves: bool,
    pub(crate) steps: u64,
    /// Digests, by what they are of.
    pub(crate) digests: Vec<(&'static str, String)>,
    /// Keys that decide the bytes, with their values.
    pub(crate) settings: Vec<(&'static str, String)>,
}

impl Origin {
    pub(crate) fn new(
        settings: &Settings,
        (compute, halves): (Compute, bool),
        steps: u64,
        digests: Vec<(&'static str, String)>,
    ) -> Self {
        let fixed = KEYS.iter().filter(|key| key.fixed);
        let settings = fixed.map(|key| (key.name, settings.value(key))).collect();
        Self { compute, halves, steps, digests, settings }
    }

    fn compute_name(&self) -> &'static str {
        name_of(self.compute)
    }

    /// What differs from a state that was saved, one phrase each.
    fn changes(&self, saved: &Value) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap_or("not there").to_string();
        let mut changes = Vec::new();
        for (key, now) in &self.settings {
            let was = text(&saved["settings"][*key]);
            if was != *now {
                changes.push(format!("`{key}` was {was} and is {now}"));
            }
        }
        let compute = text(&saved["compute"]);
        if compute != self.compute_name() {
            changes.push(format!("`compute` was {compute} and is {}", self.compute_name()));
        }
        let halves = saved["halves"] == true;
        if halves != self.halves {
            let form = |halves| if halves { "halves or mlp" } else { "nothing or layers" };
            changes.push(format!("`recompute` was {} and is {}", form(halves), form(self.halves)));
        }
        for (of, now) in &self.digests {
            if text(&saved["digests"][*of]) != *now {
                changes.push(format!("the {of} has changed"));
            }
        }
        if changes.is_empty() && saved["steps"] != self.steps {
            changes.push(format!("it had {} steps and has {}", saved["steps"], self.steps));
        }
        changes
    }
}

pub(crate) fn name_of(compute: Compute) -> &'static str {
    match compute {
        Compute::F32 => "f32",
        Compute::Bf16 => "bf16",
    }
}

/// How the run in the checkpoint at `folder` computes, which one that goes on takes over if it is not told: the type of
/// operands, and whether what is kept is rounded to bf16.
pub(crate) fn computes(folder: &Path) -> Result<(Compute, bool)> {
    let saved = read_state(folder)?;
    let compute = if saved["compute"] == "bf16" { Compute::Bf16 } else { Compute::F32 };
    Ok((compute, saved["halves"] == true))
}

/// The day on which the run in the checkpoint at `folder` began, if its chat template writes the date.
pub(crate) fn day(folder: &Path) -> Result<Option<Day>> {
    Ok(read_state(folder)?["settings"]["template_day"].as_str().and_then(Day::new))
}

fn read_state(folder: &Path) -> Result<Value> {
    let path = folder.join(STATE);
    if !path.is_file() {
        return Err(Error::from(Problem::NoCheckpoint).at(folder));
    }
    let text = std::fs::read(&path).map_err(|e| lorakit_tensor::Error::io("read", &path, e))?;
    let saved = json::parse_object(&text).map_err(|e| e.at(&path))?;
    if saved["format"] != FORMAT {
        let reason = format!("its `format` is {}, and {FORMAT} is read", saved["format"]);
        return Err(Error::from(Problem::State { reason }).at(&path));
    }
    Ok(saved)
}

impl State {
    /// Before the first step.
    pub(crate) fn new(adapter: Adapter<f32>, optimiser: AdamW) -> Self {
        Self {
            step: 0,
            epoch: 0,
            place: 0,
            tokens: 0,
            supervised: 0,
            unevaluated: false,
            before: None,
            best: None,
            worse: 0,
            wall_s: 0.0,
            adapter,
            optimiser,
        }
    }

    /// The files that belong to it beside the adapter.
    pub(crate) fn files(&self, origin: &Origin) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let pairs = |pairs: &[(&'static str, String)]| {
            let pairs = pairs.iter().map(|(key, value)| (key.to_string(), value.as_str().into()));
            Value::Object(pairs.collect::<Map<_, _>>())
        };
        let state = json!({
            "format": FORMAT,
            "step": self.step,
            "steps": origin.steps,
            "epoch": self.epoch,
            "place": self.place,
            "tokens": self.tokens,
            "supervised_tokens": self.supervised,
            "unevaluated": self.unevaluated,
            "before": self.before,
            // The bits too: a decimal is not always read as the number that it was written for.
            "best": self.best.map(|(step, loss)| json!({"step": step, "loss": loss, "bits": loss.to_bits()})),
            "since_best": self.worse,
            "wall_s": self.wall_s,
            "compute": origin.compute_name(),
            "halves": origin.halves,
            "digests": pairs(&origin.digests),
            "settings": pairs(&origin.settings),
        });
        Ok(vec![(STATE, json::pretty(&state)), (OPTIMISER, self.tensors()?)])
    }

    fn tensors(&self) -> Result<Vec<u8>> {
        let places = places(&self.adapter);
        let mut infos = Vec::new();
        let mut values: Vec<&[f32]> = Vec::new();
        for (place, (factor, moments)) in
            places.iter().zip(self.adapter.factors().zip(&self.optimiser.moments))
        {
            for (what, of) in [("value", factor), ("first", &moments.first), ("second", &moments.second)] {
                let (name, shape) = (format!("{place}.{what}"), vec![of.len()]);
                infos.push(TensorInfo { name, dtype: DType::F32, shape });
                values.push(of);
            }
        }
        let metadata = BTreeMap::from([("steps".to_string(), self.optimiser.steps.to_string())]);
        let mut bytes = safetensors::layout(&metadata, &infos)?.header;
        let (header, size) = (bytes.len(), values.iter().map(|values| size_of_val(*values)).sum::<usize>());
        bytes.reserve_exact(size);
        bytes.resize(header + size, 0);
        let places = bytes[header..].as_chunks_mut().0.iter_mut();
        places.zip(values.into_iter().flatten()).for_each(|(place, value)| *place = value.to_le_bytes());
        Ok(bytes)
    }

    /// Takes over what was saved in the checkpoint at `folder`. `self` is a state before the first step.
    ///
    /// # Errors
    /// If it was begun with something else, and if it is damaged.
    pub(crate) fn resumed(mut self, folder: &Path, origin: &Origin) -> Result<Self> {
        let saved = read_state(folder)?;
        let changes = origin.changes(&saved);
        if !changes.is_empty() {
            return Err(Error::from(Problem::Changed { changes }).at(folder));
        }
        let place = |error: Error| error.at(&folder.join(STATE));
        let count = |key: &str| {
            let reason = format!("`{key}` is {}; it must be a whole number", saved[key]);
            saved[key].as_u64().ok_or_else(|| place(Problem::State { reason }.into()))
        };
        (self.step, self.epoch, self.place) = (count("step")?, count("epoch")?, count("place")?);
        (self.tokens, self.supervised) = (count("tokens")?, count("supervised_tokens")?);
        self.worse = count("since_best")?;
        self.unevaluated = saved["unevaluated"] == true;
        self.before = saved["before"].as_f64();
        self.best = saved["best"]["step"].as_u64().zip(saved["best"]["bits"].as_u64().map(f64::from_bits));
        self.wall_s = saved["wall_s"].as_f64().unwrap_or(0.0);
        self.optimiser.steps = self.step;
        let path = folder.join(OPTIMISER);
        self.read_tensors(&path).map_err(|error| error.at(&path))?;
        let mut moments = self.optimiser.moments.iter().flat_map(|moments| &moments.second);
        if self.step > 0 && moments.all(|moment| *moment == 0.0) {
            return Err(Error::from(Problem::Forgotten { step: self.step }).at(&path));
        }
        Ok(self)
    }

    fn read_tensors(&mut self, path: &Path) -> Result<()> {
        let tensors = Checkpoint::open(path, &Reader::default())?;
        let read = |name: String, to: &mut [f32]| -> Result<()> {
            let Some(index) = tensors.find(&name) else { return Err(Problem::NoTensor { name }.into()) };
            let info = &tensors.tensors()[index];
            if info.dtype != DType::F32 || info.shape != [to.len()] {
                let (found, expected) =
                    (format!("{:?} {:?}", info.dtype, info.shape), format!("F32 [{}]", to.len()));
                return Err(Problem::Tensor { name, found, expected }.into());
            }
            let bytes = tensors.read(index, 0..info.byte_len())?;
            let (values, _) = bytes.as_chunks::<4>();
            for (to, bytes) in to.iter_mut().zip(values) {
                *to = f32::from_le_bytes(*bytes);
            }
            Ok(())
        };
        let places = places(&self.adapter);
        let factors = self.adapter.factors_mut().zip(&mut self.optimiser.moments);
        for (place, (factor, Moments { first, second })) in places.into_iter().zip(factors) {
            read(format!("{place}.value"), factor)?;
            read(format!("{place}.first"), first)?;
            read(format!("{place}.second"), second)?;
        }
        Ok(())
    }
}

/// The names of factors, in the order of [`Adapter::factors`].
fn places(adapter: &Adapter<f32>) -> Vec<String> {
    let mut places = Vec::new();
    for (index, layer) in adapter.layers.iter().enumerate() {
        for (slot, _) in Slot::ALL.iter().zip(layer).filter(|(_, lora)| lora.is_some()) {
            let slot = format!("{slot:?}").to_lowercase();
            places.extend(["a", "b"].map(|side| format!("{index}.{slot}.{side}")));
        }
    }
    places
}
