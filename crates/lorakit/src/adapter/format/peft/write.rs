//! Writing a folder for PEFT.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::super::{Can, Draft, DraftOptions, Mapped, Problem, Scaled, most_common, ranks};
use super::methods;
use crate::adapter::{Adapter, AdapterConfig, Module, ModuleKind, carried};
use crate::plan::{Container, Content, OutputTensor, SideFile};
use crate::{Error, Result};

/// Every part has a place in PEFT's files, so only the dtype may change.
pub(super) fn draft(adapter: &Adapter, options: &DraftOptions<'_>) -> Result<Draft> {
    let everything =
        Can { dora: true, bias: true, embeddings: true, convolutions: true, saved: true, token_rows: true };
    everything.hold(adapter, "PEFT")?;
    let mut tensors = Vec::new();
    let mut mapped = Vec::new();
    for module in &adapter.modules {
        let name = format!("base_model.model.{}", module.path);
        tensors.extend(of_module(module, &name, options));
        mapped.push(Mapped { module: module.path.clone(), name, how: Vec::new() });
    }
    let paths: HashSet<&str> = adapter.modules.iter().map(|module| module.path.as_str()).collect();
    let mark = methods::written_mark(adapter);
    for saved in &adapter.saved {
        // Next to factors, the layer's own parameters are one level deeper.
        let (path, leaf) = saved.name.rsplit_once('.').unwrap_or(("", &saved.name));
        let name = if let Some(mark) = mark.filter(|_| adapter.token_rows.is_empty()) {
            format!("base_model.model.{path}.{mark}.{leaf}")
        } else if paths.contains(path) || mark.is_some() {
            format!("base_model.model.{path}.base_layer.{leaf}")
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
    let config = config(adapter, options)?;
    let text = serde_json::to_vec_pretty(&config).unwrap_or_default();
    let side_file = SideFile { name: "adapter_config.json".into(), content: Content::Bytes(text) };
    Ok(Draft {
        stem: Some("adapter_model"),
        container: Container::Safetensors { stem: "adapter_model", metadata, max_shard: u64::MAX },
        tensors,
        side_files: vec![side_file],
        mapped,
    })
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

/// `adapter_config.json`: the configuration that the adapter came with, as far as it is still true.
fn config(adapter: &Adapter, options: &DraftOptions<'_>) -> Result<Value> {
    let mut config = methods::written_fields(adapter);
    if methods::written_mark(adapter).is_some() {
        // It stays as it was: nothing in it depends on factors.
        return Ok(config.into());
    }
    let mut default = |name: &str, value: Value| {
        config.entry(name).or_insert(value);
    };
    default("peft_type", "LORA".into());
    default("task_type", Value::Null);
    let base = adapter.config.base_model.clone().or_else(|| Some(options.base?.name()));
    default("base_model_name_or_path", base.into());
    default("bias", "none".into());
    default("fan_in_fan_out", false.into());
    default("inference_mode", true.into());
    default("init_lora_weights", true.into());
    default("lora_dropout", json!(0.0));
    default("modules_to_save", saved_modules(adapter, options));
    if !holds(&config, adapter) {
        set_ranks(&mut config, &adapter.modules)?;
    }
    let has = |name: &str, config: &Map<String, Value>| !config.get(name).is_none_or(Value::is_null);
    if !has("target_modules", &config) && !has("target_parameters", &config) {
        let paths = adapter.modules.iter().map(|module| module.path.as_str());
        config.insert("target_modules".into(), names_of(paths, options).into());
    }
    let magnitudes = adapter.modules.iter().filter(|m| m.magnitude.is_some()).count();
    let made = adapter.config.raw.is_empty() || adapter.format == Adapter::IN_MEMORY;
    if made && magnitudes > 0 && magnitudes < adapter.modules.len() {
        let problem = Problem::PartialDora { count: magnitudes, modules: adapter.modules.len() };
        return Err(Error::from(problem).at(&adapter.path));
    }
    for (name, there) in
        [("use_dora", magnitudes > 0), ("lora_bias", adapter.modules.iter().any(|m| m.bias.is_some()))]
    {
        if there {
            config.insert(name.into(), true.into());
        }
    }
    if !adapter.token_rows.is_empty() && !has("trainable_token_indices", &config) {
        let rows: Map<String, Value> =
            adapter.token_rows.iter().map(|t| (t.path.clone(), json!(t.rows))).collect();
        config.insert("trainable_token_indices".into(), rows.into());
    }
    // Sorted, as PEFT writes it.
    let sorted: BTreeMap<String, Value> = config.into_iter().collect();
    Ok(sorted.into_iter().collect::<Map<String, Value>>().into())
}

/// Whether `config` gives every module its rank and its scale.
fn holds(config: &Map<String, Value>, adapter: &Adapter) -> bool {
    let Ok(config) = AdapterConfig::from_json(&config.clone().into()) else { return false };
    if config.r.is_none() || config.alpha.is_none() {
        return false;
    }
    adapter.modules.iter().all(|module| {
        let (rank, scaling) = config.of_module(&module.path);
        // How a reader scales packed experts depends on their number, which has not changed.
        if module.is_packed() {
            scaling == module.scaling && rank == module.config_rank
        } else {
            let (own, said) = (module.scale(module.rank()), scaling.scale(module.rank()));
            rank == Some(module.rank() as f64) && (own - said).abs() <= 1e-15 * own.abs()
        }
    })
}

/// Sets `r` and `lora_alpha` to the values of most modules, and patterns for the others.
fn set_ranks(config: &mut Map<String, Value>, modules: &[Module]) -> Result<()> {
    if let Some(packed) = modules.iter().find(|module| module.is_packed()) {
        return Err(Error::from(Problem::PackedRank).tensor(&packed.path));
    }
    let alpha = |module: &Module| number(module.scale(module.rank()) * module.rank() as f64);
    let r = most_common(ranks(modules)).unwrap_or(8.0);
    let common = most_common(modules.iter().filter(|m| m.rank() as f64 == r).map(alpha)).unwrap_or(8.0);
    let mut rank_pattern = Map::new();
    let mut alpha_pattern = Map::new();
    let mut ends: HashMap<&str, usize> = HashMap::new();
    for end in modules.iter().flat_map(|module| ends_of(&module.path)) {
        *ends.entry(end).or_default() += 1;
    }
    for module in modules {
        // The path without its first component means the same to every PEFT, unless another path ends with it too.
        let end = ends_of(&module.path).nth(1).filter(|end| ends.get(end) == Some(&1));
        let key = end.map_or_else(|| format!("^{}", regex_escaped(&module.path)), regex_escaped);
        if module.rank() as f64 != r {
            rank_pattern.insert(key.clone(), module.rank().into());
        }
        if alpha(module) != common {
            alpha_pattern.insert(key, value(alpha(module)));
        }
    }
    config.insert("r".into(), (r as u64).into());
    config.insert("lora_alpha".into(), value(common));
    config.insert("use_rslora".into(), false.into());
    config.insert("rank_pattern".into(), rank_pattern.into());
    config.insert("alpha_pattern".into(), alpha_pattern.into());
    Ok(())
}

/// The path, and the rest of it after each dot.
fn ends_of(path: &str) -> impl Iterator<Item = &str> {
    std::iter::once(path).chain(path.match_indices('.').map(|(dot, _)| &path[dot + 1..]))
}

/// The number without its rounding error: 15.999999999999998 becomes 16.
fn number(value: f64) -> f64 {
    let nearest = value.round();
    if (value - nearest).abs() <= 4.0 * f64::EPSILON * nearest.abs() { nearest } else { value }
}

/// An alpha as JSON, without its rounding error.
pub(in crate::adapter::format) fn alpha_value(alpha: f64) -> Value {
    value(number(alpha))
}

/// A number as JSON, as an integer if it is whole: many readers expect `lora_alpha` to be an integer.
fn value(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 { (number as i64).into() } else { number.into() }
}

fn regex_escaped(path: &str) -> String {
    path.chars()
        .flat_map(|c| (!(c.is_alphanumeric() || c == '_')).then_some('\\').into_iter().chain([c]))
        .collect()
}

/// The names by which PEFT finds modules: `q_proj` if every layer has one among `paths`, else whole paths.
fn names_of<'a>(paths: impl Iterator<Item = &'a str> + Clone, options: &DraftOptions<'_>) -> Vec<String> {
    let layer = |path: &str| path.split('.').find_map(|c| c.parse::<usize>().ok());
    let leaf = |path: &str| path.rsplit('.').next().unwrap_or_default().to_string();
    let last = paths.clone().filter_map(layer).max().map_or(0, |last| last + 1);
    let layers = options.base.and_then(|base| base.layers().ok()).unwrap_or(last);
    let mut of_leaf: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for path in paths.clone() {
        let layers = of_leaf.entry(leaf(path)).or_default();
        layers.extend(layer(path));
    }
    let everywhere = |leaf: &String| of_leaf.get(leaf).is_some_and(|l| l.is_empty() || l.len() == layers);
    let names = paths.map(|path| {
        let leaf = leaf(path);
        if everywhere(&leaf) { leaf } else { path.to_string() }
    });
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The modules that are saved whole, without biases if the configuration says that these are saved.
fn saved_modules(adapter: &Adapter, options: &DraftOptions<'_>) -> Value {
    let biases = adapter.config.raw.get("bias").and_then(Value::as_str).is_some_and(|bias| bias != "none");
    let names: HashSet<&str> = adapter.saved.iter().map(|saved| saved.name.as_str()).collect();
    let paths = adapter.saved.iter().filter_map(|s| {
        let (path, leaf) = s.name.rsplit_once('.').unwrap_or((&s.name, ""));
        let own = biases && leaf == "bias" && !names.contains(format!("{path}.weight").as_str());
        (!own).then_some(path)
    });
    let names = names_of(paths, options);
    if names.is_empty() { Value::Null } else { names.into() }
}
