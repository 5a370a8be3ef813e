//! What the caller asks for.

use std::path::PathBuf;

use lorakit_tensor::{DType, ReadMode};

use super::Rule;
use crate::adapter::{NamePattern, is_local_path};
use crate::lineage::{Lineage, Step};

/// What to extract, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ExtractOptions {
    /// The model that training started from: a folder or file.
    pub base: PathBuf,
    /// The model that training made from it.
    pub tuned: PathBuf,
    /// The output folder or file.
    pub output: PathBuf,
    /// Name of the format to write.
    pub to: String,
    /// What the configuration calls the base; by default the base's own name for itself, or its folder's name.
    pub base_name: Option<String>,
    /// Replace an output that exists.
    pub replace: bool,
    /// Dtype of the factors.
    pub dtype: DType,
    /// How ranks are chosen.
    pub rule: Rule,
    /// The highest rank of a module, whatever the rule says.
    pub max_rank: Option<usize>,
    /// What becomes of embeddings.
    pub embeddings: Embeddings,
    /// Tensors that stay as they are in the base.
    pub skip: Vec<NamePattern>,
    /// When the output says where it came from.
    pub lineage: Lineage,
    /// Whether an output folder gets a model card.
    pub card: bool,
    /// Threads; 0 for one on each core.
    pub threads: usize,
    /// How inputs are read.
    pub mode: ReadMode,
}

crate::ops::setters! { ExtractOptions {
    with_to: to: String,
    with_base_name: base_name: Option<String>,
    with_replace: replace: bool,
    with_dtype: dtype: DType,
    with_rule: rule: Rule,
    with_max_rank: max_rank: Option<usize>,
    with_embeddings: embeddings: Embeddings,
    with_skip: skip: Vec<NamePattern>,
    with_lineage: lineage: Lineage,
    with_card: card: bool,
    with_threads: threads: usize,
    with_mode: mode: ReadMode,
} }

/// What becomes of an embedding that changed. Output embeddings are layers like others, unless the vocabulary grew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Embeddings {
    /// It is saved whole.
    Whole,
    /// It gets factors.
    Factors,
    /// It stays as it is in the base.
    Skip,
}

crate::choice::choices! { Embeddings {
    Whole = "whole", "save them whole";
    Factors = "factors", "give them factors";
    Skip = "skip", "leave them as they are in the base";
} }

impl ExtractOptions {
    /// Options that find ranks by themselves, for a PEFT folder with factors in F32.
    pub fn new(base: impl Into<PathBuf>, tuned: impl Into<PathBuf>, output: impl Into<PathBuf>) -> Self {
        ExtractOptions {
            base: base.into(),
            tuned: tuned.into(),
            output: output.into(),
            to: "peft".into(),
            base_name: None,
            replace: false,
            dtype: DType::F32,
            rule: Rule::Auto,
            max_rank: None,
            embeddings: Embeddings::Whole,
            skip: Vec::new(),
            lineage: Lineage::default(),
            card: true,
            threads: 0,
            mode: ReadMode::default(),
        }
    }

    /// What the output says about how it was made.
    pub(super) fn recorded(&self) -> Step {
        let step = Step::new("extract", self.lineage).card(self.card);
        let step = match self.rule {
            Rule::Rank(rank) => step.with("rank", rank),
            Rule::Energy(share) => step.with("energy", share),
            Rule::Auto => step.with("rank", "auto"),
        };
        let embeddings = match self.embeddings {
            Embeddings::Whole => None,
            Embeddings::Factors => Some("factors"),
            Embeddings::Skip => Some("skip"),
        };
        let skip: Vec<String> = self.skip.iter().map(ToString::to_string).collect();
        step.with("max_rank", self.max_rank)
            .with("embeddings", embeddings)
            .with("skip", Some(skip).filter(|skip| !skip.is_empty()))
            .with("base_name", self.base_name.as_deref().filter(|name| !is_local_path(name)))
            .with("dtype", self.dtype.name())
            .with("to", &self.to)
    }

    /// Patterns that match none of these names.
    pub(super) fn idle(&self, names: &[&str]) -> impl Iterator<Item = &NamePattern> {
        self.skip.iter().filter(move |pattern| !names.iter().any(|name| pattern.matches(name)))
    }

    /// Whether a tensor of that name is not wanted.
    pub(super) fn skips(&self, name: &str) -> bool {
        self.skip.iter().any(|pattern| pattern.matches(name))
    }
}
