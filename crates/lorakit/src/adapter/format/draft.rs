//! An adapter as files of one format, before they are laid out.

use std::collections::HashMap;
use std::path::Path;

use lorakit_tensor::DType;

use super::Problem;
use crate::adapter::{Adapter, Module, ModuleKind};
use crate::plan::{Compute, Container, OutputTensor, Recipe, SideFile, Target};
use crate::{Base, Error, Result, TensorRef};

/// Options of a writer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DraftOptions<'a> {
    /// Dtype of the factors; by default, each keeps its own, and factors that are multiplied become F32.
    pub(crate) dtype: Option<DType>,
    /// The model that the adapter belongs to.
    pub(crate) base: Option<&'a Base>,
}

/// Files of one format.
#[derive(Debug)]
pub(crate) struct Draft {
    /// The stem of the tensor file in the output folder; `None` if the output is one file.
    pub(crate) stem: Option<&'static str>,
    /// Header of the tensor file.
    pub(crate) container: Container,
    /// The tensors.
    pub(crate) tensors: Vec<OutputTensor>,
    /// The files next to the tensor file.
    pub(crate) side_files: Vec<SideFile>,
    /// What became of each module, in the order of the adapter.
    pub(crate) mapped: Vec<Mapped>,
}

/// What became of one module.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Mapped {
    /// Its path in the adapter.
    pub module: String,
    /// What the output calls it.
    pub name: String,
    /// What was done to its factors: `rows of q reordered`, `B times 0.5`.
    pub how: Vec<String>,
}

/// What a format can hold besides plain factors.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Can {
    /// DoRA's magnitudes.
    pub(crate) dora: bool,
    /// A bias of `B`.
    pub(crate) bias: bool,
    /// Low-rank embeddings.
    pub(crate) embeddings: bool,
    /// Kernels of convolutions.
    pub(crate) convolutions: bool,
    /// Parameters saved whole, and weights that replace the base's.
    pub(crate) saved: bool,
    /// Trained token rows.
    pub(crate) token_rows: bool,
    /// Full deltas of parameters.
    pub(crate) deltas: bool,
}

impl Can {
    /// Refuses the parts for which `format` has no place.
    ///
    /// # Errors
    /// `ErrorKind::Inexpressible` with one line for each part.
    pub(crate) fn hold(self, adapter: &Adapter, format: &'static str) -> Result<()> {
        let mut lines: Vec<String> = Vec::new();
        for module in &adapter.modules {
            let kernel = module.a.info().shape.iter().skip(2).any(|&d| d != 1);
            let parts = [
                (module.magnitude.is_some() && !self.dora, "magnitudes of DoRA"),
                (module.bias.is_some() && !self.bias, "a trained bias"),
                (module.kind == ModuleKind::Embedding && !self.embeddings, "a low-rank embedding"),
                (kernel && !self.convolutions, "a convolution"),
                (module.base_weight.is_some() && !self.saved, "a weight that replaces the base's"),
                (
                    module.is_attention_output() && format != "PEFT",
                    "the output projection of nn.MultiheadAttention, which PEFT up to 0.21.2 applies twice",
                ),
            ];
            lines.extend(
                parts.iter().filter(|(lost, _)| *lost).map(|(_, what)| format!("{}  {what}", module.path)),
            );
        }
        if !self.saved {
            lines.extend(adapter.saved.iter().map(|saved| format!("{}  saved whole", saved.name)));
        }
        if !self.deltas {
            lines.extend(adapter.deltas.iter().map(|delta| format!("{}  a full delta", delta.name())));
        }
        if !self.token_rows {
            lines.extend(
                adapter.token_rows.iter().map(|t| format!("{}  {} token rows", t.path, t.rows.len())),
            );
        }
        let has = |lost: fn(&Module) -> bool| adapter.modules.iter().any(lost);
        let weights = !self.saved && has(|module| module.base_weight.is_some());
        let magnitudes = !self.dora && has(|module| module.magnitude.is_some());
        let problem = match (lines.len(), weights, magnitudes) {
            (0, ..) => return Ok(()),
            (count, true, _) => Problem::PlacelessWeights { count, format },
            (count, _, true) => Problem::PlacelessMagnitudes { count, format },
            (count, ..) => Problem::Placeless { count, format },
        };
        Err(Error::from(problem).at(&adapter.path).details(lines))
    }
}

