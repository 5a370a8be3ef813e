//! PEFT's `target_parameters`: which parameter of a layer a wrapper adapts, and which wrapper is which.
//!
//! PEFT wraps the parameters of a layer one after another, in the order in which its class defines them: the first is the
//! innermost. Names of tensors only tell how deep a wrapper is (`experts.base_layer.lora_A`).

use std::collections::HashMap;

use super::{AdapterConfig, Experts, Module};
use crate::arch::names;

/// Between a wrapper and the layer, or the wrapper, in it.
const INNER: &str = ".base_layer";

/// Names such as `mlp.experts.down_proj`: the ending of a module's path, followed by one of its parameters.
///
/// A list may name a parameter of each of thousands of layers, so a lookup table finds those of one layer.
#[derive(Debug)]
pub(crate) struct Parameters<'a> {
    /// By everything before the last name: places in the list, and the last name.
    of_path: HashMap<&'a str, Vec<(usize, &'a str)>>,
    /// Names without a path, which belong to every module.
    of_any: Vec<(usize, &'a str)>,
}

/// What a wrapper in a file adapts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrapped {
    /// The layer.
    pub(crate) layer: String,
    /// The parameter of the layer; `None` if the layer itself is wrapped.
    pub(crate) parameter: Option<String>,
}

/// Wrappers within wrappers, and fewer names of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nameless {
    /// Depth of the wrapper.
    pub(crate) times: usize,
    /// Number of names.
    pub(crate) names: usize,
}

impl<'a> Parameters<'a> {
    pub(crate) fn new(targets: &'a [String]) -> Self {
        let mut all = Parameters { of_path: HashMap::new(), of_any: Vec::new() };
        for (place, target) in targets.iter().enumerate() {
            match target.rsplit_once('.') {
                Some((path, leaf)) => all.of_path.entry(path).or_default().push((place, leaf)),
                None => all.of_any.push((place, target)),
            }
        }
        all
    }

    /// The parameters of the module at `path` that match names in the list, in the order of the list.
    pub(crate) fn of(&self, path: &str) -> Vec<&'a str> {
        let mut found = self.of_any.clone();
        if !self.of_path.is_empty() {
            found.extend(names::ends(path).filter_map(|end| self.of_path.get(end)).flatten());
            found.sort_unstable_by_key(|(place, _)| *place);
        }
        found.into_iter().map(|(_, leaf)| leaf).collect()
    }

    /// What the wrapper at `path` in a file adapts.
    ///
    /// # Errors
    /// If wrappers are nested deeper than there are names.
    pub(crate) fn wrapped(&self, path: &str) -> Result<Wrapped, Nameless> {
        let layer = path.trim_end_matches(INNER);
        let nested = (path.len() - layer.len()) / INNER.len();
        let mut found = self.of(layer);
        // A name without a path may be a parameter of any layer; only nesting or experts tell that it is one of this.
        if nested == 0 && !names::holds_experts(layer) {
            found.retain(|leaf| !self.of_any.iter().any(|(_, any)| any == leaf));
        }
        if found.is_empty() && (nested > 0 || names::is_experts(layer)) {
            found = names::STACKS.iter().map(|stack| stack.name).collect();
        }
        let layer = layer.to_string();
        if found.is_empty() {
            return Ok(Wrapped { layer, parameter: None });
        }
        found.sort_by_key(|name| names::place_in_class(name));
        found.dedup();
        let (times, names) = (nested + 1, found.len());
        let own = names.checked_sub(times).map(|i| found[i].to_string());
        own.map(|own| Wrapped { layer, parameter: Some(own) }).ok_or(Nameless { times, names })
    }
}

impl Wrapped {
    /// The path of the module, and the name that PEFT compares with its patterns.
    pub(crate) fn path(&self) -> String {
        match self.parameter.as_deref() {
            None | Some("weight") => self.layer.clone(),
            Some(parameter) => format!("{}.{parameter}", self.layer),
        }
    }
}

impl Module {
    /// The name that PEFT compares with the keys of `rank_pattern` and `alpha_pattern`: that of the parameter, if a
    /// parameter is wrapped; the layer's for the output projection inside an `nn.MultiheadAttention`, which gets the
    /// rank and the alpha of the whole.
    pub(crate) fn key(&self) -> String {
        self.key_at(&self.path)
    }

    /// [`Self::key`], if it were at `path`.
    pub(crate) fn key_at(&self, path: &str) -> String {
        let path = match self.experts {
            Some(Experts::One { .. }) => names::module_of(path),
            _ => path,
        };
        match self.parameter.as_deref() {
            Some("weight") => format!("{path}.weight"),
            Some(_) => path.to_string(),
            None => layer_of(path).to_string(),
        }
    }

