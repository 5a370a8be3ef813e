//! A receiver on loopback that takes traces as strictly as Langfuse does.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

/// A request that came.
#[derive(Debug, Clone)]
pub(super) struct Post {
    pub(super) path: String,
    /// By their names in lower case.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

/// What the receiver says to a request: a status with its name, more headers, and a text.
pub(super) struct Said(pub(super) &'static str, pub(super) &'static str, pub(super) String);

pub(super) fn ok() -> Said {
    Said("200 OK", "", "{}".into())
}

/// Listens until the test ends.
pub(super) struct Receiver {
    pub(super) url: String,
    posts: Arc<Mutex<Vec<Post>>>,
}

impl Receiver {
    /// `says` is given how many requests came before, and the request.
    pub(super) fn new(says: impl Fn(usize, &Post) -> Said + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (posts, says) = (Arc::new(Mutex::new(Vec::new())), Arc::new(says));
        let shared = posts.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (posts, says) = (shared.clone(), says.clone());
                thread::spawn(move || while serve(&stream, &posts, says.as_ref()).is_some() {});
            }
        });
        Receiver { url, posts }
    }

    pub(super) fn posts(&self) -> Vec<Post> {
        self.posts.lock().unwrap().clone()
    }

    /// All spans that came, each checked.
    pub(super) fn spans(&self) -> Vec<Value> {
        let posts = self.posts();
        posts
            .iter()
            .filter(|post| post.path.ends_with("/v1/traces"))
            .flat_map(|post| spans(&post.body))
            .collect()
    }

    /// All scores that came, each checked.
    pub(super) fn scores(&self) -> Vec<Value> {
        let posts = self.posts();
        let posts = posts.iter().filter(|post| post.path.ends_with("/api/public/scores"));
        posts.map(|post| score(&post.body)).collect()
    }
}

fn serve(
    stream: &TcpStream,
    posts: &Mutex<Vec<Post>>,
    says: &(dyn Fn(usize, &Post) -> Said + Send + Sync),
) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let path = line.split(' ').nth(1)?.to_string();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_string());
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    let post = Post { path, headers, body: String::from_utf8(body).ok()? };
    let at = {
        let mut posts = posts.lock().unwrap();
        posts.push(post.clone());
        posts.len() - 1
    };
    let Said(status, more, text) = says(at, &post);
    let answer = format!("HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\n\r\n{text}", text.len());
    let mut stream = stream;
    stream.write_all(answer.as_bytes()).ok()
}

/// The members of an object, of which there are no others.
fn members<'v>(value: &'v Value, required: &[&str], optional: &[&str]) -> &'v serde_json::Map<String, Value> {
    let object = value.as_object().unwrap_or_else(|| panic!("not an object: {value}"));
    for name in required {
        assert!(object.contains_key(*name), "`{name}` is missing: {value}");
    }
    for name in object.keys() {
        assert!(required.contains(&name.as_str()) || optional.contains(&name.as_str()), "`{name}`: {value}");
    }
    object
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}"))
}

fn hex(value: &Value, digits: usize) {
    let text = value.as_str().unwrap();
    let valid = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    assert!(text.len() == digits && text.chars().all(valid) && text.chars().any(|c| c != '0'), "{text}");
}

fn nanoseconds(value: &Value) -> u64 {
    value.as_str().unwrap_or_else(|| panic!("a time is a text: {value}")).parse().unwrap()
}

/// Checks attributes: a list of pairs, each with one value of a known kind.
fn attributes(value: &Value) {
    let mut seen = Vec::new();
    for pair in list(value) {
        let pair = members(pair, &["key", "value"], &[]);
        let key = pair["key"].as_str().unwrap();
        assert!(!key.is_empty() && !seen.contains(&key), "{key} twice");
        seen.push(key);
        any_value(&pair["value"]);
    }
}

fn any_value(value: &Value) {
    let kinds = ["stringValue", "intValue", "doubleValue", "boolValue", "arrayValue"];
    let object = members(value, &[], &kinds);
    assert_eq!(object.len(), 1, "{value}");
    let (kind, value) = object.iter().next().unwrap();
    match kind.as_str() {
        "stringValue" => assert!(value.is_string(), "{value}"),
        "intValue" => drop(value.as_str().expect("64-bit numbers are texts").parse::<i64>().unwrap()),
        "doubleValue" => assert!(value.is_number(), "{value}"),
        "boolValue" => assert!(value.is_boolean(), "{value}"),
        _ => list(&members(value, &["values"], &[])["values"]).iter().for_each(any_value),
    }
}

