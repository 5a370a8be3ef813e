//! Digests of input files, taken in the same pass that reads them.
//!
//! Reading a model once more to hash it would double the traffic of a merge. So digests are tasks of the run like
//! any other: BLAKE3 is a tree, whose subtrees can be hashed in any order on all cores and joined at the end. An
//! output's header has a place of the right length for each digest, which is filled before the header is written.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use lorakit_tensor::{Checkpoint, Storage};
use sha2::{Digest, Sha256};

use super::{Progress, go_on};
use crate::Result;

/// Bytes of one subtree: a power of two, as the tree needs, and few enough to stay cached until they are merged.
const SUBTREE: u64 = 4 << 20;
/// Bytes read at once.
pub(super) const PIECE: u64 = 1 << 20;

/// A file whose BLAKE3 digest stands in the output's header.
#[derive(Debug, Clone)]
pub(crate) struct FileDigest {
    checkpoint: Arc<Checkpoint>,
    file: usize,
    place: String,
}

/// What a subtree contributes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Subtree {
    /// The file is no longer than one subtree.
    Whole(blake3::Hash),
    /// One of several.
    Part(ChainingValue),
}

impl FileDigest {
    /// One for each file of `checkpoint`.
    pub(crate) fn of_files(checkpoint: &Arc<Checkpoint>) -> Vec<Self> {
        let digest = |file| {
            let place = format!("{:.<64}", format!("digest of base file {file}"));
            FileDigest { checkpoint: Arc::clone(checkpoint), file, place }
        };
        (0..checkpoint.files().len()).map(digest).collect()
    }

    /// What stands in the header until the digest is known: as long as 64 hexadecimal digits, and none.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    fn storage(&self) -> &Storage {
        &self.checkpoint.files()[self.file]
    }

    /// Bytes that are hashed.
    pub(super) fn len(&self) -> u64 {
        self.storage().len()
    }

    /// The pieces of work, in file order.
    pub(super) fn subtrees(&self) -> impl Iterator<Item = Range<u64>> {
        let len = self.len();
        (0..len).step_by(SUBTREE as usize).map(move |start| start..(start + SUBTREE).min(len))
    }

    /// Hashes one of [`Self::subtrees`].
    pub(super) fn hash(&self, bytes: Range<u64>) -> Result<Subtree> {
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(bytes.start);
        for start in bytes.clone().step_by(PIECE as usize) {
            hasher.update(&self.storage().read(start, PIECE.min(bytes.end - start) as usize)?);
        }
        let whole = bytes == (0..self.len());
        Ok(if whole { Subtree::Whole(hasher.finalize()) } else { Subtree::Part(hasher.finalize_non_root()) })
    }

    /// Writes the digest that `subtrees`, in file order, make into its place in `header`.
    pub(super) fn fill(&self, subtrees: &[Subtree], header: &mut [u8]) {
        let digest = root(subtrees).to_hex();
        let place = self.place.as_bytes();
        if let Some(at) = header.windows(place.len()).position(|window| window == place) {
            header[at..at + place.len()].copy_from_slice(digest.as_bytes());
        }
    }
}

fn root(subtrees: &[Subtree]) -> blake3::Hash {
    match subtrees {
        [Subtree::Whole(hash)] => *hash,
        _ => {
            let (left, right) = halves(subtrees);
            merge_subtrees_root(&inner(left), &inner(right), Mode::Hash)
        }
    }
}

fn inner(subtrees: &[Subtree]) -> ChainingValue {
    match subtrees {
        [Subtree::Part(value)] => *value,
        [Subtree::Whole(hash)] => *hash.as_bytes(),
        _ => {
            let (left, right) = halves(subtrees);
            merge_subtrees_non_root(&inner(left), &inner(right), Mode::Hash)
        }
    }
}

/// The left side is the largest full tree that leaves something for the right.
fn halves(subtrees: &[Subtree]) -> (&[Subtree], &[Subtree]) {
    subtrees.split_at(1 << (subtrees.len() - 1).ilog2())
}

/// A SHA-256 of the output's own data section, whose hexadecimal digits stand in its header: taken once all values
/// are written, and before the header is.
#[derive(Debug, Clone)]
pub(crate) struct DataDigest {
    /// The entry of the metadata that holds [`Self::place`].
    pub(crate) key: &'static str,
    /// What stands in front of the digits.
    pub(crate) prefix: &'static str,
    /// How many digits are kept.
    pub(crate) digits: usize,
    /// Bytes that are hashed before those of the data section.
    pub(crate) before: Vec<u8>,
    /// The bytes of the data section that are hashed, cut to what there is.
    pub(crate) data: Range<u64>,
}

impl DataDigest {
    /// The entry's value until the digest is known.
    pub(crate) fn place(prefix: &str, digits: usize) -> String {
        format!("{prefix}{}", ".".repeat(digits))
    }

    /// Writes the digest of `file`, whose data section begins where `header` ends, into its place in `header`.
    ///
    /// # Errors
    /// If the file cannot be read; [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted).
    pub(super) fn fill(&self, file: &Path, header: &mut [u8], progress: &dyn Progress) -> Result<()> {
        let failed = |e| crate::Error::from(lorakit_tensor::Error::io("read", file, e));
        let mut hasher = Sha256::new();
        hasher.update(&self.before);
        let mut input = File::open(file).map_err(failed)?;
        let start = (header.len() as u64).saturating_add(self.data.start);
        input.seek(SeekFrom::Start(start)).map_err(failed)?;
        let mut input = input.take(self.data.end - self.data.start);
        let mut piece = vec![0; PIECE as usize];
        loop {
            go_on(progress, "anything was published")?;
            match input.read(&mut piece).map_err(failed)? {
                0 => break,
                n => hasher.update(&piece[..n]),
            }
        }
        let digest: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let (mut place, mut filled) = (entry(self.key), entry(self.key));
        place += &Self::place(self.prefix, self.digits);
        filled += &format!("{}{}", self.prefix, &digest[..self.digits.min(digest.len())]);
        if let Some(at) = header.windows(place.len()).position(|window| window == place.as_bytes()) {
            header[at..at + filled.len()].copy_from_slice(filled.as_bytes());
        }
        Ok(())
    }
}

/// How an entry of the metadata begins in a header.
fn entry(key: &str) -> String {
    format!("\"{key}\":\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_subtrees_give_the_digest_of_the_whole() {
        const LEAF: usize = 1024;
        let bytes: Vec<u8> = (0..9 * LEAF + 100).map(|i| (i % 251) as u8).collect();
        for len in [LEAF + 1, 2 * LEAF, 3 * LEAF, 5 * LEAF + 7, 8 * LEAF, bytes.len()] {
            let subtrees: Vec<Subtree> = bytes[..len]
                .chunks(LEAF)
                .enumerate()
                .map(|(i, leaf)| {
                    let mut hasher = blake3::Hasher::new();
                    hasher.set_input_offset((i * LEAF) as u64).update(leaf);
                    Subtree::Part(hasher.finalize_non_root())
                })
                .collect();
            assert_eq!(root(&subtrees), blake3::hash(&bytes[..len]), "{len} bytes");
        }
    }
}
