//! What the output is: an adapter with its ranks, or a model of some class.

use std::collections::BTreeSet;

use crate::ModelConfig;
use crate::adapter::{Adapter, is_local_path};
use crate::arch::names::is_in_language_model;
use crate::card::Loading;

/// What a card says about an adapter.
#[derive(Debug, Clone)]
pub(super) struct AdapterFacts {
    /// The public name of its base.
    pub(super) base: Option<String>,
    pub(super) dora: bool,
    pub(super) modules: usize,
    /// Parameters that are saved whole.
    pub(super) saved: usize,
    pub(super) parameters: u64,
    /// The ranks and scales that occur, in order.
    pub(super) ranks: BTreeSet<usize>,
    pub(super) scales: Vec<f64>,
    pub(super) loading: Option<Loading>,
    /// What loads the base, if that is known: a library and its class.
    pub(super) class: Option<(String, String)>,
}

/// What a card says about a model.
#[derive(Debug, Clone)]
pub(super) struct ModelFacts {
    /// The library that loads it.
    pub(super) library: Option<&'static str>,
    /// Its class in that library.
    pub(super) class: Option<String>,
    /// Whether the class is defined next to the model.
    pub(super) remote: bool,
}

impl AdapterFacts {
    pub(super) fn of(adapter: &Adapter, loading: Option<Loading>) -> Self {
        let modules = &adapter.modules;
        let mut scales: Vec<f64> = modules.iter().map(|module| module.scale(module.rank())).collect();
        scales.sort_by(f64::total_cmp);
        scales.dedup();
        let config = &adapter.config;
        AdapterFacts {
            base: config.base_model.clone().filter(|name| !is_local_path(name)),
            dora: modules.iter().any(|module| module.magnitude.is_some()),
            modules: modules.len(),
            saved: adapter.saved.len() + adapter.token_rows.len(),
            parameters: modules.iter().map(|m| m.a.info().elements() + m.b.info().elements()).sum(),
            ranks: modules.iter().map(|module| module.rank()).collect(),
            scales,
            loading,
            class: class_of_base(adapter),
        }
    }
}

/// The class that loads the base: the one that PEFT noted, else that of the task. Without a
/// task, a model whose paths are those of a language model is taken to be one.
fn class_of_base(adapter: &Adapter) -> Option<(String, String)> {
    let mapping = adapter.config.raw.get("auto_mapping");
    let noted = |key: &str| mapping.and_then(|map| map[key].as_str()).map(str::to_string);
    if let (Some(class), Some(module)) = (noted("base_model_class"), noted("parent_library")) {
        let library = module.split('.').next().unwrap_or_default().to_string();
        if is_identifier(&class) && is_identifier(&library) {
            return Some((library, class));
        }
    }
    let causal = || adapter.modules.iter().any(|module| is_in_language_model(&module.path));
    let class = match adapter.config.task_type.as_deref() {
        Some("CAUSAL_LM") => "AutoModelForCausalLM",
        Some("SEQ_2_SEQ_LM") => "AutoModelForSeq2SeqLM",
        Some("SEQ_CLS") => "AutoModelForSequenceClassification",
        Some("TOKEN_CLS") => "AutoModelForTokenClassification",
        Some("QUESTION_ANS") => "AutoModelForQuestionAnswering",
        Some("FEATURE_EXTRACTION") => "AutoModel",
        None if causal() => "AutoModelForCausalLM",
        _ => return None,
    };
    Some(("transformers".into(), class.into()))
}

impl ModelFacts {
    pub(super) fn of(config: Option<&ModelConfig>) -> Self {
        let own = |class: &str| is_identifier(class).then(|| class.to_string());
        let Some(config) = config else { return ModelFacts { library: None, class: None, remote: false } };
        if let Some(class) = config.json["_class_name"].as_str() {
            return ModelFacts { library: Some("diffusers"), class: own(class), remote: false };
        }
        let remote = config.json["auto_map"].is_object();
        let class = match config.architecture() {
            Some(class) if class.ends_with("ForCausalLM") || class.ends_with("LMHeadModel") => {
                Some("AutoModelForCausalLM".into())
            }
            // A class of its own can only be reached through another.
            Some(_) if remote => Some("AutoModel".into()),
            Some(class) => own(class),
            None => None,
        };
        let library =
            (config.architecture().is_some() || config.model_type().is_some()).then_some("transformers");
        ModelFacts { library, class, remote }
    }
}

fn is_identifier(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}
