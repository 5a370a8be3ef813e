//! Small adapter files for the tests of formats.

use std::path::{Path, PathBuf};

use lorakit_tensor::format::safetensors;
use lorakit_tensor::{Checkpoint, DType, ReadMode, TensorInfo, TensorSource};
use serde_json::Value;

use crate::adapter::{Adapter, Base};
use crate::ops::convert::adapter::{self, AdapterConvert, AdapterOptions};
use crate::plan::Silent;
use crate::{ModelConfig, Result, TensorRef};

/// A folder that is gone after the test.
pub(super) struct Folder(tempfile::TempDir);

/// A tensor's name, shape and values.
pub(super) type Given<'a> = (&'a str, &'a [usize], &'a [f32]);

impl Folder {
    pub(super) fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes an adapter `name` of F32 tensors in `file`, with a configuration.
    pub(super) fn adapter(&self, name: &str, file: &str, config: Value, tensors: &[Given<'_>]) -> PathBuf {
        let folder = self.path(name);
        std::fs::create_dir_all(&folder).unwrap();
        if !config.is_null() {
            std::fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
        }
        let info = |t: &Given<'_>| TensorInfo { name: t.0.into(), dtype: DType::F32, shape: t.1.to_vec() };
        let infos: Vec<TensorInfo> = tensors.iter().map(info).collect();
        let mut bytes = safetensors::layout(&[].into(), &infos).unwrap().header;
        bytes.extend(tensors.iter().flat_map(|t| t.2.iter().flat_map(|v| v.to_le_bytes())));
        std::fs::write(folder.join(file), bytes).unwrap();
        folder
    }

    /// Writes a model `name` of which there is nothing but its configuration.
    pub(super) fn base(&self, name: &str, config: &Value) -> PathBuf {
        let folder = self.path(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
        folder
    }

    /// Converts to a folder `to`, which is read again and compared.
    pub(super) fn convert(
        &self,
        from: &Path,
        to: &str,
        format: &str,
        base: Option<&Path>,
    ) -> Result<PathBuf> {
        let convert = self.plan(from, to, format, base)?;
        let report = convert.run(1, &Silent)?;
        assert!(report.errors.iter().all(|e| e.error < 1e-6), "{:?}", report.errors);
        Ok(self.path(to))
    }

    pub(super) fn plan(
        &self,
        from: &Path,
        to: &str,
        format: &str,
        base: Option<&Path>,
    ) -> Result<AdapterConvert> {
        adapter::plan(&AdapterOptions {
            source: from.into(),
            output: self.path(to),
            to: format.into(),
            replace: false,
            dtype: None,
            base: base.map(Path::to_path_buf),
            approximate: None,
            dora_to_lora: None,
            mode: ReadMode::Mapped,
        })
    }
}

/// A base of which there is nothing but its configuration.
pub(super) fn base(config: Value) -> Base {
    Base { path: "base".into(), config: Some(ModelConfig { json: config }), tensors: Vec::new() }
}

pub(super) fn read(path: &Path, base: Option<&Base>) -> Result<Adapter> {
    Adapter::open(path, ReadMode::Mapped, base)
}

/// Shape and values of a factor.
pub(super) fn held(tensor: &TensorRef) -> (Vec<usize>, Vec<f32>) {
    (tensor.info().shape.clone(), tensor.values().unwrap())
}

/// The tensors of a file: name, shape and values, by name.
pub(super) fn tensors(file: &Path) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let source = std::sync::Arc::new(Checkpoint::open(file, ReadMode::Mapped).unwrap());
    let all = (0..source.tensors().len()).map(|index| TensorRef::new(source.clone(), index));
    let mut all: Vec<_> =
        all.map(|t| (t.info().name.clone(), t.info().shape.clone(), t.values().unwrap())).collect();
    all.sort_by(|x, y| x.0.cmp(&y.0));
    all
}

/// `1, 2, 3 ...`
pub(super) fn counted(n: usize) -> Vec<f32> {
    (1..=n).map(|i| i as f32).collect()
}

pub(super) fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}
