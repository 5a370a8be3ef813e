//! Traces of runs: what was done, when, with what, and how good it was.
//!
//! A [`Trace`] is a tree of spans, which are encoded as OTLP/JSON (the JSON form of the OpenTelemetry protocol 1.x) with
//! the attributes that Langfuse reads, and of scores for Langfuse's own interface. What is recorded is appended to a file
//! at once, and a thread sends what is in the file, so that whoever records never waits for a network. What could not be
//! sent stays in the file, for [`push`](push::push).
//!
//! ```text
//!   trace        a trace under way                      push         files of traces, sent later
//!   outbox       files, and the thread that sends       destination  where to, from variables
//!   spool        a file: appended to, read, shortened   carrier      who carries requests: the caller
//!   otlp  score  lines of files, and bodies of requests
//!   span         spans, attributes                      id           of traces, spans and scores
//! ```
//!
//! Nothing here opens a connection: a [`Carrier`] does.
//!
//! Sources: OTLP specification 1.x (JSON encoding, retries), the environment variables of its exporters, and Langfuse's
//! OpenTelemetry endpoint as of August 2026.

#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod carrier;
mod destination;
mod error;
mod id;
mod otlp;
mod outbox;
mod problem;
pub mod push;
mod score;
mod span;
mod spool;
#[cfg(test)]
mod testing;
mod trace;

pub use carrier::{Answer, Carrier, Request};
pub use destination::{Destination, Target, VARIABLES};
pub use error::{Error, ErrorKind, Hint, Result};
pub use id::{SpanId, TraceId, digest, digest_of};
pub use outbox::Outcome;
pub use score::{Score, Scored};
pub use span::{Attributes, Observation, Span, Status, Value};
pub use trace::{Options, Trace};
