//! The result of fitting an adapter: changes to tensors of the base.

use std::cell::OnceCell;

use super::known::{self, Known};
use crate::TensorRef;
use crate::adapter::Adapter;
use crate::plan::{Axis, Initial, LowRank, Multiplied};

/// One change to one tensor of the base.
#[derive(Debug, Clone)]
pub(crate) struct Edit {
    /// The tensor's name in the output: a name of the base, or a new one.
    pub target: String,
    /// The tensor it starts from; `None` for a tensor that the base does not have.
    pub base: Option<usize>,
    /// The adapter module or tensor it comes from.
    pub origin: String,
    /// What changes.
    pub change: Change,
}

/// What an [`Edit`] does.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// Low-rank terms, with the DoRA magnitudes if there are any.
    LowRank {
        /// The terms, in the orientation of the stored tensor.
        terms: Vec<LowRank>,
        /// The magnitudes, and what each one belongs to.
        dora: Option<(TensorRef, Axis)>,
        /// Whether PEFT rounds the delta to the weight's dtype first, as for embeddings and expert parameters.
        peft_rounds_delta: bool,
        /// What the initialisation took out of the weight before.
        initial: Option<Initial>,
    },
    /// The values are replaced before anything is added.
    Replace(TensorRef),
    /// The values are multiplied.
    Multiply(Multiplied),
    /// Rows are replaced after everything is added.
    Rows(TensorRef, Vec<usize>),
}

/// How the columns of `B` are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MoeLayout {
    /// The order that `lora_B_layout` in the configuration names, or PEFT's order without it.
    #[default]
    Auto,
    /// Column `k*E + e`: PEFT.
    RankMajor,
    /// Column `e*r + k`.
    ExpertMajor,
}

crate::choice::choices! { MoeLayout {
    Auto = "auto", "what the configuration says, else PEFT's order";
    RankMajor = "rank_major", "the experts of one rank side by side, as PEFT writes them";
    ExpertMajor = "expert_major", "the ranks of one expert side by side";
} }

/// How adapters are fitted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FitOptions {
    /// How stacked experts are packed in `B`.
    pub moe_layout: MoeLayout,
    /// Whether the base is the published one, out of which an initialisation takes something first.
    pub initial: bool,
}

/// The context that all modules of an adapter share while they are fitted.
pub(crate) struct Fitting<'a> {
    pub(super) adapter: &'a Adapter,
    pub(super) options: FitOptions,
    /// The image models whose layers the adapter names, looked for when a name is not in the base.
    image: OnceCell<Known>,
}

impl<'a> Fitting<'a> {
    pub(crate) fn new(adapter: &'a Adapter, options: FitOptions) -> Self {
        Fitting { adapter, options, image: OnceCell::new() }
    }

    /// The image models whose layers the adapter names.
    pub(super) fn image(&self) -> &Known {
        self.image.get_or_init(|| known::of(self.adapter))
    }
}
