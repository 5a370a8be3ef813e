//! PEFT: a folder with `adapter_config.json` and `adapter_model.safetensors` (or `.bin`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lorakit_tensor::{Checkpoint, ErrorKind as FileError, ReadMode, TensorSource};

use crate::adapter::key::{self, Part};
use crate::adapter::{Adapter, AdapterConfig, Finding, Module, ModuleKind, Saved, Severity, TokenRows};
use crate::{Error, ErrorKind, Result, TensorRef};

const CONFIG: &str = "adapter_config.json";

/// Opens a folder, or a tensor file with its configuration beside it. See [`Adapter::open`].
pub(crate) fn open(path: &Path, mode: ReadMode) -> Result<Adapter> {
    let folder = match path.is_dir() {
        true => path.to_path_buf(),
        false if path.exists() => path.parent().unwrap_or(Path::new("")).to_path_buf(),
        false => {
            return Err(lorakit_tensor::Error::new(FileError::NotFound, "does not exist").at(path).into());
        }
    };
    let config_path = folder.join(CONFIG);
    match std::fs::metadata(&config_path) {
        Ok(meta) if meta.is_file() => {}
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            return Err(lorakit_tensor::Error::io("open", &config_path, e).into());
        }
        _ => return Err(no_config(path, &folder)),
    }
    let config = AdapterConfig::read(&config_path)?;
    let file = match path.is_dir() {
        true => weights_in(&folder)?,
        false => path.to_path_buf(),
    };
    let source = Arc::new(Checkpoint::open(&file, mode)?);
    Ok(assemble(path.to_path_buf(), config, source))
}

fn no_config(path: &Path, folder: &Path) -> Error {
    if folder.join("config.json").is_file() {
        let message =
            format!("is a full model (it has `config.json` and no `{CONFIG}`), and an adapter is needed");
        return Error::new(ErrorKind::WrongRole, message).at(path);
    }
    let nested = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
    let mut nested: Vec<PathBuf> = nested.filter(|p| p.join(CONFIG).is_file()).collect();
    nested.sort();
    let mut error =
        Error::new(ErrorKind::NoAdapter, format!("holds no adapter: `{CONFIG}` is missing")).at(path);
    if let Some(first) = nested.first() {
        error = error.details(vec![format!("`{}` is one", first.display())]);
    }
    error
}

fn weights_in(folder: &Path) -> Result<PathBuf> {
    for name in ["adapter_model.safetensors", "adapter_model.bin"] {
        let path = folder.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    let message = "has no `adapter_model.safetensors` and no `adapter_model.bin`";
    Err(Error::new(ErrorKind::NoAdapter, message).at(folder))
}

/// Tensors of one module while they are being collected.
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
    /// A tensor of it is there and holds nothing; that is a finding of its own.
    has_empty: bool,
}

fn assemble(path: PathBuf, config: AdapterConfig, source: Arc<Checkpoint>) -> Adapter {
    let mut findings = Vec::new();
    let mut by_module: BTreeMap<String, Parts> = BTreeMap::new();
    let mut saved = Vec::new();
    let shared: Arc<dyn TensorSource> = source.clone();
    let tensor = |index: usize| TensorRef::new(Arc::clone(&shared), index);

    for (index, info) in source.tensors().iter().enumerate() {
        let mut fault = |code, message: String| {
            findings.push(Finding::new(Severity::Error, code, &info.name, message));
        };
        let (module, part) = key::parse(&info.name);
        let parts = by_module.entry(module.clone()).or_default();
        if info.elements() == 0 {
            let message =
                format!("has no values (shape {:?}): it was saved without gathering its shards", info.shape);
            fault("zero-size-tensor", message);
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
            Part::BaseLayer(param) | Part::Saved(param) => {
                let name = if module.is_empty() { param } else { format!("{module}.{param}") };
                saved.push(Saved { name, tensor: tensor(index) });
                continue;
            }
            Part::Original => continue,
            Part::Foreign(method) => {
                fault("foreign-method", format!("belongs to {method}, which is not a plain LoRA"));
                continue;
            }
        };
        if slot.replace(index).is_some() {
            fault("repeated-key", format!("is a second tensor for the same part of `{module}`"));
        }
    }

    let mut adapter = Adapter {
        path,
        config,
        modules: Vec::new(),
        saved,
        token_rows: Vec::new(),
        findings,
        source: source.clone(),
    };
    for (path, parts) in by_module {
        add_module(&mut adapter, path, &parts, &tensor);
    }
    adapter.modules.sort_by(|a, b| natural(&a.path).cmp(&natural(&b.path)));
    adapter
}

