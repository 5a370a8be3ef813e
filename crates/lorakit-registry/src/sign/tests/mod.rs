//! Bundles of others, bundles that lie, and files that changed.

mod changes;
mod hostile;
mod vectors;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::key::tests::SEC1_PEM;
use super::*;
use crate::Error;

fn key() -> PrivateKey {
    PrivateKey::from_pem(SEC1_PEM).unwrap()
}

fn file(name: &str, content: &[u8]) -> FileDigest {
    FileDigest { name: name.into(), size: content.len() as u64, digest: Digest::of(content) }
}

fn model() -> Vec<FileDigest> {
    vec![file("a.json", b"{}"), file("b/weights", b"0123456789")]
}

/// The bundle of [`model`] after `edit` of its statement, signed.
fn edited(edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut statement = statement_of(&sign(&model(), &key(), "m").unwrap());
    edit(&mut statement);
    bundle::seal(statement.to_string().as_bytes(), &key())
}

fn statement_of(bundle: &[u8]) -> Value {
    let bundle: Value = serde_json::from_slice(bundle).unwrap();
    let payload = BASE64.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

/// Gives the statement the right root digest, so that what is wrong is what a test made wrong.
fn rooted(statement: &mut Value) {
    let digest = |resource: &Value| Digest::from_hex(resource["digest"].as_str().unwrap()).unwrap();
    let resources = statement["predicate"]["resources"].as_array().unwrap();
    let bytes: Vec<u8> = resources.iter().flat_map(|resource| *digest(resource).bytes()).collect();
    statement["subject"][0]["digest"]["sha256"] = Digest::of(&bytes).hex().into();
}

fn told(error: &Error) -> String {
    let details = error.detail_lines().iter().map(|line| format!("\n    {line}"));
    format!("{}: {error}{}", error.kind().name(), details.collect::<String>())
}
