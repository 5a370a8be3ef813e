//! Requests of traces, by the client of `lorakit-remote`.

use lorakit_remote::{Client, Failure};
use lorakit_trace::{Answer, Carrier, Request};

use crate::command::about::VERSION;

pub(super) struct Remote(Client);

impl Remote {
    pub(super) fn new() -> Self {
        Remote(Client::new(&format!("lorakit/{VERSION}")))
    }
}

impl Carrier for Remote {
    fn post(&self, request: &Request<'_>) -> Answer {
        let Request { target, body, timeout } = *request;
        let sent = lorakit_remote::Request {
            url: target.url(),
            headers: target.headers(),
            secrets: target.secrets(),
            body,
            timeout,
        };
        let reply = match self.0.post(&sent) {
            Ok(reply) => reply,
            Err(Failure(why)) => return Answer::Again { why, after: None },
        };
        let why = reply.what().to_string();
        match reply.status {
            _ if reply.is_success() => Answer::Taken { body: reply.body },
            _ if reply.is_transient() => Answer::Again { why, after: reply.after },
            413 => Answer::TooLarge { why },
            400 | 422 => Answer::Bad { why },
            _ => Answer::Refused { why },
        }
    }
}
