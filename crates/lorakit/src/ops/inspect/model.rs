//! The report on a model, or on any other file of tensors. Headers and configuration only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lorakit_tensor::Reader;
use lorakit_tensor::format::gguf::{Metadata, Value};
use serde::Serialize;

use super::{DTypeCount, count_dtypes};
use crate::adapter::key::is_unmerged;
use crate::lineage::{self, Ancestry};
use crate::plan::PROVENANCE_KEY;
use crate::{FileType, Finding, Model, ModelConfig, Result, Severity};

/// A model, described.
#[derive(Debug, Clone, Serialize)]
pub struct ModelReport {
    /// The path as it was given.
    #[serde(serialize_with = "crate::report::path")]
    pub path: PathBuf,
    /// `safetensors`, `GGUF` or `Torch`.
    pub format: &'static str,
    /// The class (`LlamaForCausalLM`), or GGUF's `general.architecture`.
    pub architecture: Option<String>,
    /// `model_type`.
    pub model_type: Option<String>,
    /// `general.name` of a GGUF.
    pub name: Option<String>,
    /// Dimensions that the configuration gives, by a common name: `layers`, `hidden`, `heads`, `kv_heads`,
    /// `intermediate`, `experts`, `vocabulary`, `context`.
    #[serde(serialize_with = "super::serialise::named")]
    pub dimensions: Vec<(&'static str, u64)>,
    /// Number of values of all tensors, as stored.
    pub parameters: u64,
    /// Number of tensors.
    pub tensors: usize,
    /// Dtypes, most bytes first.
    pub dtypes: Vec<DTypeCount>,
    /// The tensor files, in shard order.
    pub files: Vec<FileReport>,
    /// Size of all tensor files in bytes.
    pub bytes: u64,
    /// Whether input and output embedding are one tensor, if that is known.
    pub tied: Option<bool>,
    /// How it is quantised, e.g. `bitsandbytes, 4 bits (nf4)`; for a GGUF the mix, e.g. `Q4_K_M`, or the type of
    /// most of its quantised values.
    pub quantization: Option<String>,
    /// What holds the tokenizer.
    pub tokenizer: Option<String>,
    /// Strings of the first safetensors header.
    pub metadata: BTreeMap<String, String>,
    /// The record of where it came from.
    pub lineage: Option<Ancestry>,
    /// What stands out.
    pub findings: Vec<Finding>,
}

/// One tensor file.
#[derive(Debug, Clone, Serialize)]
pub struct FileReport {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Number of tensors in it.
    pub tensors: usize,
}

/// `(name, spellings in config.json, key of the GGUF after the architecture)`.
const DIMENSIONS: &[(&str, &[&str], &str)] = &[
    ("layers", &["num_hidden_layers", "n_layer", "num_layers"], "block_count"),
    ("hidden", &["hidden_size", "n_embd", "d_model"], "embedding_length"),
    ("heads", &["num_attention_heads", "n_head"], "attention.head_count"),
    ("kv_heads", &["num_key_value_heads"], "attention.head_count_kv"),
    ("intermediate", &["intermediate_size", "n_inner", "d_ff"], "feed_forward_length"),
    ("experts", &["num_local_experts", "num_experts", "n_routed_experts"], "expert_count"),
    ("vocabulary", &["vocab_size"], "vocab_size"),
    ("context", &["max_position_embeddings", "n_positions"], "context_length"),
];

pub(super) fn report(path: &Path, reader: &Reader) -> Result<ModelReport> {
    let model = Model::open(path, reader)?;
    let checkpoint = model.checkpoint();
    let dtypes = count_dtypes(model.tensors());
    let mut in_file = vec![0; checkpoint.files().len()];
    (0..model.tensors().len()).for_each(|i| in_file[checkpoint.file_of(i)] += 1);
    let files = checkpoint.files().iter().zip(in_file).map(|(file, tensors)| FileReport {
        name: file.path().file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
        bytes: file.len(),
        tensors,
    });
    let (lineage, notes) = lineage::read(checkpoint, reader);
    let mut metadata = checkpoint.metadata().clone();
    metadata.remove(PROVENANCE_KEY);
    let mut report = ModelReport {
        path: path.to_path_buf(),
        format: checkpoint.format().name(),
        architecture: None,
        model_type: None,
        name: None,
        dimensions: Vec::new(),
        parameters: model.parameters(),
        tensors: model.tensors().len(),
        bytes: checkpoint.files().iter().map(|f| f.len()).sum(),
        files: files.collect(),
        tied: None,
        quantization: None,
        tokenizer: tokenizer(&model),
        metadata,
        lineage,
        findings: notes,
        dtypes,
    };
    match (checkpoint.gguf(), &model.config) {
        (Some(metadata), _) => describe_gguf(&mut report, metadata, &model),
        (None, Some(config)) => describe_config(&mut report, config),
        (None, None) => {}
    }
    report.findings.extend(findings(&model));
    Ok(report)
}

fn describe_config(report: &mut ModelReport, config: &ModelConfig) {
    report.architecture = config.architecture().map(str::to_string);
    report.model_type = config.model_type().map(str::to_string);
    report.tied = Some(config.tied());
    report.quantization = config.quantization().map(|method| {
        let section = &config.json["quantization_config"];
        let bits = section["bits"].as_u64().or_else(|| {
            if section["load_in_4bit"] == true {
                Some(4)
            } else if section["load_in_8bit"] == true {
                Some(8)
            } else {
                None
            }
        });
        let bits = bits.map_or_else(String::new, |bits| format!(", {bits} bits"));
        let kind =
            section["bnb_4bit_quant_type"].as_str().map_or_else(String::new, |kind| format!(" ({kind})"));
        format!("{method}{bits}{kind}")
    });
    let number = |names: &[&str]| names.iter().find_map(|name| config.number(name));
    report.dimensions =
        DIMENSIONS.iter().filter_map(|(name, spellings, _)| Some((*name, number(spellings)?))).collect();
}

fn describe_gguf(report: &mut ModelReport, metadata: &Metadata, model: &Model) {
    let text = |key: &str| metadata.get(key).and_then(Value::as_str).map(str::to_string);
    let architecture = text("general.architecture").unwrap_or_default();
    let number = |key: &str| metadata.get(&format!("{architecture}.{key}")).and_then(Value::as_u64);
    let tokens = match metadata.get("tokenizer.ggml.tokens") {
        Some(Value::Array(tokens)) => Some(tokens.len() as u64),
        _ => None,
    };
    let dimension = |name: &'static str, key: &str| {
        let value = number(key).or(tokens.filter(|_| name == "vocabulary"))?;
        Some((name, value))
    };
    report.dimensions = DIMENSIONS.iter().filter_map(|(name, _, key)| dimension(name, key)).collect();
    report.name = text("general.name");
    let has = |name: &str| model.tensors().iter().any(|t| t.name == name);
    report.tied = has("token_embd.weight").then(|| !has("output.weight"));
    let mix = metadata.get("general.file_type").and_then(Value::as_u64);
    report.quantization = quantization(&report.dtypes, mix);
    if text("general.type").as_deref() == Some("adapter") {
        let message =
            "is an adapter in GGUF; its tensors are counted, and `lorakit inspect` audits PEFT adapters only";
        report.findings.push(Finding::new(Severity::Note, "gguf-adapter", "", message));
    }
    report.architecture = Some(architecture).filter(|a| !a.is_empty());
}

