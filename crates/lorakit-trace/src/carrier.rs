//! Who carries requests to a receiver. Nothing here opens a connection.

use std::time::Duration;

use crate::destination::Target;

/// A request: a `POST` of JSON.
#[derive(Debug, Clone, Copy)]
pub struct Request<'r> {
    /// Where it goes, with headers and what must not be shown.
    pub target: &'r Target,
    /// JSON.
    pub body: &'r str,
    /// How long it may take, from connecting to the last byte of the answer.
    pub timeout: Duration,
}

/// What became of a request. Reasons name the receiver, and show no credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was taken.
    Taken {
        /// What the receiver said.
        body: String,
    },
    /// It may be tried again.
    Again {
        /// Why it was not taken.
        why: String,
        /// How long the receiver wants to be left alone.
        after: Option<Duration>,
    },
    /// It was too large.
    TooLarge {
        /// Why it was not taken.
        why: String,
    },
    /// The receiver does not take this content.
    Bad {
        /// Why it was not taken.
        why: String,
    },
    /// The receiver takes nothing from this sender: credentials or address are wrong.
    Refused {
        /// Why it was not taken.
        why: String,
    },
}

/// Carries requests.
pub trait Carrier: Send + Sync {
    /// Sends a request once, and waits for the answer.
    fn post(&self, request: &Request<'_>) -> Answer;
}
