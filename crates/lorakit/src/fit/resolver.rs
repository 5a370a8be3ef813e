//! What names mean in a base: the one place that decides which tensor, and which of its rows, an adapter's path or
//! another model's name stands for. Only headers are read.

use std::ops::Range;

use lorakit_tensor::TensorInfo;

use super::index::{Found, Index};
use super::tied::TiedSet;
use crate::arch::names::{self, HEAD, Projection, module_of};
use crate::model::ModelConfig;

/// A base whose headers tell what names mean in it.
#[derive(Debug)]
pub(crate) struct Resolver<'a> {
    /// Tensors of the base.
    pub tensors: &'a [TensorInfo],
    /// The base's configuration, if there is one.
    pub config: Option<&'a ModelConfig>,
    index: Index<'a>,
    /// Parameters that are one tensor if the model ties them; `None` if its class is not known.
    ties: Option<Vec<TiedSet>>,
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
        let index = Index::new(tensors);
        let ties = TiedSet::all(&index, tensors, config);
        Resolver { tensors, config, index, ties }
    }

    /// Whether input and output embedding are one tensor.
    pub(crate) fn tied(&self) -> bool {
        self.config.is_some_and(ModelConfig::tied)
    }

    /// Parameters that are one tensor, if the model ties them.
    pub(crate) fn tied_sets(&self) -> &[TiedSet] {
        let tied = self.config.is_some_and(|config| config.tied() || config.ties_always());
        self.ties.as_deref().filter(|_| tied).unwrap_or_default()
    }

    /// Whether the model ties parameters, and nothing tells which.
    pub(crate) fn ties_unknown(&self) -> bool {
        self.tied() && self.ties.is_none()
    }

    fn ends(&self) -> Option<&TiedSet> {
        let sets = self.ties.as_deref().unwrap_or_default();
        sets.iter().find(|set| set.output().is_some())
    }

    /// The input embedding.
    pub(crate) fn embedding(&self) -> Option<usize> {
        self.ends()?.members.iter().filter(|member| !member.output).find_map(|member| member.stored)
    }

    /// The output embedding, if it is stored.
    pub(crate) fn head(&self) -> Option<usize> {
        self.ends()?.output()?.stored
    }

    /// The name of the output embedding, or the name that it gets once it is a separate tensor.
    pub(crate) fn head_name(&self) -> String {
        let output = self.ends().and_then(TiedSet::output);
        output.map_or_else(|| format!("{HEAD}.weight"), |output| output.name.clone())
    }

    /// Other tensors of the base that hold what a model of this class may tie to tensor `index`.
    pub(crate) fn may_copy(&self, index: usize) -> impl Iterator<Item = usize> {
        let sets = self.ties.as_deref().unwrap_or_default();
        let set = sets.iter().find(move |set| set.members.iter().any(|member| member.stored == Some(index)));
        let stored = set.into_iter().flat_map(|set| &set.members).filter_map(|member| member.stored);
        stored.filter(move |&other| other != index)
    }

    /// Whether `name` is that of the input or output embedding, or of a parameter tied to them.
    pub(crate) fn is_end(&self, name: &str) -> bool {
        let sets = self.ties.as_deref().unwrap_or_default();
        let ends = names::is_embedding(module_of(name)) || names::is_head(module_of(name));
        ends || sets.iter().any(|set| set.find(name).is_some())
    }

    /// The tensor that serves as `name` in a model without a tensor of that name: the one whose values it has, if the
    /// model ties it.
    pub(crate) fn in_place_of(&self, name: &str) -> Option<usize> {
        let set = self.tied_sets().iter().find(|set| set.find(name).is_some())?;
        set.find(name).filter(|member| member.stored.is_none()).map(|_| set.anchor())
    }

    /// The tied parameter that `name` means and that the base does not hold under that name: its own name, and the
    /// tensor it starts from.
    pub(super) fn tied_parameter(&self, name: &str) -> Option<(String, usize)> {
        let set = self.tied_sets().iter().find(|set| set.find(name).is_some())?;
        let member = set.find(name)?;
        (self.index.named(name) == Found::Absent)
            .then(|| (member.name.clone(), member.stored.unwrap_or_else(|| set.anchor())))
    }

    /// The tensor of exactly that name.
    pub(crate) fn exact(&self, name: &str) -> Option<usize> {
        self.index.exact(name)
    }

    /// The tensor that has `name`, in any spelling.
    pub(super) fn named(&self, name: &str) -> Found<'a> {
        self.index.named(name)
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
