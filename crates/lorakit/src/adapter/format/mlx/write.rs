//! Writing a folder for mlx-lm.
//!
//! All modules share one rank and one scale: smaller ranks are padded with zeros, other scales multiplied into
//! `lora_b`. mlx-lm adapts every key in each of the last `num_layers` layers; it leaves layers alone for which the file
//! has no factors, and refuses factors that do not belong to any layer, so nothing is filled in.

use std::collections::BTreeSet;

use lorakit_tensor::json;

use super::super::{Can, Draft, DraftOptions, Mapped, Scaled, most_common};
use super::Problem;
use super::config::{self, CONFIG_KEY};
use crate::adapter::{Adapter, Module, ModuleKind, carried};
use crate::arch::names::{is_head, projection, usual_name};
use crate::plan::{ADAPTER_CONFIG, Container, Content, OutputTensor, SideFile};
use crate::tensor::Factor;
use crate::{Base, Error, Result, TensorRef};

/// The modules that become one pair of tensors.
struct Group<'a> {
    /// Its name in mlx-lm.
    name: String,
    /// Each module, with its expert if it is part of a stack.
    members: Vec<(Option<usize>, &'a Module)>,
}

/// The rank and the scale of the file.
#[derive(Clone, Copy)]
struct Common {
    rank: usize,
    scale: f64,
}

pub(super) fn draft(adapter: &Adapter, options: &DraftOptions<'_>) -> Result<Draft> {
    Can { dora: true, embeddings: true, ..Can::default() }.hold(adapter, "MLX")?;
    refuse_foreign_names(adapter)?;
    let modules = written(adapter, options.base)?;
    let dora = is_dora(adapter, &modules)?;
    let scales = modules.iter().map(|module| module.scale(module.rank()));
    let common = Common {
        rank: modules.iter().map(|module| module.rank()).max().unwrap_or(1),
        scale: most_common(scales).unwrap_or(1.0),
    };
    let groups = grouped(&modules);
    let experts = experts(adapter, &groups, options.base)?;
    let mut tensors = Vec::new();
    for group in &groups {
        match group.members.as_slice() {
            [(None, module)] => tensors.extend(single(&group.name, module, common, options)?),
            members => tensors.extend(stacked(&group.name, members, experts, common, options)?),
        }
    }
    let base_layers = options.base.and_then(|base| base.layers().ok());
    let first = groups.iter().filter_map(|group| layered(&group.name).map(|(layer, _)| layer)).min();
    let keys: BTreeSet<String> = groups
        .iter()
        .map(|group| layered(&group.name).map_or(group.name.as_str(), |(_, key)| key).to_string())
        .collect();
    let config = config::Written {
        dora,
        layers: base_layers.zip(first).map(|(all, first)| all.saturating_sub(first)),
        rank: common.rank,
        scale: common.scale,
        keys: &keys,
        model: adapter.config.base_model.as_deref(),
        dropout: adapter.config.raw.get("lora_dropout").and_then(serde_json::Value::as_f64),
    };
    let config = config.json(adapter.metadata.get(CONFIG_KEY).map(String::as_str));
    let mut metadata = carried::header(adapter);
    metadata.remove(CONFIG_KEY);
    metadata.extend(carried::config_text(adapter).map(|text| (carried::CONFIG_KEY.to_string(), text)));
    let text = json::pretty(&config);
    Ok(Draft {
        stem: Some("adapters"),
        container: Container::Safetensors { stem: "adapters", metadata, max_shard: u64::MAX },
        tensors,
        side_files: vec![SideFile { name: ADAPTER_CONFIG.into(), content: Content::bytes(text) }],
        mapped: adapter.modules.iter().map(|module| mapped(module, common)).collect(),
    })
}

fn mapped(module: &Module, common: Common) -> Mapped {
    let (name, expert) = renamed(&module.path);
    let mut how = vec![if expert.is_some() { "stacked" } else { "transposed" }.to_string()];
    if module.rank() != common.rank {
        how.push(format!("rank {} padded to {} with zeros", module.rank(), common.rank));
    }
    let times = module.scale(module.rank()) / common.scale;
    if times != 1.0 {
        how.push(format!("lora_b times {times}"));
    }
    let name = expert.map_or(name.clone(), |expert| format!("{name}[{expert}]"));
    Mapped { module: module.path.clone(), name, how }
}

