//! How to load what a card describes.

/// How a library loads a folder: the name that the hub knows it by, and lines of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loading {
    /// `library_name` in the metadata.
    pub library: &'static str,
    /// Python. `{base}` stands for the base model as a literal; `{import}` and `{class}` for what loads the base, of
    /// transformers unless the adapter says otherwise.
    pub code: &'static str,
}
