//! A base model: its tensors, its configuration and the files next to them.

mod base;
mod config;
pub(crate) mod folder;
#[doc(hidden)]
pub(crate) mod gguf;
pub mod packed;
mod params;
mod problem;
pub(crate) mod tokenizer;

pub use base::Base;
pub use config::ModelConfig;
pub(crate) use config::torch_name;
pub(crate) use params::{Params, float, missing};
pub(crate) use problem::Problem;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use lorakit_tensor::{Checkpoint, DType, Format, Reader, TensorInfo, TensorSource};

use crate::plan::{ADAPTER_CONFIG, SideFile};
use crate::{Error, Result, TensorRef};
use packed::Packing;

/// An opened model.
pub struct Model {
    /// The path as it was given.
    pub path: PathBuf,
    /// `config.json`, where there is one.
    pub config: Option<ModelConfig>,
    /// How its weights are packed, if a view decodes them: see [`Self::open_as_hf`].
    pub packing: Option<Packing>,
    reader: Reader,
    checkpoint: Arc<Checkpoint>,
    source: Arc<dyn TensorSource>,
    /// The dtype that weights of a GGUF file get in a Hugging Face folder.
    dtype: Option<DType>,
    /// The files that were rebuilt, once they are asked for.
    rebuilt: OnceLock<Arc<[SideFile]>>,
}

impl Model {
    /// Opens a folder or file.
    ///
    /// ```
    /// use lorakit::{Model, Reader};
    ///
    /// let model = Model::open("../../fixtures/golden/peft/bases/llama-bf16".as_ref(), &Reader::default())?;
    /// assert_eq!(model.config.as_ref().and_then(|config| config.model_type()), Some("llama"));
    /// for info in model.tensors() {
    ///     println!("{}: {} {:?}", info.name, info.dtype, info.shape);
    /// }
    /// # Ok::<(), lorakit::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::WrongRole`](crate::ErrorKind::WrongRole) for an adapter folder; any error of reading the files.
    pub fn open(path: &Path, reader: &Reader) -> Result<Self> {
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
        let config_path = folder.join("config.json");
        let is_adapter = reader.has(&folder.join(ADAPTER_CONFIG))? && !reader.has(&config_path)?;
        if is_adapter {
            return Err(Error::from(Problem::Adapter).at(path));
        }
        let checkpoint = Arc::new(Checkpoint::open(path, reader)?);
        let config = if reader.has(&config_path)? && checkpoint.format() != Format::Gguf {
            Some(ModelConfig { json: reader.json_object(&config_path)? })
        } else {
            None
        };
        let source: Arc<dyn TensorSource> = checkpoint.clone();
        let reader = reader.clone();
        let path = path.to_path_buf();
        let rebuilt = OnceLock::new();
        Ok(Model { path, config, packing: None, reader, checkpoint, source, dtype: None, rebuilt })
    }

    /// Opens a folder or file. A GGUF file is seen as the Hugging Face checkpoint from which it was made, whose weights
    /// will be written as `dtype`; a quantised checkpoint is seen with its weights decoded.
    ///
    /// # Errors
    /// As [`Self::open`]; for GGUF files of an unknown family, for weights packed in a way that cannot be decoded, and for
    /// packed weights whose parts are missing or contradict each other.
    pub fn open_as_hf(path: &Path, reader: &Reader, dtype: Option<DType>) -> Result<Self> {
        Self::open(path, reader)?.into_hf(dtype)
    }

    /// Opens a model to compute with it: as [`Self::open_as_hf`], and also GGUF files of families that cannot be turned
    /// into a Hugging Face folder. The norms of a GGUF file keep the 1 that its family may add to them.
    ///
    /// # Errors
    /// As [`Self::open_as_hf`].
    pub fn open_to_compute(path: &Path, reader: &Reader) -> Result<Self> {
        let mut model = Self::open(path, reader)?;
        if !model.is_gguf() {
            return model.into_hf(None);
        }
        model.see_as_hf(None, true)?;
        Ok(model)
    }

    /// The opened model, seen in the same way as by [`Self::open_as_hf`].
    pub(crate) fn into_hf(mut self, dtype: Option<DType>) -> Result<Self> {
        if self.is_gguf() {
            self.see_as_hf(dtype, false)?;
        } else if let Some((source, packing)) =
            packed::view(&self.checkpoint, self.config.as_ref()).map_err(|e| e.at(&self.path))?
        {
            (self.source, self.packing) = (source, Some(packing));
        }
        Ok(self)
    }

    /// Sees a GGUF file as the Hugging Face checkpoint from which it was made.
    fn see_as_hf(&mut self, dtype: Option<DType>, computed: bool) -> Result<()> {
        let view = gguf::read::view(&self.checkpoint, dtype, computed)?;
        (self.source, self.config, self.dtype) = (view.source, Some(view.config), Some(view.dtype));
        Ok(())
    }

