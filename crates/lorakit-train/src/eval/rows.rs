//! Held-out rows: what is asked, what the answer should be, and which tokens count.

use std::path::PathBuf;

use super::problem::Problem;
use crate::data::{self, Document, Format, Text, TooLong, TrainOn};
use crate::{Error, Result};

/// Rows as one model's tokenizer and template make them.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) rows: Vec<Row>,
    /// The files; folders are replaced by the files that they mean.
    pub(super) files: Vec<PathBuf>,
    /// Rows of the files.
    pub(super) all: usize,
    /// Rows that are longer than the context, and the first of them.
    pub(super) too_long: data::Rows,
    /// Rows of which no token counts.
    pub(super) without_answer: data::Rows,
}

/// A held-out row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// Its tokens, and how much each counts.
    pub(super) document: Document,
    /// Tokens that count.
    pub(super) supervised: usize,
    /// Bytes of the text that these stand for, special tokens left out.
    pub(super) bytes: usize,
    /// What is asked, and what should be answered; none for texts without a prompt.
    pub(super) question: Option<Question>,
}

/// What is asked, and what should be answered: the last answer of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Question {
    pub(super) prompt: Vec<u32>,
    pub(super) expected: String,
}

/// Reads held-out rows. Those that are longer than `context` are left out, except texts, which are read in parts.
///
/// # Errors
/// As [`data::read`]; if no row is left.
pub(super) fn read(paths: &[PathBuf], text: &Text, context: usize, train_on: TrainOn) -> Result<Held> {
    if context < 2 {
        return Err(Problem::Context { found: context }.into());
    }
    let source = |path: &PathBuf| data::Source { path: path.clone(), weight: 1.0, format: None };
    let sources: Vec<_> = paths.iter().map(source).collect();
    let read = |too_long| {
        let options = data::Options {
            seq_len: context,
            too_long,
            train_on,
            format: None,
            allow_unmasked_eot: true,
            part: "valid".to_string(),
            // Nothing is trained: rows that training would refuse are judged as they are.
            inspect: true,
        };
        data::read(&sources, text, &options)
    };
    let mut found = read(TooLong::Drop)?;
    if found.report.sources.iter().all(|source| source.format == Format::Text)
        && found.report.too_long.count > 0
    {
        found = read(TooLong::Split)?;
    }
    let report = &found.report;
    let files: Vec<PathBuf> = found.sources.iter().map(|source| source.path.clone()).collect();
    let formats: Vec<Format> = report.sources.iter().map(|source| source.format).collect();
    if found.documents.is_empty() {
        let problem = match report.dropped.count {
            0 => Problem::NoRows { rows: report.rows },
            dropped => Problem::AllTooLong { rows: dropped, limit: context },
        };
        return Err(Error::from(problem).at(&files[0]));
    }
    let row = |document: Document| {
        let is_text = formats[document.source] == Format::Text;
        row(document, text, is_text)
    };
    let (all, too_long, without_answer) = (report.rows, report.dropped, report.nothing_trained);
    let rows = found.documents.into_iter().map(row).collect::<Result<_>>()?;
    Ok(Held { rows, files, all, too_long, without_answer })
}

fn row(document: Document, text: &Text, is_text: bool) -> Result<Row> {
    let counts = |at: &usize| document.weights[*at] > 0.0;
    let counted: Vec<usize> = (1..document.tokens.len()).filter(counts).collect();
    let tokens: Vec<u32> = counted.iter().map(|at| document.tokens[*at]).collect();
    let bytes = text.decoded(&tokens, true)?.len();
    let supervised = counted.len();
    let end = counted.last().map_or(0, |last| last + 1);
    let start = (1..end).rev().take_while(counts).last().unwrap_or(end);
    let question = if is_text || start < 2 {
        None
    } else {
        let answer = &document.tokens[start..end];
        let ended = answer.iter().position(|token| text.ends.contains(token)).unwrap_or(answer.len());
        Some(Question {
            prompt: document.tokens[..start].to_vec(),
            expected: text.decoded(&answer[..ended], true)?,
        })
    };
    Ok(Row { document, supervised, bytes, question })
}
