//! Digests of inputs, taken in the same pass that reads them, and of outputs.
//!
//! Reading a model a second time to hash it would double the traffic of a merge. So digests are tasks of the run like
//! any other: BLAKE3 is a tree, whose subtrees can be hashed in any order on all cores and joined at the end. Each
//! tensor has a tree of its own, so its hash does not depend on how tensors are divided into files.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use lorakit_tensor::{Checkpoint, TensorSource};
use sha2::{Digest, Sha256};

use super::{Progress, go_on};
use crate::Result;

/// Bytes of one subtree: a power of two, as the tree needs, and few enough to stay cached until they are merged.
const SUBTREE: u64 = 4 << 20;
/// Bytes read at a time.
pub(super) const PIECE: u64 = 1 << 20;

/// The BLAKE3 of the bytes of a tensor.
pub type Hash = [u8; 32];
/// Placeholder for a hash that is not known yet.
pub(super) const NONE: Hash = [0; 32];

/// A piece of a tensor of an input.
#[derive(Debug, Clone)]
pub(super) struct Piece<'p> {
    checkpoint: &'p Checkpoint,
    tensor: usize,
    pub(super) bytes: Range<u64>,
}

/// What a piece contributes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Subtree {
    /// The tensor is no longer than one subtree.
    Whole(blake3::Hash),
    /// One of several.
    Part(ChainingValue),
}

/// The pieces of all tensors of `checkpoint`, in file order.
pub(super) fn pieces(checkpoint: &Checkpoint) -> impl Iterator<Item = Piece<'_>> {
    (0..checkpoint.tensors().len()).flat_map(move |tensor| {
        pieces_of(checkpoint, tensor).map(move |bytes| Piece { checkpoint, tensor, bytes })
    })
}

/// Bytes of all tensors of `checkpoint`.
pub(super) fn bytes(checkpoint: &Checkpoint) -> u64 {
    checkpoint.tensors().iter().map(lorakit_tensor::TensorInfo::byte_len).sum()
}

/// At least one, even for a tensor without bytes; only one if each would read the whole tensor.
fn pieces_of(checkpoint: &Checkpoint, tensor: usize) -> impl Iterator<Item = Range<u64>> + use<> {
    let len = checkpoint.tensors()[tensor].byte_len();
    let step = if checkpoint.is_transposed(tensor) { len.max(1) } else { SUBTREE };
    (0..len.max(1)).step_by(step as usize).map(move |start| start..(start + step).min(len))
}

impl Piece<'_> {
    /// Hashes the piece.
    pub(super) fn hash(&self) -> Result<Subtree> {
        let Piece { checkpoint, tensor, bytes } = self;
        let whole = *bytes == (0..checkpoint.tensors()[*tensor].byte_len());
        let step = if checkpoint.is_transposed(*tensor) { bytes.end.max(1) } else { PIECE };
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(bytes.start);
        for start in bytes.clone().step_by(step as usize) {
            hasher.update(&checkpoint.read(*tensor, start..(start + step).min(bytes.end))?);
        }
        Ok(if whole { Subtree::Whole(hasher.finalize()) } else { Subtree::Part(hasher.finalize_non_root()) })
    }
}

/// The hash of each tensor of `checkpoint`, from what its [`pieces`] contribute.
pub(super) fn join(checkpoint: &Checkpoint, mut subtrees: &[Subtree]) -> Vec<Hash> {
    let tensors = 0..checkpoint.tensors().len();
    let hashes = tensors.map(|tensor| {
        let (own, others) = subtrees.split_at(pieces_of(checkpoint, tensor).count());
        subtrees = others;
        *root(own).as_bytes()
    });
    hashes.collect()
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

/// A SHA-256 of the output's own data section, whose hexadecimal digits are in its header: computed after all values
/// are written, and before the header is.
#[derive(Debug, Clone)]
pub(crate) struct DataDigest {
    /// The entry of the metadata that holds [`Self::place`].
    pub(crate) key: &'static str,
    /// What precedes the digits.
    pub(crate) prefix: &'static str,
    /// How many digits are kept.
    pub(crate) digits: usize,
    /// Bytes that are hashed before those of the data section.
    pub(crate) before: Vec<u8>,
    /// The bytes of the data section that are hashed, clipped to its length.
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
        progress.begin(self.data.end - self.data.start);
        let mut piece = vec![0; PIECE as usize];
        loop {
            go_on(progress, "anything was published")?;
            match input.read(&mut piece).map_err(failed)? {
                0 => break,
                n => {
                    hasher.update(&piece[..n]);
                    progress.advance(n as u64);
                }
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
