//! JSON objects: one on each line, or in an array.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Row, io};
use crate::data::problem::Problem;
use crate::{Error, Result};

/// The most bytes of one row, and of a JSON array, which is read whole.
const ROW: u64 = 64 << 20;
const ARRAY: u64 = 2 << 30;

/// JSONL: one object on each line.
pub(super) struct Lines {
    path: PathBuf,
    text: Box<dyn BufRead>,
    line: u64,
}

impl Lines {
    pub(super) fn new(path: &Path, text: Box<dyn BufRead>) -> Self {
        Self { path: path.to_path_buf(), text, line: 0 }
    }

    fn row(&mut self) -> Result<Option<Row>> {
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            self.line += 1;
            let read = self.text.by_ref().take(ROW + 1).read_until(b'\n', &mut bytes);
            if read.map_err(|error| io("read", &self.path, error))? == 0 {
                return Ok(None);
            }
            if bytes.len() as u64 > ROW {
                return Err(Problem::LongRow { limit: ROW }.into());
            }
            if !bytes.iter().all(u8::is_ascii_whitespace) {
                return row(self.line, serde_json::from_slice(&bytes)).map(Some);
            }
        }
    }
}

impl Iterator for Lines {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        self.row().map_err(|error| error.at(&self.path).line(self.line)).transpose()
    }
}

/// The objects of a JSON array.
pub(super) struct Array {
    path: PathBuf,
    bytes: Vec<u8>,
    at: usize,
    line: u64,
    /// What comes before the next object; none after the end.
    before: Option<u8>,
}

impl Array {
    pub(super) fn new(path: &Path, text: Box<dyn BufRead>) -> Result<Self> {
        let mut bytes = Vec::new();
        text.take(ARRAY + 1).read_to_end(&mut bytes).map_err(|error| io("read", path, error))?;
        if bytes.len() as u64 > ARRAY {
            return Err(Error::from(Problem::LongArray { limit: ARRAY }).at(path));
        }
        Ok(Self { path: path.to_path_buf(), bytes, at: 0, line: 1, before: Some(b'[') })
    }

    fn move_to(&mut self, end: usize) {
        let passed = &self.bytes[self.at..end];
        self.line += passed.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.at = end;
    }

    /// The next byte that is not white space.
    fn next_byte(&mut self) -> Option<u8> {
        let space = self.bytes[self.at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.move_to(self.at + space);
        self.bytes.get(self.at).copied()
    }

    fn row(&mut self) -> Result<Option<Row>> {
        let Some(before) = self.before else { return Ok(None) };
        match self.next_byte() {
            None => return Err(Problem::OpenRow.into()),
            Some(b']') => return self.end(),
            Some(byte) if byte != before => return Err(Problem::Array { expected: "`,` or `]`" }.into()),
            Some(_) => self.at += 1,
        }
        if before == b'[' && self.next_byte() == Some(b']') {
            return self.end();
        }
        self.before = Some(b',');
        self.next_byte();
        let mut values = serde_json::Deserializer::from_slice(&self.bytes[self.at..]).into_iter();
        let value = values.next().ok_or(Problem::OpenRow)?;
        let end = self.at + values.byte_offset();
        let row = row(self.line, value)?;
        self.move_to(end);
        Ok(Some(row))
    }

    fn end(&mut self) -> Result<Option<Row>> {
        self.before = None;
        self.at += 1;
        match self.next_byte() {
            Some(_) => Err(Problem::Array { expected: "the end of the file" }.into()),
            None => Ok(None),
        }
    }
}

impl Iterator for Array {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.row().map_err(|error| {
            self.before = None;
            error.at(&self.path).line(self.line)
        });
        row.transpose()
    }
}

/// A JSON value as a row.
fn row(line: u64, value: serde_json::Result<Value>) -> Result<Row> {
    match value {
        Ok(Value::Object(fields)) => Ok(Row { line, fields }),
        Ok(_) => Err(Problem::NotAnObject.into()),
        Err(error) if error.is_eof() => Err(Problem::OpenRow.into()),
        Err(error) => {
            let text = error.to_string();
            let reason = text.split_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
            Err(Problem::Json { column: error.column(), reason: reason.to_string() }.into())
        }
    }
}
