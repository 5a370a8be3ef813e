//! Writing a folder for torchtune.
//!
//! torchtune has one rank and one alpha: smaller ranks are padded with zeros, other scales multiplied into `lora_b`.

use std::collections::BTreeSet;

use lorakit_tensor::json;
use serde_json::{Map, Value};

use super::super::peft::alpha_value;
use super::super::{Can, Draft, DraftOptions, Mapped, Scaled, most_common};
use super::Problem;
use super::names::own_name;
use super::rows::{Fused, Rows, gathered, layer};
use crate::adapter::fuse::split;
use crate::adapter::{Adapter, Module, carried};
use crate::plan::{ADAPTER_CONFIG, Container, Content, OutputTensor, SideFile};
use crate::tensor::Factor;
use crate::{Error, Result, TensorRef};

pub(super) fn draft(adapter: &Adapter, options: &DraftOptions<'_>) -> Result<Draft> {
    Can { dora: true, ..Can::default() }.hold(adapter, "torchtune")?;
    let paths = adapter.modules.iter().map(|module| module.path.as_str());
    let rows = Rows::of(options.base, paths).map_err(|e| e.at(&adapter.path))?;
    let modules = parts(adapter, rows.fused)?;
    refuse(adapter, &modules, options)?;
    let all = || modules.iter().flat_map(|(_, parts)| parts);
    let rank = all().map(Module::rank).max().unwrap_or(1);
    let scale = most_common(all().map(|part| part.scale(part.rank()))).unwrap_or(1.0);
    let mut tensors = Vec::new();
    let mut mapped = Vec::new();
    for (module, parts) in &modules {
        let mut how = BTreeSet::new();
        let mut names = Vec::new();
        for part in parts {
            let Some(name) = own_name(&part.path) else { continue };
            tensors.extend(of_module(&name, part, &rows, rank, scale, options, &mut how)?);
            names.push(name);
        }
        let name = names.join(", ");
        let how = how.into_iter().collect();
        mapped.push(Mapped { module: module.path.clone(), name, how });
    }
    let mut metadata = carried::header(adapter);
    metadata.insert("format".into(), "pt".into());
    metadata.extend(carried::config_text(adapter).map(|text| (carried::CONFIG_KEY.to_string(), text)));
    let config = config(adapter, all(), rank, scale, options);
    let text = json::pretty(&config);
    Ok(Draft {
        stem: Some("adapter_model"),
        container: Container::Safetensors { stem: "adapter_model", metadata, max_shard: u64::MAX },
        tensors,
        side_files: vec![SideFile { name: ADAPTER_CONFIG.into(), content: Content::bytes(text) }],
        mapped,
    })
}

/// Each module with its modules in torchtune's model: itself, or its parts.
fn parts(adapter: &Adapter, fused: Option<Fused>) -> Result<Vec<(&Module, Vec<Module>)>> {
    let mut all = Vec::with_capacity(adapter.modules.len());
    for module in &adapter.modules {
        let parts = match fused.and_then(|fused| parts_of(&module.path, fused)) {
            Some(parts) => split(module, &parts)?,
            None => vec![module.clone()],
        };
        all.push((module, parts));
    }
    Ok(all)
}

/// Paths and rows of the parts of the fused layer at `path`, if it is one.
fn parts_of(path: &str, fused: Fused) -> Option<Vec<(String, usize)>> {
    let prefix = layer(path)?;
    let name = path.strip_prefix(prefix.as_str())?.strip_prefix('.')?;
    let (_, parts) = fused.layers().into_iter().find(|(fused, _)| *fused == name)?;
    Some(parts.into_iter().map(|(part, rows)| (format!("{prefix}.{part}"), rows)).collect())
}

/// Refuses modules that torchtune's models do not have.
fn refuse(adapter: &Adapter, modules: &[(&Module, Vec<Module>)], options: &DraftOptions<'_>) -> Result<()> {
    let all = || modules.iter().flat_map(|(_, parts)| parts);
    let mut lines: Vec<String> = all()
        .filter(|part| own_name(&part.path).is_none())
        .map(|part| format!("{}  no layer that torchtune adapts", part.path))
        .collect();
    if options.base.is_some_and(crate::Base::tied) {
        let head = all().find(|part| part.path == "lm_head");
        lines.extend(head.map(|part| format!("{}  is the embedding in this model", part.path)));
    }
    let (dora, plain): (Vec<&Module>, Vec<&Module>) = all().partition(|part| part.magnitude.is_some());
    let partial = !dora.is_empty() && !plain.is_empty();
    if partial {
        let line = |part: &&Module| format!("{}  no magnitudes of DoRA, which others have", part.path);
        lines.extend(plain.iter().map(line));
    }
    let count = lines.len();
    let problem = match (count, partial) {
        (0, _) => return Ok(()),
        (_, true) => Problem::PartialDora { count },
        (_, false) => Problem::Placeless { count },
    };
    Err(Error::from(problem).at(&adapter.path).details(lines))
}

fn of_module(
    name: &str,
    module: &Module,
    rows: &Rows,
    rank: usize,
    scale: f64,
    options: &DraftOptions<'_>,
    how: &mut BTreeSet<String>,
) -> Result<Vec<OutputTensor>> {
    let (own, inputs) = module.a.info().rows_cols();
    let outputs = module.b.info().rows_cols().0;
    let order = rows.to_own(&module.path, outputs).map_err(|e| e.tensor(&module.path))?;
    if !order.keeps(outputs) {
        how.insert("rows of B in Meta's order".into());
    }
    let (mut a, mut b) = (module.a.clone(), gathered(&module.b, &order)?);
    if own != rank {
        how.insert(format!("rank {own} padded to {rank} with zeros"));
        a = TensorRef::assembled(vec![(Factor::matrix(a, own, inputs), 0, 0)], inputs, vec![rank, inputs])?;
        b = TensorRef::assembled(vec![(Factor::matrix(b, outputs, own), 0, 0)], rank, vec![outputs, rank])?;
    }
    let times = module.scale(own) / scale;
    if times != 1.0 {
        how.insert(format!("lora_b times {times}"));
    }
    let mut tensors = vec![
        Scaled::plain(a).output(&format!("{name}.lora_a.weight"), options.dtype),
        Scaled { tensor: b, times }.output(&format!("{name}.lora_b.weight"), options.dtype),
    ];
    if let Some(magnitude) = &module.magnitude {
        let magnitude = Scaled::plain(gathered(magnitude, &order)?);
        tensors.push(magnitude.output(&format!("{name}.magnitude"), options.dtype));
    }
    Ok(tensors)
}

/// The configuration as torchtune writes it, with PEFT's module names.
fn config<'a>(
    adapter: &Adapter,
    parts: impl Iterator<Item = &'a Module>,
    rank: usize,
    scale: f64,
    options: &DraftOptions<'_>,
) -> Value {
    let leaves: BTreeSet<&str> = parts.filter_map(|part| part.path.rsplit('.').next()).collect();
    let base = adapter.config.base_model.clone().or_else(|| Some(options.base?.name()));
    let mut config = Map::new();
    config.insert("r".into(), rank.into());
    config.insert("lora_alpha".into(), alpha_value(scale * rank as f64));
    config.insert("target_modules".into(), leaves.into_iter().collect::<Vec<_>>().into());
    config.insert("peft_type".into(), "LORA".into());
    config.insert("base_model_name_or_path".into(), base.into());
    config.into()
}
