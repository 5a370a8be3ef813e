//! What is edited, and where the result goes.

use std::path::PathBuf;

use lorakit_tensor::{DType, ReadMode};

use crate::lineage::Lineage;

/// An adapter, its edits, and the output.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EditOptions {
    /// The adapter: a folder or file.
    pub source: PathBuf,
    /// The output folder or file.
    pub output: PathBuf,
    /// The edits.
    pub edits: Edits,
    /// Replace an output that exists.
    pub replace: bool,
    /// The model that the adapter belongs to; a few files cannot be read without it.
    pub base: Option<PathBuf>,
    /// When the output says where it came from.
    pub lineage: Lineage,
    /// Threads; 0 for one on each core.
    pub threads: usize,
    /// How inputs are read.
    pub mode: ReadMode,
}

impl EditOptions {
    /// Default options for an adapter, an output and the edits.
    pub fn new(source: impl Into<PathBuf>, output: impl Into<PathBuf>, edits: Edits) -> Self {
        EditOptions {
            source: source.into(),
            output: output.into(),
            edits,
            replace: false,
            base: None,
            lineage: Lineage::default(),
            threads: 0,
            mode: ReadMode::default(),
        }
    }
}

crate::ops::setters! { EditOptions {
    with_replace: replace: bool,
    with_base: base: Option<PathBuf>,
    with_lineage: lineage: Lineage,
    with_threads: threads: usize,
    with_mode: mode: ReadMode,
} }

/// What is edited; everything else stays as it is.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Edits {
    /// The name of the base model.
    pub base_model: Option<String>,
    /// The revision of the base model.
    pub revision: Option<String>,
    /// The identifier of the licence.
    pub license: Option<String>,
    /// Tags that are added.
    pub tags: Vec<String>,
    /// Tags that are removed.
    pub removed_tags: Vec<String>,
    /// Whether, and in which direction, the scale moves between the configuration and the factors.
    pub alpha: Option<Alpha>,
    /// Dtype of the factors.
    pub dtype: Option<DType>,
    /// Prefixes of paths, and what takes their place; of several that match a path, the first counts. An empty prefix
    /// stands before every path.
    pub prefixes: Vec<(String, String)>,
}

/// Where the scale of the factors is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Alpha {
    /// In the factors: the scale becomes 1.
    Folded,
    /// In the configuration, which gets this alpha.
    Is(f64),
}

crate::ops::setters! { Edits {
    with_base_model: base_model: Option<String>,
    with_revision: revision: Option<String>,
    with_license: license: Option<String>,
    with_tags: tags: Vec<String>,
    with_removed_tags: removed_tags: Vec<String>,
    with_alpha: alpha: Option<Alpha>,
    with_dtype: dtype: Option<DType>,
    with_prefixes: prefixes: Vec<(String, String)>,
} }

impl Edits {
    /// Whether nothing is edited.
    pub fn is_empty(&self) -> bool {
        *self == Edits::default()
    }

    /// Whether the model card says something else afterwards.
    pub(super) fn describe(&self) -> bool {
        self.base_model.is_some() || self.license.is_some() || self.edit_tags()
    }

    /// Whether tags are added or removed.
    pub(super) fn edit_tags(&self) -> bool {
        !self.tags.is_empty() || !self.removed_tags.is_empty()
    }

    /// `old` with the tags added and removed.
    pub(super) fn tags_after(&self, old: &[String]) -> Vec<String> {
        let mut tags: Vec<String> = old.to_vec();
        for tag in &self.tags {
            if !tags.contains(tag) {
                tags.push(tag.clone());
            }
        }
        tags.retain(|tag| !self.removed_tags.contains(tag));
        tags
    }
}
