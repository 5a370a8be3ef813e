//! The facts about a base model that adapter formats need: its family, its heads, its names.

use std::path::{Path, PathBuf};

use lorakit_tensor::{Reader, TensorInfo};

use super::{Params, Problem, gguf};
use crate::arch::{Architecture, Heads, HfClass};
use crate::{Error, ErrorKind, Model, ModelConfig, Result};

/// A base model, known by its headers and its configuration only.
#[derive(Debug, Clone)]
pub struct Base {
    /// The path as it was given.
    pub path: PathBuf,
    /// `config.json`; for a GGUF file, the same entries from its metadata.
    pub config: Option<ModelConfig>,
    /// Its tensors, with Hugging Face names; empty if the folder has just a configuration.
    pub tensors: Vec<TensorInfo>,
}

impl Base {
    /// Opens a model folder, a GGUF or safetensors file, or a folder with nothing but a `config.json`, whose own path
    /// will do as well.
    ///
    /// # Errors
    /// As [`Model::open`]; [`ErrorKind::Unsupported`] for a GGUF model of an unknown family.
    pub fn open(path: &Path, reader: &Reader) -> Result<Self> {
        let path = match path.file_name() {
            Some(name) if name == "config.json" => path.parent().unwrap_or(Path::new("")),
            _ => path,
        };
        let gguf = |model: Model| {
            let (config, tensors) = gguf::read::base_of(model.checkpoint())?;
            Ok(Base { path: path.to_path_buf(), config: Some(config), tensors })
        };
        let opened = match Model::open(path, reader) {
            Ok(model) if model.is_gguf() => return gguf(model),
            Ok(model) => model.into_hf(None),
            Err(error) => Err(error),
        };
        match opened {
            Ok(model) => Ok(Self::of(&model)),
            Err(error) if reader.has(&path.join("config.json"))? && NO_CHECKPOINT.contains(&error.kind()) => {
                let config = ModelConfig { json: reader.json_object(&path.join("config.json"))? };
                Ok(Base { path: path.to_path_buf(), config: Some(config), tensors: Vec::new() })
            }
            Err(error) => Err(error),
        }
    }

    /// The base model that an opened model is.
    pub fn of(model: &Model) -> Self {
        Base { path: model.path.clone(), config: model.config.clone(), tensors: model.tensors().to_vec() }
    }

    /// Its hyper-parameters.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if there is no `config.json`, or if its family is unknown.
    pub(crate) fn params(&self) -> Result<Params<'_>> {
        let config = self.config.as_ref();
        let config = config.ok_or_else(|| Error::from(Problem::NoConfig).at(&self.path))?;
        Params::new(config).map_err(|e| e.at(&self.path))
    }

    /// Its family, and its class in the family.
    ///
    /// # Errors
    /// As [`Self::params`].
    pub(crate) fn family(&self) -> Result<(&'static Architecture, &'static HfClass)> {
        self.params().map(|params| (params.architecture, params.class))
    }

    /// Its attention heads.
    ///
    /// # Errors
    /// As [`Self::params`]; if the configuration lacks them.
    pub(crate) fn heads(&self) -> Result<Heads> {
        self.params()?.heads().map_err(|e| e.at(&self.path))
    }

    /// The number of its layers.
    ///
    /// # Errors
    /// As [`Self::heads`].
    pub(crate) fn layers(&self) -> Result<usize> {
        let layers = self.params()?.required_integer("num_hidden_layers");
        layers.map(|n| n as usize).map_err(|e| e.at(&self.path))
    }

    /// The number of experts in a layer, if layers have experts.
    ///
    /// # Errors
    /// As [`Self::params`].
    pub(crate) fn experts(&self) -> Result<Option<usize>> {
        let params = self.params()?;
        let count = params.experts().map_err(|e| e.at(&self.path))?;
        Ok((params.class.experts && count > 0).then_some(count))
    }

    /// Whether input and output embedding are one tensor.
    pub(crate) fn tied(&self) -> bool {
        self.config.as_ref().is_some_and(ModelConfig::tied)
    }

    /// Its name in other files: that of its folder or file.
    pub(crate) fn name(&self) -> String {
        let path = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// A folder has none, or nothing tells which.
const NO_CHECKPOINT: [ErrorKind; 2] = [
    ErrorKind::File(lorakit_tensor::ErrorKind::NotFound),
    ErrorKind::File(lorakit_tensor::ErrorKind::Several),
];
