//! The files between text and tokens: tokenizer, chat template, which tokens end a turn.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lorakit::Model as Files;
use lorakit::plan::{Content, SideFile, TOKENIZER};

use crate::Result;

/// A template that transformers keeps in a folder of its own.
const TOOL_TEMPLATE: &str = "additional_chat_templates/tool_use.jinja";

/// The files between text and tokens: those of a folder, or rebuilt from a GGUF file.
#[derive(Debug, Clone)]
pub struct TextFiles {
    /// The folder of the model.
    folder: PathBuf,
    /// All files of a folder that were rebuilt.
    rebuilt: Option<Arc<[SideFile]>>,
}

impl TextFiles {
    /// Those of an opened model.
    ///
    /// # Errors
    /// If the tokenizer of a GGUF file is of an unknown kind.
    pub fn of(files: &Files) -> Result<Self> {
        let rebuilt = if files.is_gguf() { Some(files.rebuilt_files()?) } else { None };
        Ok(TextFiles { folder: files.folder().to_path_buf(), rebuilt })
    }

    /// The content of `tokenizer.json`, `chat_template.jinja`, `generation_config.json` and so on, if there is such a
    /// file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = match &self.rebuilt {
            None => self.folder.join(name),
            Some(files) => {
                match files.iter().find(|file| file.name == Path::new(name)).map(|file| &file.content) {
                    Some(Content::Bytes(bytes)) => return Ok(Some(bytes.to_vec())),
                    Some(Content::CopyOf(path)) => path.clone(),
                    None => return Ok(None),
                }
            }
        };
        match crate::files::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(lorakit_tensor::Error::io("read", &path, error).into()),
        }
    }

    /// The files of tokenizer and templates that go along with an adapter, byte for byte.
    pub fn beside(&self) -> Vec<SideFile> {
        let named =
            |name: &Path| TOKENIZER.iter().chain(&[TOOL_TEMPLATE]).any(|known| name == Path::new(known));
        match &self.rebuilt {
            Some(files) => files.iter().filter(|file| named(&file.name)).cloned().collect(),
            None => {
                let names = TOKENIZER.iter().chain(&[TOOL_TEMPLATE]);
                let there = names.filter(|name| self.folder.join(name).is_file());
                let copy = |name: &&str| SideFile {
                    name: name.into(),
                    content: Content::CopyOf(self.folder.join(name)),
                };
                there.map(copy).collect()
            }
        }
    }
}
