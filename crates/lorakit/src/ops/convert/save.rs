//! Writing an adapter that is in memory, in any format.
//!
//! ```
//! use lorakit::adapter::{Adapter, AdapterConfig, Module, ModuleKind, Scaling};
//! use lorakit::ops::convert::save::{self, SaveOptions};
//! use lorakit::plan::Silent;
//! use lorakit::{DType, Reader, TensorRef};
//!
//! # fn main() -> lorakit::Result<()> {
//! # let folder = std::env::temp_dir().join(format!("lorakit-save-{}", std::process::id()));
//! # let output = folder.join("trained");
//! // What was trained: a product of rank 2 for one layer of 4 outputs and 3 inputs.
//! let a: Vec<f32> = vec![0.5, -1.0, 0.25, 2.0, 0.0, 1.0]; // (r, in)
//! let b: Vec<f32> = vec![1.0, 0.0, 0.0, 1.0, 0.5, 0.5, -1.0, 2.0]; // (out, r)
//! let path = "model.layers.0.self_attn.q_proj";
//! let a = TensorRef::of_values("A", DType::F32, [2, 3], &a)?;
//! let b = TensorRef::of_values("B", DType::F32, [4, 2], &b)?;
//! let module = Module::new(path, ModuleKind::Linear, a, b, Scaling::Alpha(16.0));
//!
//! let mut config = AdapterConfig::default();
//! config.base_model = Some("example/tiny".into());
//! let adapter = Adapter::in_memory("trained", config, vec![module], Vec::new())?;
//! # std::fs::create_dir_all(&folder).expect("a temporary folder");
//! let options = SaveOptions::new(&output, "peft");
//! save::plan(&adapter, &options, &Silent)?.run(0, &Silent)?;
//!
//! let read = Adapter::open(&output, &Reader::default(), None)?;
//! let (written, meant) = (&read.modules[0], &adapter.modules[0]);
//! assert_eq!((written.path.as_str(), written.scale(2)), (path, 8.0));
//! assert_eq!(written.a.values()?, meant.a.values()?);
//! assert_eq!(written.b.values()?, meant.b.values()?);
//! # std::fs::remove_dir_all(&folder).expect("it is there");
//! # Ok(())
//! # }
//! ```

use std::path::PathBuf;

use lorakit_tensor::{DType, ReadMode, Reader};

use super::adapter::{refuse_empty, refuse_misfits};
use crate::adapter::Adapter;
use crate::lineage::Papers;
pub use crate::output::{AdapterOutput, AdapterReport};
use crate::output::{Destination, writable};
use crate::plan::{Progress, go_on};
use crate::{Base, Result};

/// Where to write an adapter, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SaveOptions {
    /// The output folder or file.
    pub output: PathBuf,
    /// Name of the format to write: see [`formats`](super::adapter::formats).
    pub to: String,
    /// Replace an output that exists.
    pub replace: bool,
    /// Dtype of the factors; each keeps its own by default.
    pub dtype: Option<DType>,
    /// The model that the adapter belongs to.
    pub base: Option<PathBuf>,
    /// How the base, and what was written, are read.
    pub mode: ReadMode,
}

impl SaveOptions {
    /// Default options for an output and the name of its format: see [`formats`](super::adapter::formats).
    pub fn new(output: impl Into<PathBuf>, to: impl Into<String>) -> Self {
        SaveOptions {
            output: output.into(),
            to: to.into(),
            replace: false,
            dtype: None,
            base: None,
            mode: ReadMode::default(),
        }
    }
}

crate::ops::setters! { SaveOptions {
    with_replace: replace: bool,
    with_dtype: dtype: Option<DType>,
    with_base: base: Option<PathBuf>,
    with_mode: mode: ReadMode,
} }

/// Plans how `adapter` is written. [`AdapterOutput::run`] writes it, reads it again and compares every module before it
/// is published.
///
/// # Errors
/// [`ErrorKind::Inexpressible`](crate::ErrorKind::Inexpressible) for what the format cannot hold,
/// [`ErrorKind::NeedsBase`](crate::ErrorKind::NeedsBase) for what it cannot say without the base; if the adapter does
/// not fit the base; [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted).
pub fn plan(adapter: &Adapter, options: &SaveOptions, progress: &dyn Progress) -> Result<AdapterOutput> {
    let format = writable(&options.to)?;
    let reader = Reader::new(options.mode);
    let base = options.base.as_deref().map(|base| Base::open(base, &reader)).transpose()?;
    adapter.check()?;
    refuse_empty(adapter)?;
    go_on(progress, "anything was written")?;
    refuse_misfits(adapter, base.as_ref())?;
    let adapter = adapter.clone();
    let adapter = if format.packs_experts() { adapter } else { adapter.unpacked(base.as_ref())? };
    let destination = Destination {
        format,
        output: &options.output,
        replace: options.replace,
        dtype: options.dtype,
        reader,
        papers: Papers::default(),
    };
    AdapterOutput::new(adapter, base, &destination)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::{AdapterConfig, Module, ModuleKind, Scaling};
    use crate::plan::Silent;
    use crate::{ErrorKind, TensorRef};

    fn trained() -> Adapter {
        let values: Vec<f32> = (0..16).map(|i| i as f32 - 7.5).collect();
        let modules = ["q_proj", "v_proj"].map(|leaf| {
            let a = TensorRef::of_values("A", DType::BF16, [2, 8], &values).unwrap();
            let b = TensorRef::of_values("B", DType::BF16, [4, 2], &values[..8]).unwrap();
            let path = format!("model.layers.0.self_attn.{leaf}");
            Module::new(path, ModuleKind::Linear, a, b, Scaling::Fixed(0.75))
        });
        let config = AdapterConfig { task_type: Some("CAUSAL_LM".into()), ..AdapterConfig::default() };
        Adapter::in_memory("trained", config, modules.into(), Vec::new()).unwrap()
    }

    #[test]
    fn formats_take_an_adapter_from_memory() {
        let (folder, adapter) = (tempfile::tempdir().unwrap(), trained());
        for (to, name) in [("peft", "peft"), ("mlx", "mlx")] {
            let output = folder.path().join(name);
            let plan = plan(&adapter, &SaveOptions::new(&output, to), &Silent).unwrap();
            assert!(!output.exists(), "{to} was written by its plan");
            let report = plan.run(1, &Silent).unwrap();
            assert_eq!(report.errors.len(), 2, "{to}");
            assert!(report.errors.iter().all(|module| module.error < 1e-6), "{to}: {:?}", report.errors);
        }
        let read = Adapter::open(&folder.path().join("peft"), &Reader::default(), None).unwrap();
        assert_eq!((read.config.r, read.config.alpha), (Some(2), Some(1.5)));
        assert_eq!(read.config.task_type.as_deref(), Some("CAUSAL_LM"));
    }

    #[test]
    fn nothing_is_not_saved() {
        let empty = Adapter::in_memory("none", AdapterConfig::default(), Vec::new(), Vec::new()).unwrap();
        let error = plan(&empty, &SaveOptions::new("out", "peft"), &Silent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        let error = plan(&trained(), &SaveOptions::new("out", "clay"), &Silent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
}
