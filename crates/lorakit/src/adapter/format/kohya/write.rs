//! Writing kohya's files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lorakit_quant::{codec, encoder};
use lorakit_tensor::{DType, TensorInfo};

use super::super::layers::{VERSION, unknown};
use super::super::on_layers::by_layer;
use super::super::{Can, Draft, DraftOptions, Mapped, Problem, Scaled, most_common, ranks};
use super::hash;
use crate::adapter::{Adapter, Module, carried};
use crate::arch::diffusion::{self, DiffusionModel, Named, Spelling};
use crate::plan::{Container, OutputTensor, Recipe};
use crate::tensor::Factor;
use crate::{Error, Result, TensorRef};

/// Writes a module for each layer of the original model, with its alpha. Nothing is multiplied, unless layers that
/// the original model computes as one have different scales.
pub(super) fn draft(adapter: &Adapter, options: &DraftOptions<'_>) -> Result<Draft> {
    Can { dora: true, bias: true, convolutions: true, deltas: true, ..Can::default() }
        .hold(adapter, "kohya's format")?;
    let model = model_of(adapter)?;
    let mut tensors = Vec::new();
    let mut mapped = Vec::new();
    for on in by_layer(model, adapter)? {
        let (layer, at) = (on.layer, |e: Error| e.at(&adapter.path));
        let how = match on.modules.len() {
            1 if layer.swapped => vec!["halves of B exchanged".into()],
            1 => Vec::new(),
            n => vec![format!("{} of {n} layers joined", on.modules.iter().flatten().count())],
        };
        for part in on.modules.iter().flatten() {
            mapped.push(Mapped { module: part.path.clone(), name: layer.kohya.clone(), how: how.clone() });
        }
        let [weight, bias] = on.deltas().map_err(at)?;
        if let Some(module) = on.module(&layer.kohya).map_err(at)? {
            tensors.extend(of_module(&module, &layer.kohya, options)?);
            // A bias has no alpha.
            let times = module.scale(module.rank());
            let own = module.bias.map(|tensor| Scaled { tensor, times });
            tensors.extend(own.map(|own| own.output(&format!("{}.diff_b", layer.kohya), options.dtype)));
        }
        let plain = |tensor: TensorRef, part: &str| {
            Scaled::plain(tensor).output(&format!("{}.{part}", layer.kohya), options.dtype)
        };
        tensors.extend(weight.map(|tensor| plain(tensor, "diff")));
        tensors.extend(bias.map(|tensor| plain(tensor, "diff_b")));
    }
    // In the order of the safetensors library, on which the hashes depend.
    tensors.sort_by(|x, y| {
        let key = |t: &OutputTensor| (alignment(t.info.dtype), t.info.name.clone());
        key(x).cmp(&key(y))
    });
    let metadata = metadata(adapter, model);
    Ok(Draft {
        stem: None,
        container: Container::Safetensors { stem: "adapter", metadata, max_shard: u64::MAX },
        tensors,
        side_files: Vec::new(),
        mapped,
    })
}

/// The model to which the adapter's modules belong.
fn model_of(adapter: &Adapter) -> Result<&'static DiffusionModel> {
    let modules = adapter.modules.iter().map(|module| module.path.as_str());
    let deltas = adapter.deltas.iter().map(|delta| delta.path.as_str());
    let names: Vec<Named<'_>> = modules.chain(deltas).map(Named::from).collect();
    let known = diffusion::models_of(&names, Spelling::Diffusers);
    let read = |model: &&&DiffusionModel| Some(model.title.as_str()) == adapter.image_model;
    if let Some(model) = known.iter().find(read) {
        return Ok(*model);
    }
    let version = adapter.metadata.get(VERSION).map(String::as_str);
    if version.is_none() && !known.is_empty() {
        return diffusion::meant_by(&known, &names).map_err(|models| {
            let models = models.iter().map(|model| model.title.as_str()).collect();
            Error::from(Problem::Alike { models }).at(&adapter.path)
        });
    }
    diffusion::model_of(&names, Spelling::Diffusers, version).map_err(|(nearest, lacking)| {
        unknown(nearest, Spelling::Diffusers, names.len(), &lacking).at(&adapter.path)
    })
}

