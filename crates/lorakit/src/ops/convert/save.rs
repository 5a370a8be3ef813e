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
use crate::lineage::{Lineage, Step};
pub use crate::output::{AdapterOutput, AdapterReport};
use crate::output::{Destination, writable};
use crate::plan::{Progress, SideFile, go_on};
use crate::{Base, Finding, Result};

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
    /// What the output says about how it was made; by default a step `save`. The format, the dtype and the base are
    /// added to it, and so is the adapter if it was opened from a file.
    pub step: Step,
    /// Files that an output folder gets besides those of its format: a tokenizer, say.
    pub beside: Vec<SideFile>,
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
            step: Step::new("save", Lineage::default()),
            beside: Vec::new(),
            mode: ReadMode::default(),
        }
    }
}

crate::ops::setters! { SaveOptions {
    with_replace: replace: bool,
    with_dtype: dtype: Option<DType>,
    with_base: base: Option<PathBuf>,
    with_step: step: Step,
    with_beside: beside: Vec<SideFile>,
    with_mode: mode: ReadMode,
} }

/// A saved adapter that is planned.
#[derive(Debug)]
pub struct Save {
    /// What is written.
    pub output: AdapterOutput,
    /// Things worth telling the user.
    pub notes: Vec<Finding>,
}

impl Save {
    /// Writes the output: see [`AdapterOutput::run`].
    ///
    /// # Errors
    /// As [`AdapterOutput::run`].
    pub fn run(&self, threads: usize, progress: &dyn Progress) -> Result<AdapterReport> {
        self.output.run(threads, progress)
    }
}

/// Plans how `adapter` is written. [`AdapterOutput::run`] writes it, reads it again and compares every module before it
/// is published.
///
/// # Errors
/// [`ErrorKind::Inexpressible`](crate::ErrorKind::Inexpressible) for what the format cannot hold,
/// [`ErrorKind::NeedsBase`](crate::ErrorKind::NeedsBase) for what it cannot say without the base; if the adapter does
/// not fit the base; [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted).
pub fn plan(adapter: &Adapter, options: &SaveOptions, progress: &dyn Progress) -> Result<Save> {
    let format = writable(&options.to)?;
    let reader = Reader::new(options.mode);
    let base = options.base.as_deref().map(|base| Base::open(base, &reader)).transpose()?;
    adapter.check()?;
    refuse_empty(adapter)?;
    go_on(progress, "anything was written")?;
    refuse_misfits(adapter, base.as_ref())?;
    let mut step =
        options.step.clone().with("to", format.name()).with("dtype", options.dtype.map(DType::name));
    step.base(base.as_ref());
    if adapter.file().is_some() {
        step.adapter(adapter, None, &reader, progress)?;
    }
    let mut notes = Vec::new();
    let papers = step.finish(&mut notes);
    let adapter = adapter.clone();
    let adapter = if format.packs_experts() { adapter } else { adapter.unpacked(base.as_ref())? };
    let destination = Destination {
        format,
        output: &options.output,
        replace: options.replace,
        dtype: options.dtype,
        reader,
        papers,
        beside: options.beside.clone(),
    };
    Ok(Save { output: AdapterOutput::new(adapter, base, &destination)?, notes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::{AdapterConfig, Module, ModuleKind, Scaling};
    use crate::lineage::{self, Record, Role};
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

    /// The record of the adapter in `folder`.
    fn record(folder: &std::path::Path) -> Option<Record> {
        let reader = Reader::default();
        let opened = Adapter::open(folder, &reader, None).unwrap();
        lineage::read(opened.checkpoint().unwrap(), &reader).0?.record()
    }

    #[test]
    fn what_is_saved_says_how_it_was_made() {
        let folder = tempfile::tempdir().unwrap();
        let [saved, trained_by, silent, again] =
            ["saved", "trained", "silent", "again"].map(|name| folder.path().join(name));
        let save = |adapter: &Adapter, options: &SaveOptions| {
            plan(adapter, options, &Silent).unwrap().run(1, &Silent).unwrap();
        };
        save(&trained(), &SaveOptions::new(&saved, "peft").with_dtype(Some(DType::F32)));
        let own = record(&saved).unwrap();
        assert_eq!((own.verb.as_str(), own.parents.len()), ("save", 0));
        assert_eq!(serde_json::json!(own.options), serde_json::json!({ "to": "peft", "dtype": "F32" }));

        let base = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny-orders");
        let step = Step::new("train", Lineage::Auto).with("seed", 7);
        let mut adapter = trained();
        adapter.modules.clear();
        adapter.modules.push(of_base());
        save(&adapter, &SaveOptions::new(&trained_by, "peft").with_base(Some(base)).with_step(step));
        let own = record(&trained_by).unwrap();
        assert_eq!(own.verb, "train");
        assert_eq!(serde_json::json!(own.options), serde_json::json!({ "seed": 7, "to": "peft" }));
        assert_eq!(own.parents[0].role, Role::Base);
        assert_eq!(own.parents[0].name, "tiny-orders");

        save(&trained(), &SaveOptions::new(&silent, "peft").with_step(Step::new("save", Lineage::Never)));
        assert!(record(&silent).is_none());

        // One that was opened from a file is a parent, with its own record.
        let opened = Adapter::open(&saved, &Reader::default(), None).unwrap();
        save(&opened, &SaveOptions::new(&again, "peft"));
        let own = record(&again).unwrap();
        assert_eq!((own.parents[0].role, own.parents[0].name.as_str()), (Role::Adapter, "saved"));
        assert!(own.parents[0].lineage.is_some());
    }

    /// A module that fits `tiny-orders`.
    fn of_base() -> Module {
        let values: Vec<f32> = (0..256).map(|i| i as f32 / 256.0 - 0.5).collect();
        let a = TensorRef::of_values("A", DType::F32, [2, 128], &values).unwrap();
        let b = TensorRef::of_values("B", DType::F32, [128, 2], &values).unwrap();
        Module::new("model.layers.0.self_attn.q_proj", ModuleKind::Linear, a, b, Scaling::Fixed(0.75))
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
