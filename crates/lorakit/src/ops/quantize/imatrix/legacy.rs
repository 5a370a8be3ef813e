//! The format of llama-imatrix before it wrote GGUF.

use std::collections::BTreeMap;

use super::content::Content;
use crate::ops::quantize::Problem;
use crate::{Error, Result};

/// Fewest bytes of an entry: a name of one byte, calls, one value.
const MIN_ENTRY_BYTES: usize = 4 + 1 + 4 + 4 + 4;

pub(super) fn read(bytes: &[u8]) -> Result<Content> {
    let mut cursor = Cursor { bytes, position: 0 };
    let entries = cursor.i32("the number of entries")?;
    if entries < 1 {
        return Err(Problem::NoEntries { entries }.into());
    }
    let most = bytes.len() / MIN_ENTRY_BYTES;
    if entries as usize > most {
        return Err(Problem::TooManyEntries { most, entries }.into());
    }
    let mut importance = BTreeMap::new();
    for entry in 1..=entries {
        let name = cursor.text("the name of a tensor", 1)?;
        let values = cursor.importance().map_err(|e| e.tensor(&name))?;
        if importance.insert(name.clone(), values).is_some() {
            return Err(Error::from(Problem::RepeatedEntry { entry }).tensor(&name));
        }
    }

    let mut content = Content { importance, ..Content::default() };
    if !cursor.is_at_end() {
        content.chunks = cursor.i32("the number of chunks")?.try_into().unwrap_or(0);
    }
    if !cursor.is_at_end() {
        content.datasets = vec![cursor.text("the name of the dataset", 0)?];
        content.datasets.retain(|name| !name.is_empty());
    }
    if !cursor.is_at_end() {
        return Err(Problem::Trailing { end: cursor.position, len: bytes.len() }.into());
    }
    Ok(content)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    fn is_at_end(&self) -> bool {
        self.position == self.bytes.len()
    }

    /// The next `len` bytes, which hold `what`.
    fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.position..];
        let taken = rest.get(..len).ok_or_else(|| Problem::CutShort {
            what: what.to_string(),
            needed: len,
            at: self.position,
            len: self.bytes.len(),
        })?;
        self.position += len;
        Ok(taken)
    }

    fn i32(&mut self, what: &str) -> Result<i32> {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(self.take(4, what)?);
        Ok(i32::from_le_bytes(bytes))
    }

    /// A length of at least `least`.
    fn length(&mut self, what: &str, least: usize) -> Result<usize> {
        let position = self.position;
        let length = self.i32(what)?;
        let enough = usize::try_from(length).ok().filter(|&length| length >= least);
        let problem = Problem::Length { what: what.to_string(), at: position, found: length, least };
        enough.ok_or_else(|| problem.into())
    }

    fn text(&mut self, what: &str, least: usize) -> Result<String> {
        let length = self.length(what, least)?;
        let (position, bytes) = (self.position, self.take(length, what)?);
        let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
        text.map(str::to_string)
            .ok_or_else(|| Problem::NotText { what: what.to_string(), at: position }.into())
    }

    /// Calls and values of an entry.
    fn importance(&mut self) -> Result<Vec<f32>> {
        let calls = self.i32("the number of calls")?;
        let count = self.length("the list of values", 1)?;
        let bytes = self.take(count.saturating_mul(4), "the list of values")?;
        let values = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        Ok(match calls {
            1.. => values.map(|value| value / calls as f32).collect(),
            _ => values.collect(),
        })
    }
}
