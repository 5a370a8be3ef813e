//! Writing a folder for PEFT.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use lorakit_tensor::json;

use super::super::{Can, Draft, DraftOptions, Mapped, Scaled};
use super::{config, methods};
use crate::Result;
use crate::adapter::parameters::path_in_file;
use crate::adapter::{Adapter, Experts, Module, ModuleKind, carried};
use crate::arch::names;
use crate::plan::{ADAPTER_CONFIG, Container, Content, OutputTensor, SideFile};

/// Every part has a place in PEFT's files, so only the dtype may change.
pub(super) fn draft(adapter: &Adapter, options: &DraftOptions<'_>) -> Result<Draft> {
    let everything = Can {
        dora: true,
        bias: true,
        embeddings: true,
        convolutions: true,
        saved: true,
        token_rows: true,
        ..Can::default()
    };
    everything.hold(adapter, "PEFT")?;
    let adapter = &*in_order_of_peft(adapter)?;
    let mut tensors = Vec::new();
    let mut mapped = Vec::new();
    for (module, path) in adapter.modules.iter().zip(paths(&adapter.modules)) {
        let name = format!("base_model.model.{path}");
        tensors.extend(of_module(module, &name, options));
        mapped.push(Mapped { module: module.path.clone(), name, how: Vec::new() });
    }
    let paths: HashSet<&str> = adapter.modules.iter().map(|module| module.path.as_str()).collect();
    let mark = methods::written_mark(adapter);
    let tokens: HashSet<&str> = adapter.token_rows.iter().map(|rows| rows.path.as_str()).collect();
    for saved in &adapter.saved {
        // Next to factors or token rows, the layer's own parameters are deeper.
        let (path, leaf) = saved.name.rsplit_once('.').unwrap_or(("", &saved.name));
        let name = if let Some(mark) = mark.filter(|_| adapter.token_rows.is_empty()) {
            format!("base_model.model.{path}.{mark}.{leaf}")
        } else if paths.contains(path) || mark.is_some() {
            format!("base_model.model.{path}.base_layer.{leaf}")
        } else if tokens.contains(path) {
            format!("base_model.model.{path}.token_adapter.base_layer.{leaf}")
        } else {
            format!("base_model.model.{}", saved.name)
        };
        tensors.push(OutputTensor::copy(saved.tensor.clone()).named(&name));
    }
    for rows in &adapter.token_rows {
        let mark = mark.unwrap_or("token_adapter.trainable_tokens_delta");
        let name = format!("base_model.model.{}.{mark}", rows.path);
        tensors.push(OutputTensor::copy(rows.tensor.clone()).named(&name));
    }
    let mut metadata = carried::header(adapter);
    metadata.insert("format".into(), "pt".into());
    let config = config::of(adapter, options)?;
    let text = json::pretty(&config);
    let side_file = SideFile { name: ADAPTER_CONFIG.into(), content: Content::bytes(text) };
    Ok(Draft {
        stem: Some("adapter_model"),
        container: Container::Safetensors { stem: "adapter_model", metadata, max_shard: u64::MAX },
        tensors,
        side_files: vec![side_file],
        mapped,
    })
}

/// The adapter with experts as PEFT packs them.
fn in_order_of_peft(adapter: &Adapter) -> Result<Cow<'_, Adapter>> {
    let of_one = |module: &Module| matches!(module.experts, Some(Experts::One { .. }));
    let apart = adapter.modules.iter().any(of_one);
    if adapter.config.has_expert_major() && adapter.modules.iter().any(Module::is_packed) {
        return Ok(Cow::Owned(adapter.clone().split()?.packed()?));
    }
    if apart { Ok(Cow::Owned(adapter.clone().packed()?)) } else { Ok(Cow::Borrowed(adapter)) }
}

/// The path of each module in the file: wrappers of parameters of one layer are nested in the order in which its class
/// defines these.
fn paths(modules: &[Module]) -> Vec<String> {
    let mut of_layer: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for module in modules {
        if let (Some(layer), Some(parameter)) = (module.layer(), &module.parameter) {
            of_layer.entry(layer).or_default().push(parameter);
        }
    }
    of_layer.values_mut().for_each(|parameters| parameters.sort_by_key(|name| names::place_in_class(name)));
    let path = |module: &Module| {
        let wrapped = module.layer().zip(module.parameter.as_deref());
        let Some((layer, parameter)) = wrapped else { return module.path.clone() };
        let all = of_layer.get(&layer).map_or(&[][..], Vec::as_slice);
        let place = all.iter().position(|name| *name == parameter).unwrap_or_default();
        path_in_file(&layer, place, all.len().max(1))
    };
    modules.iter().map(path).collect()
}

fn of_module(module: &Module, name: &str, options: &DraftOptions<'_>) -> Vec<OutputTensor> {
    let (a, b) = match module.kind {
        ModuleKind::Linear => ("lora_A.weight", "lora_B.weight"),
        ModuleKind::Embedding => ("lora_embedding_A", "lora_embedding_B"),
    };
    let parts = [
        (Some(&module.a), a),
        (Some(&module.b), b),
        (module.bias.as_ref(), "lora_B.bias"),
        (module.magnitude.as_ref(), "lora_magnitude_vector"),
        (module.base_weight.as_ref(), "base_layer.weight"),
    ];
    let output = |(tensor, part): &(Option<&crate::TensorRef>, &str)| {
        let own = matches!(*part, "base_layer.weight");
        let dtype = options.dtype.filter(|_| !own);
        Some(Scaled::plain((*tensor)?.clone()).output(&format!("{name}.{part}"), dtype))
    };
    parts.iter().filter_map(output).collect()
}
