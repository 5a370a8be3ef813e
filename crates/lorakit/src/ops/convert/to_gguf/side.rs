//! Files beside the weights.

use std::path::PathBuf;

use lorakit_tensor::json;
use serde_json::Value;

use crate::{Error, ErrorKind, Model, Result};

/// Most bytes of a file that is not JSON.
const MAX_BYTES: u64 = 64 << 20;

/// Where file `name` of the model is, or would be.
pub(super) fn path(model: &Model, name: &str) -> PathBuf {
    model.folder().join(name)
}

/// The JSON of file `name` of the model, if it has one.
pub(super) fn json(model: &Model, name: &str) -> Result<Option<Value>> {
    let path = path(model, name);
    Ok(if path.is_file() { Some(json::read(&path)?) } else { None })
}

/// The text of file `name` of the model, if it has one.
pub(super) fn text(model: &Model, name: &str) -> Result<Option<String>> {
    let text = bytes(model, name)?.map(String::from_utf8).transpose();
    text.map_err(|_| {
        let kind = ErrorKind::File(lorakit_tensor::ErrorKind::Corrupt);
        Error::new(kind, "is not UTF-8").at(&path(model, name))
    })
}

/// The bytes of file `name` of the model, if it has one.
pub(super) fn bytes(model: &Model, name: &str) -> Result<Option<Vec<u8>>> {
    let path = path(model, name);
    if !path.is_file() {
        return Ok(None);
    }
    let io = |e| lorakit_tensor::Error::io("read", &path, e);
    let len = std::fs::metadata(&path).map_err(io)?.len();
    if len > MAX_BYTES {
        let message = format!("has {len} bytes; at most {MAX_BYTES} are read");
        return Err(Error::new(ErrorKind::File(lorakit_tensor::ErrorKind::Limit), message).at(&path));
    }
    Ok(Some(std::fs::read(&path).map_err(io)?))
}
