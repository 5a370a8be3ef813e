//! Ids: drawn for traces, derived for spans and scores.

use std::fmt;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

/// The id of a trace: 32 hexadecimal digits, in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(pub(crate) [u8; 16]);

/// The id of a span: 16 hexadecimal digits, in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpanId(pub(crate) [u8; 8]);

impl TraceId {
    /// One that no other trace has. The keys of [`RandomState`] come from the system's random numbers.
    pub fn draw() -> Self {
        let seed = (SystemTime::now(), std::process::id());
        let [a, b] = [0, 1].map(|half: u8| RandomState::new().hash_one((half, seed)));
        let mut id = [0; 16];
        id[..8].copy_from_slice(&a.to_be_bytes());
        id[8..].copy_from_slice(&b.to_be_bytes());
        // Ids of zeros alone are not valid.
        id[15] |= u8::from(id == [0; 16]);
        TraceId(id)
    }

    /// The id of its so-many-th span.
    pub(crate) fn span(self, at: u64) -> SpanId {
        let digest = Sha256::new().chain_update(self.0).chain_update(at.to_be_bytes()).finalize();
        let mut id = [0; 8];
        id.copy_from_slice(&digest[..8]);
        id[7] |= u8::from(id == [0; 8]);
        SpanId(id)
    }

    /// The id of a score of a span: the same again, so that a score that is sent twice is one.
    pub(crate) fn score(self, span: SpanId, name: &str) -> String {
        let digest = Sha256::new().chain_update(self.0).chain_update(span.0).chain_update(name).finalize();
        hex(&digest[..16])
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// 16 hexadecimal digits that stand for a text: the same for the same.
pub fn digest(text: &str) -> String {
    hex(&Sha256::digest(text)[..8])
}

/// The SHA-256 of a file: 64 hexadecimal digits.
///
/// # Errors
/// If it cannot be read.
pub fn digest_of(path: &Path) -> io::Result<String> {
    let mut digest = Sha256::new();
    io::copy(&mut File::open(path)?, &mut digest)?;
    Ok(hex(&digest.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_have_their_length() {
        let (one, two) = (TraceId::draw(), TraceId::draw());
        assert_ne!(one, two);
        assert_eq!(one.to_string().len(), 32);
        assert_eq!(TraceId([0xAB; 16]).to_string(), "ab".repeat(16));
        let mut spans: Vec<SpanId> = (0..1000).map(|at| one.span(at)).collect();
        assert_eq!(spans[0].to_string().len(), 16);
        spans.sort();
        spans.dedup();
        assert_eq!(spans.len(), 1000);
        assert_ne!(one.span(0), two.span(0));
    }

    #[test]
    fn a_score_has_the_same_id_again() {
        let trace = TraceId([7; 16]);
        let id = |at: u64, name: &str| trace.score(trace.span(at), name);
        assert_eq!(id(1, "eval_loss"), id(1, "eval_loss"));
        assert_ne!(id(1, "eval_loss"), id(2, "eval_loss"));
        assert_ne!(id(1, "eval_loss"), id(1, "perplexity"));
    }
}
