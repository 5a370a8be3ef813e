//! `config.json` of a model: names, numbers, and whether embeddings are tied.

use lorakit_tensor::DType;
use serde_json::Value;

use crate::arch::names::{self, Ties};

/// `config.json` of a model.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    pub(crate) json: Value,
}

impl ModelConfig {
    /// The text of the file, in one line.
    pub fn text_of_file(&self) -> String {
        self.json.to_string()
    }

    /// The configuration of the language model: `text_config` of multimodal models, else the top level.
    fn text(&self) -> &Value {
        ["text_config", "llm_config"]
            .iter()
            .map(|k| &self.json[*k])
            .find(|v| v.is_object())
            .unwrap_or(&self.json)
    }

    /// `model_type` of the language model.
    pub fn model_type(&self) -> Option<&str> {
        self.text()["model_type"].as_str().or_else(|| self.json["model_type"].as_str())
    }

    /// The first of `architectures`.
    pub fn architecture(&self) -> Option<&str> {
        self.json["architectures"][0].as_str()
    }

    /// The class of the language model: the first of its `architectures`.
    pub(crate) fn text_architecture(&self) -> Option<&str> {
        self.text()["architectures"][0].as_str().or_else(|| self.architecture())
    }

    /// An entry of the language model's configuration that is not null.
    pub(crate) fn entry(&self, name: &str) -> Option<&Value> {
        [&self.text()[name], &self.json[name]].into_iter().find(|value| !value.is_null())
    }

    /// A number of the language model's configuration, e.g. `hidden_size`.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.entry(name)?.as_u64()
    }

    /// Whether a switch of the language model's configuration, e.g. `attention_bias`, is on.
    pub fn flag(&self, name: &str) -> bool {
        self.entry(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Whether input and output embedding are one tensor. If the file does not say, the default of the family decides.
    pub fn tied(&self) -> bool {
        const NAME: &str = "tie_word_embeddings";
        match (&self.text()[NAME], &self.json[NAME]) {
            (Value::Bool(b), _) | (_, Value::Bool(b)) => *b,
            _ => self.families().into_iter().find_map(names::ties_by_default).unwrap_or(false),
        }
    }

    /// Whether `tie_word_embeddings` does not decide about embeddings: see [`names::ties_always`].
    pub(crate) fn ties_always(&self) -> bool {
        self.families().into_iter().any(names::ties_always)
    }

    /// What the class of the model ties.
    pub(crate) fn ties(&self) -> Ties {
        names::ties(self.architecture(), &self.families())
    }

    /// `model_type` of the language model and of the whole.
    fn families(&self) -> Vec<&str> {
        [&self.text()["model_type"], &self.json["model_type"]].into_iter().filter_map(Value::as_str).collect()
    }

    /// The method of `quantization_config`, e.g. `bitsandbytes`.
    pub fn quantization(&self) -> Option<&str> {
        let config = &self.json["quantization_config"];
        config.is_object().then(|| config["quant_method"].as_str().unwrap_or("unknown"))
    }

    /// `dtype` or `torch_dtype`.
    pub fn dtype(&self) -> Option<&str> {
        self.json["dtype"].as_str().or_else(|| self.json["torch_dtype"].as_str())
    }
}

/// The name of a dtype in `config.json`.
pub(crate) fn torch_name(dtype: DType) -> Option<&'static str> {
    match dtype {
        DType::F32 => Some("float32"),
        DType::F16 => Some("float16"),
        DType::BF16 => Some("bfloat16"),
        DType::F64 => Some("float64"),
        _ => None,
    }
}
