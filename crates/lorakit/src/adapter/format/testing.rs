//! Small adapter files for the tests of formats.

use std::path::{Path, PathBuf};

use lorakit_tensor::format::safetensors;
use lorakit_tensor::{Checkpoint, DType, ReadMode, Reader, TensorInfo, TensorSource};
use serde_json::Value;

use crate::adapter::Adapter;
use crate::lineage::Lineage;
use crate::ops::convert::adapter::{self, AdapterConvert, AdapterOptions};
use crate::plan::Silent;
use crate::{Base, ModelConfig, Result, TensorRef};

/// A folder that is removed after the test.
pub(super) struct Folder(tempfile::TempDir);

/// A tensor's name, shape and values.
pub(super) type Given<'a> = (&'a str, &'a [usize], &'a [f32]);

/// A tensor's name, dtype, shape and values.
pub(super) type Stored = (String, DType, Vec<usize>, Vec<f32>);

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

    /// Writes a file of tensors, each with its dtype, with strings in its header.
    pub(super) fn file(&self, name: &str, metadata: &[(&str, &str)], tensors: &[Stored]) -> PathBuf {
        let info = |t: &Stored| TensorInfo { name: t.0.clone(), dtype: t.1, shape: t.2.clone() };
        let infos: Vec<TensorInfo> = tensors.iter().map(info).collect();
        let strings = metadata.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let mut bytes = safetensors::layout(&strings, &infos).unwrap().header;
        for (info, tensor) in infos.iter().zip(tensors) {
            let mut stored = vec![0; info.byte_len() as usize];
            lorakit_quant::encoder(info.dtype).unwrap().encode(&tensor.3, &mut stored);
            bytes.extend(stored);
        }
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Writes a model `name` that has nothing but a configuration.
    pub(super) fn base(&self, name: &str, config: &Value) -> PathBuf {
        let folder = self.path(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
        folder
    }

    /// Converts to a folder `to`, then reads it again and compares.
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
        let options = AdapterOptions {
            source: from.into(),
            output: self.path(to),
            to: format.into(),
            replace: false,
            dtype: None,
            base: base.map(Path::to_path_buf),
            lineage: Lineage::default(),
            card: false,
            approximate: None,
            dora_to_lora: None,
            uniform: false,
            threads: 1,
            mode: ReadMode::Mapped,
        };
        adapter::compute(&options, &Silent)
    }
}

/// A base that has nothing but a configuration.
pub(super) fn base(config: Value) -> Base {
    Base { path: "base".into(), config: Some(ModelConfig { json: config }), tensors: Vec::new() }
}

pub(super) fn read(path: &Path, base: Option<&Base>) -> Result<Adapter> {
    Adapter::open(path, &Reader::default(), base)
}

/// Shape and values of a factor.
pub(super) fn held(tensor: &TensorRef) -> (Vec<usize>, Vec<f32>) {
    (tensor.info().shape.clone(), tensor.values().unwrap())
}

/// The tensors of a file: name, shape and values, by name.
pub(super) fn tensors(file: &Path) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let source = std::sync::Arc::new(Checkpoint::open(file, &Reader::default()).unwrap());
    let all = (0..source.tensors().len()).map(|index| TensorRef::new(source.clone(), index));
    let mut all: Vec<_> =
        all.map(|t| (t.info().name.clone(), t.info().shape.clone(), t.values().unwrap())).collect();
    all.sort_by(|x, y| x.0.cmp(&y.0));
    all
}

/// The tensors of a file as they are stored: name, dtype, shape and bytes, by name.
pub(super) fn stored(file: &Path) -> Vec<(String, DType, Vec<usize>, Vec<u8>)> {
    let source = Checkpoint::open(file, &Reader::default()).unwrap();
    let bytes = |i: usize, info: &TensorInfo| source.read(i, 0..info.byte_len()).unwrap().into_owned();
    let all = source.tensors().iter().enumerate();
    let mut all: Vec<_> =
        all.map(|(i, info)| (info.name.clone(), info.dtype, info.shape.clone(), bytes(i, info))).collect();
    all.sort_by(|x, y| x.0.cmp(&y.0));
    all
}

/// Strings of a file's header.
pub(super) fn strings(file: &Path) -> std::collections::BTreeMap<String, String> {
    Checkpoint::open(file, &Reader::default()).unwrap().metadata().clone()
}

/// Values that look random, and that every float type holds.
pub(super) fn mixed(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729 + i * i % 13) % 31) as f32 / 8.0 - 1.875).collect()
}

/// The F16 factors of a layer, and its alpha if there is one, in kohya's spelling.
pub(super) fn lora(name: &str, out: usize, inputs: usize, r: usize, alpha: Option<f32>) -> Vec<Stored> {
    let seed = name.len() + out;
    let part =
        |part: &str, shape: &[usize], values| (format!("{name}.{part}"), DType::F16, shape.to_vec(), values);
    let mut tensors = vec![
        part("lora_down.weight", &[r, inputs], mixed(r * inputs, seed)),
        part("lora_up.weight", &[out, r], mixed(out * r, seed + 1)),
    ];
    tensors.extend(alpha.map(|alpha| part("alpha", &[], vec![alpha])));
    tensors
}

/// `scale * B * A` in f64, row by row.
pub(super) fn delta(module: &crate::adapter::Module) -> Vec<f64> {
    let (a, b) = (module.a.values().unwrap(), module.b.values().unwrap());
    let (rank, inputs) = module.a.info().rows_cols();
    let scale = module.scale(rank);
    let row = |row: &[f32]| -> Vec<f64> {
        let of = |i| {
            row.iter().enumerate().map(|(k, &b)| f64::from(b) * f64::from(a[k * inputs + i])).sum::<f64>()
        };
        (0..inputs).map(|i| scale * of(i)).collect()
    };
    b.chunks_exact(rank).flat_map(row).collect()
}

/// `1, 2, 3 ...`
pub(super) fn counted(n: usize) -> Vec<f32> {
    (1..=n).map(|i| i as f32).collect()
}

pub(super) fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}
