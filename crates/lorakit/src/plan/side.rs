//! Files next to the tensors.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lorakit_tensor::MAX_SIDE_BYTES;

use crate::Result;

/// Files that make up the configuration of a model.
pub(crate) const CONFIGURATION: &[&str] =
    &["config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json"];
/// Files that make up a tokenizer, and its chat templates.
pub const TOKENIZER: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
];

/// The file that makes a folder that of an adapter.
pub(crate) const ADAPTER_CONFIG: &str = "adapter_config.json";

/// The file next to the tensors of a folder that says where they came from.
pub const PROVENANCE_FILE: &str = "lorakit.json";

/// A file next to the tensors: configuration, tokenizer, template, licence.
#[derive(Debug, Clone)]
pub struct SideFile {
    /// Path inside the output folder.
    pub name: PathBuf,
    /// What it holds.
    pub content: Content,
}

/// The content of a [`SideFile`].
#[derive(Debug, Clone)]
pub enum Content {
    /// These bytes, which clones share.
    Bytes(Arc<Vec<u8>>),
    /// A copy of this file.
    CopyOf(PathBuf),
}

impl Content {
    /// These bytes.
    pub fn bytes(bytes: Vec<u8>) -> Content {
        Content::Bytes(Arc::new(bytes))
    }
}

impl SideFile {
    /// Writes it to its place in `folder`.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(&self.name);
        let fail = |e| lorakit_tensor::Error::io("write", &path, e);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(fail)?;
        }
        match &self.content {
            Content::Bytes(bytes) => std::fs::write(&path, &**bytes).map_err(fail)?,
            Content::CopyOf(source) => {
                // Not `fs::copy`, which would also copy the permissions of inputs that may be read-only.
                let input =
                    std::fs::File::open(source).map_err(|e| lorakit_tensor::Error::io("open", source, e))?;
                std::fs::File::create(&path)
                    .and_then(|mut output| std::io::copy(&mut input.take(MAX_SIDE_BYTES), &mut output))
                    .map_err(fail)?;
            }
        }
        Ok(())
    }
}
