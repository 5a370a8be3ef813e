//! The outside of a signature: a sigstore bundle with a DSSE envelope.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::key::{PrivateKey, PublicKey};
use super::problem::Problem;
use crate::Result;

/// Largest bundle that is read, in bytes: room for tens of thousands of files.
pub const MAX_BUNDLE_BYTES: u64 = 16 << 20;
/// The media type of a bundle.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a bundle")]
struct Bundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Envelope,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    public_key: Option<KeyIdentifier>,
    /// model-signing wants the list, though nothing is in it.
    #[serde(default, skip_deserializing)]
    tlog_entries: [(); 0],
    #[serde(default, skip_serializing)]
    certificate: Option<IgnoredAny>,
    #[serde(default, skip_serializing)]
    x509_certificate_chain: Option<IgnoredAny>,
}

/// Bundles of model-signing before 1.1.0 have `rawBytes` instead of a hint.
#[derive(Serialize, Deserialize)]
struct KeyIdentifier {
    hint: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    sig: String,
    /// Not used for verification, and may be absent or null.
    #[serde(default)]
    keyid: Option<String>,
}

/// The bundle that holds `payload`, signed.
pub(super) fn seal(payload: &[u8], key: &PrivateKey) -> Vec<u8> {
    let signature = Signature { sig: BASE64.encode(key.sign(&encoded(payload))), keyid: Some(String::new()) };
    let bundle = Bundle {
        media_type: MEDIA_TYPE.into(),
        verification_material: Material {
            public_key: Some(KeyIdentifier { hint: Some(key.public().hint()) }),
            tlog_entries: [],
            certificate: None,
            x509_certificate_chain: None,
        },
        dsse_envelope: Envelope {
            payload: BASE64.encode(payload),
            payload_type: PAYLOAD_TYPE.into(),
            signatures: vec![signature],
        },
    };
    // Strings and lists always serialise.
    serde_json::to_vec(&bundle).unwrap_or_default()
}

/// The payload of a bundle, and the one of `keys` that signed it.
///
/// The hint of the bundle is not signed, and other writers may compute it otherwise: every key is tried, and the hint
/// only helps to say what is wrong.
///
/// # Errors
/// See [`verify`](super::verify).
pub(super) fn open(bundle: &[u8], keys: &[PublicKey]) -> Result<(Vec<u8>, PublicKey)> {
    let size = bundle.len() as u64;
    if size > MAX_BUNDLE_BYTES {
        return Err(Problem::Bundle { size, limit: MAX_BUNDLE_BYTES }.into());
    }
    let bundle: Bundle =
        serde_json::from_slice(bundle).map_err(|e| Problem::NotABundle { reason: e.to_string() })?;
    if bundle.media_type != MEDIA_TYPE {
        return Err(Problem::MediaType { found: bundle.media_type, expected: MEDIA_TYPE }.into());
    }
    let material = bundle.verification_material;
    let Some(identifier) = material.public_key else {
        let certificate = material.certificate.or(material.x509_certificate_chain);
        return Err(if certificate.is_some() { Problem::Certificate } else { Problem::NoKey }.into());
    };
    let envelope = bundle.dsse_envelope;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(Problem::PayloadType { found: envelope.payload_type, expected: PAYLOAD_TYPE }.into());
    }
    let [signature] = envelope.signatures.as_slice() else {
        return Err(Problem::Signatures { count: envelope.signatures.len() }.into());
    };
    let payload = decoded("payload", &envelope.payload)?;
    let signature = decoded("sig", &signature.sig)?;
    let message = encoded(&payload);
    match keys.iter().find(|key| key.accepts(&message, &signature)) {
        Some(key) => Ok((payload, *key)),
        None => Err(refused(identifier.hint, keys).into()),
    }
}

/// Why no key fits.
fn refused(hint: Option<String>, keys: &[PublicKey]) -> Problem {
    let given: Vec<String> = keys.iter().map(PublicKey::hint).collect();
    match hint {
        _ if given.is_empty() => Problem::NoKeys,
        Some(hint) if given.contains(&hint) => Problem::Signature { hint },
        Some(hint) => Problem::OtherKey { hint, given },
        None => Problem::NoSigner { given },
    }
}

/// What is signed: payload and type, with their lengths (DSSE's pre-authentication encoding).
fn encoded(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

fn decoded(field: &'static str, text: &str) -> Result<Vec<u8>> {
    BASE64.decode(text).map_err(|e| Problem::NotBase64 { field, reason: e.to_string() }.into())
}
