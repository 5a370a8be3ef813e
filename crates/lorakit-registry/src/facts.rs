//! What a manifest says about an artifact, in annotations: everything that lists are made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::media;

/// What an artifact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An adapter.
    Adapter,
    /// A model: merged, quantised, or any other.
    Merged,
    /// An evaluation of another artifact.
    Eval,
    /// The signature of another artifact.
    Signature,
    /// Something that another program put there.
    #[default]
    Other,
}

/// The base of an adapter, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BaseFacts {
    /// Its public name.
    #[serde(default)]
    pub name: Option<String>,
    /// The commit on the hub.
    #[serde(default)]
    pub revision: Option<String>,
    /// The digest of its weights.
    #[serde(default)]
    pub digest: Option<String>,
    /// The form in which it was trained on: `nf4`.
    #[serde(default)]
    pub form: Option<String>,
}

/// A finding of the audit that was made when an artifact was added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// `note`, `warning` or `error`.
    pub severity: String,
    /// Its stable name.
    pub code: String,
    /// What was found.
    pub message: String,
}

/// What a manifest says. Texts are those of the annotations: `8..32` is a range of ranks.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Facts {
    /// What it is.
    pub kind: Kind,
    /// The methods of its modules: `lora`, `dora`.
    pub methods: Vec<String>,
    /// The format of its files: `peft`, `kohya`, `gguf`.
    pub format: Option<String>,
    /// The rank, or the least and the most.
    pub rank: Option<String>,
    /// Alpha, or the least and the most.
    pub alpha: Option<String>,
    /// Scale, or the least and the most.
    pub scale: Option<String>,
    /// The last parts of its modules' paths, sorted.
    pub targets: Vec<String>,
    /// Number of values.
    pub params: Option<u64>,
    /// Dtypes of its tensors, the most bytes first.
    pub dtypes: Vec<String>,
    /// Norm of all its deltas together.
    pub norm: Option<f64>,
    /// The base.
    pub base: BaseFacts,
    /// The digest of its weights, which is the same whatever its files are called.
    pub weights: Option<String>,
    /// The licence that its model card states.
    pub licence: Option<String>,
    /// The verb that made it.
    pub op: Option<String>,
    /// Its record of where it came from, as JSON.
    #[serde(skip)]
    pub lineage: Option<String>,
    /// What the audit found.
    pub findings: Vec<Noted>,
    /// Metrics, of an evaluation.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
}

/// What every key of lorakit begins with.
const PREFIX: &str = "dev.lorakit.";

impl Facts {
    /// Those of annotations, and of the type of the artifact for what lorakit did not write.
    pub(crate) fn read(artifact_type: Option<&str>, annotations: &BTreeMap<String, String>) -> Self {
        let text = |key: &str| annotations.get(&format!("{PREFIX}{key}")).cloned();
        let list = |key: &str| {
            text(key).map(|text| text.split(',').map(str::to_string).collect()).unwrap_or_default()
        };
        fn parsed<T: for<'de> Deserialize<'de>>(text: Option<String>) -> Option<T> {
            text.and_then(|text| serde_json::from_str(&text).ok())
        }
        let kind = match (text("kind").as_deref(), artifact_type) {
            (Some("adapter"), _) => Kind::Adapter,
            (Some("merged"), _) => Kind::Merged,
            (_, Some(media::EVALUATION)) => Kind::Eval,
            (_, Some(media::SIGNATURE)) => Kind::Signature,
            _ => Kind::Other,
        };
        Facts {
            kind,
            methods: list("method"),
            format: text("format"),
            rank: text("rank"),
            alpha: text("alpha"),
            scale: text("scale"),
            targets: list("targets"),
            params: text("params").and_then(|text| text.parse().ok()),
            dtypes: list("dtype"),
            norm: text("norm").and_then(|text| text.parse().ok()).filter(|norm: &f64| norm.is_finite()),
            base: BaseFacts {
                name: text("base.name"),
                revision: text("base.revision"),
                digest: text("base.digest"),
                form: text("base.form"),
            },
            weights: text("weights.digest"),
            licence: annotations.get(media::LICENCES).cloned(),
            op: text("op"),
            lineage: text("lineage"),
            findings: parsed(text("audit")).unwrap_or_default(),
            metrics: parsed(text("metrics")).unwrap_or_default(),
        }
    }

    /// The annotations that say this.
    pub(crate) fn annotations(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut say = |key: &str, value: Option<String>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                found.insert(format!("{PREFIX}{key}"), value);
            }
        };
        let json = |value: serde_json::Value| Some(value.to_string());
        let kind = match self.kind {
            Kind::Adapter => Some("adapter"),
            Kind::Merged => Some("merged"),
            Kind::Eval => Some("eval"),
            Kind::Signature | Kind::Other => None,
        };
        say("kind", kind.map(str::to_string));
        say("schema", Some("1".into()));
        say("method", Some(self.methods.join(",")));
        say("format", self.format.clone());
        say("rank", self.rank.clone());
        say("alpha", self.alpha.clone());
        say("scale", self.scale.clone());
        say("targets", Some(self.targets.join(",")));
        say("params", self.params.map(|params| params.to_string()));
        say("dtype", Some(self.dtypes.join(",")));
        say("norm", self.norm.map(|norm| format!("{norm:.6e}")));
        say("base.name", self.base.name.clone());
        say("base.revision", self.base.revision.clone());
        say("base.digest", self.base.digest.clone());
        say("base.form", self.base.form.clone());
        say("weights.digest", self.weights.clone());
        say("op", self.op.clone());
        say("lineage", self.lineage.clone());
        if !self.findings.is_empty() {
            say("audit", json(serde_json::json!(self.findings)));
        }
        if !self.metrics.is_empty() {
            say("metrics", json(serde_json::json!(self.metrics)));
        }
        if let Some(licence) = &self.licence {
            found.insert(media::LICENCES.to_string(), licence.clone());
        }
        found
    }
}
