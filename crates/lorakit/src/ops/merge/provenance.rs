//! What an output says about where it came from.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Sum;
use crate::adapter::Adapter;
use crate::plan::{FileDigest, Progress, go_on};
use crate::{Choice, Result};
use lorakit_tensor::Storage;

/// The key under which [`record`] stands in an output.
pub(super) const KEY: &str = "lorakit.merge";

/// What was merged, and how, as JSON. Adapters are small and hashed here; the base is hashed while it is merged.
pub(super) fn record(
    adapters: &[(Adapter, f64)],
    sum: &Sum,
    base_digests: &[FileDigest],
    progress: &dyn Progress,
) -> Result<String> {
    let described = described(adapters, progress)?;
    let record = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "base": { "blake3": base_digests.iter().map(FileDigest::place).collect::<Vec<_>>() },
        "adapters": described,
        "rounding": sum.rounding.name(),
        "tied": sum.tied.name(),
    });
    Ok(record.to_string())
}

/// Which adapters, and how much of each, as JSON.
///
/// # Errors
/// If a file cannot be read; [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted).
pub(crate) fn described(adapters: &[(Adapter, f64)], progress: &dyn Progress) -> Result<Vec<Value>> {
    let one = |(adapter, weight): &(Adapter, f64)| {
        Ok(json!({
            "sha256": digests(adapter.files(), progress)?,
            "weight": weight,
            "base_model": adapter.config.public_base_model(),
        }))
    };
    adapters.iter().map(one).collect()
}

/// The SHA-256 of each file, in order.
fn digests(files: &[Storage], progress: &dyn Progress) -> Result<Vec<String>> {
    files.iter().map(|file| digest(file, progress)).collect()
}

fn digest(file: &Storage, progress: &dyn Progress) -> Result<String> {
    const PIECE: u64 = 4 << 20;
    let mut hash = Sha256::new();
    for start in (0..file.len()).step_by(PIECE as usize) {
        go_on(progress, "anything was written")?;
        hash.update(file.read(start, (file.len() - start).min(PIECE) as usize)?);
    }
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}
