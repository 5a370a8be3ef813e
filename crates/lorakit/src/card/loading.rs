//! How to load what a card describes.

/// How a library loads a folder: the name that the hub knows it by, and lines of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loading {
    /// `library_name` in the metadata.
    pub library: &'static str,
    /// Python. `{base}` stands for the base model as a literal; `{import}` and `{class}` for what loads the base.
    pub code: &'static str,
    /// The same for an unknown class, without those two.
    pub without_class: Option<&'static str>,
}
