//! `adapter_config.json`, made from what is written.
//!
//! What the adapter came with stays as far as it is true: each module must be named by PEFT's rules, and have the rank
//! and the scale that the configuration gives it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::super::{DraftOptions, Problem, most_common};
use super::methods;
use crate::adapter::targets::{Targets, unnamed};
use crate::adapter::{Adapter, AdapterConfig, Module, ModuleKind};
use crate::arch::names::{ROUTER, after_dots, ends, last, renamed_component};
use crate::{Error, Result};

/// The first version of PEFT that reads packed experts as they are written here; it is noted where nothing else tells.
const PACKS_SINCE: &str = "0.19.0";

/// Fields that take away some of the modules that `target_modules` names.
const EXCEPTIONS: &[&str] = &["exclude_modules", "layers_to_transform", "layers_pattern"];

/// The configuration of `adapter`.
///
/// # Errors
/// `ErrorKind::Inexpressible` for what PEFT cannot say.
pub(super) fn of(adapter: &Adapter, options: &DraftOptions<'_>) -> Result<Value> {
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
    set_targets(&mut config, adapter, options);
    let magnitudes = adapter.modules.iter().filter(|m| m.magnitude.is_some()).count();
    let made = adapter.config.raw.is_empty() || adapter.format == Adapter::IN_MEMORY;
    if made && adapter.modules.iter().any(Module::is_packed) {
        config.entry("peft_version").or_insert(PACKS_SINCE.into());
    }
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
    let lacks_rows = config.get("trainable_token_indices").is_none_or(Value::is_null);
    if !adapter.token_rows.is_empty() && lacks_rows {
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
        let (rank, scaling) = config.of_module(&module.key());
        let one = module.rank_of_one();
        let (own, said) = (module.scale(one), scaling.scale(one));
        let unknown = module.is_packed() && module.config_rank.is_none() && scaling == module.scaling;
        (rank == Some(one as f64) || unknown) && (own - said).abs() <= 1e-15 * own.abs()
    })
}

/// Names the modules that are written.
fn set_targets(config: &mut Map<String, Value>, adapter: &Adapter, options: &DraftOptions<'_>) {
    let modules = &adapter.modules;
    let parameters: Vec<String> = modules.iter().filter(|m| m.parameter.is_some()).map(Module::key).collect();
    let is_true = |config: &Map<String, Value>| {
        let said = |name: &str| !config.get(name).is_none_or(Value::is_null);
        (said("target_modules") || said("target_parameters"))
            && said("target_parameters") != parameters.is_empty()
            && AdapterConfig::from_json(&config.clone().into())
                .is_ok_and(|config| unnamed(&config, modules).is_empty())
    };
    if parameters.is_empty() && config.get("target_parameters").is_some_and(|named| !named.is_null()) {
        config.insert("target_parameters".into(), Value::Null);
    }
    if !parameters.is_empty() {
        // PEFT has no dropout inside a parameter.
        config.insert("lora_dropout".into(), json!(0.0));
    }
    if modules.is_empty() || is_true(config) {
        return;
    }
    if !parameters.is_empty() {
        config.insert("target_parameters".into(), parameters.clone().into());
        // Some adapters were trained on parameters only.
        let listed = config.get("target_modules").is_none_or(Value::is_null);
        if listed && modules.iter().all(|module| module.parameter.is_some()) {
            config.insert("target_modules".into(), json!([]));
        }
        if is_true(config) {
            return;
        }
    }
    EXCEPTIONS.iter().for_each(|name| {
        config.entry(*name).and_modify(|said| *said = Value::Null);
    });
    let plain = modules.iter().filter(|module| module.parameter.is_none());
    let paths: Vec<&str> = plain.map(|module| crate::adapter::parameters::layer_of(&module.path)).collect();
    config.insert("target_modules".into(), targets(&paths, options));
}

