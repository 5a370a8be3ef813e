//! Files beside the weights: those of the folder, or those rebuilt from a GGUF file.

use std::path::PathBuf;

use lorakit_tensor::json;
use serde_json::Value;

use crate::plan::Content;
use crate::{Error, ErrorKind, Model, Result};

/// The text of file `name` of the model, if it has one.
pub(super) fn text(model: &Model, name: &str) -> Result<Option<String>> {
    let bytes = match bytes(model, name)? {
        Some(bytes) => bytes,
        None => return Ok(None),
    };
    String::from_utf8(bytes).map(Some).map_err(|_| {
        Error::new(ErrorKind::File(lorakit_tensor::ErrorKind::Corrupt), "is not UTF-8").at(&path(model, name))
    })
}

/// The JSON of file `name` of the model, if it has one.
pub(super) fn json(model: &Model, name: &str) -> Result<Option<Value>> {
    if model.rebuilt_files().is_empty() {
        let path = path(model, name);
        return match path.is_file() {
            true => Ok(Some(json::read(&path)?)),
            false => Ok(None),
        };
    }
    match bytes(model, name)? {
        Some(bytes) => Ok(Some(json::parse(&bytes)?)),
        None => Ok(None),
    }
}

/// Where file `name` is, or would be.
pub(super) fn path(model: &Model, name: &str) -> PathBuf {
    model.folder().join(name)
}

/// Most bytes of a file that is not JSON.
const MAX_BYTES: u64 = 64 << 20;

/// The bytes of file `name` of the model, if it has one.
pub(super) fn bytes(model: &Model, name: &str) -> Result<Option<Vec<u8>>> {
    let rebuilt = model.rebuilt_files();
    if !rebuilt.is_empty() {
        let file = rebuilt.iter().find(|file| file.name == name);
        return Ok(file.and_then(|file| match &file.content {
            Content::Bytes(bytes) => Some(bytes.clone()),
            _ => None,
        }));
    }
    let path = path(model, name);
    let Ok(attributes) = std::fs::metadata(&path) else { return Ok(None) };
    if attributes.len() > MAX_BYTES {
        let message = format!("has {} bytes; at most {MAX_BYTES} are read", attributes.len());
        return Err(Error::new(ErrorKind::File(lorakit_tensor::ErrorKind::Limit), message).at(&path));
    }
    let bytes = std::fs::read(&path).map_err(|e| lorakit_tensor::Error::io("read", &path, e))?;
    Ok(Some(bytes))
}
