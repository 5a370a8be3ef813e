//! `general.*`: the name of the model, and how it is meant to be sampled.

use lorakit_tensor::format::gguf::{Array, Metadata, Value as GgufValue};
use serde_json::Value;

use super::card::Card;
use super::files::Files;
use super::name::{Name, size_label, title};
use crate::plan::OutputTensor;
use crate::{ModelConfig, Result};

/// Keys after `general.sampling.`, each with its entries in `generation_config.json`; the first entry present counts.
const SAMPLING: &[(&str, &[&str])] = &[
    ("sequence", &["sequence"]),
    ("top_k", &["top_k"]),
    ("top_p", &["top_p"]),
    ("min_p", &["min_p"]),
    ("xtc_probability", &["xtc_probability"]),
    ("xtc_threshold", &["xtc_threshold"]),
    ("temp", &["temperature"]),
    ("penalty_last_n", &["penalty_last_n"]),
    ("penalty_repeat", &["penalty_repeat", "repetition_penalty"]),
    ("mirostat", &["mirostat"]),
    ("mirostat_tau", &["mirostat_tau"]),
    ("mirostat_eta", &["mirostat_eta"]),
];
/// The keys of whole numbers; `sequence` is text, all others are f32.
const WHOLE: &[&str] = &["top_k", "penalty_last_n", "mirostat"];

/// Sets the keys for the model called `name`.
pub(in crate::model) fn set(
    metadata: &mut Metadata,
    name: &str,
    files: Files<'_>,
    config: &ModelConfig,
    tensors: &[OutputTensor],
) -> Result<()> {
    let generation = files.json("generation_config.json")?.unwrap_or(Value::Null);
    for (key, names) in SAMPLING {
        let value = names.iter().map(|name| &generation[*name]).find(|value| !value.is_null());
        if let Some(value) = value.and_then(|value| sampling_value(key, value)) {
            metadata.set(&format!("general.sampling.{key}"), value);
        }
    }
    let counts = Counts::of(tensors);
    let card = Card::read(files)?;
    let mut names = Vec::new();
    // The model from which this one was saved, if that is a name and not a path.
    if let Some(id) = config.json["_name_or_path"].as_str().filter(|id| id.matches('/').count() <= 1) {
        names.push(Name::of(id, counts.total));
    }
    names.push(Name::of(name, counts.total));
    let first = |part: fn(&Name) -> &Option<String>| names.iter().find_map(|name| part(name).clone());
    let size = || size_label(counts.total, counts.shared, counts.expert, counts.experts);
    // By key: names in the card, and the value used without them.
    let texts: [(&str, &[&str], Option<String>); 15] = [
        ("name", &["name", "model_name"], first(|n| &n.name).map(|name| title(&name))),
        ("author", &["author", "model_author", "model_creator"], None),
        ("version", &["version", "model_version"], first(|n| &n.version)),
        (
            "organization",
            &["organization", "model_organization"],
            first(|n| &n.organization).map(|o| title(&o)),
        ),
        ("finetune", &["finetune", "model_finetune"], first(|n| &n.finetune)),
        ("basename", &["basename", "model_basename", "model_type"], first(|n| &n.basename)),
        ("description", &["description", "model_description"], None),
        (
            "size_label",
            &["size_label", "model_size_label"],
            first(|n| &n.size_label).or_else(|| Some(size())),
        ),
        ("license", &["license"], None),
        ("license.name", &["license_name"], None),
        ("license.link", &["license_link"], None),
        ("source.url", &["url", "model_url"], None),
        ("source.doi", &["doi", "model_doi"], None),
        ("source.uuid", &["uuid", "model_uuid"], None),
        ("source.repo_url", &["repo_url", "model_repo_url"], None),
    ];
    for (key, in_card, otherwise) in texts {
        if let Some(text) = card.text(in_card).or(otherwise) {
            metadata.set(&format!("general.{key}"), GgufValue::String(text));
        }
    }
    let parents = card.list(&["base_model", "base_models", "base_model_sources"]);
    set_origins(metadata, "base_model", parents, counts.total);
    set_origins(metadata, "dataset", card.list(&["datasets", "dataset", "dataset_sources"]), counts.total);
    for (key, in_card) in [("tags", ["tags", "pipeline_tag"]), ("languages", ["languages", "language"])] {
        if let Some(items) = card.joined(&in_card).filter(|items| !items.is_empty()) {
            metadata.set(&format!("general.{key}"), GgufValue::Array(Array::String(items)));
        }
    }
    Ok(())
}

/// Sets the sources of a model, given by identifiers or addresses on Hugging Face.
fn set_origins(metadata: &mut Metadata, kind: &str, ids: Option<Vec<String>>, parameters: u64) {
    const HUB: &str = "https://huggingface.co/";
    let Some(ids) = ids else { return };
    metadata.set(&format!("general.{kind}.count"), GgufValue::U32(ids.len() as u32));
    for (i, id) in ids.iter().enumerate() {
        let address = ["https://", "http://", "ssh://"].iter().any(|scheme| id.starts_with(scheme));
        let on_hub = id.strip_prefix(HUB).filter(|id| id.matches('/').count() == 1);
        let name = match (address, on_hub) {
            (false, _) => Name::of(id, parameters),
            (true, Some(id)) => Name::of(id, parameters),
            (true, None) => Name::default(),
        };
        let on_hub = || Some(format!("{HUB}{}/{}", name.organization.as_ref()?, name.name.as_ref()?));
        let repository = if address { Some(id.clone()) } else { on_hub() };
        for (key, text) in [
            ("name", name.name.as_deref().map(title)),
            ("version", name.version.clone()),
            ("organization", name.organization.as_deref().map(title)),
            ("repo_url", repository),
        ] {
            if let Some(text) = text {
                metadata.set(&format!("general.{kind}.{i}.{key}"), GgufValue::String(text));
            }
        }
    }
}

fn sampling_value(key: &str, value: &Value) -> Option<GgufValue> {
    if key == "sequence" {
        return Some(GgufValue::String(value.as_str()?.to_string()));
    }
    if WHOLE.contains(&key) {
        return Some(GgufValue::I32(i32::try_from(value.as_i64()?).ok()?));
    }
    Some(GgufValue::F32(value.as_f64()? as f32))
}

/// Numbers of parameters.
#[derive(Debug, Default)]
struct Counts {
    total: u64,
    /// Parameters of tensors through which every token passes.
    shared: u64,
    /// Parameters of one expert in each layer.
    expert: u64,
    experts: u64,
}

impl Counts {
    fn of(tensors: &[OutputTensor]) -> Self {
        let mut counts = Counts::default();
        let (mut sum, mut stacks) = (0, 0);
        for info in tensors.iter().map(|tensor| &tensor.info) {
            let parameters = info.elements();
            counts.total += parameters;
            match info.shape.as_slice() {
                [experts, _, _] if info.name.contains("_exps.") => {
                    counts.expert += parameters / (*experts as u64).max(1);
                    sum += *experts as u64;
                    stacks += 1;
                }
                _ => counts.shared += parameters,
            }
        }
        counts.experts = sum.checked_div(stacks).unwrap_or(0);
        counts
    }
}