/// The modules that get separate tensors. For tied embeddings, only the input embedding does: mlx-lm changes the
/// output layer with it.
fn written<'a>(adapter: &'a Adapter, base: Option<&Base>) -> Result<Vec<&'a Module>> {
    let is_end = |module: &&Module| module.kind == ModuleKind::Embedding || is_head(&module.path);
    let (ends, mut modules): (Vec<&Module>, Vec<&Module>) = adapter.modules.iter().partition(is_end);
    let Some(first) = ends.first() else { return Ok(modules) };
    let refuse = |problem: Problem| Error::from(problem).tensor(&first.path).at(&adapter.path);
    let base = base.ok_or_else(|| refuse(Problem::LoneEnd))?;
    match (base.tied(), ends.as_slice()) {
        (false, _) => modules.extend(ends),
        (true, &[x, y]) if is_same_delta(x, y)? => {
            modules.push(if x.kind == ModuleKind::Embedding { x } else { y });
        }
        (true, _) => return Err(refuse(Problem::OneSide)),
    }
    Ok(modules)
}

/// Whether an embedding and an output layer have the same delta, factor for factor.
fn is_same_delta(x: &Module, y: &Module) -> Result<bool> {
    let (embedding, head) = match (x.kind, y.kind) {
        (ModuleKind::Embedding, ModuleKind::Linear) => (x, y),
        (ModuleKind::Linear, ModuleKind::Embedding) => (y, x),
        _ => return Ok(false),
    };
    let equal = |one: &TensorRef, other: &TensorRef| -> Result<bool> {
        let (rows, cols) = one.info().rows_cols();
        let same_shape = other.info().rows_cols() == (cols, rows);
        Ok(same_shape && Factor::matrix(one.clone(), rows, cols).transposed().load()? == other.values()?)
    };
    let scales = (embedding.scale(embedding.rank()), head.scale(head.rank()));
    Ok(scales.0 == scales.1 && equal(&embedding.a, &head.b)? && equal(&embedding.b, &head.a)?)
}

/// Whether the modules have magnitudes: in mlx-lm, all of them or none have, and all are linear layers.
fn is_dora(adapter: &Adapter, modules: &[&Module]) -> Result<bool> {
    let count = modules.iter().filter(|module| module.magnitude.is_some()).count();
    if count == 0 {
        return Ok(false);
    }
    let plain = |module: &&&Module| {
        module.magnitude.is_none() || module.kind != ModuleKind::Linear || renamed(&module.path).1.is_some()
    };
    let Some(other) = modules.iter().find(plain) else { return Ok(true) };
    let problem = Problem::PartialDora { count, modules: modules.len(), other: other.path.clone() };
    Err(Error::from(problem).at(&adapter.path))
}

/// The name in mlx-lm, and which expert of a stack the module is.
fn renamed(path: &str) -> (String, Option<usize>) {
    // mlx-lm names the language model of a multimodal model as transformers did before version 5.
    let path = match path.strip_prefix("model.language_model.") {
        Some(rest) => format!("language_model.model.{rest}"),
        None => path.to_string(),
    };
    let Some((parent, rest)) = path.split_once(".experts.") else { return (path, None) };
    let Some((number, leaf)) = rest.split_once('.') else { return (path, None) };
    let Ok(expert) = number.parse() else { return (path, None) };
    let leaf = projection(leaf).map_or(leaf, |own| usual_name(own));
    (format!("{parent}.switch_mlp.{leaf}"), Some(expert))
}

fn grouped<'a>(modules: &[&'a Module]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for module in modules {
        let (name, expert) = renamed(&module.path);
        let place = *places.entry(name.clone()).or_insert(groups.len());
        if place == groups.len() {
            groups.push(Group { name, members: Vec::new() });
        }
        groups[place].members.push((expert, module));
    }
    groups
}

/// The layer, and the name within it: `(3, "self_attn.q_proj")`.
fn layered(name: &str) -> Option<(usize, &str)> {
    let (_, rest) = name.split_once("layers.")?;
    let (layer, key) = rest.split_once('.')?;
    Some((layer.parse().ok()?, key))
}