fn add_module(adapter: &mut Adapter, path: String, parts: &Parts, tensor: &dyn Fn(usize) -> TensorRef) {
    let mut fault = |code, message: String| {
        adapter.findings.push(Finding::new(Severity::Error, code, &path, message));
    };
    if let Some(index) = parts.token_rows {
        let indices = &adapter.config.token_indices;
        let rows = indices.iter().find(|(suffix, _)| !suffix.is_empty() && path.ends_with(suffix.as_str()));
        let rows = rows.or_else(|| indices.iter().find(|(suffix, _)| suffix.is_empty()));
        let rows = rows.map(|(_, rows)| rows.clone()).unwrap_or_default();
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
                // A weight of a resized or tied layer that was not itself adapted.
                adapter.saved.push(Saved { name: format!("{path}.weight"), tensor: tensor(index) });
            }
            return;
        }
        (Some(_), Some(_), _, _) => return fault("repeated-key", "has linear and embedding factors".into()),
        _ if parts.has_empty => return,
        (a, _, ea, _) => {
            let (found, missing) = if a.is_some() || ea.is_some() { ("A", "B") } else { ("B", "A") };
            return fault("missing-half", format!("has lora_{found}, but lora_{missing} is missing"));
        }
    };
    let (a, b) = (tensor(a), tensor(b));
    let (a_rows, b_rank) = match (a.info().shape.as_slice(), b.info().shape.as_slice()) {
        ([r, _, ..], [_, s, ..]) => (*r, *s),
        (x, y) => {
            return fault("shape", format!("has factors of shapes {x:?} and {y:?}, which are no matrices"));
        }
    };
    if a_rows != b_rank {
        let (a, b) = (&a.info().shape, &b.info().shape);
        return fault("shape", format!("has A {a:?} and B {b:?}, which disagree on the rank"));
    }
    let config = &adapter.config;
    let rank_key = config.rank_pattern.get(&path);
    let config_rank = rank_key.or(config.r.map(|r| r as f64));
    let alpha_key = config.alpha_pattern.get(&path);
    // PEFT's own defaults are r = 8 and alpha = 8.
    let alpha = alpha_key.or(config.alpha).unwrap_or(8.0);
    if config.peft_version.is_none() {
        warn_about_old_patterns(adapter, &path, rank_key, alpha_key);
    }
    let rslora = adapter.config.use_rslora;
    adapter.modules.push(Module {
        kind,
        a,
        b,
        a_rows,
        config_rank,
        alpha,
        magnitude: parts.magnitude.map(tensor),
        bias: parts.bias.map(tensor),
        base_weight: parts.base_weight.map(tensor),
        rslora,
        path,
    });
}

/// PEFT before 0.14 matched patterns differently and before 0.18 did not say its version.
fn warn_about_old_patterns(adapter: &mut Adapter, path: &str, rank: Option<f64>, alpha: Option<f64>) {
    let (ranks, alphas) = (&adapter.config.rank_pattern, &adapter.config.alpha_pattern);
    let keys: Vec<String> = ranks.keys().chain(alphas.keys()).cloned().collect();
    let old = (ranks.get_by_old_rule(&keys, path), alphas.get_by_old_rule(&keys, path));
    if old != (rank, alpha) {
        let message = "its rank_pattern or alpha_pattern means something else to PEFT before 0.14; the rule of \
                       0.14 and later is used";
        adapter.findings.push(Finding::new(Severity::Warning, "old-pattern-rule", path, message));
    }
}

/// Sort key that puts layer 2 before layer 10.
fn natural(path: &str) -> Vec<(u64, &str)> {
    path.split('.').map(|c| c.parse().map_or((u64::MAX, c), |n| (n, ""))).collect()
}
