//! The record, as it is written and read.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The version of records that this program writes.
pub const VERSION: u64 = 1;

/// One step: what was done, to what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Record {
    /// The version of the schema, [`VERSION`].
    pub version: u64,
    /// The version of the program.
    pub lorakit: String,
    /// What was done, e.g. `merge`.
    pub verb: String,
    /// The options that decide the bytes of the output.
    #[serde(default)]
    pub options: Options,
    /// What it was done to, in the order given.
    #[serde(default)]
    pub parents: Vec<Parent>,
}

/// An input of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Parent {
    /// What it was to the step.
    pub role: Role,
    /// What an adapter was multiplied by in a sum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Its public name, or the last component of its path.
    #[serde(default)]
    pub name: String,
    /// The revision of the model or adapter of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The public name of the model that an adapter says it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_model: Option<String>,
    /// The [digest of its weights](crate::lineage::weights), `sha256:...`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// The form in which a base was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_as: Option<TrainedAs>,
    /// The SHA-256 of each tensor file of an adapter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sha256: Vec<String>,
    /// Where it came from in turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Ancestry>,
}

/// The form that the weights of a base had while an adapter was trained on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrainedAs {
    /// How its linear layers were stored, as [`form_of`](crate::lineage::form_of) says it: `nf4`, `bf16`, `q4_k`.
    pub quant: String,
    /// The [digest](crate::lineage::weights) that the weights have in that form.
    pub weights: String,
}

impl TrainedAs {
    /// The form `quant`, whose weights have this digest.
    pub fn new(quant: impl Into<String>, weights: impl Into<String>) -> Self {
        TrainedAs { quant: quant.into(), weights: weights.into() }
    }
}

/// What a parent was to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The model that adapters belong to.
    Base,
    /// An adapter.
    Adapter,
    /// The model that training made from the base.
    Tuned,
    /// A model that is written in another form.
    Model,
}

/// Options of a step, in the order in which they were recorded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Options(pub(super) Map<String, Value>);

/// The record of an input, as it was found there. A newer version is kept as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ancestry(pub(super) Value);

impl Role {
    /// Its name in a record.
    pub fn name(self) -> &'static str {
        match self {
            Role::Base => "base",
            Role::Adapter => "adapter",
            Role::Tuned => "tuned",
            Role::Model => "model",
        }
    }
}

impl Record {
    /// An empty record.
    pub(super) fn new(verb: &str) -> Self {
        Record {
            version: VERSION,
            lorakit: env!("CARGO_PKG_VERSION").into(),
            verb: verb.into(),
            options: Options::default(),
            parents: Vec::new(),
        }
    }

    /// The text of the record, as it is in a header.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Options {
    /// Each option's name and value: text as it is, anything else as JSON.
    pub fn iter(&self) -> impl Iterator<Item = (&str, String)> {
        self.0.iter().map(|(name, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            (name.as_str(), text)
        })
    }
}

impl Ancestry {
    /// The version of its schema.
    pub fn version(&self) -> Option<u64> {
        self.0["version"].as_u64()
    }

    /// The parsed record; `None` if its version is newer than [`VERSION`].
    pub fn record(&self) -> Option<Record> {
        (self.version() == Some(VERSION)).then(|| Record::deserialize(&self.0).ok()).flatten()
    }
}
