//! Where traces go, as the variables of OpenTelemetry and Langfuse say. Without any of them, they go nowhere.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::Result;
use crate::problem::Problem;
use crate::span::Attributes;

const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_HEADERS: &str = "OTEL_EXPORTER_OTLP_TRACES_HEADERS";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const TRACES_TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT";
const TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TIMEOUT";
const TRACES_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const SERVICE: &str = "OTEL_SERVICE_NAME";
const RESOURCE: &str = "OTEL_RESOURCE_ATTRIBUTES";
const PUBLIC_KEY: &str = "LANGFUSE_PUBLIC_KEY";
const SECRET_KEY: &str = "LANGFUSE_SECRET_KEY";
const BASE_URL: &str = "LANGFUSE_BASE_URL";
const HOST: &str = "LANGFUSE_HOST";

/// The variables that are read here.
pub const VARIABLES: &[&str] = &[
    TRACES_ENDPOINT,
    ENDPOINT,
    TRACES_HEADERS,
    HEADERS,
    TRACES_TIMEOUT,
    TIMEOUT,
    TRACES_PROTOCOL,
    PROTOCOL,
    SERVICE,
    RESOURCE,
    PUBLIC_KEY,
    SECRET_KEY,
    BASE_URL,
    HOST,
];

/// Where Langfuse takes spans and scores, after its address.
const LANGFUSE_TRACES: &str = "/api/public/otel/v1/traces";
const LANGFUSE_SCORES: &str = "/api/public/scores";
/// Spans are written directly; without it they may come ten minutes late.
const LANGFUSE_VERSION: (&str, &str) = ("x-langfuse-ingestion-version", "4");

/// How long a request may take if nothing says so; the default of OTLP.
const USUAL_TIMEOUT: Duration = Duration::from_secs(10);
/// The most milliseconds that it may be told to.
const LONGEST: u64 = 600_000;

/// An address with the headers that it is sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    url: String,
    headers: Vec<(String, String)>,
    secrets: Vec<String>,
}

impl Target {
    /// The address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The address as messages show it: without what follows a `?`.
    pub fn shown(&self) -> &str {
        self.url.split(['?', '#']).next().unwrap_or_default()
    }

    /// Headers, with credentials among them.
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// What no message may show, even if a receiver repeats it.
    pub fn secrets(&self) -> &[String] {
        &self.secrets
    }
}

/// Shows no header.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

/// Where traces go.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Where spans go; none if no variable says so.
    pub traces: Option<Target>,
    /// Where scores go: to Langfuse, if its variables are set.
    pub scores: Option<Target>,
    /// How long a request may take.
    pub timeout: Duration,
    /// What spans are said to come from.
    pub resource: Attributes,
}

impl Destination {
    /// Reads the variables, given what gives a variable's value. One that is empty is not set. `version` is that of the
    /// program.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) for a value that makes no sense. No message shows a value.
    pub fn new(variable: &dyn Fn(&str) -> Option<String>, version: &str) -> Result<Self> {
        let get = |name: &'static str| variable(name).filter(|value| !value.trim().is_empty());
        let first = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, get(name)?)));
        if let Some((variable, protocol)) = first([TRACES_PROTOCOL, PROTOCOL])
            && protocol.trim() == "grpc"
        {
            return Err(Problem::Protocol { variable }.into());
        }
        let langfuse = Langfuse::new(&get)?;
        let traces = match (get(TRACES_ENDPOINT), get(ENDPOINT)) {
            (Some(url), _) => Some(address(TRACES_ENDPOINT, &url)?),
            (None, Some(base)) => {
                Some(format!("{}/v1/traces", address(ENDPOINT, &base)?.trim_end_matches('/')))
            }
            (None, None) => None,
        };
        let own = |langfuse: &Langfuse, path: &str| langfuse.url.as_ref().map(|url| format!("{url}{path}"));
        let of_langfuse = langfuse.as_ref().and_then(|langfuse| own(langfuse, LANGFUSE_TRACES));
        let traces = match traces {
            Some(url) => {
                let mut headers = match first([TRACES_HEADERS, HEADERS]) {
                    Some((variable, text)) => headers(variable, &text)?,
                    None => Vec::new(),
                };
                let mut secrets: Vec<String> = headers.iter().map(|(_, value)| value.clone()).collect();
                // Keys of Langfuse go to Langfuse alone.
                if let Some(langfuse) = langfuse.as_ref().filter(|_| of_langfuse.as_ref() == Some(&url)) {
                    langfuse.add_to(&mut headers, &mut secrets);
                }
                Some(Target { url, headers, secrets: with_parts(secrets) })
            }
            None => langfuse.as_ref().zip(of_langfuse).map(|(langfuse, url)| langfuse.target(url)),
        };
        let scores =
            langfuse.as_ref().and_then(|langfuse| Some(langfuse.target(own(langfuse, LANGFUSE_SCORES)?)));
        let timeout = match first([TRACES_TIMEOUT, TIMEOUT]) {
            Some((variable, text)) => match text.trim().parse() {
                Ok(time) if (1..=LONGEST).contains(&time) => Duration::from_millis(time),
                _ => return Err(Problem::Timeout { variable }.into()),
            },
            None => USUAL_TIMEOUT,
        };
        let mut resource =
            Attributes::default().with("service.name", "lorakit").with("service.version", version);
        if let Some(text) = get(RESOURCE) {
            for (name, value) in pairs(RESOURCE, &text)? {
                resource = resource.with(&name, value);
            }
        }
        let resource = resource.maybe("service.name", get(SERVICE));
        Ok(Destination { traces, scores, timeout, resource })
    }

    /// Whether scores are of use: to Langfuse, or to whoever sends what waits in files to it.
    pub(crate) fn takes_scores(&self) -> bool {
        self.scores.is_some() || self.traces.is_none()
    }
}

