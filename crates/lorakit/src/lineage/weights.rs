//! One digest for the weights of a model or adapter, however they are divided into files.
//!
//! There is one line per tensor; the digest is the SHA-256 of all lines, sorted by the bytes of the names:
//!
//! ```text
//! {bytes of the name} {name} {dtype} [{dimensions, outermost first}] {BLAKE3 of its bytes}\n
//! 14 lm_head.weight BF16 [32000,2048] 6a1f...
//! ```
//!
//! Numbers are decimal, dimensions are separated by commas, dtypes are written as safetensors and GGUF name them
//! (`BF16`, `Q4_K`), BLAKE3 is lower-case hexadecimal. The length in front makes each line unambiguous, whatever the
//! name holds. The bytes are the stored ones, row by row. The order of files and tensors, shards and metadata do not
//! matter.

use std::fmt::Write as _;

use lorakit_tensor::{TensorInfo, TensorSource};
use sha2::{Digest, Sha256};

use crate::plan::{Hash, Progress, go_on, in_order};
use crate::{Result, TensorRef};

/// Bytes read at a time.
const PIECE: u64 = 4 << 20;

/// The digest of all tensors of `source`, as `sha256:` and 64 hexadecimal digits. They are read once, and all of their
/// bytes are told to `progress`, in the phase of the caller.
///
/// # Errors
/// If they cannot be read; [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted).
pub fn digest(source: &dyn TensorSource, progress: &dyn Progress) -> Result<String> {
    let hash = |tensor: usize| {
        let len = source.tensors()[tensor].byte_len();
        // A tensor that has no place in a file may be computed as a whole for any of its bytes.
        let step = if source.extent(tensor).is_some() { PIECE } else { len.max(1) };
        let mut hasher = blake3::Hasher::new();
        for start in (0..len).step_by(step as usize) {
            go_on(progress, "anything was written")?;
            let end = (start + step).min(len);
            hasher.update(&source.read(tensor, start..end)?);
            progress.advance(end - start);
        }
        Ok(*hasher.finalize().as_bytes())
    };
    let hashes = in_order(0..source.tensors().len(), hash)?;
    Ok(of_hashes(source.tensors(), &hashes))
}

/// The digest of tensors that need not be from the same file.
///
/// # Errors
/// As [`digest`].
pub(super) fn of_parts(tensors: &[TensorRef], progress: &dyn Progress) -> Result<String> {
    let hash = |tensor: &TensorRef| {
        go_on(progress, "anything was written")?;
        let len = tensor.info().byte_len();
        let hash = *blake3::hash(&tensor.read(0..len)?).as_bytes();
        progress.advance(len);
        Ok(hash)
    };
    let hashes = in_order(tensors, hash)?;
    Ok(of_lines(tensors.iter().map(TensorRef::info).zip(hashes)))
}

/// The digest of tensors in memory: each with its bytes, row by row.
pub fn of_tensors<'a>(tensors: impl IntoIterator<Item = (&'a TensorInfo, &'a [u8])>) -> String {
    of_lines(tensors.into_iter().map(|(info, bytes)| (info, *blake3::hash(bytes).as_bytes())))
}

/// The digest of tensors whose bytes have these hashes.
pub fn of_hashes(tensors: &[TensorInfo], hashes: &[Hash]) -> String {
    of_lines(tensors.iter().zip(hashes.iter().copied()))
}

fn of_lines<'a>(tensors: impl Iterator<Item = (&'a TensorInfo, Hash)>) -> String {
    let mut tensors: Vec<(&TensorInfo, Hash)> = tensors.collect();
    tensors.sort_by(|(a, _), (b, _)| a.name.as_bytes().cmp(b.name.as_bytes()));
    let mut sum = Sha256::new();
    for (info, hash) in tensors {
        sum.update(line(info, hash));
    }
    format!("sha256:{}", hex(&sum.finalize()))
}

fn line(info: &TensorInfo, hash: Hash) -> String {
    let dimensions: Vec<String> = info.shape.iter().map(ToString::to_string).collect();
    let name = &info.name;
    let dtype = info.dtype.name();
    format!("{} {name} {dtype} [{}] {}\n", name.len(), dimensions.join(","), hex(&hash))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    fn info(name: &str, dtype: DType, shape: &[usize]) -> TensorInfo {
        TensorInfo { name: name.into(), dtype, shape: shape.to_vec() }
    }

    #[test]
    fn a_line_is_what_the_documentation_says() {
        let line =
            line(&info("b weight", DType::F32, &[1, 2]), *blake3::hash(b"\0\0\x80?\0\0\0@").as_bytes());
        assert_eq!(
            line,
            "8 b weight F32 [1,2] 83376e7b4f6f582dcb75e173caef357ad07daba8f7d086eb4ee23fb8d699f138\n"
        );
    }

    #[test]
    fn the_digest_is_fixed_and_does_not_depend_on_order() {
        let (a, b) = (info("b weight", DType::F32, &[1, 2]), info("a", DType::U8, &[]));
        let (first, second): (&[u8], &[u8]) = (b"\0\0\x80?\0\0\0@", b"\x07");
        let digest = of_tensors([(&a, first), (&b, second)]);
        assert_eq!(digest, of_tensors([(&b, second), (&a, first)]));
        // What Python's hashlib and blake3 make of the two lines.
        assert_eq!(digest, "sha256:e2e035042ddc3bab09ca81ff5ceb18065049fc037bc95cb8f7bd3765fac189aa");
        let none: [(&TensorInfo, &[u8]); 0] = [];
        // The SHA-256 of nothing.
        assert_eq!(
            of_tensors(none),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
