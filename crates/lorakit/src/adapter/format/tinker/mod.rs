//! Tinker: PEFT's files with three differences; read only.
//!
//! Experts are stacked, `experts.w1.lora_A (E, r, in)` and `lora_B (E, out, r)`, and all share a factor with `E = 1`;
//! the output layer is called `unembed_tokens`; layers that a model fuses may be separate. The scale is `alpha / r`.
//! Source: tinker-cookbook `weights/{_adapter,_merge_utils,_merge_qwen3_5,_merge_nemotron}.py`.

use std::collections::{BTreeMap, BTreeSet};

use lorakit_tensor::{TensorInfo, TensorSource};

use super::halves::{Half, Pair, pairs};
use super::{AdapterFormat, Draft, DraftOptions, Problem};
use crate::adapter::fuse::{FusePart, fuse};
use crate::adapter::{Adapter, AdapterConfig, Files, Module, ModuleKind, Scaling};
use crate::tensor::Factor;
use crate::{Base, Error, Finding, Result, Severity};

/// Layers that Qwen 3.5 fuses to one, `in_proj_qkv`.
const SPLIT: [&str; 3] = ["in_proj_q", "in_proj_k", "in_proj_v"];

/// Tinker.
#[derive(Debug)]
pub(crate) struct Tinker;

impl AdapterFormat for Tinker {
    fn name(&self) -> &'static str {
        "tinker"
    }

    fn title(&self) -> &'static str {
        "a folder of Tinker: PEFT's with stacked experts"
    }

    /// Every factor marks the format if the file has a factor that PEFT would not write.
    fn marks(&self, name: &str, files: &Files) -> bool {
        parts(name).is_some() && files.config.is_some() && files.has_stacked_factors(is_own)
    }

    fn read(&self, files: &Files, _: Option<&Base>) -> Result<Adapter> {
        let json = files.config.as_ref().ok_or_else(|| files.no_adapter())?;
        let config = AdapterConfig::from_json(json).map_err(|e| e.at(&files.config_path()))?;
        let (Some(alpha), Some(rank)) = (config.alpha, config.r) else {
            return Err(Error::from(Problem::NoScale).at(&files.config_path()));
        };
        let (pairs, mut findings) = pairs(files, |info| {
            let (path, half) = parts(&info.name)?;
            Some((hf_name(path), half))
        });
        // If a model lacks a projection of its experts, there is an empty tensor for it.
        findings.retain(|fault| fault.code != "zero-size-tensor" || !fault.subject.contains(".experts."));
        let mut adapter = Adapter { config, findings, ..Adapter::empty(self.name(), files) };
        // It does not use PEFT's names.
        adapter.config.target_modules.clear();
        adapter.config.raw.remove("target_modules");
        let gated: BTreeSet<String> =
            pairs.iter().filter_map(|pair| pair.path.strip_suffix(".w3").map(str::to_string)).collect();
        let new = |path: String, a, b| Module {
            config_rank: Some(rank as f64),
            ..Module::new(path, ModuleKind::Linear, a, b, Scaling::Alpha(alpha))
        };
        let mut modules = BTreeMap::new();
        for pair in pairs {
            let found = match pair.path.rsplit_once(".experts.") {
                Some((layer, leaf)) => {
                    experts(&pair, layer, leaf, gated.contains(&format!("{layer}.experts")), &new)?
                }
                None => pair
                    .matrices()
                    .filter(|(a, b)| a[0] == b[1])
                    .map(|_| vec![new(pair.path.clone(), pair.a.clone(), pair.b.clone())]),
            };
            match found {
                Some(found) => modules.extend(found.into_iter().map(|module| (module.path.clone(), module))),
                None => {
                    let needed = "(r, in) and (out, r), of experts (E, r, in) and (E, out, r)";
                    adapter.findings.push(pair.misshapen(needed));
                }
            }
        }
        join(&mut adapter, &mut modules)?;
        adapter.modules = modules.into_values().collect();
        adapter.sort();
        Ok(adapter)
    }

    fn is_written(&self) -> bool {
        false
    }

    fn write(&self, adapter: &Adapter, _: &DraftOptions<'_>) -> Result<Draft> {
        Err(Error::from(Problem::OnlyRead { format: "Tinker" }).at(&adapter.path))
    }
}

