//! Importance matrices: how much each column of a weight matters, measured by running a model on text.
//!
//! For each matrix, llama-imatrix adds up the squares of the activations that its columns meet. The mean square of a
//! column is its importance: an encoder makes errors smaller where it is large. Both formats of the tool are read,
//! [GGUF](self#gguf) and the [older one](self#legacy); the content of a file decides which it is.
//!
//! # GGUF
//!
//! For each tensor `{name}` of the model, `{name}.in_sum2` holds the sums, F32 `(matrices, columns)`, and
//! `{name}.counts` how often a matrix was used, F32 `(matrices, 1)`. A matrix that was never used has importance 1
//! throughout. Metadata: `imatrix.datasets`, `imatrix.chunk_count`, `imatrix.chunk_size`.
//!
//! # Legacy
//!
//! ```text
//! ┌─────────────┬─────────────────┬────────────┬──────────────────┐
//! │ entries i32 │ entries × entry │ chunks i32 │ dataset: string  │   the last two may be absent
//! └─────────────┴─────────────────┴────────────┴──────────────────┘
//! entry    name: string │ i32 calls │ i32 n │ n × f32, importance × calls
//! string   i32 length │ bytes
//! ```
//!
//! Source: `tools/quantize/quantize.cpp` and `common/imatrix-loader.cpp` of llama.cpp.

use std::path::{Path, PathBuf};

use lorakit_tensor::{Reader, TensorInfo};

use crate::ops::quantize::Problem;
use crate::{Error, Result};
use content::Content;

mod content;
mod gguf;
mod legacy;

#[cfg(test)]
mod tests;

/// An importance matrix in memory.
#[derive(Debug)]
pub struct Imatrix {
    path: PathBuf,
    content: Content,
}

/// Which tensors an importance matrix knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Tensors with importance.
    pub covered: Vec<String>,
    /// Tensors without; they are encoded as if all columns mattered equally.
    pub missing: Vec<String>,
}

impl Imatrix {
    /// Reads a file of either format.
    ///
    /// # Errors
    /// [`ErrorKind::File`](crate::ErrorKind::File) for a file that is damaged, cut short or of another kind;
    /// [`ErrorKind::Imatrix`](crate::ErrorKind::Imatrix) if an importance is not finite, or negative.
    pub fn open(path: &Path, reader: &Reader) -> Result<Imatrix> {
        let storage = reader.open(path)?;
        let magic = storage.read(0, storage.len().min(4) as usize)?;
        let content = if magic.starts_with(b"GGUF") {
            gguf::read(&storage)
        } else {
            legacy::read(&storage.read(0, storage.len() as usize)?)
        }
        .map_err(|e| e.at(path))?;
        for (name, importance) in &content.importance {
            if let Some(column) = importance.iter().position(|value| !value.is_finite() || *value < 0.0) {
                let problem = Problem::Importance { column, value: importance[column] };
                return Err(Error::from(problem).at(path).tensor(name));
            }
        }
        Ok(Imatrix { path: path.to_path_buf(), content })
    }

    /// The importance of the columns of a tensor, one matrix after the other; `None` if there is none of that length.
    pub fn get(&self, tensor: &str, columns: usize, matrices: usize) -> Option<&[f32]> {
        let importance = self.content.importance.get(tensor)?;
        (Some(importance.len()) == columns.checked_mul(matrices)).then_some(importance)
    }

    /// The importance of the columns of a tensor, as [`Self::get`], and how many matrices it consists of.
    pub(crate) fn of(&self, tensor: &TensorInfo) -> Option<(&[f32], usize)> {
        let (columns, matrices) = columns_and_matrices(&tensor.shape);
        Some((self.get(&tensor.name, columns, matrices)?, matrices))
    }

    /// Checks whether this is the importance matrix of the model of `tensors`, and what it knows of those that will be
    /// encoded in a type that uses importance, `weighed`.
    ///
    /// A token embedding of another length counts as missing: it is looked up, not multiplied, so there are no
    /// activations to measure.
    ///
    /// # Errors
    /// [`ErrorKind::Imatrix`](crate::ErrorKind::Imatrix) with a line for each tensor of another length;
    /// [`ErrorKind::Imatrix`](crate::ErrorKind::Imatrix) if no tensor of the model is known.
    pub fn check<'a>(
        &self,
        tensors: &[TensorInfo],
        weighed: impl IntoIterator<Item = &'a TensorInfo>,
    ) -> Result<Coverage> {
        let mut coverage = Coverage::default();
        let mut wrong = Vec::new();
        for tensor in weighed {
            let (columns, matrices) = columns_and_matrices(&tensor.shape);
            let found = self.content.importance.get(&tensor.name).map(Vec::len);
            let list = match found {
                Some(n) if Some(n) == columns.checked_mul(matrices) => &mut coverage.covered,
                Some(n) if !is_embedding(&tensor.name) => {
                    let needed = match matrices {
                        1 => format!("{columns}"),
                        _ => format!("{matrices} times {columns}"),
                    };
                    wrong.push(format!("`{}`: {n} values, expected {needed}", tensor.name));
                    continue;
                }
                _ => &mut coverage.missing,
            };
            list.push(tensor.name.clone());
        }
        if !wrong.is_empty() {
            let problem = Problem::OtherLengths { tensors: wrong.len() };
            return Err(Error::from(problem).at(&self.path).details(wrong));
        }
        let is_known = |tensor: &TensorInfo| self.content.importance.contains_key(&tensor.name);
        let matrix = tensors.iter().find(|tensor| tensor.shape.len() > 1 && !is_embedding(&tensor.name));
        if let Some(missing) = matrix.or(tensors.first()).filter(|_| !tensors.iter().any(is_known)) {
            let known = self.content.importance.keys().next().map_or("", String::as_str);
            let problem = Problem::OtherNames {
                tensors: tensors.len(),
                missing: missing.name.clone(),
                known: known.escape_debug().to_string(),
            };
            return Err(Error::from(problem).at(&self.path));
        }
        Ok(coverage)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text files that the model ran on, if they were recorded.
    pub fn datasets(&self) -> &[String] {
        &self.content.datasets
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.content.importance.len()
    }

    /// Whether there are none; never true for one that was opened.
    pub fn is_empty(&self) -> bool {
        self.content.importance.is_empty()
    }

    /// Number of chunks of text that the model ran on; 0 if that was not recorded.
    pub fn chunks(&self) -> u32 {
        self.content.chunks
    }

    /// An importance matrix of `entries` unused tensors, for tests of what is written about it.
    #[cfg(test)]
    pub(super) fn of_entries(path: &Path, entries: usize, datasets: Vec<String>, chunks: u32) -> Imatrix {
        let importance = (0..entries).map(|i| (i.to_string(), Vec::new())).collect();
        Imatrix { path: path.to_path_buf(), content: Content { importance, datasets, chunks } }
    }
}

/// The length of a row, and how many matrices are stacked.
fn columns_and_matrices(shape: &[usize]) -> (usize, usize) {
    match shape {
        [stack @ .., _, columns] => (*columns, stack.iter().product()),
        [columns] => (*columns, 1),
        [] => (1, 1),
    }
}

fn is_embedding(name: &str) -> bool {
    matches!(name, "token_embd.weight" | "per_layer_token_embd.weight")
}
