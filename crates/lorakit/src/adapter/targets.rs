//! Which modules PEFT finds by a configuration: `target_modules`, `target_parameters`, and what takes some away again.
//!
//! PEFT makes a wrapper for each module and parameter that these name, and then loads the tensors that belong to a
//! wrapper. It says nothing of the other tensors (`check_target_module_exists` and `_inject_parameters` of 0.21).

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use fancy_regex::Regex;
use serde_json::{Map, Value};

use super::parameters::{Parameters, layer_of};
use super::{Adapter, AdapterConfig, Module, ModuleKind};
use crate::arch::names::{ends, is_head, place_in_class};

/// What a configuration names.
pub(crate) struct Targets<'a> {
    modules: Option<Names<'a>>,
    /// PEFT knows the modules of some families if the configuration names none.
    guessed: bool,
    excluded: Option<Names<'a>>,
    saved: Vec<Regex>,
    layers: Option<HashSet<u64>>,
    /// Where the number of a layer is in a path.
    number: Vec<Regex>,
    parameters: Parameters<'a>,
}

/// Names for ends of paths, or an expression for whole paths.
enum Names<'a> {
    Ends(HashSet<&'a str>),
    /// With a mark once a match was given up: it may take time without end, and is not tried again.
    Expression(Box<Regex>, OnceLock<()>),
    /// An expression that Python may know.
    Unknown,
    AllLinear,
}

impl<'a> Names<'a> {
    fn of(value: &'a Value) -> Option<Self> {
        match value {
            Value::Array(items) => Some(Names::Ends(items.iter().filter_map(Value::as_str).collect())),
            Value::String(all) if all.eq_ignore_ascii_case("all-linear") => Some(Names::AllLinear),
            Value::String(text) => Some(
                Regex::new(&format!("^(?:{text})$"))
                    .map_or(Names::Unknown, |regex| Names::Expression(Box::new(regex), OnceLock::new())),
            ),
            _ => None,
        }
    }

    fn name(&self, path: &str, kind: ModuleKind) -> bool {
        match self {
            Names::Ends(names) => ends(path).any(|end| names.contains(end)),
            Names::Expression(regex, given_up) => {
                given_up.get().is_some()
                    || regex.is_match(path).unwrap_or_else(|_| {
                        given_up.get_or_init(|| ());
                        true
                    })
            }
            Names::Unknown => true,
            Names::AllLinear => kind == ModuleKind::Linear && !is_head(path),
        }
    }
}

impl<'a> Targets<'a> {
    /// The targets of `raw`, which is the file of `config`.
    pub(crate) fn of(config: &'a AdapterConfig) -> Self {
        let raw = &config.raw;
        let get = |name: &str| raw.get(name).unwrap_or(&Value::Null);
        let modules = Names::of(get("target_modules"));
        let saved = config.modules_to_save.iter();
        let saved = saved.filter_map(|m| Regex::new(&format!(r"^(?:|.*\.)(?:{m})(?:$|\..*)")).ok()).collect();
        let layers = match get("layers_to_transform") {
            Value::Number(layer) => layer.as_u64().map(|layer| HashSet::from([layer])),
            Value::Array(layers) if !layers.is_empty() => {
                Some(layers.iter().filter_map(Value::as_u64).collect())
            }
            _ => None,
        };
        Targets {
            guessed: modules.is_none() && config.target_parameters.is_empty(),
            modules,
            excluded: Names::of(get("exclude_modules")).filter(|names| match names {
                Names::Ends(names) => !names.is_empty(),
                _ => true,
            }),
            saved,
            layers,
            number: numbers(raw),
            parameters: Parameters::new(&config.target_parameters),
        }
    }

    /// Whether PEFT wraps the layer at `path`.
    pub(crate) fn layer(&self, path: &str, kind: ModuleKind) -> bool {
        let path = layer_of(path);
        if self.excluded.as_ref().is_some_and(|names| names.name(path, kind))
            || self.saved.iter().any(|regex| regex.is_match(path).unwrap_or(false))
        {
            return false;
        }
        let Some(names) = &self.modules else { return self.guessed };
        if !names.name(path, kind) {
            return false;
        }
        let (Names::Ends(ends), Some(layers)) = (names, &self.layers) else { return true };
        if ends.contains(path) {
            return true;
        }
        let number = self.number.iter().find_map(|regex| regex.captures(path).ok().flatten());
        let number = number.and_then(|found| found.get(1)?.as_str().parse::<u64>().ok());
        number.is_some_and(|layer| layers.contains(&layer))
    }

    /// Whether PEFT wraps exactly the parameters `own` of the layer at `path` among those of its class that are known.
    fn parameters(&self, path: &str, own: &[&str]) -> bool {
        let mut named = self.parameters.of(path);
        // A name without a path means other layers as well, which may not have such a parameter.
        named.retain(|name| own.contains(name) || place_in_class(name) < place_in_class(""));
        let named: HashSet<&str> = named.into_iter().collect();
        own.iter().all(|name| named.contains(name)) && named.len() == own.len()
    }
}

