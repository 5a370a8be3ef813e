//! NeMo 1: an extracted `.nemo` archive with `model_config.yaml` and `model_weights.ckpt`; read only.
//!
//! `linear_in` is A and `linear_out` is B. Megatron fuses q, k and v in one layer, with the rows of one group after
//! another: the queries of its heads, its key, its value. It also fuses gate and up. Each part becomes a module with a
//! copy of A.
//! Sources: NeMo `nemo/collections/nlp/modules/common/megatron/adapters`, `megatron/attention.py`.

mod problem;
mod yaml;

use super::halves::{Half, Pair, pairs};
use super::{AdapterFormat, Draft, DraftOptions};
use crate::adapter::{Adapter, AdapterConfig, Files, Module, ModuleKind, Scaling};
use crate::arch::Heads;
use crate::tensor::{Factor, RowOrder};
use crate::{Base, Error, Finding, Result, Severity};
use problem::Problem;
use yaml::Yaml;

/// The configuration in the archive.
const CONFIG: &str = "model_config.yaml";

/// Names below the layer, without `adapter_layer`, and the modules of Hugging Face's model to which they belong.
const NAMES: &[(&str, &str)] = &[
    ("self_attention.lora_kqv_adapter", "self_attn.qkv_proj"),
    ("self_attention.lora_unfused_kqv_adapter.q_adapter", "self_attn.q_proj"),
    ("self_attention.lora_unfused_kqv_adapter.k_adapter", "self_attn.k_proj"),
    ("self_attention.lora_unfused_kqv_adapter.v_adapter", "self_attn.v_proj"),
    ("self_attention.lora_dense_attention_adapter", "self_attn.o_proj"),
    ("mlp.lora_hto4h_adapter", "mlp.gate_up_proj"),
    ("mlp.lora_unfused_hto4h_adapter.gate_adapter", "mlp.gate_proj"),
    ("mlp.lora_unfused_hto4h_adapter.up_adapter", "mlp.up_proj"),
    ("mlp.lora_4htoh_adapter", "mlp.down_proj"),
];

/// NeMo 1.
#[derive(Debug)]
pub(crate) struct Nemo;

impl AdapterFormat for Nemo {
    fn name(&self) -> &'static str {
        "nemo"
    }

    fn title(&self) -> &'static str {
        "an extracted archive of NeMo 1"
    }

    fn files(&self) -> &'static [&'static str] {
        &["model_weights.ckpt"]
    }

    fn marks(&self, name: &str, _: &Files) -> bool {
        let half = name.ends_with(".linear_in.weight") || name.ends_with(".linear_out.weight");
        half && name.split('.').any(|part| part.starts_with("lora_") && part.ends_with("_adapter"))
    }

    fn read(&self, files: &Files, base: Option<&Base>) -> Result<Adapter> {
        let path = files.folder().join(CONFIG);
        let yaml = Yaml::open(&path, &files.reader)?;
        let settings = Settings::new(&yaml).map_err(|e| e.at(&path))?;
        let (pairs, findings) = pairs(files, |info| {
            let (module, half) = match info.name.strip_suffix(".weight")?.rsplit_once('.')? {
                (module, "linear_in") => (module, Half::A),
                (module, "linear_out") => (module, Half::B),
                _ => return None,
            };
            Some((hf_name(module)?, half))
        });
        let config = AdapterConfig {
            peft_type: "LORA".into(),
            r: Some(settings.rank as u64),
            alpha: Some(settings.alpha),
            ..AdapterConfig::default()
        };
        let mut adapter = Adapter { config, findings, ..Adapter::empty(self.name(), files) };
        for pair in pairs {
            add(&mut adapter, &pair, &settings, base)?;
        }
        adapter.sort();
        Ok(adapter)
    }

    fn is_written(&self) -> bool {
        false
    }

    fn write(&self, adapter: &Adapter, _: &DraftOptions<'_>) -> Result<Draft> {
        Err(Error::from(super::Problem::OnlyRead { format: "NeMo" }).at(&adapter.path))
    }

    #[cfg(test)]
    fn problems(&self) -> Vec<crate::Error> {
        Problem::samples().into_iter().map(crate::Error::from).collect()
    }
}

/// The settings of the configuration that concern the factors.
#[derive(Debug)]
struct Settings {
    rank: f64,
    alpha: f64,
    heads: Option<Heads>,
    /// Whether gate and up are one layer.
    gated: bool,
}

