//! What names mean in a base: the one place that decides which tensor, and which of its rows, an adapter's path or
//! another model's name stands for. Only headers are read.

use std::ops::Range;

use lorakit_tensor::TensorInfo;

use super::index::{Found, Index};
use crate::arch::names::{self, Projection, is_embedding, is_head, module_of};
use crate::model::ModelConfig;

/// A base whose headers tell what names mean in it.
#[derive(Debug)]
pub(crate) struct Resolver<'a> {
    /// Tensors of the base.
    pub tensors: &'a [TensorInfo],
    /// The base's configuration, if there is one.
    pub config: Option<&'a ModelConfig>,
    index: Index<'a>,
    embedding: Option<usize>,
    head: Option<usize>,
}

/// Rows of a tensor that are the weight of one layer, or part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Home {
    /// The tensor.
    pub(crate) tensor: usize,
    /// Rows of the tensor as a matrix; the matrix of a stack has a row for each row of each expert.
    pub(crate) rows: Range<usize>,
    /// The expert, for a layer that has several.
    pub(crate) expert: usize,
    /// Which of how many equal parts of the layer's outputs the rows are: `(0, 1)` for all outputs.
    pub(crate) part: (usize, usize),
}

impl<'a> Resolver<'a> {
    /// Returns the resolver of names among these tensors.
    pub(crate) fn new(tensors: &'a [TensorInfo], config: Option<&'a ModelConfig>) -> Self {
        let weight = |name: &'a str| name.strip_suffix(".weight").unwrap_or_default();
        let mut embeddings = tensors.iter().enumerate().filter(|(_, t)| is_embedding(weight(&t.name)));
        let embedding = match (embeddings.next(), embeddings.next()) {
            (Some((i, _)), None) => Some(i),
            _ => None,
        };
        let head = tensors.iter().position(|t| is_head(weight(&t.name)));
        Resolver { tensors, index: Index::new(tensors), config, embedding, head }
    }

    /// Whether input and output embedding are one tensor.
    pub(crate) fn tied(&self) -> bool {
        self.config.is_some_and(ModelConfig::tied)
    }

    /// The input embedding.
    pub(crate) fn embedding(&self) -> Option<usize> {
        self.embedding
    }

    /// The output embedding, if it is stored.
    pub(crate) fn head(&self) -> Option<usize> {
        self.head
    }

    /// The name of the output embedding, or the name that it gets once it is a separate tensor.
    pub(crate) fn head_name(&self) -> String {
        let of_input = || {
            let embedding = self.embedding.map_or("", |i| self.tensors[i].name.as_str());
            format!("{}.weight", names::head_of(module_of(embedding)))
        };
        self.head.map_or_else(of_input, |i| self.tensors[i].name.clone())
    }

    /// The input embedding, if it is also the output embedding and no separate one is stored.
    pub(crate) fn shared(&self) -> Option<usize> {
        self.embedding.filter(|_| self.tied() && self.head.is_none())
    }

    /// The tensor that serves as `name` in a model without a tensor of that name: the shared embedding, if `name` is an
    /// output embedding.
    pub(crate) fn in_place_of(&self, name: &str) -> Option<usize> {
        self.shared().filter(|_| is_head(name.strip_suffix(".weight").unwrap_or(name)))
    }

    /// The output embedding of a tied model, if `path` means that: its name, and the tensor it starts from.
    pub(super) fn tied_output(&self, path: &str) -> Option<(String, Option<usize>)> {
        (self.tied() && is_head(path)).then(|| (self.head_name(), self.head.or(self.embedding)))
    }

    /// The tensor of exactly that name.
    pub(crate) fn exact(&self, name: &str) -> Option<usize> {
        self.index.exact(name)
    }

    /// The tensor that an adapter means by `name`: an exact match, then another spelling, then the same ending.
    /// Candidates that `fits` refuses are considered only if there is no other.
    pub(crate) fn resolve(&self, name: &str, fits: impl Fn(&TensorInfo) -> bool) -> Found<'a> {
        self.index.resolve(name, fits)
    }

    /// The name most similar to `name`, for messages.
    pub(crate) fn nearest(&self, name: &str) -> Option<&'a str> {
        self.index.nearest(name)
    }

    /// Whether the weight of the layer `path` is stored as `(in, out)`; `None` if there is no configuration to tell.
    ///
    /// The base decides, not the adapter: PEFT corrects `fan_in_fan_out` by the layer's class, and only the GPT-2
    /// family has such layers.
    pub(crate) fn stored_transposed(&self, path: &str) -> Option<bool> {
        Some(names::is_stored_transposed(self.config?.model_type()?, path))
    }

    /// Whether stacked experts are stored as `[E, in, out]`, as in GPT-OSS and Llama 4.
    pub(crate) fn stacks_transposed(&self) -> bool {
        self.config.and_then(ModelConfig::model_type).is_some_and(names::stacks_transposed)
    }

    /// Whether PEFT takes stacked experts to be stored as `[E, in, out]`.
    pub(crate) fn transposed_in_peft(&self) -> bool {
        self.config.and_then(ModelConfig::model_type).is_some_and(names::is_transposed_in_peft)
    }

    /// The stack of the experts at `path` that is called `parameter`: `[E, d1, d2]`.
    pub(super) fn stack(&self, path: &str, parameter: &str) -> Found<'a> {
        for name in [format!("{path}.{parameter}"), format!("{path}.{parameter}.weight")] {
            match self.resolve(&name, |info| info.shape.len() == 3) {
                Found::One(index) if self.tensors[index].shape.len() != 3 => {}
                Found::Absent => {}
                found => return found,
            }
        }
        Found::Absent
    }

    /// The homes of all experts in a stack `[E, d1, d2]`.
    pub(super) fn in_stack(&self, tensor: usize) -> Vec<Home> {
        let [experts, rows, _] = self.tensors[tensor].shape[..] else { return Vec::new() };
        let home = |expert| Home { tensor, rows: expert * rows..(expert + 1) * rows, expert, part: (0, 1) };
        (0..experts).map(home).collect()
    }

    /// The homes of all experts at `path` that are stored as separate tensors, for a layer whose outputs are these
    /// projections, one below another.
    ///
    /// # Errors
    /// Returns the name that is missing, or that means several tensors.
    pub(super) fn each(&self, path: &str, parts: &[Projection]) -> Result<Vec<Home>, (String, Found<'a>)> {
        for word in names::single_words() {
            let name = |expert: usize, part| format!("{path}.{expert}.{}.weight", word(part));
            let find = |expert, part| self.resolve(&name(expert, part), |info| info.shape.len() == 2);
            let is_there = |&expert: &usize| matches!(find(expert, Projection::Down), Found::One(_));
            match find(0, Projection::Down) {
                Found::Absent => continue,
                Found::One(_) => {}
                several => return Err((name(0, Projection::Down), several)),
            }
            let mut homes = Vec::new();
            for expert in (0..).take_while(is_there) {
                for (place, part) in parts.iter().enumerate() {
                    let tensor = match find(expert, *part) {
                        Found::One(tensor) => tensor,
                        other => return Err((name(expert, *part), other)),
                    };
                    let rows = 0..self.tensors[tensor].rows_cols().0;
                    homes.push(Home { tensor, rows, expert, part: (place, parts.len()) });
                }
            }
            return Ok(homes);
        }
        Err((path.to_string(), Found::Absent))
    }
}
