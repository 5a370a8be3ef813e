//! OTLP/JSON: spans as lines of a file, and lines as the body of a request.
//!
//! Each line is a complete `ExportTraceServiceRequest`, as the OpenTelemetry collector writes and reads files of traces.
//! Ids are hexadecimal, 64-bit integers and times are decimal strings, and enums are numbers.

use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::span::{Attributes, Span, Status, Value};

/// The name of the scope of all spans. It must not contain the name of Langfuse, which would take them for those of its
/// own libraries.
const SCOPE: &str = "lorakit";
/// `SPAN_KIND_INTERNAL`.
const INTERNAL: u8 = 1;
/// `STATUS_CODE_OK`.
const OK: u8 = 1;
/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Encoded<'s> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    name: &'s str,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Json>,
    status: Json,
}

/// A span as a line, without its line break. `version` is that of the program.
pub(crate) fn line(resource: &Attributes, version: &str, span: &Span) -> String {
    let span = Encoded {
        trace_id: span.trace.to_string(),
        span_id: span.id.to_string(),
        parent_span_id: span.parent.map(|parent| parent.to_string()),
        name: &span.name,
        kind: INTERNAL,
        start_time_unix_nano: span.begin.to_string(),
        end_time_unix_nano: span.end.max(span.begin).to_string(),
        attributes: attributes(&span.attributes),
        status: match &span.status {
            Status::Ok => json!({ "code": OK }),
            Status::Error(message) => json!({ "code": ERROR, "message": message }),
        },
    };
    json!({ "resourceSpans": [{
        "resource": { "attributes": attributes(resource) },
        "scopeSpans": [{ "scope": { "name": SCOPE, "version": version }, "spans": [span] }],
    }] })
    .to_string()
}

fn attributes(all: &Attributes) -> Vec<Json> {
    all.0.iter().map(|(key, value)| json!({ "key": key, "value": encoded(value) })).collect()
}

fn encoded(value: &Value) -> Json {
    match value {
        Value::Text(text) => json!({ "stringValue": text }),
        Value::Bool(switch) => json!({ "boolValue": switch }),
        Value::Int(number) => json!({ "intValue": number.to_string() }),
        Value::Double(number) if number.is_finite() => json!({ "doubleValue": number }),
        Value::Double(number) => json!({ "stringValue": number.to_string() }),
        Value::List(texts) => {
            let values: Vec<Json> = texts.iter().map(|text| json!({ "stringValue": text })).collect();
            json!({ "arrayValue": { "values": values } })
        }
    }
}

/// Whether a line is one of spans.
pub(crate) fn is_line(line: &Json) -> bool {
    line["resourceSpans"].as_array().is_some_and(|all| all.iter().all(|one| one["scopeSpans"].is_array()))
}

/// How many spans a line has.
pub(crate) fn count(line: &Json) -> u64 {
    let each = |list: &Json, name: &str| list[name].as_array().cloned().unwrap_or_default();
    let of_resource =
        |one: &Json| each(one, "scopeSpans").iter().map(|scope| each(scope, "spans").len()).sum::<usize>();
    each(line, "resourceSpans").iter().map(of_resource).sum::<usize>() as u64
}

/// The body of one request for several lines. Spans of the same resource and scope are put together.
pub(crate) fn body(lines: impl IntoIterator<Item = Json>) -> String {
    let mut resources: Vec<Json> = Vec::new();
    for mut line in lines {
        for new in line["resourceSpans"].as_array_mut().map(std::mem::take).unwrap_or_default() {
            match resources.iter_mut().find(|known| known["resource"] == new["resource"]) {
                Some(known) => join(known, new),
                None => resources.push(new),
            }
        }
    }
    json!({ "resourceSpans": resources }).to_string()
}

/// Adds the scopes of `new`, which is of the same resource.
fn join(known: &mut Json, mut new: Json) {
    let Some(scopes) = known["scopeSpans"].as_array_mut() else { return };
    for mut scope in new["scopeSpans"].as_array_mut().map(std::mem::take).unwrap_or_default() {
        match scopes.iter_mut().find(|known| known["scope"] == scope["scope"]) {
            Some(known) => {
                let spans = scope["spans"].as_array_mut().map(std::mem::take).unwrap_or_default();
                if let Some(known) = known["spans"].as_array_mut() {
                    known.extend(spans);
                }
            }
            None => scopes.push(scope),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TraceId;
    use crate::span::Observation;

    fn resource() -> Attributes {
        Attributes::default().with("service.name", "lorakit").with("service.version", "0.1.0")
    }

    fn span(at: u64) -> Span {
        let trace = TraceId([0x0a; 16]);
        Span {
            trace,
            id: trace.span(at),
            parent: (at > 0).then(|| trace.span(0)),
            name: format!("eval@{at}"),
            begin: 1_764_000_000_000_000_000,
            end: 1_764_000_012_000_000_000,
            attributes: Attributes::of(Observation::Evaluator)
                .metadata("eval_loss", 1.83)
                .metadata("tokens", 1_u64 << 60)
                .metadata("best", true)
                .metadata("nothing", f64::NAN)
                .with("langfuse.trace.tags", Value::List(vec!["train".into(), "lorakit".into()])),
            status: if at == 2 { Status::Error("it \"failed\"".into()) } else { Status::Ok },
        }
    }

    #[test]
    fn a_root_a_child_and_a_failure() {
        let lines: Vec<String> = (0..3).map(|at| line(&resource(), "0.1.0", &span(at))).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn lines_become_one_request() {
        let parsed = |at: u64, resource: &Attributes| -> Json {
            serde_json::from_str(&line(resource, "0.1.0", &span(at))).unwrap()
        };
        let other = resource().with("deployment.environment.name", "ci");
        let lines = [parsed(0, &resource()), parsed(1, &resource()), parsed(2, &other)];
        assert!(lines.iter().all(|line| is_line(line) && count(line) == 1));
        let body: Json = serde_json::from_str(&body(lines.clone())).unwrap();
        assert_eq!(count(&body), 3);
        let resources = body["resourceSpans"].as_array().unwrap();
        assert_eq!(resources.len(), 2);
        let spans = resources[0]["scopeSpans"][0]["spans"].as_array().unwrap();
        assert_eq!(spans[1], lines[1]["resourceSpans"][0]["scopeSpans"][0]["spans"][0]);
    }
}