impl Settings {
    fn new(yaml: &Yaml) -> Result<Self> {
        for name in ["tensor_model_parallel_size", "pipeline_model_parallel_size"] {
            if let Some(parts) = yaml.whole(name)?.filter(|&parts| parts > 1) {
                return Err(Problem::Parallel { name, parts }.into());
            }
        }
        let rank = yaml.number("peft.lora_tuning.adapter_dim")?.filter(|&rank| rank > 0.0);
        let rank = rank.ok_or(Problem::NoRank)?;
        let query = yaml.whole("num_attention_heads")?;
        let key_value = yaml.whole("num_query_groups")?.or(query);
        let heads = query.zip(key_value).map(|(query, key_value)| Heads { query, key_value });
        let gated = yaml.text("activation").is_none_or(|name| name.ends_with("glu"));
        Ok(Settings { rank, alpha: yaml.number("peft.lora_tuning.alpha")?.unwrap_or(rank), heads, gated })
    }
}

/// `model.layers.0.self_attn.o_proj` for `model.decoder.layers.0.self_attention.adapter_layer.lora_dense_...`, whatever
/// precedes `layers`.
fn hf_name(module: &str) -> Option<String> {
    let start = if module.starts_with("layers.") {
        "layers.".len()
    } else {
        module.find(".layers.")? + ".layers.".len()
    };
    let (layer, name) = module[start..].split_once('.')?;
    layer.parse::<usize>().ok()?;
    let name = name.replacen("adapter_layer.", "", 1);
    let (_, hf) = NAMES.iter().find(|(own, _)| *own == name)?;
    Some(format!("model.layers.{layer}.{hf}"))
}

/// The modules of one pair of factors.
fn add(adapter: &mut Adapter, pair: &Pair, settings: &Settings, base: Option<&Base>) -> Result<()> {
    let Some(([rank, _], [rows, _])) = pair.matrices().filter(|(a, b)| a[0] == b[1]) else {
        adapter.findings.push(pair.misshapen("(r, in) and (out, r)"));
        return Ok(());
    };
    let (parent, leaf) = pair.path.rsplit_once('.').unwrap_or_default();
    let parts = match leaf {
        "qkv_proj" => {
            let heads = match (settings.heads, base) {
                (Some(heads), _) => heads,
                (None, Some(base)) => base.heads()?,
                (None, None) => {
                    return Err(Error::from(Problem::Heads).tensor(&pair.path).at(&adapter.path));
                }
            };
            grouped(rows, heads)
        }
        "gate_up_proj" if !settings.gated => {
            Some(vec![("up_proj", RowOrder::of_ranges(std::iter::once(0..rows)))])
        }
        "gate_up_proj" => rows.is_multiple_of(2).then(|| {
            let half = |start| RowOrder::of_ranges(std::iter::once(start..start + rows / 2));
            vec![("gate_proj", half(0)), ("up_proj", half(rows / 2))]
        }),
        leaf => Some(vec![(leaf, RowOrder::of_ranges(std::iter::once(0..rows)))]),
    };
    let Some(parts) = parts else {
        let message = format!("has {rows} rows in B, which do not form the parts of the fused layer");
        adapter.findings.push(Finding::new(Severity::Error, "shape", &pair.path, message));
        return Ok(());
    };
    for (leaf, order) in parts {
        let b = Factor::matrix(pair.b.clone(), rows, rank).gather_rows(&order);
        let b = b.to_tensor(vec![order.len(), rank])?;
        let path = format!("{parent}.{leaf}");
        let scaling = Scaling::Fixed(settings.alpha / settings.rank);
        adapter.modules.push(Module {
            config_rank: Some(settings.rank),
            ..Module::new(path, ModuleKind::Linear, pair.a.clone(), b, scaling)
        });
    }
    Ok(())
}

/// The rows of q, k and v among `rows` rows of groups `[q.., k, v]`; `None` if they do not form groups.
fn grouped(rows: usize, heads: Heads) -> Option<Vec<(&'static str, RowOrder)>> {
    let groups = heads.key_value;
    let queries = heads.query.checked_div(groups)?;
    let height = rows.checked_div(groups)?;
    let head = height / (queries + 2);
    if head == 0 || head * (queries + 2) * groups != rows || queries * groups != heads.query {
        return None;
    }
    let of = |first: usize, count: usize| {
        let start = move |group| group * height + first * head;
        RowOrder::of_ranges((0..groups).map(|group| start(group)..start(group) + count * head))
    };
    Some(vec![("q_proj", of(0, queries)), ("k_proj", of(queries, 1)), ("v_proj", of(queries + 1, 1))])
}

#[cfg(test)]
mod tests;
