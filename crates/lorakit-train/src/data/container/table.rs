//! Tables of texts.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Row, io};
use crate::data::problem::Problem;
use crate::{Error, Result};

/// CSV: a line of names, then rows of texts.
pub(super) struct Table {
    path: PathBuf,
    names: Vec<String>,
    records: csv::StringRecordsIntoIter<Box<dyn BufRead>>,
}

impl Table {
    pub(super) fn new(path: &Path, text: Box<dyn BufRead>, delimiter: u8) -> Result<Self> {
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(text);
        let header = reader.headers().map_err(|error| table(path, &error))?;
        let names: Vec<String> = header.iter().map(str::to_string).collect();
        if let Some(name) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
            let name = name.1.clone();
            return Err(Error::from(Problem::RepeatedColumn { name }).at(path).line(1));
        }
        Ok(Self { path: path.to_path_buf(), names, records: reader.into_records() })
    }
}

impl Iterator for Table {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(match self.records.next()? {
            Ok(record) => {
                let line = record.position().map_or(0, csv::Position::line);
                let cells = self.names.iter().cloned().zip(record.iter().map(Value::from));
                Ok(Row { line, fields: cells.collect() })
            }
            Err(error) => Err(table(&self.path, &error)),
        })
    }
}

fn table(path: &Path, error: &csv::Error) -> Error {
    let line = error.position().map_or(1, csv::Position::line);
    let problem = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            Problem::Cells { found: *len, expected: *expected_len }
        }
        csv::ErrorKind::Utf8 { .. } => Problem::NotUtf8,
        csv::ErrorKind::Io(error) => {
            let error = std::io::Error::new(error.kind(), error.to_string());
            return io("read", path, error);
        }
        _ => Problem::Table { reason: error.to_string() },
    };
    Error::from(problem).at(path).line(line)
}
