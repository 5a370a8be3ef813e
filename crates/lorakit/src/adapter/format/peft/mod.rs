//! PEFT: a folder with `adapter_config.json` and `adapter_model.safetensors` (or `.bin`).

mod config;
mod exports;
mod methods;
mod shapes;
mod variants;
mod whole;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use lorakit_tensor::{Checkpoint, TensorSource};

pub(super) use config::alpha_value;

use super::assemble::Stop;
use super::{AdapterFormat, Draft, DraftOptions};
use crate::adapter::key::{self, Part};
use crate::adapter::parameters::{Nameless, Parameters};
use crate::adapter::pattern::OldRule;
use crate::adapter::{Adapter, AdapterConfig, Files, Module, ModuleKind, Saved, Scaling, TokenRows};
use crate::card::Loading;
use crate::{Base, Finding, Result, Severity, TensorRef};
use variants::Blocks;

/// PEFT.
#[derive(Debug)]
pub(crate) struct Peft;

const WITHOUT_CLASS: &str = "\
from peft import PeftModel

# `base_model` is the loaded base, {base}; the adapter is in this folder.
model = PeftModel.from_pretrained(base_model, \".\")
";
const LOADING: &str = "\
from peft import PeftModel
{import}

base = {base}
adapter = \".\"  # this folder, or the repository that holds it
model = PeftModel.from_pretrained({class}.from_pretrained(base), adapter)
tokenizer = AutoTokenizer.from_pretrained(base)
";

impl AdapterFormat for Peft {
    fn name(&self) -> &'static str {
        "peft"
    }

    fn title(&self) -> &'static str {
        "a folder for PEFT, vLLM, TGI: adapter_config.json and adapter_model.safetensors"
    }

    fn files(&self) -> &'static [&'static str] {
        &[
            "adapter_model.safetensors",
            "adapter_model.bin",
            "adapter_model.safetensors.index.json",
            "adapter_model.bin.index.json",
        ]
    }

    fn marks(&self, name: &str, files: &Files) -> bool {
        let factor = |c: &str| matches!(c, "lora_A" | "lora_B" | "lora_embedding_A" | "lora_embedding_B");
        files.config.is_some() && name.split('.').any(|c| factor(c) || methods::marks(c))
    }

    fn loading(&self) -> Option<Loading> {
        Some(Loading { library: "peft", code: LOADING, without_class: Some(WITHOUT_CLASS) })
    }

    fn read(&self, files: &Files, _: Option<&Base>) -> Result<Adapter> {
        if let Some(adapter) = methods::read(files, self.name())? {
            return Ok(adapter);
        }
        let json = files.config.as_ref().ok_or_else(|| files.no_adapter())?;
        let mut config = AdapterConfig::from_json(json).map_err(|e| e.at(&files.config_path()))?;
        let blocks = Blocks::take(&mut config).map_err(|e| e.at(&files.config_path()))?;
        let adapter = Adapter { config, ..Adapter::empty(self.name(), files) };
        let mut adapter = assemble(adapter, &files.source, blocks.as_ref())?;
        for patterns in [&adapter.config.rank_pattern, &adapter.config.alpha_pattern] {
            patterns.check().map_err(|e| e.at(&files.config_path()))?;
        }
        variants::as_trained(&mut adapter);
        adapter.findings.extend(exports::of_torchtune(&adapter));
        Ok(adapter)
    }

    fn packs_experts(&self) -> bool {
        true
    }

    fn write(&self, adapter: &Adapter, options: &DraftOptions<'_>) -> Result<Draft> {
        write::draft(adapter, options)
    }
}

/// The tensors of one module, while they are being collected.
#[derive(Default)]
struct Parts {
    a: Option<usize>,
    b: Option<usize>,
    embedding_a: Option<usize>,
    embedding_b: Option<usize>,
    magnitude: Option<usize>,
    bias: Option<usize>,
    base_weight: Option<usize>,
    token_rows: Option<usize>,
    /// Whether one of its tensors is empty; there is a separate finding for that.
    has_empty: bool,
}