/// Expressions that find the number of a layer in a path, as PEFT makes them from `layers_pattern`.
fn numbers(raw: &Map<String, Value>) -> Vec<Regex> {
    let patterns: Vec<&str> = match raw.get("layers_pattern") {
        Some(Value::String(pattern)) if !pattern.is_empty() => vec![pattern],
        Some(Value::Array(patterns)) => patterns.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if patterns.is_empty() {
        return Regex::new(r"^.*?\.[^.]*\.(\d+)\.").into_iter().collect();
    }
    let expression = |pattern: &&str| Regex::new(&format!(r"^(?:|.*?\.)(?:{pattern})\.(\d+)\.")).ok();
    patterns.iter().filter_map(expression).collect()
}

impl Adapter {
    /// The modules that PEFT would not load: those that the configuration does not name, and parameters of a layer of
    /// which it names others.
    pub(crate) fn unnamed(&self) -> Vec<&Module> {
        unnamed(&self.config, &self.modules)
    }
}

/// [`Adapter::unnamed`], for another configuration.
pub(crate) fn unnamed<'m>(config: &AdapterConfig, modules: &'m [Module]) -> Vec<&'m Module> {
    let targets = Targets::of(config);
    let mut of_layer: HashMap<String, HashSet<&str>> = HashMap::new();
    for module in modules {
        if let (Some(layer), Some(parameter)) = (module.layer(), &module.parameter) {
            of_layer.entry(layer).or_default().insert(parameter);
        }
    }
    let wrong: HashSet<&String> = of_layer
        .iter()
        .filter(|(layer, own)| !targets.parameters(layer, &own.iter().copied().collect::<Vec<_>>()))
        .map(|(layer, _)| layer)
        .collect();
    let lost = |module: &&Module| match module.layer() {
        None => !targets.layer(&module.path, module.kind),
        // A layer that is wrapped itself has no parameters to wrap.
        Some(layer) => {
            wrong.contains(&layer) || targets.layer(&layer, ModuleKind::Linear) && !targets.guessed
        }
    };
    modules.iter().filter(lost).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::adapter::Scaling;
    use crate::tensor::tests::tensor;

    fn named(config: Value, path: &str) -> bool {
        Targets::of(&AdapterConfig::from_json(&config).unwrap()).layer(path, ModuleKind::Linear)
    }

    /// Each as `check_target_module_exists` of PEFT 0.21.2 decides.
    #[test]
    fn layers_are_named_as_peft_names_them() {
        let path = "model.layers.3.self_attn.q_proj";
        for (config, expected) in [
            (json!({"target_modules": ["q_proj"]}), true),
            (json!({"target_modules": ["proj"]}), false),
            (json!({"target_modules": ["layers.3.self_attn.q_proj"]}), true),
            (json!({"target_modules": [path]}), true),
            (json!({"target_modules": r".*\.q_proj"}), true),
            (json!({"target_modules": "q_proj"}), false),
            (json!({"target_modules": "all-linear"}), true),
            (json!({"target_modules": []}), false),
            (json!({"target_modules": null, "target_parameters": ["x"]}), false),
            (json!({"target_modules": null}), true),
            (json!({"target_modules": ["q_proj"], "exclude_modules": ["layers.3.self_attn.q_proj"]}), false),
            (json!({"target_modules": ["q_proj"], "exclude_modules": "q_proj"}), true),
            (json!({"target_modules": ["q_proj"], "exclude_modules": []}), true),
            (json!({"target_modules": ["q_proj"], "modules_to_save": ["self_attn"]}), false),
            (json!({"target_modules": ["q_proj"], "modules_to_save": ["attn"]}), true),
            (json!({"target_modules": ["q_proj"], "layers_to_transform": 3}), true),
            (json!({"target_modules": ["q_proj"], "layers_to_transform": [1, 2]}), false),
            (json!({"target_modules": [path], "layers_to_transform": [1, 2]}), true),
            (
                json!({"target_modules": ["q_proj"], "layers_to_transform": [3], "layers_pattern": "layers"}),
                true,
            ),
            (
                json!({"target_modules": ["q_proj"], "layers_to_transform": [3], "layers_pattern": ["h"]}),
                false,
            ),
        ] {
            assert_eq!(named(config.clone(), path), expected, "{config}");
        }
        assert!(!named(json!({"target_modules": "all-linear"}), "lm_head"));
        assert!(named(json!({"target_modules": ["attn"]}), "h.0.attn.base_layer.out_proj"));
        assert!(!named(json!({"target_modules": ["out_proj"]}), "h.0.attn.base_layer.out_proj"));
    }

    #[test]
    fn parameters_are_named_only_all_together() {
        let module = |path: &str, parameter: &str| Module {
            parameter: Some(parameter.into()),
            ..Module::new(
                path,
                ModuleKind::Linear,
                tensor("a", &[1, 1], &[1.0]),
                tensor("b", &[1, 1], &[1.0]),
                Scaling::Fixed(1.0),
            )
        };
        let lost = |parameters: Value, modules: Value| {
            let both = [
                module("m.experts.gate_up_proj", "gate_up_proj"),
                module("m.experts.down_proj", "down_proj"),
            ];
            let config = json!({"target_modules": modules, "target_parameters": parameters});
            unnamed(&AdapterConfig::from_json(&config).unwrap(), &both).len()
        };
        assert_eq!(lost(json!(["gate_up_proj", "down_proj"]), json!(["q_proj"])), 0);
        assert_eq!(lost(json!(["m.experts.gate_up_proj", "experts.down_proj"]), json!([])), 0);
        // The one that is there would be loaded in the place of the other.
        assert_eq!(lost(json!(["experts.down_proj"]), json!([])), 2);
        assert_eq!(lost(json!(["gate_up_proj", "down_proj", "gate_up_proj_bias"]), json!([])), 2);
        assert_eq!(lost(json!(null), json!(["q_proj"])), 2);
        assert_eq!(lost(json!(["gate_up_proj", "down_proj"]), json!(["experts"])), 2);
    }
}