    /// The layer whose parameter it adapts, for a parameter.
    pub(crate) fn layer(&self) -> Option<String> {
        self.parameter.as_ref().map(|_| names::module_of(&self.key()).to_string())
    }

    /// Takes over what its wrapper adapts, and the rank and scale that `config` gives it.
    pub(crate) fn wrapping(mut self, wrapped: &Wrapped, config: &AdapterConfig) -> Self {
        self.path = wrapped.path();
        self.parameter = wrapped.parameter.clone();
        (self.config_rank, self.scaling) = config.of_module(&self.key());
        if let Some(parameter) = &self.parameter {
            let rank = self.config_rank.map_or(0, |rank| rank as usize);
            let several = rank > 0 && self.rank() > rank && self.rank().is_multiple_of(rank);
            let stacked = names::stack_in(&wrapped.layer, parameter).is_some();
            self.experts = (several || stacked).then_some(Experts::All);
        }
        self
    }
}

/// The module that PEFT wraps for the one at `path`: attention for its output projection.
pub(crate) fn layer_of(path: &str) -> &str {
    path.rsplit_once(&format!("{INNER}.")).map_or(path, |(attention, _)| attention)
}

/// The path in a file of the `place`th of `count` wrapped parameters of a layer, in the order of definition.
pub(crate) fn path_in_file(layer: &str, place: usize, count: usize) -> String {
    format!("{layer}{}", INNER.repeat(count - 1 - place))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_those_whose_names_end_so(
            targets in prop::collection::vec("[ab]{0,2}(\\.[ab]{0,2}){0,3}", 0..12), path in "[ab]{0,3}(\\.[ab]{0,2}){0,3}",
        ) {
            let ends = |target: &&String| {
                let leaf = target.rsplit('.').next().unwrap_or_default();
                let name = format!("{path}.{leaf}");
                name == **target || name.ends_with(&format!(".{target}"))
            };
            let expected: Vec<&str> =
                targets.iter().filter(ends).filter_map(|target| target.rsplit('.').next()).collect();
            prop_assert_eq!(Parameters::new(&targets).of(&path), expected);
        }
    }

    #[test]
    fn keys_are_the_names_that_peft_compares() {
        use crate::adapter::{ModuleKind, Scaling};
        let factor = || crate::tensor::tests::tensor("f", &[1, 1], &[1.0]);
        let key = |path: &str, parameter: Option<&str>| {
            let module = Module::new(path, ModuleKind::Linear, factor(), factor(), Scaling::Fixed(1.0));
            Module { parameter: parameter.map(str::to_string), ..module }.key()
        };
        assert_eq!(key("h.0.mlp.up", None), "h.0.mlp.up");
        assert_eq!(key("h.0.attn.base_layer.out_proj", None), "h.0.attn");
        assert_eq!(key("h.0.gate", Some("weight")), "h.0.gate.weight");
        assert_eq!(key("h.0.experts.down_proj", Some("down_proj")), "h.0.experts.down_proj");
    }

    #[test]
    fn the_first_parameter_of_a_class_is_the_innermost() {
        let of = |targets: &[&str], path: &str| {
            let targets: Vec<String> = targets.iter().map(|t| t.to_string()).collect();
            Parameters::new(&targets).wrapped(path).map(|wrapped| wrapped.path())
        };
        let both = ["mlp.experts.down_proj", "mlp.experts.gate_up_proj"];
        assert_eq!(of(&both, "m.0.mlp.experts").unwrap(), "m.0.mlp.experts.down_proj");
        assert_eq!(of(&both, "m.0.mlp.experts.base_layer").unwrap(), "m.0.mlp.experts.gate_up_proj");
        let bias = ["gate_up_proj_bias", "down_proj", "gate_up_proj"];
        assert_eq!(of(&bias, "m.experts.base_layer").unwrap(), "m.experts.gate_up_proj_bias");
        assert_eq!(of(&bias, "m.experts.base_layer.base_layer").unwrap(), "m.experts.gate_up_proj");
        assert_eq!(of(&["gate.weight"], "m.0.mlp.gate").unwrap(), "m.0.mlp.gate");
        assert_eq!(of(&["down_proj"], "m.0.mlp.q_proj").unwrap(), "m.0.mlp.q_proj");
        // Without a list, as in a configuration that lost it.
        assert_eq!(of(&[], "m.experts").unwrap(), "m.experts.down_proj");
        assert_eq!(of(&["down_proj"], "m.experts.base_layer"), Err(Nameless { times: 2, names: 1 }));
    }
}
