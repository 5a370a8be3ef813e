//! What the configuration of an extracted adapter says.

use std::collections::HashSet;

use super::ExtractOptions;
use super::pair::{Pair, is_layer};
use crate::adapter::{Adapter, Module, ModuleKind, Saved, is_local_path};
use crate::arch::names::module_of;
use crate::fit::Resolver;
use crate::tensor::Factor;
use crate::{Model, ModelConfig, Result, TensorRef};

/// What is saved whole: the tensors that changed, and all others of the modules they are in, because libraries take
/// such modules as a whole. The bias of a layer is not one of these: biases have a field of their own.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for blocks without a decoder.
pub(super) fn saved(pairs: &[Pair], changed: &HashSet<&str>) -> Result<Vec<Saved>> {
    let layers: HashSet<&str> = pairs
        .iter()
        .filter(|pair| {
            is_layer(&pair.name, &pair.tuned.info().shape) && !changed.contains(pair.name.as_str())
        })
        .map(|pair| module_of(&pair.name))
        .collect();
    let modules: HashSet<&str> = changed
        .iter()
        .filter(|name| name.ends_with(".weight") || name.ends_with(".bias"))
        .map(|name| module_of(name))
        .filter(|module| !layers.contains(module))
        .collect();
    let whole = |pair: &&Pair| {
        let name = pair.name.as_str();
        changed.contains(name)
            || modules.contains(module_of(name)) && (name.ends_with(".weight") || name.ends_with(".bias"))
    };
    // Blocks cannot be stored in the files of adapters.
    let saved = |pair: &Pair| {
        let blocks = pair.tuned.info().dtype.block().elements > 1;
        let tensor = if blocks { pair.tuned.decoded(1.0)? } else { pair.tuned.clone() };
        Ok(Saved { name: pair.name.clone(), tensor })
    };
    pairs.iter().filter(whole).map(saved).collect()
}

/// Gives the output embedding what the input embedding got, if they are one tensor before and after, as PEFT stores
/// what it trained as one.
pub(super) fn mirror_tied(adapter: &mut Adapter, base: &Model, tuned: &Model) -> Result<()> {
    let view = Resolver::new(base.tensors(), base.config.as_ref());
    let (Some(embedding), None, true) = (view.embedding(), view.head(), view.tied()) else { return Ok(()) };
    if !tuned.config.as_ref().is_some_and(ModelConfig::tied) {
        return Ok(());
    }
    let (name, head) = (&base.tensors()[embedding].name, view.head_name());
    let saved = adapter.saved.iter().find(|saved| saved.name == *name).cloned();
    let module = adapter.modules.iter().find(|module| module.path == module_of(name)).cloned();
    if saved.is_none() && module.is_none() {
        return Ok(());
    }
    adapter.saved.extend(saved.map(|saved| Saved { name: head.clone(), ..saved }));
    if let Some(of_input) = module {
        let transposed = |tensor: &TensorRef| {
            let (rows, cols) = tensor.info().rows_cols();
            Factor::matrix(tensor.clone(), rows, cols).transposed().to_tensor(vec![cols, rows])
        };
        let (a, b) = (transposed(&of_input.b)?, transposed(&of_input.a)?);
        let path = module_of(&head).to_string();
        adapter.modules.push(Module::new(path, ModuleKind::Linear, a, b, of_input.scaling));
    }
    adapter.config.ensure_weight_tying = true;
    adapter.config.raw.insert("ensure_weight_tying".into(), true.into());
    Ok(())
}

/// Fills in what a reader needs to know: biases, orientation, task, base.
pub(super) fn describe(adapter: &mut Adapter, base: &Model, options: &ExtractOptions) {
    let raw = &mut adapter.config.raw;
    let weight_of = |saved: &Saved| format!("{}.weight", module_of(&saved.name));
    let names: HashSet<&str> = adapter.saved.iter().map(|saved| saved.name.as_str()).collect();
    let is_saved = |saved: &Saved| names.contains(weight_of(saved).as_str());
    if adapter.saved.iter().any(|saved| saved.name.ends_with(".bias") && !is_saved(saved)) {
        raw.insert("bias".into(), "all".into());
    }
    let view = Resolver::new(base.tensors(), base.config.as_ref());
    if adapter.modules.iter().any(|m| view.stored_transposed(&m.path) == Some(true)) {
        raw.insert("fan_in_fan_out".into(), true.into());
    }
    // A new module is welcome in a base that lacks it if the configuration names it.
    let new = adapter.saved.iter().filter(|saved| base.find(&saved.name).is_none());
    adapter.config.modules_to_save = new.map(|saved| module_of(&saved.name).to_string()).collect();
    let architecture = base.config.as_ref().and_then(|config| config.architecture()).unwrap_or_default();
    // PEFT takes the head of a classifier from the adapter, so one without it has no task: PEFT then loads it into a
    // model of any class.
    let tasks: [(&str, &str, &[&str]); 5] = [
        ("ForCausalLM", "CAUSAL_LM", &[]),
        ("LMHeadModel", "CAUSAL_LM", &[]),
        ("ForSequenceClassification", "SEQ_CLS", &["classifier", "score"]),
        ("ForTokenClassification", "TOKEN_CLS", &["classifier", "score"]),
        ("ForQuestionAnswering", "QUESTION_ANS", &["qa_outputs"]),
    ];
    let saves = |heads: &[&str]| {
        let mut saved = adapter.saved.iter().map(|saved| saved.name.split('.'));
        heads.is_empty() || saved.any(|mut names| names.any(|name| heads.contains(&name)))
    };
    let task = tasks.iter().find(|(class, ..)| architecture.ends_with(class));
    if let Some((_, task, _)) = task.filter(|(.., heads)| saves(heads)) {
        raw.insert("task_type".into(), (*task).into());
    }
    let said = base.config.as_ref().and_then(|config| config.entry("_name_or_path")?.as_str());
    let public = said.filter(|name| !name.is_empty() && !is_local_path(name)).map(str::to_string);
    adapter.config.base_model = options.base_name.clone().or(public);
}
