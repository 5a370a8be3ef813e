//! The client.

use std::io::Read;
use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::blocking;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;

use crate::message;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// The most bytes of an answer that are read.
const LIMIT: u64 = 64 << 10;

/// A `POST`.
#[derive(Debug, Clone, Copy)]
pub struct Request<'r> {
    /// Where it goes: `http://` or `https://`.
    pub url: &'r str,
    /// Headers, besides the type of the content.
    pub headers: &'r [(String, String)],
    /// What no message may show.
    pub secrets: &'r [String],
    /// JSON.
    pub body: &'r str,
    /// How long it may take, up to the last byte of the answer.
    pub timeout: Duration,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status of HTTP.
    pub status: u16,
    /// The text of it, as far as it was read.
    pub body: String,
    /// How long the receiver wants to be left alone.
    pub after: Option<Duration>,
    what: String,
}

impl Reply {
    /// Whether the request was taken.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether the same request may be taken later.
    pub fn is_transient(&self) -> bool {
        matches!(self.status, 408 | 429 | 502 | 503 | 504)
    }

    /// The address, the status and the beginning of the text, in a line, without secrets.
    pub fn what(&self) -> &str {
        &self.what
    }
}

/// Why there is no answer: the receiver cannot be reached, or breaks off. In a line, without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(pub String);

/// Sends requests. Connections are kept for the next.
#[derive(Default)]
pub struct Client {
    agent: String,
    /// For addresses of `http://`: nothing is read of the authorities that a system trusts, which may have none.
    plain: OnceLock<Result<blocking::Client, String>>,
    secure: OnceLock<Result<blocking::Client, String>>,
}

impl Client {
    /// One that calls itself `agent`, such as `lorakit/0.1.0`. Nothing is connected yet.
    pub fn new(agent: &str) -> Self {
        Client { agent: agent.to_string(), ..Client::default() }
    }

    /// Sends a request once.
    ///
    /// # Errors
    /// If there is no whole answer in time.
    pub fn post(&self, request: &Request<'_>) -> Result<Reply, Failure> {
        let place = message::place(request.url);
        let failed = |why: &str| Failure(message::hidden(&format!("`{place}`: {why}"), request.secrets));
        let secure = !request.url.starts_with("http://");
        let cell = if secure { &self.secure } else { &self.plain };
        let client = cell.get_or_init(|| self.client(secure)).as_ref().map_err(|why| failed(why))?;
        let headers = headers(request.headers).ok_or_else(|| failed("a header cannot be sent"))?;
        let sent = client
            .post(request.url)
            .timeout(request.timeout)
            .headers(headers)
            .header(CONTENT_TYPE, "application/json")
            .body(request.body.to_string())
            .send();
        let told = |error: reqwest::Error| failed(&message::of(&error, request.timeout));
        let response = sent.map_err(told)?;
        let status = response.status();
        let after = response.headers().get(RETRY_AFTER).and_then(|value| delay(value.to_str().ok()?));
        let mut body = Vec::new();
        let read = response.take(LIMIT).read_to_end(&mut body);
        read.map_err(|error| failed(&format!("the answer breaks off: {error}")))?;
        let body = message::hidden(&String::from_utf8_lossy(&body), request.secrets);
        let mut what = format!("`{place}`: {status}");
        if !body.trim().is_empty() {
            what += &format!(": {}", message::excerpt(&body));
        }
        Ok(Reply { status: status.as_u16(), body, after, what: message::hidden(&what, request.secrets) })
    }

    fn client(&self, secure: bool) -> Result<blocking::Client, String> {
        // Where another part of the program has chosen one, that is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = blocking::Client::builder()
            .user_agent(self.agent.as_str())
            .connect_timeout(CONNECT)
            .redirect(Policy::none());
        let builder = if secure { builder } else { builder.tls_certs_only([]) };
        builder.build().map_err(|error| format!("no TLS: {}", message::innermost(&error)))
    }
}

fn headers(all: &[(String, String)]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in all {
        let mut value = HeaderValue::from_str(value).ok()?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
    }
    Some(headers)
}

/// What `Retry-After` says: seconds, or a date.
fn delay(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(Timestamp::now())).unwrap_or_default())
}

#[cfg(test)]
mod tests;
