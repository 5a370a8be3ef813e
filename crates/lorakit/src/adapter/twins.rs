//! Finding an adapter that is given twice.

use lorakit_tensor::Storage;

use super::{Adapter, Finding, Severity};
use crate::Result;

/// Number of bytes compared at a time.
const PIECE: u64 = 1 << 20;

/// Returns a note for each adapter whose tensor files equal those of an earlier one, by path or byte for byte.
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn repeated(adapters: &[(Adapter, f64)]) -> Result<Vec<Finding>> {
    let mut notes = Vec::new();
    for (i, (adapter, weight)) in adapters.iter().enumerate() {
        for (other, of_other) in &adapters[..i] {
            let Some(how) = sameness(adapter, other)? else { continue };
            let message = format!("{how} (weights {of_other} and {weight}), and both count");
            let subject = adapter.path.display().to_string();
            notes.push(Finding::new(Severity::Note, "same-adapter", &subject, message));
            break;
        }
    }
    Ok(notes)
}

/// In what way two adapters are the same, if they are.
fn sameness(adapter: &Adapter, other: &Adapter) -> Result<Option<String>> {
    let (files, others) = (adapter.files(), other.files());
    if files.is_empty() || files.len() != others.len() {
        return Ok(None);
    }
    let resolved = |file: &Storage| std::fs::canonicalize(file.path()).ok();
    let same_path = |(x, y): (&Storage, &Storage)| resolved(x).is_some() && resolved(x) == resolved(y);
    if files.iter().zip(others).all(same_path) {
        return Ok(Some("is given twice".into()));
    }
    for (x, y) in files.iter().zip(others) {
        if !same_bytes(x, y)? {
            return Ok(None);
        }
    }
    Ok(Some(format!("holds the same tensors as `{}`", other.path.display())))
}

fn same_bytes(x: &Storage, y: &Storage) -> Result<bool> {
    if x.len() != y.len() {
        return Ok(false);
    }
    for start in (0..x.len()).step_by(PIECE as usize) {
        let count = PIECE.min(x.len() - start) as usize;
        if x.read(start, count)? != y.read(start, count)? {
            return Ok(false);
        }
    }
    Ok(true)
}