/// The module and the half to which a name belongs.
fn parts(name: &str) -> Option<(&str, Half)> {
    let (path, half) = name.strip_suffix(".weight").unwrap_or(name).rsplit_once('.')?;
    match half {
        "lora_A" => Some((path, Half::A)),
        "lora_B" => Some((path, Half::B)),
        _ => None,
    }
}

/// Whether it is a factor that PEFT would not write.
fn is_own(info: &TensorInfo) -> bool {
    let Some((path, _)) = parts(&info.name) else { return false };
    let expert = path.rsplit_once(".experts.").is_some_and(|(_, leaf)| matches!(leaf, "w1" | "w2" | "w3"));
    (expert && info.shape.len() == 3) || path.rsplit('.').next() == Some("unembed_tokens")
}

/// The module's path in Hugging Face's model.
fn hf_name(path: &str) -> String {
    let path = path.strip_prefix("base_model.model.").unwrap_or(path);
    if path.rsplit('.').next() == Some("unembed_tokens") {
        return "lm_head".into();
    }
    // gpt-oss.
    path.replacen(".attn.", ".self_attn.", 1)
}

/// A module for each expert; `None` if the factors are not stacks of the same length. Models without gates have no
/// `w3`, and then `w1` is `up_proj`.
fn experts(
    pair: &Pair,
    layer: &str,
    leaf: &str,
    gated: bool,
    new: &dyn Fn(String, crate::TensorRef, crate::TensorRef) -> Module,
) -> Result<Option<Vec<Module>>> {
    let (&[x, rank, inputs], &[y, outputs, s]) =
        (pair.a.info().shape.as_slice(), pair.b.info().shape.as_slice())
    else {
        return Ok(None);
    };
    if rank != s || (x != y && x != 1 && y != 1) {
        return Ok(None);
    }
    let leaf = match leaf {
        "w1" if gated => "gate_proj",
        "w1" | "w3" => "up_proj",
        "w2" => "down_proj",
        other => other,
    };
    let a = Factor::matrix(pair.a.clone(), x * rank, inputs);
    let b = Factor::matrix(pair.b.clone(), y * outputs, rank);
    let of_expert = |expert: usize| {
        let of_a = if x == 1 { 0 } else { expert };
        let of_b = if y == 1 { 0 } else { expert };
        let a = a.clone().take_rows(of_a * rank, rank, 1).to_tensor(vec![rank, inputs])?;
        let b = b.clone().take_rows(of_b * outputs, outputs, 1).to_tensor(vec![outputs, rank])?;
        Ok(new(format!("{layer}.experts.{expert}.{leaf}"), a, b))
    };
    (0..x.max(y)).map(of_expert).collect::<Result<_>>().map(Some)
}

/// Fuses [`SPLIT`] layers. If all of them are there, their factors tell the rows.
fn join(adapter: &mut Adapter, modules: &mut BTreeMap<String, Module>) -> Result<()> {
    let is_split = |path: &str| SPLIT.contains(&path.rsplit('.').next().unwrap_or_default());
    let layers: BTreeSet<String> = modules
        .keys()
        .filter(|path| is_split(path))
        .filter_map(|path| path.rsplit_once('.').map(|(layer, _)| layer.to_string()))
        .collect();
    for layer in layers {
        let parts: Vec<Module> =
            SPLIT.iter().filter_map(|part| modules.remove(&format!("{layer}.{part}"))).collect();
        let path = format!("{layer}.in_proj_qkv");
        if parts.len() < SPLIT.len() {
            let message = "is not adapted in all of q, k and v, so its rows in the fused layer are unknown";
            adapter.findings.push(Finding::new(Severity::Error, "missing-part", &path, message));
            continue;
        }
        let parts: Vec<FusePart<'_>> = parts
            .iter()
            .map(|module| FusePart { module: Some(module), rows: module.b.info().rows_cols().0 })
            .collect();
        modules.insert(path.clone(), fuse(&path, &parts)?);
    }
    Ok(())
}

impl Files {
    /// Whether some tensor passes `test`; the answer is computed once and cached.
    fn has_stacked_factors(&self, test: fn(&TensorInfo) -> bool) -> bool {
        *self.stacked.get_or_init(|| self.source.tensors().iter().any(test))
    }
}

#[cfg(test)]
mod tests;
