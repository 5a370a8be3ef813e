//! The store on disk: an OCI image layout (image specification 1.1), and what lorakit keeps beside it.
//!
//! ```text
//! ROOT/
//!   oci-layout, index.json      what other programs read; every tag is an entry of the index
//!   blobs/sha256/HEX            the content, never rewritten, mode 0444
//!   lorakit/format.json         the form of this folder
//!   lorakit/reflog              every move of a tag, one checksummed line each
//!   lorakit/lock, reflock       what processes lock
//!   lorakit/ingest/             what is being added
//!   lorakit/quarantine/         blobs whose bytes have become others
//!   lorakit/checkouts/          artifacts as folders, hard links to blobs
//! ```
//!
//! A tag points to what the reflog says: its line is made durable before the index is replaced, so a crash between the
//! two loses nothing, and neither does another program that writes an old index. Any number of processes may use one
//! store; all of lorakit's lock it, readers need not.

mod blobs;
mod checkout;
mod disk;
mod fsck;
mod gc;
mod graph;
mod ingest;
mod lock;
mod reflog;
mod refs;
mod repair;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

pub(crate) use disk::io;
pub use fsck::{Fault, Fsck, Harm};
pub use gc::{Gc, GcOptions};
pub(crate) use graph::needs;
pub(crate) use ingest::Ingest;
pub use ingest::Workbench;
pub use reflog::Move;
pub(crate) use refs::Change;
pub use refs::Expected;
pub use repair::Repaired;

use crate::problem::Problem;
use crate::{Digest, Error, ErrorKind, Result};

/// The form of `lorakit/` that this program writes.
const FORM: u64 = 1;

/// A store.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    /// Whether nothing in it is changed, damaged or not.
    input: bool,
}

impl Store {
    /// The store at `root`.
    ///
    /// # Errors
    /// `NotFound` if there is none; `Unsupported` if a later program wrote it.
    pub fn open(root: &Path) -> Result<Self> {
        if !root.join("oci-layout").is_file() {
            let problem = if root.join("blobs").exists() || root.join("index.json").exists() {
                Problem::NotAStore
            } else {
                Problem::NoStore
            };
            return Err(Error::from(problem).at(root));
        }
        let store = Store { root: root.to_path_buf(), input: false };
        store.check_form()?;
        Ok(store)
    }

    /// The store at `root`, and whether the small files that say what it is were torn, and are written anew.
    ///
    /// # Errors
    /// As [`open`](Store::open); `Io` if they cannot be written.
    pub fn open_to_repair(root: &Path) -> Result<(Self, bool)> {
        let layout = json!({ "imageLayoutVersion": LAYOUT });
        let mut is_mended = false;
        for (path, content) in
            [(root.join("oci-layout"), layout), (root.join("lorakit/format.json"), json!({ "form": FORM }))]
        {
            let is_torn = disk::read_shared_json(&path).is_err_and(|error| error.kind() == CORRUPT);
            if is_torn {
                disk::exchange(&path, content.to_string().as_bytes())?;
                is_mended = true;
            }
        }
        Ok((Self::open(root)?, is_mended))
    }

    /// The layout at `root`, in which nothing is changed.
    ///
    /// # Errors
    /// As [`open`](Store::open).
    pub(crate) fn open_as_input(root: &Path) -> Result<Self> {
        Ok(Store { input: true, ..Self::open(root)? })
    }

    /// The store at `root`, which is made if there is none.
    ///
    /// # Errors
    /// `Occupied` if the folder holds something else; `Io`.
    pub fn create(root: &Path) -> Result<Self> {
        let store = Store { root: root.to_path_buf(), input: false };
        if !root.join("oci-layout").exists() {
            let is_other = std::fs::read_dir(root).is_ok_and(|mut entries| {
                entries.any(|entry| entry.is_ok_and(|entry| !OWN.iter().any(|own| entry.file_name() == *own)))
            });
            if is_other {
                return Err(Error::from(Problem::NotAStore).at(root));
            }
        }
        for folder in [store.blobs(), store.own("ingest"), store.own("quarantine"), store.own("checkouts")] {
            disk::make_folder(&folder)?;
        }
        let index = json!({ "schemaVersion": 2, "mediaType": refs::INDEX_TYPE, "manifests": [] });
        for (path, content) in [
            (store.own("format.json"), json!({ "form": FORM })),
            (store.index(), index),
            (root.join("oci-layout"), json!({ "imageLayoutVersion": LAYOUT })),
        ] {
            disk::write_new(&path, content.to_string().as_bytes())?;
        }
        store.check_form()?;
        Ok(store)
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether a path is one of its own, such as a folder that [`checkout`](Store::checkout) made.
    pub fn holds(&self, path: &Path) -> bool {
        path.starts_with(&self.root)
    }

    /// Whether it has a blob of that digest.
    pub(crate) fn has(&self, digest: Digest) -> bool {
        self.blob(digest).is_file()
    }

    fn check_form(&self) -> Result<()> {
        let layout = disk::read_shared_json(&self.root.join("oci-layout"))?;
        let version = layout["imageLayoutVersion"].as_str().unwrap_or_default();
        if version != LAYOUT {
            let found = version.escape_debug().to_string();
            return Err(Error::from(Problem::LayoutVersion { found }).at(&self.root));
        }
        // A layout of another program has no form yet.
        let path = self.own("format.json");
        let form = if path.exists() { disk::read_json(&path)? } else { Value::Null };
        match form["form"].as_u64() {
            Some(found) if found > FORM => {
                Err(Error::from(Problem::LaterStore { found, known: FORM }).at(&self.root))
            }
            _ => Ok(()),
        }
    }

    fn index(&self) -> PathBuf {
        self.root.join("index.json")
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    /// A file or folder that only lorakit reads.
    fn own(&self, name: &str) -> PathBuf {
        self.root.join("lorakit").join(name)
    }
}

/// The version of the image layout.
const LAYOUT: &str = "1.0.0";
/// What a torn file is.
const CORRUPT: ErrorKind = ErrorKind::File(lorakit_tensor::ErrorKind::Corrupt);
/// What may be in the folder of a store that is being made.
const OWN: &[&str] = &["oci-layout", "index.json", "blobs", "lorakit"];
