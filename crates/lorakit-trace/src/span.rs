//! Spans: something that was done, from when to when, and what is known of it.

use crate::id::{SpanId, TraceId};

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number. One that is not finite is written as a text, because JSON has none.
    Double(f64),
    /// Several texts.
    List(Vec<String>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

impl From<bool> for Value {
    fn from(switch: bool) -> Self {
        Value::Bool(switch)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Value::from(number as u64)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Value::Double(number)
    }
}

/// What Langfuse shows a span as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// Work.
    Span,
    /// An answer of a model.
    Generation,
    /// A judgement.
    Evaluator,
}

impl Observation {
    fn name(self) -> &'static str {
        match self {
            Observation::Span => "span",
            Observation::Generation => "generation",
            Observation::Evaluator => "evaluator",
        }
    }
}

/// Attributes, by their names, in the order in which they were set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Attributes(pub(crate) Vec<(String, Value)>);

impl Attributes {
    /// Those of a span that Langfuse shows as `observation`. It is always said: otherwise any span that names a model would
    /// be a generation.
    pub fn of(observation: Observation) -> Self {
        Attributes::default().with("langfuse.observation.type", observation.name())
    }

    /// With one more, or another value of one.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name.to_string(), value)),
        }
        self
    }

    /// With one more, if it has a value.
    #[must_use]
    pub fn maybe(self, name: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// With something that Langfuse shows, and filters by, as metadata of the observation.
    #[must_use]
    pub fn metadata(self, key: &str, value: impl Into<Value>) -> Self {
        self.with(&format!("langfuse.observation.metadata.{key}"), value)
    }

    /// With that, if it has a value.
    #[must_use]
    pub fn maybe_metadata(self, key: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.metadata(key, value),
            None => self,
        }
    }

    /// With something that Langfuse shows, and filters by, as metadata of the trace.
    #[must_use]
    pub fn trace_metadata(self, key: &str, value: impl Into<Value>) -> Self {
        self.with(&format!("langfuse.trace.metadata.{key}"), value)
    }

    /// With a result, as the conventions for generative AI of OpenTelemetry name it.
    #[must_use]
    pub fn evaluation(self, name: &str, score: f64, label: Option<&str>) -> Self {
        self.with("gen_ai.evaluation.name", name)
            .with("gen_ai.evaluation.score.value", score)
            .maybe("gen_ai.evaluation.score.label", label)
    }

    /// With all of `others` that it does not have.
    #[must_use]
    pub fn and(mut self, others: &Attributes) -> Self {
        let missing = |(name, _): &&(String, Value)| !self.0.iter().any(|(known, _)| known == name);
        let missing: Vec<_> = others.0.iter().filter(missing).cloned().collect();
        self.0.extend(missing);
        self
    }
}

/// How something ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Well.
    Ok,
    /// With an error, in words.
    Error(String),
}

/// Something that was done.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// The trace that it belongs to.
    pub trace: TraceId,
    /// Its id.
    pub id: SpanId,
    /// What it was a part of; none for the root.
    pub parent: Option<SpanId>,
    /// What was done.
    pub name: String,
    /// Its beginning, in nanoseconds since 1970.
    pub begin: u64,
    /// Its end, in nanoseconds since 1970.
    pub end: u64,
    /// What is known of it.
    pub attributes: Attributes,
    /// How it ended.
    pub status: Status,
}
