//! A trace under way.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::carrier::Carrier;
use crate::destination::Destination;
use crate::id::{SpanId, TraceId};
use crate::otlp;
use crate::outbox::{Lane, Outbox, Outcome, Pace};
use crate::score::{self, Score};
use crate::span::{Attributes, Span, Status, Value};

/// The most bytes of a text: Langfuse takes spans of up to 9.5 MB.
const LONGEST: usize = 1 << 20;

/// The root of every trace.
const ROOT: &str = "lorakit.run";

/// What a trace is of, and where it goes.
pub struct Options {
    /// Its name.
    pub name: String,
    /// What it belongs to with other traces: a run, and all that is done with its adapter.
    pub session: Option<String>,
    /// What every span says, besides the name and the session: metadata of the trace.
    pub attributes: Attributes,
    /// Whether texts of rows, prompts and answers are recorded.
    pub content: bool,
    /// The folder of its files.
    pub folder: PathBuf,
    /// Where it goes.
    pub destination: Destination,
    /// Who carries it there; nobody if this program cannot.
    pub carrier: Option<Arc<dyn Carrier>>,
    /// The version of the program.
    pub version: String,
}

/// A trace under way. What is recorded is in a file at once; a thread sends it. Dropped, it ends as it is.
pub struct Trace {
    id: TraceId,
    spans: u64,
    common: Attributes,
    content: bool,
    resource: Attributes,
    environment: Option<String>,
    version: String,
    scores: bool,
    outbox: Outbox,
    /// The clock that never goes back.
    begun: (u64, Instant),
    root_begin: u64,
}

impl Trace {
    /// Begins a trace. Its files appear with what is recorded.
    pub fn begin(options: Options) -> Self {
        Self::begin_at_pace(options, Pace::USUAL)
    }

    pub(crate) fn begin_at_pace(options: Options, pace: Pace) -> Self {
        let Options { name, session, attributes, content, folder, destination, carrier, version } = options;
        let id = TraceId::draw();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let resource = destination.resource.clone();
        let environment = resource.0.iter().find_map(|(name, value)| match value {
            Value::Text(text) if name == "deployment.environment.name" => Some(text.clone()),
            _ => None,
        });
        let common = Attributes::default().with("langfuse.trace.name", name).maybe("session.id", session);
        Trace {
            id,
            spans: 1,
            common: common.and(&attributes),
            content,
            resource,
            environment,
            version,
            scores: destination.takes_scores(),
            outbox: Outbox::new(&folder, &id.to_string(), &destination, carrier, pace),
            begun: (now, Instant::now()),
            root_begin: now,
        }
    }

    /// Says that what is traced began at another moment than the trace.
    pub fn began(&mut self, moment: Instant) {
        self.root_begin = self.at(moment);
    }

    /// Its id.
    pub fn id(&self) -> TraceId {
        self.id
    }

    /// The span of the whole, which is recorded by [`Self::end`].
    pub fn root(&self) -> SpanId {
        self.id.span(0)
    }

    /// An id for a span that is recorded later, so that others can be parts of it.
    pub fn reserve(&mut self) -> SpanId {
        self.spans += 1;
        self.id.span(self.spans - 1)
    }

    /// Now, in nanoseconds since 1970.
    pub fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    /// A moment of this process, in nanoseconds since 1970.
    pub fn at(&self, moment: Instant) -> u64 {
        let (wall, begun) = self.begun;
        let later = u64::try_from(moment.saturating_duration_since(begun).as_nanos()).unwrap_or(0);
        let earlier = u64::try_from(begun.saturating_duration_since(moment).as_nanos()).unwrap_or(0);
        wall + later - earlier
    }

    /// A moment as Langfuse reads it in attributes: as JSON, with milliseconds.
    pub fn date(&self, moment: Instant) -> String {
        let date = jiff::Timestamp::from_nanosecond(i128::from(self.at(moment))).unwrap_or_default();
        serde_json::Value::from(format!("{date:.3}")).to_string()
    }

    /// Adds something that every span says from now on.
    pub fn say(&mut self, name: &str, value: impl Into<Value>) {
        self.common = std::mem::take(&mut self.common).with(name, value);
    }

    /// A text as an attribute: as JSON, which Langfuse expects, and cut where it is too long. None unless texts are
    /// recorded.
    pub fn content(&self, text: &str) -> Option<String> {
        self.content.then(|| serde_json::Value::from(shortened(text)).to_string())
    }

    /// Records something that was done: from when to when, as a part of what. Returns its id.
    pub fn record(
        &mut self,
        parent: SpanId,
        name: &str,
        (begin, end): (u64, u64),
        attributes: Attributes,
    ) -> SpanId {
        let id = self.reserve();
        self.record_as(id, parent, name, (begin, end), attributes);
        id
    }

