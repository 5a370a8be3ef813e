//! Signatures of models: OpenSSF Model Signing 1.0 with keys, as the Python package `model-signing` writes and
//! verifies them.
//!
//! A signature is one JSON file beside the model. It lists the SHA-256 of every file, so it holds for the folder as a
//! whole: a file that changed, is missing or was added breaks it.
//!
//! ```text
//!  sigstore bundle            which key: its hint
//!  └─ DSSE envelope           the signature, of the payload and its type
//!     └─ in-toto statement    the name of the model, and the digest of the digests
//!        └─ predicate         each file with its SHA-256; paths that are ignored
//! ```
//!
//! ```
//! use lorakit_registry::sign::{Folder, PrivateKey, sign, verify};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # std::fs::write(folder.path().join("adapter_config.json"), "{}")?;
//! let key = PrivateKey::generate()?;
//! let model = Folder::new(folder.path());
//! let bundle = sign(&model, &key, "acme/sql-lora")?;
//!
//! let verified = verify(&bundle, &[key.public()], &model)?;
//! assert_eq!((verified.subject(), verified.files()), ("acme/sql-lora", 1));
//!
//! std::fs::write(folder.path().join("more.py"), "import os")?;
//! let error = verify(&bundle, &[key.public()], &model).unwrap_err();
//! assert_eq!(error.to_string(), "`more.py` is not signed");
//! # Ok(())
//! # }
//! ```
//!
//! Source: the OpenSSF Model Signing specification 1.0 (github.com/ossf/model-signing-spec); DSSE 1.0; RFC 6979.

mod bundle;
mod compare;
mod files;
mod folder;
mod key;
mod names;
mod policy;
mod problem;
mod rules;
mod statement;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use bundle::{MAX_BUNDLE_BYTES, MEDIA_TYPE};
pub use files::{FileDigest, Files};
pub use folder::Folder;
pub use key::{PrivateKey, PublicKey};
pub use names::Ignored;
pub use policy::{Policy, Trust};

use crate::{Digest, Result};
use names::is_canonical;
use problem::Problem;

/// Signs files, and returns the bundle, which is the same for the same files, key and `subject`.
///
/// `subject` is the name of the model, for people: verification does not compare it with anything.
///
/// # Errors
/// `ErrorKind::Usage` if there is no file or no subject; `ErrorKind::Unsafe` for a symbolic link and for what is
/// neither a file nor a folder; any error of reading the files.
pub fn sign(files: &dyn Files, key: &PrivateKey, subject: &str) -> Result<Vec<u8>> {
    if subject.is_empty() {
        return Err(Problem::NoSubject.into());
    }
    let mut ignored = Ignored::default();
    if let Some(signature) = files.signature() {
        // The specification recommends to record it, but not every name can be.
        _ = ignored.insert(signature);
    }
    let mut digests: BTreeMap<String, Digest> = BTreeMap::new();
    for (name, size) in compare::listed(files.list(&ignored)?, files.signature())? {
        if !is_canonical(&name) {
            return Err(Problem::Name { name }.into());
        }
        let digest = files.sha256(&name, 0..size)?;
        digests.insert(name, digest);
    }
    if digests.is_empty() {
        return Err(Problem::NoFiles.into());
    }
    let bundle = bundle::seal(&statement::write(subject, &digests, &ignored), key);
    let size = bundle.len() as u64;
    if size > MAX_BUNDLE_BYTES {
        return Err(Problem::Bundle { size, limit: MAX_BUNDLE_BYTES }.into());
    }
    Ok(bundle)
}

/// Verifies that one of `keys` signed exactly these files.
///
/// Files are signed whole or in shards; hashes are SHA-256. A file in a path that the statement ignores is not
/// compared: see [`Verified::ignored`]. Nor is an empty file where shards are signed, since it has none.
///
/// # Errors
/// * `ErrorKind::Untrusted` if another key signed, if payload or signature were changed, and for files that differ:
///   missing, not signed, of another size, of another content. Several differences have a line of details each.
/// * `ErrorKind::File(Corrupt)` for what is not a bundle, lacks something, or contradicts itself.
/// * `ErrorKind::File(Unsupported)` for a bundle of another version, a certificate instead of a key, a statement on
///   something else than a model, and digests other than SHA-256.
/// * `ErrorKind::File(Limit)` for a bundle of more than [`MAX_BUNDLE_BYTES`].
/// * `ErrorKind::Unsafe` if symbolic links were signed or are among the files.
/// * `ErrorKind::Usage` if there is no key.
pub fn verify(bundle: &[u8], keys: &[PublicKey], files: &dyn Files) -> Result<Verified> {
    let (payload, signer) = bundle::open(bundle, keys)?;
    let statement = statement::read(&payload)?;
    compare::check(&statement, files)?;
    Ok(Verified {
        subject: statement.subject,
        signer,
        files: statement.files.len(),
        ignored: statement.ignored,
    })
}

/// A signature that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    subject: String,
    signer: PublicKey,
    files: usize,
    ignored: Ignored,
}

impl Verified {
    /// The name of the model that the signer chose. It may be any text.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The key that signed.
    pub fn signer(&self) -> &PublicKey {
        &self.signer
    }

    /// How many files are signed.
    pub fn files(&self) -> usize {
        self.files
    }

    /// Paths that the signer left out.
    pub fn ignored(&self) -> &Ignored {
        &self.ignored
    }
}
