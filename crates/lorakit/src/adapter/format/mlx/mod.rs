//! mlx-lm: a folder with `adapter_config.json` and `adapters.safetensors`.
//!
//! Linear layers have `lora_a (in, r)` and `lora_b (r, out)`, the transposes of PEFT's; stacked experts
//! (`switch_mlp`) have `(E, r, in)` and `(E, out, r)`, not transposed. One scale multiplies all, undivided.
//! Sources: mlx-lm `tuner/{lora,dora,utils}.py`.

mod config;
mod problem;
mod write;

use super::halves::{Half, Pair, pairs};
use super::{AdapterFormat, Draft, DraftOptions};
use crate::adapter::{Adapter, AdapterConfig, Files, Module, ModuleKind, Scaling, carried};
use crate::arch::names;
use crate::card::Loading;
use crate::tensor::Factor;
use crate::{Base, Error, Finding, Result, Severity};
use problem::Problem;

/// mlx-lm.
#[derive(Debug)]
pub(crate) struct Mlx;

const LOADING: &str = "\
from mlx_lm import generate, load

# The adapter is in this folder.
model, tokenizer = load({base}, adapter_path=\".\")
print(generate(model, tokenizer, prompt=\"Hello\"))
";

impl AdapterFormat for Mlx {
    fn name(&self) -> &'static str {
        "mlx"
    }

    fn title(&self) -> &'static str {
        "a folder for mlx-lm: adapter_config.json and adapters.safetensors"
    }

    fn files(&self) -> &'static [&'static str] {
        &["adapters.safetensors"]
    }

    fn marks(&self, name: &str, files: &Files) -> bool {
        let factor = name.ends_with(".lora_a") || name.ends_with(".lora_b");
        !files.is_gguf() && (factor || files.config.as_ref().is_some_and(config::is_full))
    }

    fn loading(&self) -> Option<Loading> {
        Some(Loading { library: "mlx", code: LOADING, without_class: None })
    }

    fn read(&self, files: &Files, base: Option<&Base>) -> Result<Adapter> {
        let json = files.config.as_ref().ok_or_else(|| files.no_adapter())?;
        let settings = config::Settings::from_json(json).map_err(|e| e.at(&files.config_path()))?;
        let (pairs, findings) = pairs(files, |info| {
            let (path, half) = info.name.rsplit_once('.')?;
            let half = match half {
                "lora_a" => Half::A,
                "lora_b" => Half::B,
                "m" => Half::Magnitude,
                _ => return None,
            };
            Some((path.to_string(), half))
        });
        let config = carried::config(files.metadata().get(carried::CONFIG_KEY).map(String::as_str));
        let config = if config.raw.is_empty() { settings.typed(config) } else { config };
        let mut adapter = Adapter { config, findings, ..Adapter::empty(self.name(), files) };
        adapter.metadata.insert(config::CONFIG_KEY.into(), json.to_string());
        for pair in pairs {
            add(&mut adapter, &pair, &settings, base)?;
        }
        adapter.sort();
        Ok(adapter)
    }

    fn write(&self, adapter: &Adapter, options: &DraftOptions<'_>) -> Result<Draft> {
        write::draft(adapter, options)
    }

    #[cfg(test)]
    fn problems(&self) -> Vec<crate::Error> {
        Problem::samples().into_iter().map(crate::Error::from).collect()
    }
}