/// The number of experts in a layer: that of the base, or else of the stacks if they have no gaps.
fn experts(adapter: &Adapter, groups: &[Group<'_>], base: Option<&Base>) -> Result<usize> {
    let stacks = || groups.iter().filter(|group| group.members.iter().any(|(expert, _)| expert.is_some()));
    let Some(first) = stacks().next() else { return Ok(0) };
    let held =
        stacks().flat_map(|s| s.members.iter().filter_map(|(e, _)| *e)).max().map_or(0, |last| last + 1);
    if let Some(count) = base.and_then(|base| base.experts().ok()).flatten() {
        if held <= count {
            return Ok(count);
        }
        let problem = Problem::ExpertNumber { expert: held - 1, count };
        return Err(Error::from(problem).tensor(&first.name).at(&adapter.path));
    }
    if stacks().all(|stack| stack.members.len() == held) {
        return Ok(held);
    }
    Err(Error::from(Problem::ExpertCount).tensor(&first.name).at(&adapter.path))
}

fn single(
    name: &str,
    module: &Module,
    common: Common,
    options: &DraftOptions<'_>,
) -> Result<Vec<OutputTensor>> {
    let (rank, inputs) = module.a.info().rows_cols();
    let outputs = module.b.info().rows_cols().0;
    let a = Factor::matrix(module.a.clone(), rank, inputs).transposed();
    let a = TensorRef::assembled(vec![(a, 0, 0)], common.rank, vec![inputs, common.rank])?;
    let b = Factor::matrix(module.b.clone(), outputs, rank).transposed();
    let b = TensorRef::assembled(vec![(b, 0, 0)], outputs, vec![common.rank, outputs])?;
    let b = Scaled { tensor: b, times: module.scale(rank) / common.scale };
    let mut tensors = vec![
        Scaled::plain(a).output(&format!("{name}.lora_a"), options.dtype),
        b.output(&format!("{name}.lora_b"), options.dtype),
    ];
    if let Some(magnitude) = &module.magnitude {
        let values = vec![magnitude.info().elements() as usize];
        let m = Factor::matrix(magnitude.clone(), values[0], 1).to_tensor(values)?;
        tensors.push(Scaled::plain(m).output(&format!("{name}.m"), options.dtype));
    }
    Ok(tensors)
}

/// `lora_a (E, r, in)` and `lora_b (E, out, r)`; experts without factors are zero.
fn stacked(
    name: &str,
    members: &[(Option<usize>, &Module)],
    count: usize,
    common: Common,
    options: &DraftOptions<'_>,
) -> Result<[OutputTensor; 2]> {
    let refuse = |problem: Problem| Error::from(problem).tensor(name);
    let (_, first) = members.first().ok_or_else(|| refuse(Problem::NoExperts))?;
    let (inputs, outputs) = (first.a.info().rows_cols().1, first.b.info().rows_cols().0);
    let times = |module: &Module| module.scale(module.rank()) / common.scale;
    let even = members.iter().all(|(_, module)| times(module) == times(first));
    let (mut rows_of_a, mut rows_of_b) = (Vec::new(), Vec::new());
    for (expert, module) in members {
        let expert = expert.ok_or_else(|| refuse(Problem::SameName))?;
        let rank = module.rank();
        if (module.a.info().rows_cols().1, module.b.info().rows_cols().0) != (inputs, outputs) {
            return Err(refuse(Problem::UnevenExperts { first: first.path.clone() }));
        }
        let b = if even { module.b.clone() } else { module.b.decoded(times(module))? };
        rows_of_a.push((Factor::matrix(module.a.clone(), rank, inputs), expert * common.rank, 0));
        rows_of_b.push((Factor::matrix(b, outputs, rank), expert * outputs, 0));
    }
    let a = TensorRef::assembled(rows_of_a, inputs, vec![count, common.rank, inputs])?;
    let b = TensorRef::assembled(rows_of_b, common.rank, vec![count, outputs, common.rank])?;
    let b = Scaled { tensor: b, times: if even { times(first) } else { 1.0 } };
    Ok([
        Scaled::plain(a).output(&format!("{name}.lora_a"), options.dtype),
        b.output(&format!("{name}.lora_b"), options.dtype),
    ])
}

/// mlx-lm uses Hugging Face's names for the layers of most families; GPT-2 and similar families differ.
fn refuse_foreign_names(adapter: &Adapter) -> Result<()> {
    const KNOWN: &[&str] =
        &["model.layers.", "model.embed_tokens", "model.language_model.", "language_model.", "lm_head"];
    let foreign = |module: &&Module| !KNOWN.iter().any(|known| module.path.starts_with(known));
    let lines: Vec<String> =
        adapter.modules.iter().filter(foreign).map(|module| module.path.clone()).collect();
    if lines.is_empty() {
        return Ok(());
    }
    Err(Error::from(Problem::ForeignNames).at(&adapter.path).details(lines))
}