/// `target_modules` for layers at these paths: names, or an expression if a name would mean other layers too.
fn targets(paths: &[&str], options: &DraftOptions<'_>) -> Value {
    let names = names_of(paths.iter().copied(), options);
    let known: HashSet<&str> = paths.iter().copied().collect();
    let others: Vec<&str> = layers_of(options).filter(|path| !known.contains(path)).collect();
    let of = |names: &Value| -> Option<bool> {
        let config: Map<String, Value> =
            [("target_modules".to_string(), names.clone())].into_iter().collect();
        let config = AdapterConfig::from_json(&config.into()).ok()?;
        let targets = Targets::of(&config);
        Some(others.iter().any(|path| targets.layer(path, ModuleKind::Linear)))
    };
    let names = Value::from(names);
    // A number alone is the end of many paths.
    let vague = paths.iter().any(|path| path.chars().all(|c| c.is_ascii_digit()));
    if !vague && of(&names) != Some(true) {
        return names;
    }
    let whole = Value::from(paths.to_vec());
    if !vague && of(&whole) != Some(true) {
        return whole;
    }
    let expressions: Vec<String> = paths.iter().map(|path| regex_escaped(path)).collect();
    expressions.join("|").into()
}

/// The layers of the base, as far as its weights tell.
fn layers_of<'a>(options: &DraftOptions<'a>) -> impl Iterator<Item = &'a str> + use<'a> {
    let tensors = options.base.map_or(&[][..], |base| base.tensors.as_slice());
    let weights = tensors.iter().filter(|info| info.shape.len() >= 2);
    weights.filter_map(|info| info.name.strip_suffix(".weight"))
}

/// Sets `r` and `lora_alpha` to the values of most modules, and patterns for the others.
fn set_ranks(config: &mut Map<String, Value>, modules: &[Module]) -> Result<()> {
    let unknown = modules.iter().find(|module| module.is_packed() && module.config_rank.is_none());
    if let Some(packed) = unknown {
        return Err(Error::from(Problem::PackedRank).tensor(&packed.path));
    }
    let rank = |module: &Module| module.rank_of_one() as f64;
    let alpha = |module: &Module| number(module.scale(module.rank_of_one()) * rank(module));
    let r = most_common(modules.iter().map(rank)).unwrap_or(8.0);
    let common = most_common(modules.iter().filter(|m| rank(m) == r).map(alpha)).unwrap_or(8.0);
    let keys: Vec<String> = modules.iter().map(Module::key).collect();
    let mut rank_pattern = Map::new();
    let mut alpha_pattern = Map::new();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for end in keys.iter().flat_map(|key| ends(key)) {
        *counts.entry(end).or_default() += 1;
    }
    for (module, path) in modules.iter().zip(&keys) {
        // The path without its first component means the same to every PEFT, unless another path ends with it too.
        let end = after_dots(path).next().filter(|end| counts.get(end) == Some(&1));
        let key = end.map_or_else(|| format!("^{}", expression(path)), expression);
        if rank(module) != r {
            rank_pattern.insert(key.clone(), module.rank_of_one().into());
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

/// The expression for the end of a path, in every version of transformers: 5 renamed some components, and PEFT then
/// wraps a router's weight instead of the router.
fn expression(path: &str) -> String {
    let old = |component: &str| renamed_component(component).map(|new| format!("({component}|{new})"));
    let components =
        path.split('.').map(|component| old(component).unwrap_or_else(|| regex_escaped(component)));
    let mut text = components.collect::<Vec<String>>().join("\\.");
    if last(path) == ROUTER {
        text.push_str("(\\.weight)?");
    }
    text
}

fn regex_escaped(path: &str) -> String {
    path.chars()
        .flat_map(|c| (!(c.is_alphanumeric() || c == '_')).then_some('\\').into_iter().chain([c]))
        .collect()
}

/// The names by which PEFT finds modules: `q_proj` if every layer has one among `paths`, else whole paths.
fn names_of<'a>(paths: impl Iterator<Item = &'a str> + Clone, options: &DraftOptions<'_>) -> Vec<String> {
    let layer = |path: &str| path.split('.').find_map(|c| c.parse::<usize>().ok());
    let leaf = |path: &str| last(path).to_string();
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
        let number = leaf.chars().all(|c| c.is_ascii_digit());
        if everywhere(&leaf) && !number { leaf } else { path.to_string() }
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
        let of_tokens = adapter.token_rows.iter().any(|rows| rows.path == path);
        (!own && !of_tokens).then_some(path)
    });
    let names = names_of(paths, options);
    if names.is_empty() { Value::Null } else { names.into() }
}
