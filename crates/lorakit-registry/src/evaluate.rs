//! Evaluations, attached to what was evaluated.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::artifact::Parts;
use crate::problem::Problem;
use crate::store::{Change, Expected, Ingest};
use crate::{Artifact, Facts, File, Kind, Reference, Result, Store, media};

/// An evaluation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evaluation {
    /// Figures by name.
    pub metrics: BTreeMap<String, f64>,
    /// The report that they are from, as JSON text.
    pub report: Option<String>,
}

impl Evaluation {
    /// The figures of a report of `lorakit eval --json`, or of any object of numbers.
    ///
    /// # Errors
    /// `Corrupt` if it is not JSON or has no figures.
    pub fn from_report(text: &str) -> Result<Self> {
        let wrong = |reason: String| Problem::NotAnEvaluation { reason };
        let report: Value =
            serde_json::from_str(text).map_err(|error| wrong(format!("it is not JSON: {error}")))?;
        let mut metrics = BTreeMap::new();
        collect(&report, "", &mut metrics);
        if metrics.is_empty() {
            return Err(wrong("it has no figures".into()).into());
        }
        Ok(Evaluation { metrics, report: Some(text.to_string()) })
    }

    /// A figure, `NAME=VALUE`.
    ///
    /// # Errors
    /// `Usage` if it is not one.
    pub fn metric(text: &str) -> Result<(String, f64)> {
        let parsed = text.split_once('=').and_then(|(name, value)| {
            let is_name =
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_./@".contains(c));
            let value: f64 = value.parse().ok()?;
            (is_name && value.is_finite()).then(|| (name.to_string(), value))
        });
        parsed.ok_or_else(|| Problem::Metric { text: text.escape_debug().to_string() }.into())
    }
}

/// The numbers of objects, named by their keys; of lists only their length would be a name.
fn collect(value: &Value, name: &str, metrics: &mut BTreeMap<String, f64>) {
    const MOST: usize = 64;
    match value {
        Value::Number(number) if metrics.len() < MOST => {
            metrics.extend(
                number.as_f64().filter(|value| value.is_finite()).map(|value| (name.to_string(), value)),
            );
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                let inner = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                collect(value, &inner, metrics);
            }
        }
        _ => {}
    }
}

impl Store {
    /// Attaches an evaluation to an artifact: a manifest of its own with a tag of its own, `TAG-eval-N`, because servers
    /// sweep what has none. Returns the tag.
    ///
    /// # Errors
    /// As [`find`](Store::find).
    pub fn evaluate(&self, reference: &Reference, evaluation: &Evaluation) -> Result<(String, Artifact)> {
        let artifact = self.find(reference)?;
        let metrics = serde_json::json!(evaluation.metrics).to_string();
        let report = evaluation.report.as_deref().unwrap_or(&metrics);
        let facts = Facts { kind: Kind::Eval, metrics: evaluation.metrics.clone(), ..Facts::default() };
        self.attach(
            &artifact,
            reference,
            "eval",
            media::EVALUATION,
            ("evaluation.json", report.as_bytes()),
            &facts,
        )
    }

    /// Attaches one file to an artifact, under the tag `TAG-KIND-N`.
    pub(crate) fn attach(
        &self,
        artifact: &Artifact,
        reference: &Reference,
        kind: &str,
        artifact_type: &'static str,
        (name, content): (&str, &[u8]),
        facts: &Facts,
    ) -> Result<(String, Artifact)> {
        let of = match reference.tag() {
            Some(tag) => tag.to_string(),
            None => format!("{}:sha256-{}", reference.name(), artifact.digest.short()),
        };
        let subject_bytes = self.read_manifest(artifact.digest, &of)?.len() as u64;
        let ingest = Ingest::begin(self)?;
        let layer = ingest.keep_bytes(content)?;
        let config = ingest.keep_bytes(media::EMPTY_CONTENT)?;
        let file = File { path: name.into(), digest: layer.digest, bytes: layer.bytes };
        let manifest = Parts {
            artifact_type,
            config: (media::EMPTY, config.digest, config.bytes),
            layers: vec![(artifact_type, &file)],
            subject: Some((artifact.digest, subject_bytes)),
            annotations: facts.annotations(),
        };
        let manifest = ingest.keep_bytes(&manifest.manifest()?)?;
        for number in 1.. {
            let tag = format!("{of}-{kind}-{number}");
            let change = Change { tag: tag.clone(), new: Some(manifest.digest), expected: Expected::Nothing };
            match self.change(&[change], kind) {
                Ok(_) => return Ok((tag.clone(), self.artifact(manifest.digest, &tag)?)),
                Err(error) if error.kind() == lorakit::ErrorKind::Moved => {}
                Err(error) => return Err(error),
            }
        }
        unreachable!("there is always another number")
    }
}