fn of_module(module: &Module, name: &str, options: &DraftOptions<'_>) -> Result<Vec<OutputTensor>> {
    let plain = |tensor: &TensorRef, part: &str| {
        Scaled::plain(tensor.clone()).output(&format!("{name}.{part}"), options.dtype)
    };
    let (down, up) = (plain(&module.a, "lora_down.weight"), plain(&module.b, "lora_up.weight"));
    let rank = module.rank();
    let alpha = alpha(&format!("{name}.alpha"), module.scale(rank) * rank as f64, down.info.dtype);
    let mut tensors = vec![down, up, alpha];
    if let Some(magnitude) = &module.magnitude {
        let out = magnitude.info().elements() as usize;
        let mut shape = vec![out];
        shape.resize(module.a.info().shape.len(), 1);
        let magnitude = Factor::matrix(magnitude.clone(), out, 1).to_tensor(shape)?;
        tensors.push(plain(&magnitude, "dora_scale"));
    }
    Ok(tensors)
}

/// A tensor without dimensions, of `dtype` if that can hold the value, else of F32.
fn alpha(name: &str, value: f64, dtype: DType) -> OutputTensor {
    let stored = encoded(value, dtype).filter(|(_, kept)| (kept - value).abs() <= 1e-12 * value.abs());
    let (dtype, bytes) = match stored {
        Some((bytes, _)) => (dtype, bytes),
        None => (DType::F32, (value as f32).to_le_bytes().to_vec()),
    };
    let info = TensorInfo { name: name.to_string(), dtype, shape: Vec::new() };
    OutputTensor { info, recipe: Recipe::Bytes(Arc::from(bytes)) }
}

/// `value` stored as `dtype`, and the value that is read back.
fn encoded(value: f64, dtype: DType) -> Option<(Vec<u8>, f64)> {
    if dtype.block().elements != 1 {
        return None;
    }
    let (encoder, decoder) = (encoder(dtype)?, codec(dtype)?);
    let mut bytes = vec![0; dtype.block().bytes];
    encoder.encode(&[value as f32], &mut bytes);
    let mut kept = [0.0];
    decoder.decode(&bytes, &mut kept);
    Some((bytes, f64::from(kept[0])))
}

/// The position of a dtype in files of the safetensors library: from the widest to the narrowest.
fn alignment(dtype: DType) -> usize {
    let order = [DType::F64, DType::F32, DType::BF16, DType::F16];
    order.iter().position(|d| *d == dtype).unwrap_or(order.len())
}

/// The metadata that the adapter came with, with the entries that sd-scripts needs and places for the hashes.
fn metadata(adapter: &Adapter, model: &DiffusionModel) -> BTreeMap<String, String> {
    let mut metadata = carried::header(adapter);
    if let Some(config) = carried::config_text(adapter) {
        metadata.insert(carried::CONFIG_KEY.into(), config);
    }
    if adapter.modules.iter().any(|module| module.expanded.is_some()) {
        // The factors are now those of a plain LoRA.
        metadata.remove("ss_network_module");
        metadata.remove("ss_network_args");
        metadata.remove("ss_network_dim");
        metadata.remove("ss_network_alpha");
    }
    let number = |value: Option<f64>| value.map_or("None".into(), |value| value.to_string());
    let alphas = adapter.modules.iter().map(|m| m.scale(m.rank()) * m.rank() as f64);
    let mixed = ranks(&adapter.modules).map(f64::to_bits).collect::<BTreeSet<_>>().len() > 1;
    let dim = if mixed { "Dynamic".into() } else { number(most_common(ranks(&adapter.modules))) };
    let alpha = if mixed { dim.clone() } else { number(most_common(alphas)) };
    let least = [
        ("ss_v2", "False"),
        (VERSION, &model.version),
        ("ss_network_module", &model.trainer),
        ("ss_network_dim", &dim),
        ("ss_network_alpha", &alpha),
        ("ss_network_args", "{}"),
    ];
    for (name, value) in least {
        metadata.entry(name.into()).or_insert_with(|| value.to_string());
    }
    hash::reserve(&mut metadata);
    metadata
}
