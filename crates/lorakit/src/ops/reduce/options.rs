//! What to reduce, and how far.

use std::path::PathBuf;

use lorakit_tensor::{DType, ReadMode};

use super::rule::Rule;
use crate::adapter::format::AdapterFormat;
use crate::lineage::Lineage;

/// What to reduce, and how far.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ReduceOptions {
    /// The adapter: a folder or file.
    pub source: PathBuf,
    /// The output folder or file.
    pub output: PathBuf,
    /// Name of the format to write; by default the source's, or PEFT's if that is only read.
    pub to: Option<String>,
    /// Replace an output that exists.
    pub replace: bool,
    /// Dtype of the factors; each module keeps its own by default.
    pub dtype: Option<DType>,
    /// With [`Rule::Size`] and a format that has quantised dtypes: choose dtypes as well as ranks, each where it loses
    /// least. Elsewhere it has no effect, and neither beside a dtype.
    pub trade_dtypes: bool,
    /// The model that the adapter belongs to.
    pub base: Option<PathBuf>,
    /// How ranks are chosen.
    pub rule: Rule,
    /// The highest rank of a module, whatever the rule says.
    pub max_rank: Option<usize>,
    /// When the output says where it came from.
    pub lineage: Lineage,
    /// Whether an output folder gets a model card.
    pub card: bool,
    /// Threads; 0 for one on each core.
    pub threads: usize,
    /// How inputs are read.
    pub mode: ReadMode,
}

impl ReduceOptions {
    /// Default options for an adapter, an output and how ranks are chosen.
    pub fn new(source: impl Into<PathBuf>, output: impl Into<PathBuf>, rule: Rule) -> Self {
        ReduceOptions {
            source: source.into(),
            output: output.into(),
            to: None,
            replace: false,
            dtype: None,
            trade_dtypes: false,
            base: None,
            rule,
            max_rank: None,
            lineage: Lineage::default(),
            card: true,
            threads: 0,
            mode: ReadMode::default(),
        }
    }
}

crate::ops::setters! { ReduceOptions {
    with_to: to: Option<String>,
    with_replace: replace: bool,
    with_dtype: dtype: Option<DType>,
    with_trade_dtypes: trade_dtypes: bool,
    with_base: base: Option<PathBuf>,
    with_max_rank: max_rank: Option<usize>,
    with_lineage: lineage: Lineage,
    with_card: card: bool,
    with_threads: threads: usize,
    with_mode: mode: ReadMode,
} }

impl ReduceOptions {
    /// Whether dtypes are chosen for a format.
    pub(super) fn trades(&self, to: &dyn AdapterFormat) -> bool {
        let by_size = matches!(self.rule, Rule::Size(_));
        self.trade_dtypes && self.dtype.is_none() && by_size && !to.blocks().is_empty()
    }
}
