use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;

use super::*;

const SECRET: &str = "sk-lf-secret";

/// Answers one request, in full; returns its address, and what came.
fn receiver(answer: impl Into<String>) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let answer = answer.into();
    let came = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let (mut text, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            text += &line;
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let _ = reader.get_mut().write_all(answer.as_bytes());
        text + std::str::from_utf8(&body).unwrap()
    });
    (url, came)
}

fn post(url: &str, timeout: u64) -> Result<Reply, Failure> {
    let headers = [("Authorization".to_string(), format!("Basic {SECRET}"))];
    let secrets = [format!("Basic {SECRET}"), SECRET.to_string()];
    let timeout = Duration::from_millis(timeout);
    let request = Request { url, headers: &headers, secrets: &secrets, body: "{\"a\":1}", timeout };
    Client::new("lorakit/test").post(&request)
}

fn answered(answer: impl Into<String>) -> Reply {
    let (url, came) = receiver(answer);
    let reply = post(&url, 30_000).unwrap();
    came.join().unwrap();
    reply
}

#[test]
fn a_request_arrives_with_its_headers() {
    let (url, came) = receiver("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    let reply = post(&url, 30_000).unwrap();
    assert!(reply.is_success() && !reply.is_transient());
    assert_eq!((reply.status, reply.body.as_str(), reply.after), (200, "{}", None));
    let came = came.join().unwrap();
    assert!(
        came.starts_with("POST /v1/traces HTTP/1.1\r\n") && came.ends_with("\r\n\r\n{\"a\":1}"),
        "{came}"
    );
    let lower = came.to_ascii_lowercase();
    for header in
        ["content-type: application/json", "authorization: basic sk-lf-secret", "user-agent: lorakit/test"]
    {
        assert!(lower.contains(header), "{came}");
    }
}

#[test]
fn busy_receivers_say_for_how_long() {
    let reply = answered("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n");
    assert!(reply.is_transient());
    assert_eq!(reply.after, Some(Duration::from_secs(7)));
    let reply = answered("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy");
    assert!(reply.is_transient());
    assert!(reply.what().ends_with("/v1/traces`: 503 Service Unavailable: busy"), "{}", reply.what());
}

#[test]
fn delays_are_seconds_or_dates() {
    assert_eq!(delay(" 120 "), Some(Duration::from_secs(120)));
    assert_eq!(delay("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
    let later = delay("Thu, 31 Dec 2099 23:59:59 GMT").unwrap();
    assert!(later > Duration::from_secs(3600 * 24 * 365));
    assert_eq!(delay("soon"), None);
}

#[test]
fn what_is_refused_is_named_without_secrets() {
    let reply = answered(
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nyou sent Basic sk-lf-secret,\nor: sk-lf-secret",
    );
    assert!(!reply.is_success() && !reply.is_transient());
    assert!(reply.what().ends_with(": 400 Bad Request: you sent ***, or: ***"), "{}", reply.what());
    assert!(!format!("{reply:?}").contains(SECRET));
}

#[test]
fn redirects_are_not_followed() {
    let reply = answered(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(reply.status, 307);
    assert!(!reply.is_success() && !reply.is_transient());
}

#[test]
fn long_answers_are_not_read_to_the_end() {
    let begin = "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n";
    let reply = answered(begin.to_string() + &"a".repeat(2 * LIMIT as usize));
    assert_eq!(reply.body.len() as u64, LIMIT);
}

#[test]
fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    drop(listener);
    let Failure(why) = post(&url, 30_000).unwrap_err();
    assert!(why.contains("/v1/traces`: cannot connect: Connection refused"), "{why}");
}

#[test]
fn nobody_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let Failure(why) = post(&url, 200).unwrap_err();
    assert!(why.ends_with("/v1/traces`: no answer within 0.2 s"), "{why}");
}

/// A program that speaks no TLS where it should.
#[test]
fn a_secure_address_is_not_answered_in_plain_text() {
    let (url, _) = receiver("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let Failure(why) = post(&url.replace("http:", "https:"), 5_000).unwrap_err();
    assert!(why.contains("/v1/traces`: ") && !why.contains(SECRET), "{why}");
}
