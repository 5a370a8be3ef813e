//! Adapters in a registry: an OCI image layout on disk, which skopeo, umoci and ORAS read too.
//!
//! ```text
//!   add  evaluate  compare  lineage  export     what is done with artifacts
//!   catalog                                     names to artifacts
//!   artifact  facts  media                      manifests and what they say
//!   store                                       blobs, tags, locks; knows nothing of adapters
//!   signed  sign                                signatures: attached, and made (OpenSSF Model Signing)
//!   name  digest                                what things are called
//! ```

#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod add;
mod artifact;
mod catalog;
pub mod compare;
mod digest;
mod error;
mod evaluate;
pub mod export;
mod facts;
pub mod import;
pub mod lineage;
mod media;
mod name;
mod problem;
pub mod sign;
mod signed;
mod store;
mod tags;

pub use artifact::{Artifact, File};
pub use catalog::{Catalog, Entry};
pub use digest::{Digest, NotADigest};
pub use error::{Error, ErrorKind, Hint, Result};
pub use evaluate::Evaluation;
pub use facts::{BaseFacts, Facts, Kind, Noted};
pub use name::{Name, Reference, Tag};
pub use signed::Signers;
pub use store::{Expected, Fault, Fsck, Gc, GcOptions, Harm, Move, Repaired, Store, Workbench};
