//! A receiver that is none, for tests.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::carrier::{Answer, Carrier, Request};
use crate::destination::Destination;
use crate::outbox::Pace;

/// Hardly any waiting.
pub(crate) const FAST: Pace = Pace {
    linger: Duration::from_millis(1),
    first: Duration::from_millis(1),
    longest: Duration::from_millis(4),
    last: Duration::from_millis(200),
    end: Duration::from_secs(30),
};

type Rule = Box<dyn Fn(usize, &str) -> Answer + Send + Sync>;

/// Answers by a rule, which is given how many requests came before, and the address.
pub(crate) struct Fake {
    rule: Rule,
    posted: Mutex<Vec<(String, String)>>,
    came: Condvar,
    limit: Mutex<usize>,
}

impl Fake {
    pub(crate) fn new(rule: impl Fn(usize, &str) -> Answer + Send + Sync + 'static) -> Arc<Self> {
        let limit = Mutex::new(usize::MAX);
        Arc::new(Fake { rule: Box::new(rule), posted: Mutex::default(), came: Condvar::new(), limit })
    }

    /// Requests with more bytes are too large.
    pub(crate) fn limit(&self, bytes: usize) {
        *self.limit.lock().unwrap() = bytes;
    }

    /// The addresses and bodies of what came.
    pub(crate) fn posted(&self) -> Vec<(String, String)> {
        self.posted.lock().unwrap().clone()
    }

    /// Waits until so many requests have come.
    pub(crate) fn wait_for(&self, count: usize) {
        let posted = self.posted.lock().unwrap();
        drop(self.came.wait_while(posted, |posted| posted.len() < count).unwrap());
    }
}

impl Carrier for Fake {
    fn post(&self, request: &Request<'_>) -> Answer {
        let url = request.target.url().to_string();
        if request.body.len() > *self.limit.lock().unwrap() {
            return Answer::TooLarge { why: "413".into() };
        }
        let at = {
            let mut posted = self.posted.lock().unwrap();
            posted.push((url.clone(), request.body.to_string()));
            self.came.notify_all();
            posted.len() - 1
        };
        (self.rule)(at, &url)
    }
}

pub(crate) fn taken() -> Answer {
    Answer::Taken { body: "{}".into() }
}

/// A Langfuse that is nowhere.
pub(crate) fn destination() -> Destination {
    let variable = |name: &str| {
        Some(match name {
            "LANGFUSE_PUBLIC_KEY" => "pk-lf-1".to_string(),
            "LANGFUSE_SECRET_KEY" => "sk-lf-2".to_string(),
            "LANGFUSE_BASE_URL" => "http://langfuse.test".to_string(),
            _ => return None,
        })
    };
    Destination::new(&variable, "0.1.0").unwrap()
}