    /// The name without ending of the tensor file that its library looks for in a folder: diffusers has another one
    /// than transformers.
    pub(crate) fn stem(&self) -> &'static str {
        let of_diffusers = self.config.as_ref().is_some_and(|config| config.json["_class_name"].is_string());
        if of_diffusers { "diffusion_pytorch_model" } else { "model" }
    }

    /// Whether it is stored as GGUF.
    pub fn is_gguf(&self) -> bool {
        self.checkpoint.format() == Format::Gguf
    }

    /// The files of a model folder, rebuilt from GGUF metadata: configuration and tokenizer; empty for other formats.
    /// Only what writes such a folder or trains needs the tokenizer, whose rules must be known; it is rebuilt once.
    ///
    /// # Errors
    /// [`ErrorKind::File`](crate::ErrorKind::File) with `Unsupported` inside for an unknown tokenizer.
    pub fn rebuilt_files(&self) -> Result<Arc<[SideFile]>> {
        if let Some(rebuilt) = self.rebuilt.get() {
            return Ok(Arc::clone(rebuilt));
        }
        let Some(dtype) = self.dtype else { return Ok(Arc::new([])) };
        let rebuilt = gguf::read::files(&self.checkpoint, dtype)?;
        Ok(Arc::clone(self.rebuilt.get_or_init(|| rebuilt.into())))
    }

    /// The opened files.
    pub fn checkpoint(&self) -> &Arc<Checkpoint> {
        &self.checkpoint
    }

    /// Every tensor, in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        self.source.tensors()
    }

    /// Position of the tensor called `name`.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.source.find(name)
    }

    /// Tensor `index`.
    pub fn tensor(&self, index: usize) -> TensorRef {
        TensorRef::new(Arc::clone(&self.source), index)
    }

    /// A handle to every tensor, in file order, to read from.
    pub(crate) fn refs(&self) -> impl Iterator<Item = TensorRef> + '_ {
        (0..self.tensors().len()).map(|i| self.tensor(i))
    }

    /// The tensors as they are stored, under the names of the file.
    pub(crate) fn stored(&self) -> impl Iterator<Item = TensorRef> + '_ {
        (0..self.checkpoint.tensors().len()).map(|i| self.stored_tensor(i))
    }

    /// Stored tensor `index`.
    pub(crate) fn stored_tensor(&self, index: usize) -> TensorRef {
        TensorRef::new(self.checkpoint.clone(), index)
    }

    /// The folder of the configuration and tokenizer.
    pub fn folder(&self) -> &Path {
        if self.path.is_dir() { &self.path } else { self.path.parent().unwrap_or(Path::new("")) }
    }

    /// The dtype in which packed weights are written: that of `config.json` if it is F32, F16 or BF16, else BF16;
    /// `None` if no weight is packed.
    pub fn packed_dtype(&self) -> Option<DType> {
        self.packing.as_ref()?;
        let said = self.config.as_ref().and_then(ModelConfig::dtype);
        let known = [DType::F32, DType::F16].into_iter().find(|dtype| torch_name(*dtype) == said);
        Some(known.unwrap_or(DType::BF16))
    }

    /// The dtype in which the model is written if none is asked for and tensors do not keep theirs:
    /// [`Self::packed_dtype`], or that of most matrices.
    pub(crate) fn natural_dtype(&self) -> DType {
        self.packed_dtype().unwrap_or_else(|| natural_dtype(self.tensors()))
    }

    /// The dtype that tensor `index` keeps if none is asked for: its own, or [`Self::packed_dtype`].
    pub fn kept_dtype(&self, index: usize) -> DType {
        let packed = self.packing.as_ref().is_some_and(|packing| packing.contains(index));
        self.packed_dtype().filter(|_| packed).unwrap_or(self.tensors()[index].dtype)
    }

    /// Number of values.
    pub fn parameters(&self) -> u64 {
        self.tensors().iter().map(TensorInfo::elements).sum()
    }

    /// The reader through which its files were opened.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }
}

/// The dtype in which a decoded model is written: that of most values in matrices if it is F32, F16 or BF16, else
/// BF16.
pub fn natural_dtype(tensors: &[TensorInfo]) -> DType {
    let mut values: BTreeMap<DType, u64> = BTreeMap::new();
    for info in tensors.iter().filter(|t| t.shape.len() > 1) {
        *values.entry(info.dtype).or_default() += info.elements();
    }
    let most = values.into_iter().max_by_key(|(_, n)| *n).map(|(dtype, _)| dtype);
    most.filter(|d| matches!(d, DType::F32 | DType::F16 | DType::BF16)).unwrap_or(DType::BF16)
}