/// A factor times a number.
#[derive(Debug, Clone)]
pub(crate) struct Scaled {
    /// The factor.
    pub(crate) tensor: TensorRef,
    /// The number.
    pub(crate) times: f64,
}

impl Scaled {
    /// The factor as it is.
    pub(crate) fn plain(tensor: TensorRef) -> Self {
        Scaled { tensor, times: 1.0 }
    }

    /// The output tensor `name`: a copy if nothing is multiplied and the dtype stays the same, else computed with
    /// one rounding, as F32 unless `dtype` asks for another.
    pub(crate) fn output(self, name: &str, dtype: Option<DType>) -> OutputTensor {
        let dtype = match (dtype, self.times == 1.0) {
            (Some(dtype), _) => dtype,
            (None, true) => self.tensor.info().dtype,
            (None, false) => DType::F32,
        };
        if self.times == 1.0 {
            return OutputTensor::cast(self.tensor, dtype).named(name);
        }
        let info = lorakit_tensor::TensorInfo { dtype, name: name.to_string(), ..self.tensor.info().clone() };
        let compute = Compute { times: self.times, ..Compute::cast(self.tensor) };
        OutputTensor { info, recipe: Recipe::Compute(Box::new(compute)) }
    }
}

impl Draft {
    /// Where the files go, given the path that the user named.
    ///
    /// # Errors
    /// `ErrorKind::Usage` for a file name where a folder is written, and the other way round.
    pub(crate) fn target(&self, path: &Path) -> Result<Target> {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let (needed, otherwise) = match (&self.stem, &self.container) {
            (Some(_), _) if matches!(extension, "safetensors" | "gguf" | "bin" | "pt") => {
                return Err(Error::from(Problem::FolderNeeded { extension: extension.into() }).at(path));
            }
            (Some(_), _) => return Ok(Target::Folder(path.to_path_buf())),
            (None, Container::Gguf(_)) => ("gguf", Problem::GgufNeeded),
            (None, Container::Safetensors { .. }) => ("safetensors", Problem::SafetensorsNeeded),
        };
        if extension != needed || path.is_dir() {
            return Err(Error::from(otherwise).at(path));
        }
        Ok(Target::File(path.to_path_buf()))
    }
}

/// The most common value; ties go to the first.
pub(crate) fn most_common(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut counts: Vec<(f64, usize)> = Vec::new();
    let mut places: HashMap<u64, usize> = HashMap::new();
    for value in values {
        // Both zeros count as one value.
        let place = *places.entry((value + 0.0).to_bits()).or_insert(counts.len());
        match counts.get_mut(place) {
            Some((_, count)) => *count += 1,
            None => counts.push((value, 1)),
        }
    }
    let most = counts.iter().map(|(_, count)| *count).max()?;
    counts.iter().find(|(_, count)| *count == most).map(|(value, _)| *value)
}

/// The ranks of the modules as numbers.
pub(crate) fn ranks(modules: &[Module]) -> impl Iterator<Item = f64> {
    modules.iter().map(|module| module.rank() as f64)
}

#[cfg(test)]
mod tests {
    use super::most_common;

    #[test]
    fn the_first_of_those_that_are_most_common() {
        let of = |values: &[f64]| most_common(values.iter().copied());
        assert_eq!(of(&[1.0, 2.0, 3.0, 3.0, 2.0]), Some(2.0));
        assert_eq!(of(&[1.0, -0.0, 2.0, 2.0, 0.0, 0.0]), Some(0.0));
        assert_eq!(of(&[]), None);
    }
}