/// The keys of Langfuse, and its address if that is said too.
struct Langfuse {
    url: Option<String>,
    authorization: String,
    secret: String,
}

impl Langfuse {
    fn new(get: &dyn Fn(&'static str) -> Option<String>) -> Result<Option<Self>> {
        let (public, secret) = match (get(PUBLIC_KEY), get(SECRET_KEY)) {
            (Some(public), Some(secret)) => (public, secret),
            (None, None) => return Ok(None),
            (Some(_), None) => return Err(Problem::HalfOfKeys { missing: SECRET_KEY }.into()),
            (None, Some(_)) => return Err(Problem::HalfOfKeys { missing: PUBLIC_KEY }.into()),
        };
        let url = match (get(BASE_URL), get(HOST)) {
            (Some(url), _) => Some(address(BASE_URL, &url)?),
            (None, Some(url)) => Some(address(HOST, &url)?),
            (None, None) => None,
        };
        let (public, secret) = (public.trim(), secret.trim().to_string());
        let authorization = format!("Basic {}", STANDARD.encode(format!("{public}:{secret}")));
        Ok(Some(Langfuse {
            url: url.map(|url| url.trim_end_matches('/').to_string()),
            authorization,
            secret,
        }))
    }

    /// Adds what Langfuse wants to be sent, unless something else was said.
    fn add_to(&self, headers: &mut Vec<(String, String)>, secrets: &mut Vec<String>) {
        for (name, value) in [("authorization", self.authorization.as_str()), LANGFUSE_VERSION] {
            if !headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                headers.push((name.to_string(), value.to_string()));
            }
        }
        secrets.extend([self.authorization.clone(), self.secret.clone()]);
    }

    fn target(&self, url: String) -> Target {
        let (mut headers, mut secrets) = (Vec::new(), Vec::new());
        self.add_to(&mut headers, &mut secrets);
        Target { url, headers, secrets: with_parts(secrets) }
    }
}

/// Secrets, and what stands behind `Basic` or `Bearer` in them. Longer ones first, so that none hides a part of another.
fn with_parts(secrets: Vec<String>) -> Vec<String> {
    let part = |secret: &String| secret.split_once(' ').map(|(_, part)| part.trim().to_string());
    let mut all: Vec<String> = secrets.iter().filter_map(part).collect();
    all.extend(secrets);
    all.retain(|secret| !secret.is_empty());
    all.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    all
}

/// An address of HTTP.
fn address(variable: &'static str, text: &str) -> Result<String> {
    let text = text.trim();
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        let (head, rest) = text.split_at_checked(scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    match host {
        Some(host) if host.contains('@') => Err(Problem::Credentials { variable }.into()),
        Some(host) if !host.is_empty() && text.chars().all(|c| !c.is_whitespace() && !c.is_control()) => {
            Ok(text.to_string())
        }
        _ => Err(Problem::Url { variable }.into()),
    }
}

fn headers(variable: &'static str, text: &str) -> Result<Vec<(String, String)>> {
    let pairs = pairs(variable, text)?;
    for (name, value) in &pairs {
        let named =
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        if !named || !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(Problem::Header { variable, name: name.clone() }.into());
        }
    }
    Ok(pairs)
}

/// Pairs as W3C Baggage writes them: `NAME=VALUE,NAME=VALUE`, percent-encoded; what follows a `;` is about the pair.
fn pairs(variable: &'static str, text: &str) -> Result<Vec<(String, String)>> {
    let wrong = || Problem::Pairs { variable };
    let mut found = Vec::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or_else(wrong)?;
        let value = value.split(';').next().unwrap_or_default();
        let decode = |text: &str| decoded(text.trim()).ok_or_else(wrong);
        let (name, value) = (decode(name)?, decode(value)?);
        if name.is_empty() {
            return Err(wrong().into());
        }
        found.push((name, value));
    }
    Ok(found)
}