fn assemble(mut adapter: Adapter, source: &Arc<Checkpoint>, blocks: Option<&Blocks>) -> Result<Adapter> {
    let mut findings = Vec::new();
    let mut unread: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut by_module: BTreeMap<String, Parts> = BTreeMap::new();
    let shared: Arc<dyn TensorSource> = source.clone();
    let tensor = |index: usize| TensorRef::new(Arc::clone(&shared), index);

    let mut wholes = whole::Wholes::new(source.tensors(), &adapter.config.modules_to_save);
    for (index, info) in source.tensors().iter().enumerate() {
        let mut fault = |code, message: String| {
            findings.push(Finding::new(Severity::Error, code, &info.name, message));
        };
        if let Some(variant) = variants::of_training(&info.name) {
            *unread.entry(variant).or_default() += 1;
            continue;
        }
        let (module, part) = key::parse(&info.name);
        let parts = by_module.entry(module.clone()).or_default();
        if info.elements() == 0 {
            fault("zero-size-tensor", shapes::empty(&info.shape));
            parts.has_empty = true;
            continue;
        }
        let slot = match part {
            Part::A => &mut parts.a,
            Part::B => &mut parts.b,
            Part::BBias => &mut parts.bias,
            Part::EmbeddingA => &mut parts.embedding_a,
            Part::EmbeddingB => &mut parts.embedding_b,
            Part::Magnitude => &mut parts.magnitude,
            Part::TokenRows => &mut parts.token_rows,
            Part::BaseLayer(param) if param == "weight" => &mut parts.base_weight,
            Part::Foreign(method) => {
                fault("foreign-method", format!("belongs to {method}, which is not a plain LoRA"));
                continue;
            }
            whole => {
                if let Err((code, message)) = wholes.take(index, (&module, &whole), || tensor(index)) {
                    fault(code, message);
                }
                continue;
            }
        };
        if slot.replace(index).is_some() {
            fault("repeated-key", format!("is a second tensor for the same part of `{module}`"));
        }
    }

    let (saved, head) = wholes.finish();
    findings.extend(head);
    (adapter.saved, adapter.findings) = (saved, findings);
    let names = adapter.config.target_parameters.clone();
    let parameters = Parameters::new(&names);
    let shape = |index: usize| source.tensors()[index].shape.as_slice();
    let sliced =
        shapes::slices(by_module.values().filter_map(|parts| Some((shape(parts.a?), shape(parts.b?)))));
    for (path, parts) in by_module {
        add_module(&mut adapter, &parameters, path, &parts, &tensor, blocks)?;
    }
    for (variant, count) in unread {
        variants::without_training(&mut adapter, variant, count);
    }
    if let Some(parts) = sliced {
        let faults = adapter.findings.iter_mut().filter(|finding| finding.code == "shape");
        faults.for_each(|fault| fault.message.push_str(&shapes::sliced(parts)));
    }
    adapter.sort();
    warn_about_old_patterns(&mut adapter);
    Ok(adapter)
}