/// The spans of a body, which must be as OTLP/JSON says; anything else that Langfuse would refuse, too.
pub(super) fn spans(body: &str) -> Vec<Value> {
    let body: Value = serde_json::from_str(body).unwrap();
    let mut found = Vec::new();
    for resource in list(&members(&body, &["resourceSpans"], &[])["resourceSpans"]) {
        let resource = members(resource, &["resource", "scopeSpans"], &[]);
        attributes(&members(&resource["resource"], &["attributes"], &[])["attributes"]);
        for scope in list(&resource["scopeSpans"]) {
            let scope = members(scope, &["scope", "spans"], &[]);
            let name = members(&scope["scope"], &["name", "version"], &[])["name"].as_str().unwrap();
            assert!(!name.contains("langfuse"));
            for span in list(&scope["spans"]) {
                self::span(span);
                found.push(span.clone());
            }
        }
    }
    found
}

fn span(span: &Value) {
    let required =
        ["traceId", "spanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano", "attributes", "status"];
    let members = members(span, &required, &["parentSpanId"]);
    hex(&members["traceId"], 32);
    hex(&members["spanId"], 16);
    members.get("parentSpanId").inspect(|parent| hex(parent, 16));
    assert_eq!(members["kind"], 1);
    let (begin, end) = (nanoseconds(&members["startTimeUnixNano"]), nanoseconds(&members["endTimeUnixNano"]));
    assert!(begin > 1_700_000_000_000_000_000 && begin <= end, "{begin} {end}");
    attributes(&members["attributes"]);
    let status = self::members(&members["status"], &["code"], &["message"]);
    assert!([1, 2].map(Value::from).contains(&status["code"]));
    let kind = attribute(span, "langfuse.observation.type").expect("every span says what it is");
    assert!(["span", "generation", "evaluator"].map(Value::from).contains(&kind), "{kind}");
    assert!(attribute(span, "langfuse.trace.name").is_some(), "every span says what the trace is");
    assert!(span.to_string().len() < 9_500_000);
}

fn score(body: &str) -> Value {
    let score: Value = serde_json::from_str(body).unwrap();
    let required = ["id", "traceId", "observationId", "name", "value", "dataType"];
    members(&score, &required, &["comment", "environment"]);
    hex(&score["traceId"], 32);
    hex(&score["observationId"], 16);
    let value = &score["value"];
    match score["dataType"].as_str().unwrap() {
        "NUMERIC" => assert!(value.is_number(), "{score}"),
        "BOOLEAN" => assert!(value == 0 || value == 1, "{score}"),
        "CATEGORICAL" => assert!(value.is_string(), "{score}"),
        kind => panic!("{kind}"),
    }
    score
}

/// The value of an attribute of a span, whatever its kind.
pub(super) fn attribute(span: &Value, key: &str) -> Option<Value> {
    let pair = span["attributes"].as_array()?.iter().find(|pair| pair["key"] == key)?;
    pair["value"].as_object()?.values().next().cloned()
}

/// A tree of spans as lines, children below their parents and in the order of their beginnings.
pub(super) fn tree(spans: &[Value]) -> String {
    fn below(spans: &[Value], parent: Option<&Value>, depth: usize, lines: &mut Vec<String>) {
        let mut children: Vec<&Value> =
            spans.iter().filter(|span| span.get("parentSpanId") == parent).collect();
        children.sort_by_key(|span| nanoseconds(&span["startTimeUnixNano"]));
        for child in children {
            let kind = attribute(child, "langfuse.observation.type").unwrap();
            lines.push(format!(
                "{}{} ({})",
                "  ".repeat(depth),
                child["name"].as_str().unwrap(),
                kind.as_str().unwrap()
            ));
            below(spans, Some(&child["spanId"]), depth + 1, lines);
        }
    }
    let mut lines = Vec::new();
    below(spans, None, 0, &mut lines);
    assert_eq!(lines.len(), spans.len(), "every span has its place: {lines:#?}");
    lines.join("\n")
}