/// Percent-decodes.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            let digits =
                std::str::from_utf8(&digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::Value;

    fn read(variables: &[(&str, &str)]) -> Result<Destination> {
        let get = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.to_string())
        };
        Destination::new(&get, "0.1.0")
    }

    fn url(target: &Option<Target>) -> Option<&str> {
        target.as_ref().map(Target::url)
    }

    const KEYS: [(&str, &str); 2] = [(PUBLIC_KEY, "pk-lf-1"), (SECRET_KEY, "sk-lf-2")];

    #[test]
    fn nothing_goes_anywhere_unless_a_variable_says_so() {
        for variables in
            [&[][..], &KEYS, &[(ENDPOINT, ""), (HOST, " ")], &[(HOST, "https://langfuse.example")]]
        {
            let found = read(variables).unwrap();
            assert_eq!((url(&found.traces), url(&found.scores)), (None, None), "{variables:?}");
            assert!(found.takes_scores());
        }
    }

    #[test]
    fn the_variables_of_opentelemetry() {
        let found = read(&[(ENDPOINT, "http://localhost:4318/")]).unwrap();
        assert_eq!(url(&found.traces), Some("http://localhost:4318/v1/traces"));
        assert_eq!(found.timeout, USUAL_TIMEOUT);
        assert!(!found.takes_scores());
        let found = read(&[
            (ENDPOINT, "http://localhost:4318"),
            (TRACES_ENDPOINT, "https://otel.example/in?tenant=a"),
            (HEADERS, "x-api-key=se%20cret, tenant = b;p=1 ,"),
            (TIMEOUT, "2500"),
            (SERVICE, "mine"),
            (RESOURCE, "service.name=theirs,deployment.environment.name=ci"),
        ]);
        let found = found.unwrap();
        let traces = found.traces.unwrap();
        assert_eq!(
            (traces.url(), traces.shown()),
            ("https://otel.example/in?tenant=a", "https://otel.example/in")
        );
        let headers =
            [("x-api-key", "se cret"), ("tenant", "b")].map(|(a, b)| (a.to_string(), b.to_string()));
        assert_eq!(traces.headers(), headers);
        assert_eq!(found.timeout, Duration::from_millis(2500));
        let resource = |name: &str| {
            found.resource.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        assert_eq!(resource("service.name"), Some(Value::from("mine")));
        assert_eq!(resource("deployment.environment.name"), Some(Value::from("ci")));
    }

    #[test]
    fn the_variables_of_langfuse() {
        let langfuse = [&KEYS[..], &[(HOST, "https://langfuse.example/")]].concat();
        let found = read(&langfuse).unwrap();
        assert_eq!(url(&found.traces), Some("https://langfuse.example/api/public/otel/v1/traces"));
        assert_eq!(url(&found.scores), Some("https://langfuse.example/api/public/scores"));
        let headers = found.traces.as_ref().unwrap().headers().to_vec();
        assert_eq!(headers[0], ("authorization".into(), "Basic cGstbGYtMTpzay1sZi0y".into()));
        assert_eq!(headers[1], ("x-langfuse-ingestion-version".into(), "4".into()));
        // A collector gets no keys of Langfuse, and Langfuse gets them however it is named.
        let collector = read(&[&langfuse[..], &[(ENDPOINT, "http://localhost:4318")]].concat()).unwrap();
        assert_eq!(collector.traces.unwrap().headers(), []);
        assert!(collector.scores.is_some());
        let named = [&langfuse[..], &[(ENDPOINT, "https://langfuse.example/api/public/otel")]].concat();
        assert_eq!(read(&named).unwrap().traces.unwrap().headers(), headers);
    }

    #[test]
    fn secrets_are_known_with_their_parts_and_never_shown() {
        let found = read(&[&KEYS[..], &[(HOST, "http://localhost:3000")]].concat()).unwrap();
        let traces = found.traces.as_ref().unwrap();
        assert_eq!(traces.secrets(), ["Basic cGstbGYtMTpzay1sZi0y", "cGstbGYtMTpzay1sZi0y", "sk-lf-2"]);
        let shown = format!("{found:?}");
        assert!(!shown.contains("sk-lf") && !shown.contains("cGst"), "{shown}");
    }

    #[test]
    fn values_that_make_no_sense_are_refused_and_not_shown() {
        let refused = [
            vec![(ENDPOINT, "localhost:4318secret")],
            vec![(ENDPOINT, "https://user:secret@otel.example")],
            vec![(ENDPOINT, "https:///secret")],
            vec![(ENDPOINT, "http://a"), (HEADERS, "secret")],
            vec![(ENDPOINT, "http://a"), (HEADERS, "a=%2secret")],
            vec![(ENDPOINT, "http://a"), (HEADERS, "a=secret%0a")],
            vec![(ENDPOINT, "http://a"), (TIMEOUT, "secret")],
            vec![(TRACES_PROTOCOL, "grpc")],
            vec![(PUBLIC_KEY, "secret")],
            vec![(SECRET_KEY, "secret")],
        ];
        let said: Vec<String> =
            refused.iter().map(|variables| read(variables).unwrap_err().to_string()).collect();
        assert!(said.iter().all(|text| !text.contains("secret")), "{said:?}");
        insta::assert_snapshot!(said.join("\n"));
    }
}