/// Adds the modules of one pair of factors.
fn add(adapter: &mut Adapter, pair: &Pair, settings: &config::Settings, base: Option<&Base>) -> Result<()> {
    let new = |path: String, kind, a, b| Module {
        config_rank: settings.rank,
        magnitude: pair.magnitude.clone(),
        ..Module::new(path, kind, a, b, Scaling::Fixed(settings.scale))
    };
    if pair.b.info().shape.len() == 3 {
        return experts(adapter, pair, &new);
    }
    let Some(([inputs, rank], [_, outputs])) = pair.matrices().filter(|(a, b)| a[1] == b[0]) else {
        adapter.findings.push(pair.misshapen("(in, r) and (r, out)"));
        return Ok(());
    };
    let a = Factor::matrix(pair.a.clone(), inputs, rank).transposed().to_tensor(vec![rank, inputs])?;
    let b = Factor::matrix(pair.b.clone(), rank, outputs).transposed().to_tensor(vec![outputs, rank])?;
    if !names::is_embedding(&pair.path) {
        adapter.modules.push(new(pair.path.clone(), ModuleKind::Linear, a, b));
        return Ok(());
    }
    if pair.magnitude.is_some() {
        let message =
            "is an embedding with a magnitude of DoRA for each token, where PEFT has one for each value";
        adapter.findings.push(Finding::new(Severity::Error, "foreign-method", &pair.path, message));
        return Ok(());
    }
    let base =
        base.ok_or_else(|| Error::from(Problem::LoneEmbedding).tensor(&pair.path).at(&adapter.path))?;
    adapter.modules.push(new(pair.path.clone(), ModuleKind::Embedding, a, b));
    if base.tied() {
        // The same delta, seen from the output: `(vocab, r) * (r, dim)`.
        let module = new(names::head_of(&pair.path), ModuleKind::Linear, pair.b.clone(), pair.a.clone());
        adapter.modules.push(module);
    }
    Ok(())
}

/// Adds a module for each expert of a stack.
fn experts(
    adapter: &mut Adapter,
    pair: &Pair,
    new: &dyn Fn(String, ModuleKind, crate::TensorRef, crate::TensorRef) -> Module,
) -> Result<()> {
    let (a, b) = (pair.a.info().shape.as_slice(), pair.b.info().shape.as_slice());
    // Before mlx-lm stacked them, the `A`s of the experts were stored one below another.
    let shapes = match (a, b) {
        (&[e, r, inputs], &[n, outputs, s]) if e == n && r == s => Some((e, r, inputs, outputs)),
        (&[rows, inputs], &[n, outputs, s]) if rows == n * s => Some((n, s, inputs, outputs)),
        _ => None,
    };
    let parts = pair.path.rsplit_once('.').and_then(|(parent, leaf)| Some((stack(parent)?, leaf)));
    let (Some((count, rank, inputs, outputs)), Some((parent, leaf))) = (shapes, parts) else {
        let needed = "(E, r, in) and (E, out, r), of experts in a `switch_mlp`";
        adapter.findings.push(pair.misshapen(needed));
        return Ok(());
    };
    if pair.magnitude.is_some() {
        let message = "has magnitudes of DoRA for stacked experts, which mlx-lm never writes";
        adapter.findings.push(Finding::new(Severity::Error, "shape", &pair.path, message));
        return Ok(());
    }
    // mlx-lm uses the usual words in every family.
    let name = names::single_names(parent);
    let leaf = names::projection(leaf).map_or(leaf, |own| name(own));
    let a = Factor::matrix(pair.a.clone(), count * rank, inputs);
    let b = Factor::matrix(pair.b.clone(), count * outputs, rank);
    for expert in 0..count {
        let a = a.clone().take_rows(expert * rank, rank, 1).to_tensor(vec![rank, inputs])?;
        let b = b.clone().take_rows(expert * outputs, outputs, 1).to_tensor(vec![outputs, rank])?;
        adapter.modules.push(new(format!("{parent}.experts.{expert}.{leaf}"), ModuleKind::Linear, a, b));
    }
    Ok(())
}

/// The module that contains the stack: `model.layers.0.mlp` for `model.layers.0.mlp.switch_mlp`.
fn stack(path: &str) -> Option<&str> {
    path.strip_suffix(".switch_mlp").or_else(|| path.strip_suffix(".experts"))
}

#[cfg(test)]
mod tests;
