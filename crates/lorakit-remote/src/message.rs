//! What is said of requests.

use std::error::Error;
use std::time::Duration;

/// The most characters of an answer in a message.
const MOST: usize = 300;

/// An address without credentials, and without what follows a `?`.
pub(crate) fn place(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_string() };
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// A text with stars in place of secrets.
pub(crate) fn hidden(text: &str, secrets: &[String]) -> String {
    let secrets = secrets.iter().filter(|secret| !secret.is_empty());
    secrets.fold(text.to_string(), |text, secret| text.replace(secret.as_str(), "***"))
}

/// The beginning of an answer, in one line.
pub(crate) fn excerpt(body: &str) -> String {
    let line = body.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect();
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

/// Why a request has no answer.
pub(crate) fn of(error: &reqwest::Error, timeout: Duration) -> String {
    if error.is_timeout() && !error.is_connect() {
        return format!("no answer within {} s", timeout.as_secs_f64());
    }
    let why = innermost(error);
    if error.is_connect() { format!("cannot connect: {why}") } else { why }
}

/// The cause of causes. The outer ones name the address, with whatever is in it.
pub(crate) fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_credentials() {
        assert_eq!(place("https://user:pass@host:4318/v1/traces?key=1#x"), "https://host:4318/v1/traces");
        assert_eq!(place("http://host"), "http://host");
    }

    #[test]
    fn answers_are_cut_and_have_one_line() {
        assert_eq!(excerpt("a\n  b\tc \u{1b}[31m"), "a b c \u{FFFD}[31m");
        assert_eq!(excerpt(&"é ".repeat(400)).chars().count(), MOST + 3);
    }

    #[test]
    fn secrets_become_stars() {
        let secrets = ["Basic abc".to_string(), "abc".into(), String::new()];
        assert_eq!(hidden("Basic abc, abc and d", &secrets), "***, *** and d");
    }
}
