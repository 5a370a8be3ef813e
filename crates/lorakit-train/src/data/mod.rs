//! Rows of a file become tokens, and which of them are trained.
//!
//! ```text
//!   container   files: JSONL, JSON arrays, CSV, compressed or not      -> rows
//!   format      messages, ShareGPT, Alpaca, completions, texts, tokens -> conversations and texts
//!   template    chat templates as transformers renders them            -> text
//!   mask        which part of the text the model writes                -> spans
//!   text        the tokenizer                                          -> tokens
//!   document    weights of tokens, what is too long
//!   ask         rows that are only asked
//!   order       which documents an epoch has, packing, validation
//!   report      what became of the rows
//! ```

mod ask;
mod container;
mod document;
mod format;
mod mask;
mod order;
mod problem;
mod report;
mod template;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod text;

use std::path::PathBuf;

use rayon::prelude::*;

pub use self::ask::{Asked, asked};
use self::container::Row;
use self::document::{Built, Maker};
pub use self::format::Format;
pub use self::mask::Method;
pub use self::order::{Gathered, epoch, gather, hold_out, pack};
use self::problem::Problem;
pub use self::report::{Example, Lengths, OfSource, Place, Report, Rows, Span, Thinking};
pub use self::template::{Day, Template};
pub use self::text::Text;
use crate::{Error, Result};

/// A file of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// A file, or a folder with `train.jsonl`.
    pub path: PathBuf,
    /// How often an epoch has each of its rows: 0.25 is a quarter of the rows, 2 is each row twice.
    pub weight: f64,
    /// What its rows mean, if that is not to be found out.
    pub format: Option<Format>,
}

impl Source {
    /// A file of which nothing more is said: each epoch has its rows once.
    pub fn new(path: PathBuf) -> Self {
        Self { path, weight: 1.0, format: None }
    }
}

/// What is trained of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrainOn {
    /// What the model writes: messages of the assistant, completions, whole texts.
    #[default]
    Auto,
    /// The last message of the assistant.
    LastTurn,
    /// Everything.
    All,
}

/// What becomes of a row that has more tokens than are trained at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TooLong {
    /// Its end is cut off. Rows of the format `text` are split instead.
    #[default]
    Truncate,
    /// It is dropped.
    Drop,
    /// It is refused.
    Error,
    /// It becomes several documents; each begins with the last token of the one before, so that nothing is lost.
    Split,
}

/// How rows become documents.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The most tokens of a document.
    pub seq_len: usize,
    /// What becomes of longer rows.
    pub too_long: TooLong,
    /// What is trained of conversations.
    pub train_on: TrainOn,
    /// The format of the files that do not have one of their own, if it is not to be found out.
    pub format: Option<Format>,
    /// Allows a chat template in which the end of turn is not trained.
    pub allow_unmasked_eot: bool,
    /// Which file a folder means: `train`, `valid`.
    pub part: String,
    /// Only reports what [`Report::verdict`] would refuse.
    pub inspect: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seq_len: 1024,
            too_long: TooLong::default(),
            train_on: TrainOn::default(),
            format: None,
            allow_unmasked_eot: false,
            part: "train".to_string(),
            inspect: false,
        }
    }
}

/// Tokens that are trained together: a row, or a window of a long one.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// At least two.
    pub tokens: Vec<u32>,
    /// How much predicting each token counts; 0 for the first, which nothing predicts.
    pub weights: Vec<f32>,
    /// The file, by its place in the list.
    pub source: usize,
    /// The line of the file on which the row begins.
    pub line: u64,
}

/// Documents, and what became of the rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Data {
    /// In the order of the rows.
    pub documents: Vec<Document>,
    /// The files; folders are replaced by the files that they mean.
    pub sources: Vec<Source>,
    /// What became of the rows.
    pub report: Report,
    /// What became of each row. `documents` has those of each in turn, as many as it says.
    rows: Vec<Built>,
}

impl Data {
    /// Counts rows and documents anew.
    fn count(&mut self, text: &Text) {
        self.report.count(&self.rows, &self.documents, text);
    }

    /// The documents of `validation` that are also here, token for token.
    pub fn leaked(&self, validation: &Data) -> usize {
        let known: std::collections::HashSet<&[u32]> =
            self.documents.iter().map(|document| &document.tokens[..]).collect();
        validation.documents.iter().filter(|document| known.contains(&document.tokens[..])).count()
    }
}

/// Rows that decide the format of a file.
const FIRST: usize = 32;

/// Rows that are made documents at once, on all cores.
const AT_ONCE: usize = 1024;

/// Reads files of rows and makes documents of them.
///
/// # Errors
///
/// A file cannot be read; a row is damaged, of another format than the rows before, or refused by the template: each
/// with its line. With [`Options::inspect`] off also what [`Report::verdict`] refuses.
pub fn read(sources: &[Source], text: &Text, options: &Options) -> Result<Data> {
    if options.seq_len < 2 {
        return Err(Problem::SeqLen { found: options.seq_len }.into());
    }
    if sources.is_empty() {
        return Err(Problem::NoSources.into());
    }
    let mut maker = Maker::new(text, options);
    let mut data = Data::default();
    for (at, source) in sources.iter().enumerate() {
        if !(source.weight.is_finite() && source.weight > 0.0) {
            return Err(Error::from(Problem::SourceWeight { found: source.weight }).at(&source.path));
        }
        let path = container::file(&source.path, &options.part)?;
        let source = Source { path, ..source.clone() };
        read_file(&mut maker, at, &source, &mut data)?;
        data.sources.push(source);
    }
    data.report.know(&maker);
    data.count(text);
    if !options.inspect {
        data.report.verdict(&data.sources, options)?;
    }
    Ok(data)
}

fn read_file(maker: &mut Maker<'_>, at: usize, source: &Source, data: &mut Data) -> Result<()> {
    let mut rows = container::rows(&source.path)?;
    let mut next: Vec<Row> = rows.by_ref().take(FIRST).collect::<Result<_>>()?;
    let detected = || {
        let format = Format::detect(&next);
        format.map_err(|(line, problem)| Error::from(problem).at(&source.path).line(line))
    };
    let format = match source.format.or(maker.options.format) {
        Some(format) => Some(format).filter(|_| !next.is_empty()),
        None => detected()?,
    };
    let format = format.ok_or_else(|| Error::from(Problem::NoRows).at(&source.path))?;
    maker.prepare(format)?;
    let (path, weight) = (source.path.clone(), source.weight);
    data.report.sources.push(OfSource { path, weight, format, rows: 0, documents: 0 });
    while !next.is_empty() {
        let make = |row: &Row| {
            let built = maker.make(format, at, row);
            built.map_err(|error| error.at(&source.path).line(row.line))
        };
        // An error is that of the first row that is wrong, however many cores there are.
        let built: Vec<Result<(Built, Vec<Document>)>> = next.par_iter().map(make).collect();
        for built in built {
            let (row, documents) = built?;
            data.rows.push(row);
            data.documents.extend(documents);
        }
        next = rows.by_ref().take(AT_ONCE).collect::<Result<_>>()?;
    }
    Ok(())
}
