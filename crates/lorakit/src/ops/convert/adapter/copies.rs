//! Parts of an adapter that are copies of the base's weights, which trainers save along with adapted embeddings.

use std::path::Path;

use lorakit_tensor::Reader;

use crate::adapter::Adapter;
use crate::fit::{Found, Resolver};
use crate::{Finding, Model, Result, Severity, TensorRef};

/// Drops what is byte for byte a weight of the base, and notes how much that was.
///
/// # Errors
/// If the base cannot be opened or read.
pub(crate) fn drop(adapter: &mut Adapter, base: Option<&Path>, reader: &Reader) -> Result<()> {
    let may = !adapter.saved.is_empty() || adapter.modules.iter().any(|module| module.base_weight.is_some());
    let Some(path) = base.filter(|_| may) else { return Ok(()) };
    let base = match Model::open_as_hf(path, reader, None) {
        Ok(base) => base,
        // A folder with nothing but a configuration has nothing to compare with, and a GGUF file of some families has
        // no tensors with the names that adapters use.
        Err(error) => {
            let message = format!("cannot tell whether saved weights are copies of the base's: {error}");
            adapter.findings.push(Finding::new(Severity::Note, "base-copies", "", message));
            return Ok(());
        }
    };
    let view = Resolver::new(base.tensors(), base.config.as_ref());
    let is_copy = |name: &str, tensor: &TensorRef| match view.resolve(name, |_| true) {
        Found::One(index) => tensor.same_values(&base.tensor(index)),
        _ => Ok(false),
    };
    let mut dropped = 0;
    for module in &mut adapter.modules {
        let Some(weight) = &module.base_weight else { continue };
        if is_copy(&format!("{}.weight", module.path), weight)? {
            module.base_weight = None;
            dropped += 1;
        }
    }
    let mut kept = Vec::new();
    for saved in std::mem::take(&mut adapter.saved) {
        if is_copy(&saved.name, &saved.tensor)? {
            dropped += 1;
        } else {
            kept.push(saved);
        }
    }
    adapter.saved = kept;
    if dropped > 0 {
        let message = format!("{dropped} weights that are copies of the base's are left out");
        adapter.findings.push(Finding::new(Severity::Note, "base-copies", "", message));
    }
    Ok(())
}
