//! Models on their way into memory: a Hugging Face folder, a folder of bitsandbytes or a GGUF file becomes a
//! [`Model`] whose linears stay packed.
//!
//! ```text
//!   config.json, metadata  ──► Shape ──► layout: which tensor is which part
//!   tensors, panel by panel ──► checked for NaN ──► kept, cast or quantised ──► Model
//!                                                └─► digest of what is trained on
//!   tokenizer, template, special tokens ──► text
//! ```

mod four_bit;
pub(crate) mod layout;
mod problem;
mod quant;
mod text;
mod weights;

use std::path::Path;
use std::sync::Arc;

use lorakit::lineage::weights as digests;
use lorakit::plan::{Hash, Progress};
use lorakit::{Model as Files, ReadMode, Reader};
use lorakit_tensor::{TensorInfo, TensorSource};
use serde_json::Value;

pub use quant::Quant;
pub use text::TextFiles;

use layout::{LayerLayout, Layout};
use problem::Problem;
use weights::Loaded;

use crate::kernel::FrozenMatrix;
use crate::model::{Layer, Linear, Model, Norm, Shape, Slot, parallel};
use crate::{Error, Result};

/// What weights are stored as, with the hashes of their bytes.
type Parts = Vec<(TensorInfo, Hash)>;

/// A model that adapters are trained on.
pub struct Base {
    /// What computes.
    pub model: Model,
    /// The form of its linears.
    pub quant: Quant,
    /// The [digest](lorakit::lineage::weights) of the weights in its files.
    pub weights: String,
    /// The digest of the weights as they are in memory: that of the files for [`Quant::Keep`], that of the folder which
    /// `lorakit quantize` would write for [`Quant::Nf4`].
    pub trained_on: String,
    /// Bytes of memory that the weights take.
    pub bytes: u64,
    /// Tokenizer, template, special tokens.
    pub text: TextFiles,
    files: Files,
    prefix: &'static str,
    /// The position of each linear's weight among the tensors.
    linears: Vec<[usize; 7]>,
}

impl Base {
    /// Reads the model at `path`, a folder or a GGUF file, on so many threads. Weights are converted to `quant` while
    /// they are read, tensor by tensor, so that those of the files are never all in memory.
    ///
    /// # Errors
    /// As [`Files::open`]; [`Unsupported`](lorakit::ErrorKind::Unsupported) for another kind of model, and for tensors
    /// that no part of it is made of; `Incomplete` or `Corrupt` for missing or misshapen ones;
    /// [`NonFinite`](lorakit::ErrorKind::NonFinite) for NaN and infinity;
    /// [`Requantized`](lorakit::ErrorKind::Requantized) for [`Quant::Nf4`] of quantised weights;
    /// [`Interrupted`](lorakit::ErrorKind::Interrupted).
    pub fn open(path: &Path, quant: Quant, threads: usize, progress: &dyn Progress) -> Result<Self> {
        Self::of(Self::files(path)?, quant, threads, progress)
    }

    /// Opens the model at `path` without reading its weights: [`Quant::usual`] tells what to make of it, and
    /// [`Self::of`] makes it.
    ///
    /// # Errors
    /// As [`Files::open`].
    pub fn files(path: &Path) -> Result<Files> {
        // Mapped pages would count as memory of this process until something else needs them.
        Files::open_to_compute(path, &Reader::new(ReadMode::Positioned))
    }

    /// The shape of an opened model.
    ///
    /// # Errors
    /// As [`Shape::from_config`]; if there is no configuration.
    pub fn shape(files: &Files) -> Result<Shape> {
        let place = |error: Error| error.at(&files.path);
        let config = files.config.as_ref().ok_or_else(|| place(Problem::NoConfig.into()))?;
        Shape::from_config(config.text_of_file().as_bytes()).map_err(place)
    }

    /// How many tokens a model reads at once, if its configuration says so.
    pub fn context(files: &Files) -> Option<usize> {
        let config: Value = serde_json::from_str(&files.config.as_ref()?.text_of_file()).ok()?;
        let own = &config["max_position_embeddings"];
        let inner = &config["text_config"]["max_position_embeddings"];
        own.as_u64().or(inner.as_u64())?.try_into().ok()
    }

    /// As [`Self::open`], from an opened model.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn of(files: Files, quant: Quant, threads: usize, progress: &dyn Progress) -> Result<Self> {
        let shape = Self::shape(&files)?;
        let layout = Layout::find(&files, &shape).map_err(|error| error.at(&files.path))?;
        let text = TextFiles::of(&files)?;
        let read = Reading { files: &files, layout: &layout, shape: &shape, quant, progress };
        let (model, bytes, parts) = read.model(threads)?;
        progress.begin(files.checkpoint().tensors().iter().map(TensorInfo::byte_len).sum());
        let weights = digests::digest(files.checkpoint().as_ref(), progress)?;
        files.reader().check_unchanged()?;
        let trained_on = match quant {
            Quant::Keep => weights.clone(),
            _ => digest(parts),
        };
        let prefix = layout.prefix;
        let linears = layout.layers.iter().map(|layer| layer.linears.map(|(weight, _)| weight)).collect();
        Ok(Base { model, quant, weights, trained_on, bytes, text, files, prefix, linears })
    }

    /// The form of its linears in a word, for a record: `nf4`, `bf16`, `q4_k`.
    pub fn form(&self) -> String {
        match self.quant {
            Quant::Keep => lorakit::lineage::form_of(&self.files),
            quant => quant.name().to_string(),
        }
    }

    /// The opened files.
    pub fn opened(&self) -> &Files {
        &self.files
    }

    /// The name that the weight of a linear has in the files, which GGUF files are read as if they had.
    pub fn weight(&self, layer: usize, slot: Slot) -> &str {
        &self.files.tensors()[self.linears[layer][slot as usize]].name
    }

    /// The path of a module in the model: `model.layers.0.self_attn.q_proj`.
    pub fn module(&self, layer: usize, slot: Slot) -> String {
        layout::module_path(self.prefix, layer, slot)
    }
}