    /// As [`Self::record`], with an id that was reserved.
    pub fn record_as(
        &mut self,
        id: SpanId,
        parent: SpanId,
        name: &str,
        (begin, end): (u64, u64),
        attributes: Attributes,
    ) {
        let (name, parent) = (name.to_string(), Some(parent));
        self.put(Span { trace: self.id, id, parent, name, begin, end, attributes, status: Status::Ok });
    }

    /// Records how good something was.
    pub fn score(&mut self, score: &Score) {
        if !self.scores {
            return;
        }
        if let Some(line) = score::line(self.id, self.environment.as_deref(), score) {
            self.outbox.put(Lane::Scores, &line);
        }
    }

    /// Records the root, and waits until all is sent, as long as the receiver takes it; in a hurry, hardly at all.
    pub fn end(mut self, attributes: Attributes, status: Status, hurry: bool) -> Outcome {
        let (begin, end) = (self.root_begin, self.now());
        let (trace, id, name) = (self.id, self.root(), ROOT.to_string());
        self.put(Span { trace, id, parent: None, name, begin, end, attributes, status });
        self.outbox.close(hurry)
    }

    fn put(&mut self, mut span: Span) {
        span.attributes = span.attributes.and(&self.common);
        self.outbox.put(Lane::Spans, &otlp::line(&self.resource, &self.version, &span));
    }
}

/// A text that is not too long.
fn shortened(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_string();
    }
    let end = text.floor_char_boundary(LONGEST);
    format!("{}... ({} more bytes)", &text[..end], text.len() - end)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::Value as Json;

    use super::*;
    use crate::score::Scored;
    use crate::span::Observation;
    use crate::testing::{FAST, Fake, destination, taken};

    fn options(folder: PathBuf, content: bool, carrier: Option<Arc<dyn Carrier>>) -> Options {
        Options {
            name: "lorakit train".into(),
            session: Some("run-1".into()),
            attributes: Attributes::default().trace_metadata("seed", 42_u64),
            content,
            folder,
            destination: destination(),
            carrier,
            version: "0.1.0".into(),
        }
    }

    #[test]
    fn a_tree_of_spans_and_a_score() {
        let folder = tempfile::tempdir().unwrap();
        let carrier = Fake::new(|_, _| taken());
        let mut trace =
            Trace::begin_at_pace(options(folder.path().into(), false, Some(carrier.clone())), FAST);
        let train = trace.reserve();
        let times = (trace.now(), trace.now());
        let window = trace.record(train, "train.window", times, Attributes::of(Observation::Span));
        trace.record_as(train, trace.root(), "train", times, Attributes::of(Observation::Span));
        trace.score(&Score {
            of: window,
            name: "eval_loss".into(),
            value: Scored::Number(1.5),
            comment: None,
        });
        let (id, root) = (trace.id().to_string(), trace.root().to_string());
        let outcome = trace.end(Attributes::of(Observation::Span), Status::Ok, false);
        assert_eq!((outcome.spans, outcome.scores), (3, 1));
        let posted = carrier.posted();
        let body: Json = serde_json::from_str(&posted[0].1).unwrap();
        let spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone();
        let named = |name: &str| spans.iter().find(|span| span["name"] == name).unwrap();
        assert_eq!(
            (&named("lorakit.run")["spanId"], named("lorakit.run").get("parentSpanId")),
            (&root.into(), None)
        );
        assert_eq!(named("train.window")["parentSpanId"], named("train")["spanId"]);
        for span in &spans {
            assert_eq!(span["traceId"], id.as_str());
            let said = |key: &str| span["attributes"].as_array().unwrap().iter().any(|one| one["key"] == key);
            assert!(
                said("langfuse.trace.name") && said("session.id") && said("langfuse.trace.metadata.seed")
            );
        }
        let score: Json = serde_json::from_str(&posted[1].1).unwrap();
        assert_eq!(score["observationId"], named("train.window")["spanId"]);
    }

    #[test]
    fn moments_are_of_one_clock() {
        let folder = tempfile::tempdir().unwrap();
        let trace = Trace::begin(options(folder.path().into(), false, None));
        let (wall, begun) = trace.begun;
        let second = std::time::Duration::from_secs(1);
        assert_eq!(
            (trace.at(begun + second), trace.at(begun - second)),
            (wall + 1_000_000_000, wall - 1_000_000_000)
        );
        let date = trace.date(begun);
        assert_eq!((date.len(), &date[11..12], &date[24..]), (26, "T", "Z\""), "{date}");
    }

    #[test]
    fn texts_are_recorded_only_if_that_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let quiet = Trace::begin(options(folder.path().into(), false, None));
        assert_eq!(quiet.content("secret"), None);
        let open = Trace::begin(options(folder.path().into(), true, None));
        assert_eq!(open.content("a \"b\"").as_deref(), Some(r#""a \"b\"""#));
        let long = open.content(&"é".repeat(LONGEST)).unwrap();
        assert!(long.len() < LONGEST + 100 && long.ends_with("more bytes)\""), "{}", long.len());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "files appear with what is recorded");
    }
}