fn add_module(
    adapter: &mut Adapter,
    parameters: &Parameters<'_>,
    path: String,
    parts: &Parts,
    tensor: &dyn Fn(usize) -> TensorRef,
    blocks: Option<&Blocks>,
) -> Result<()> {
    let mut fault = |code, message: String| {
        adapter.findings.push(Finding::new(Severity::Error, code, &path, message));
    };
    if let Some(index) = parts.token_rows {
        let rows = whole::token_indices(&adapter.config, &path).to_vec();
        let tensor = tensor(index);
        let held = tensor.info().rows_cols().0;
        if rows.len() != held {
            fault(
                "token-count",
                format!("holds {held} token rows, and the configuration lists {}", rows.len()),
            );
        } else if parts.a.is_some() || parts.embedding_a.is_some() {
            fault(
                "token-conflict",
                "has trained token rows and low-rank factors; PEFT never writes both".into(),
            );
        } else {
            adapter.token_rows.push(TokenRows { path: path.clone(), tensor, rows });
        }
    }
    let (kind, a, b) = match (parts.a, parts.b, parts.embedding_a, parts.embedding_b) {
        (Some(a), Some(b), None, None) => (ModuleKind::Linear, a, b),
        (None, None, Some(a), Some(b)) => (ModuleKind::Embedding, a, b),
        (None, None, None, None) => {
            if parts.magnitude.is_some() || parts.bias.is_some() {
                fault("missing-half", "has a magnitude or bias, but no lora_A and lora_B".into());
            } else if let Some(index) = parts.base_weight {
                // The weight of a resized or tied layer that was not adapted itself.
                adapter.saved.push(Saved { name: format!("{path}.weight"), tensor: tensor(index) });
            }
            return Ok(());
        }
        (Some(_), Some(_), _, _) => {
            fault("repeated-key", "has linear and embedding factors".into());
            return Ok(());
        }
        _ if parts.has_empty => return Ok(()),
        (a, _, ea, _) => {
            let (found, missing) = if a.is_some() || ea.is_some() { ("A", "B") } else { ("B", "A") };
            fault("missing-half", format!("has lora_{found}, but lora_{missing} is missing"));
            return Ok(());
        }
    };
    let (mut a, mut b) = (tensor(a), tensor(b));
    if let Some(blocks) = blocks.filter(|_| kind == ModuleKind::Linear) {
        (a, b) = match blocks.whole(&path, a, b) {
            Ok(whole) => whole,
            Err(Stop::Error(error)) => return Err(error),
            Err(Stop::Fault((code, message))) => {
                fault(code, message);
                return Ok(());
            }
        };
    }
    let (a_rows, b_rank) = match (a.info().shape.as_slice(), b.info().shape.as_slice()) {
        ([r, _, ..], [_, s, ..]) => (*r, *s),
        (x, y) => {
            fault("shape", shapes::flat(x, y));
            return Ok(());
        }
    };
    if a_rows != b_rank {
        let (code, message) = shapes::disagreement(&a.info().shape, &b.info().shape);
        fault(code, message);
        return Ok(());
    }
    let wrapped = match parameters.wrapped(&path) {
        Ok(wrapped) => wrapped,
        Err(Nameless { times, names }) => {
            let message =
                format!("is wrapped {times} times, and `target_parameters` names {names} of its parameters");
            fault("nested-parameters", message);
            return Ok(());
        }
    };
    let module = Module {
        magnitude: parts.magnitude.map(tensor),
        bias: parts.bias.map(tensor),
        base_weight: parts.base_weight.map(tensor),
        ..Module::new(path, kind, a, b, Scaling::Fixed(1.0))
    };
    let module = module.wrapping(&wrapped, &adapter.config);
    adapter.modules.push(module);
    Ok(())
}

/// Warns about patterns that PEFT before 0.14 matched differently. PEFT before 0.18 did not write its version.
fn warn_about_old_patterns(adapter: &mut Adapter) {
    let (ranks, alphas) = (&adapter.config.rank_pattern, &adapter.config.alpha_pattern);
    if adapter.config.peft_version.is_some() || ranks.is_empty() && alphas.is_empty() {
        return;
    }
    let old = OldRule::new(ranks, alphas);
    let differs = |module: &&Module| {
        let key = module.key();
        old.get(&key) != (ranks.get(&key), alphas.get(&key))
    };
    let warn = |module: &Module| {
        let message = "its rank_pattern or alpha_pattern means something else to PEFT before 0.14; the rule of \
                       0.14 and later is used";
        Finding::new(Severity::Warning, "old-pattern-rule", &module.path, message)
    };
    let found: Vec<Finding> = adapter.modules.iter().filter(differs).map(warn).collect();
    adapter.findings.extend(found);
}
