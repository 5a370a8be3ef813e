//! The small files of a model folder.

use serde_json::Value;

use crate::model::gguf::Problem;
use crate::{Error, Result};

/// Looks up a file of a model folder by its name, and returns its content if it is there.
///
/// The files may come from a folder on disk, may be rebuilt from a GGUF model, or may be changed by a merge.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Result<Option<Vec<u8>>>;

/// The names of the files in a folder inside the model's, in order.
pub(crate) type Names<'a> = &'a dyn Fn(&str) -> Result<Vec<String>>;

/// Typed access to files.
#[derive(Clone, Copy)]
pub(crate) struct Files<'a> {
    /// What a file holds.
    pub(in crate::model) content: Lookup<'a>,
    /// What a folder holds.
    pub(in crate::model) names: Names<'a>,
}

impl Files<'_> {
    pub(in crate::model) fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>> {
        (self.content)(name)
    }

    /// # Errors
    /// `File` if the file is not UTF-8.
    pub(in crate::model) fn text(&self, name: &str) -> Result<Option<String>> {
        let text = |bytes| {
            String::from_utf8(bytes).map_err(|_| Error::from(Problem::NotText { name: name.to_string() }))
        };
        self.bytes(name)?.map(text).transpose()
    }

    /// # Errors
    /// If the file is not a JSON object.
    pub(in crate::model) fn json(&self, name: &str) -> Result<Option<Value>> {
        let parse = |bytes: Vec<u8>| {
            lorakit_tensor::json::parse_object(&bytes)
                .map_err(|e| Error::from(e.at(std::path::Path::new(name))))
        };
        self.bytes(name)?.map(parse).transpose()
    }
}