fn digest(parts: Parts) -> String {
    let (infos, hashes): (Vec<TensorInfo>, Vec<Hash>) = parts.into_iter().unzip();
    digests::of_hashes(&infos, &hashes)
}

/// A model that is being read.
struct Reading<'a> {
    files: &'a Files,
    layout: &'a Layout,
    shape: &'a Shape,
    quant: Quant,
    progress: &'a dyn Progress,
}

/// The matrices that are read.
#[derive(Clone, Copy)]
enum Matrix {
    /// Embeddings or head, which keep their type.
    End(usize),
    Linear(usize),
}

impl Matrix {
    fn index(self) -> usize {
        let (Matrix::End(index) | Matrix::Linear(index)) = self;
        index
    }
}

impl Reading<'_> {
    /// The model, the memory it takes, and what its weights are stored as.
    fn model(&self, threads: usize) -> Result<(Model, u64, Parts)> {
        let ends = [Some(self.layout.embedding), self.layout.head];
        let mut tasks: Vec<Matrix> = ends.into_iter().flatten().map(Matrix::End).collect();
        let linears = self.layout.layers.iter().flat_map(|layer| layer.linears);
        tasks.extend(linears.map(|(weight, _)| Matrix::Linear(weight)));
        let size = |task: &Matrix| self.files.tensors()[task.index()].byte_len();
        self.progress.begin(tasks.iter().map(size).sum());
        let loaded = parallel::map(threads, tasks.len(), |at| self.matrix(tasks[at]));
        let (mut bytes, mut parts, mut matrices) = (0, Vec::new(), Vec::with_capacity(loaded.len()));
        for loaded in loaded {
            let Loaded { matrix, bytes: taken, parts: of_matrix } = loaded?;
            bytes += taken;
            parts.extend(of_matrix);
            matrices.push(matrix);
        }
        let mut vectors = Vectors { files: self.files, parts, bytes };
        let mut matrices = matrices.into_iter();
        let mut next = || matrices.next().ok_or_else(|| Error::from(Problem::Parts));
        let embedding: Arc<dyn FrozenMatrix> = Arc::from(next()?);
        let head = if self.layout.head.is_some() { Arc::from(next()?) } else { Arc::clone(&embedding) };
        let mut layers = Vec::with_capacity(self.layout.layers.len());
        for places in &self.layout.layers {
            let weights = [next()?, next()?, next()?, next()?, next()?, next()?, next()?];
            layers.push(self.layer(places, weights, &mut vectors)?);
        }
        let norm = self.norm(self.layout.norm, &mut vectors)?;
        let model = Model { shape: self.shape.clone(), embedding, layers, norm, head };
        Ok((model, vectors.bytes, vectors.parts))
    }

    fn matrix(&self, matrix: Matrix) -> Result<Loaded> {
        if self.progress.cancelled() {
            return Err(Error::from(Problem::Stopped).at(&self.files.path));
        }
        let loaded = match matrix {
            Matrix::End(index) => {
                let tensor = self.files.tensor(index);
                weights::kept(&tensor).map_err(|e| e.tensor(&tensor.info().name).at(tensor.path()))
            }
            Matrix::Linear(index) => weights::linear(self.files, index, self.quant),
        };
        self.progress.advance(self.files.tensors()[matrix.index()].byte_len());
        loaded
    }

    fn layer(
        &self,
        places: &LayerLayout,
        weights: [Box<dyn FrozenMatrix>; 7],
        vectors: &mut Vectors,
    ) -> Result<Layer> {
        let biases = places.linears.iter().map(|(_, bias)| bias.map(|index| vectors.read(index)).transpose());
        let mut biases = biases.collect::<Result<Vec<_>>>()?.into_iter();
        let linears = weights.map(|weight| Linear { weight, bias: biases.next().flatten() });
        let mut norm = |index| self.norm(index, vectors);
        let mut both = |pair: Option<(usize, usize)>| -> Result<Option<(Norm, Norm)>> {
            pair.map(|(first, second)| Ok((norm(first)?, norm(second)?))).transpose()
        };
        let (query_key_norm, after_norms) = (both(places.query_key_norm)?, both(places.after_norms)?);
        Ok(Layer {
            linears,
            attention_norm: norm(places.attention_norm)?,
            mlp_norm: norm(places.mlp_norm)?,
            query_key_norm,
            after_norms,
        })
    }

    fn norm(&self, index: usize, vectors: &mut Vectors) -> Result<Norm> {
        // GGUF files hold gains with the 1 added.
        let plus_one = self.shape.norm_plus_one && !self.files.is_gguf();
        Ok(Norm { weight: vectors.read(index)?, plus_one })
    }
}

/// Vectors that are read in f32, and what has been read so far.
struct Vectors<'a> {
    files: &'a Files,
    parts: Parts,
    bytes: u64,
}

impl Vectors<'_> {
    fn read(&mut self, index: usize) -> Result<Vec<f32>> {
        let (values, part) = weights::vector(&self.files.tensor(index))?;
        self.bytes += size_of_val(values.as_slice()) as u64;
        self.parts.push(part);
        Ok(values)
    }
}

#[cfg(test)]
mod tests;