/// The mix that the header names, if its type is in the file; else the type that most quantised values have.
fn quantization(dtypes: &[DTypeCount], file_type: Option<u64>) -> Option<String> {
    let blocks = || dtypes.iter().filter(|count| count.dtype.block().elements > 1);
    // Of equal ones, that of more bytes.
    let most = blocks().rev().max_by_key(|count| count.parameters)?;
    let mix = FileType::ALL.iter().find(|mix| Some(u64::from(mix.id())) == file_type);
    let mix = mix.filter(|mix| blocks().any(|count| count.dtype == mix.dtype()));
    Some(mix.map_or(most.dtype.name(), |mix| mix.name()).to_string())
}

fn tokenizer(model: &Model) -> Option<String> {
    if let Some(metadata) = model.checkpoint().gguf() {
        let kind = metadata.get("tokenizer.ggml.model")?.as_str()?;
        return Some(format!("{kind}, in the file"));
    }
    let names = ["tokenizer.json", "tokenizer.model", "vocab.json"];
    names.iter().find(|name| model.folder().join(name).is_file()).map(|name| (*name).to_string())
}

fn findings(model: &Model) -> Vec<Finding> {
    let mut findings = Vec::new();
    let factors = model.tensors().iter().filter(|t| is_unmerged(&t.name)).count();
    if factors > 0 {
        let message = format!("{factors} tensors belong to an adapter that was not merged before saving");
        findings.push(Finding::new(Severity::Warning, "unmerged-adapter", "", message));
    }
    let empty = model.tensors().iter().filter(|t| t.elements() == 0).count();
    if empty > 0 {
        let message = format!("{empty} tensors are empty: they were saved without gathering their shards");
        findings.push(Finding::new(Severity::Error, "zero-size-tensor", "", message));
    }
    findings
}

#[cfg(test)]
mod tests {
    use lorakit_tensor::DType;

    use super::*;

    #[test]
    fn the_mix_and_the_count_of_values_decide() {
        let count = |dtype, parameters, bytes| DTypeCount { dtype, tensors: 1, parameters, bytes };
        // A large embedding in 8 bits has the most bytes.
        let dtypes = [count(DType::Q8_0, 100, 106), count(DType::Q4_K, 170, 96), count(DType::F32, 9, 36)];
        let named = |id| quantization(&dtypes, id);
        assert_eq!(named(Some(15)).as_deref(), Some("Q4_K_M"));
        assert_eq!(named(None).as_deref(), Some("Q4_K"));
        // A mix whose type is not in the file is not believed.
        assert_eq!(named(Some(10)).as_deref(), Some("Q4_K"));
        assert_eq!(quantization(&dtypes[2..], Some(0)), None);
    }
}
