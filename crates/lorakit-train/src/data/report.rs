//! What became of rows: what `--check-data` prints.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use super::document::{Built, End, Maker};
use super::mask::{self, Method};
use super::problem::Problem;
use super::text::Text;
use super::{Document, Format, Options, Source};
use crate::{Error, Result};

/// Examples that a report shows.
const EXAMPLES: usize = 3;

/// What became of rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Each file.
    pub sources: Vec<OfSource>,
    /// Rows of all files.
    pub rows: usize,
    /// Documents that are left.
    pub documents: usize,
    /// Their tokens.
    pub tokens: u64,
    /// Those of them that are trained.
    pub supervised: u64,
    /// The tokens of each row, before anything was cut off.
    pub lengths: Lengths,
    /// Rows with more tokens than a document may have.
    pub too_long: Rows,
    /// Those of them that were dropped.
    pub dropped: Rows,
    /// Rows in which nothing is trained; they are left out.
    pub nothing_trained: Rows,
    /// Rows that have, or all of whose answers have, the weight 0; they are left out.
    pub weightless: Rows,
    /// Documents that are equal to an earlier one, token for token.
    pub duplicates: Rows,
    /// Documents of the validation that are also trained; none if that was not asked.
    pub leaked: Option<usize>,
    /// Rows whose end of turn is not trained, although the text has one.
    pub unmasked_ends: Rows,
    /// Rows with an answer that nothing ends.
    pub missing_ends: Rows,
    /// Rows with an answer without words.
    pub empty_answers: Rows,
    /// Rows in which a token stands half in the prompt and half in the answer: at a prompt that ends with a space.
    pub straddling: Rows,
    /// Rows that offer tools which the template does not write.
    pub unwritten_tools: Rows,
    /// Rows into which the template writes the date, so that they have other tokens every day.
    pub dated: Rows,
    /// Texts that begin with the token that begins texts. None begins with two: that is an error.
    pub bos: Rows,
    /// How it was found what is trained, and in how many rows.
    pub methods: BTreeMap<Method, usize>,
    /// Blocks of thoughts.
    pub thinking: Thinking,
    /// What the template writes after an answer; several if that depends on what follows.
    pub ends_of_turn: Vec<String>,
    /// Whether the model stops at the first of them, as far as its configuration says.
    pub stops: bool,
    /// Whether the template knows thoughts.
    pub template_thinks: bool,
    /// The first document, one from the middle, the last.
    pub examples: Vec<Example>,
}

/// A file of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct OfSource {
    /// The file.
    pub path: PathBuf,
    /// How often an epoch has each of its rows.
    pub weight: f64,
    /// What its rows mean.
    pub format: Format,
    /// Its rows.
    pub rows: usize,
    /// The documents that are left of them.
    pub documents: usize,
}

/// A row: a file by its place in the list, and a line, which counts from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The place of the file in the list.
    pub source: usize,
    /// The line.
    pub line: u64,
}

/// Some rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rows {
    /// How many.
    pub count: usize,
    /// The first.
    pub first: Option<Place>,
}

/// How many tokens rows have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lengths {
    /// One number for each row, ascending.
    pub sorted: Vec<usize>,
}

/// Thoughts: blocks, `<think>...</think>`, of texts, and what became of those of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Thinking {
    /// Rows that have any.
    pub rows: usize,
    /// Blocks with thoughts.
    pub filled: usize,
    /// Empty blocks that are trained.
    pub empty_trained: usize,
    /// Empty blocks that are not: the prompt gives them.
    pub empty_masked: usize,
    /// Thoughts of rows that the template does not write.
    pub dropped: usize,
}

/// A document, in parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Its row.
    pub place: Place,
    /// Its text.
    pub spans: Vec<Span>,
}

/// Neighbouring tokens with one weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Their text.
    pub text: String,
    /// Whether they are trained.
    pub trained: bool,
    /// How much each counts.
    pub weight: f32,
    /// How many there are.
    pub tokens: usize,
}

impl Rows {
    fn add(&mut self, place: Place, found: bool) {
        if found {
            self.count += 1;
            self.first.get_or_insert(place);
        }
    }
}

impl Report {
    /// Counts rows and what is left of them; what was counted before is forgotten.
    pub(super) fn count(&mut self, rows: &[Built], documents: &[Document], text: &Text) {
        let known = std::mem::take(self);
        self.sources = known.sources;
        self.sources.iter_mut().for_each(|source| (source.rows, source.documents) = (0, 0));
        self.ends_of_turn = known.ends_of_turn;
        (self.stops, self.template_thinks) = (known.stops, known.template_thinks);
        rows.iter().for_each(|row| self.count_row(row));
        self.lengths.sorted.sort_unstable();
        self.count_documents(documents);
        let last = documents.len().saturating_sub(1);
        let mut shown = vec![0, last / 2, last];
        shown.dedup();
        let shown = shown.into_iter().take(EXAMPLES).filter_map(|at| documents.get(at));
        self.examples = shown.map(|document| Example::of(document, text)).collect();
    }

    fn count_row(&mut self, built: &Built) {
        let (place, dropped) = (built.place, built.dropped);
        self.rows += 1;
        self.sources[place.source].rows += 1;
        self.sources[place.source].documents += built.documents;
        self.lengths.sorted.push(built.length);
        self.too_long.add(place, built.too_long);
        self.dropped.add(place, dropped);
        self.weightless.add(place, built.weightless && !dropped);
        self.nothing_trained.add(place, built.documents == 0 && !dropped && !built.weightless);
        let counts = !built.weightless && !dropped;
        self.unmasked_ends.add(place, counts && built.end == End::Unmasked);
        self.missing_ends.add(place, counts && built.end == End::Missing);
        self.empty_answers.add(place, built.empty_answer);
        self.straddling.add(place, built.straddles);
        self.unwritten_tools.add(place, built.unwritten_tools);
        self.dated.add(place, built.dated);
        self.bos.add(place, built.bos);
        *self.methods.entry(built.method).or_default() += 1;
        self.thinking.rows += usize::from(built.thinking != Thinking::default());
        self.thinking.filled += built.thinking.filled;
        self.thinking.empty_trained += built.thinking.empty_trained;
        self.thinking.empty_masked += built.thinking.empty_masked;
        self.thinking.dropped += built.thinking.dropped;
    }

    fn count_documents(&mut self, documents: &[Document]) {
        let trained =
            |document: &Document| document.weights.iter().filter(|weight| **weight > 0.0).count() as u64;
        self.documents = documents.len();
        self.tokens = documents.iter().map(|document| document.tokens.len() as u64).sum();
        self.supervised = documents.iter().map(trained).sum();
        let mut known = HashSet::new();
        for document in documents {
            let place = Place { source: document.source, line: document.line };
            self.duplicates.add(place, !known.insert(&document.tokens[..]));
        }
    }

    /// What is known of the template.
    pub(super) fn know(&mut self, maker: &Maker<'_>) {
        if let (Some(masker), Some(template)) = (maker.masker(), &maker.text.template) {
            self.ends_of_turn.clone_from(&masker.manner.ends);
            self.stops = self.ends_of_turn.first().is_some_and(|end| mask::stops(end, maker.text));
            self.template_thinks = template.says("<think>");
        }
    }

    /// Refuses data with which training would go wrong in silence.
    ///
    /// # Errors
    ///
    /// There are no rows; nothing is trained in more than a tenth of them; an end of turn is not trained, or is
    /// missing, unless [`Options::allow_unmasked_eot`] is set.
    pub fn verdict(&self, sources: &[Source], options: &Options) -> Result<()> {
        let at = |rows: &Rows, problem: Problem| {
            let error = Error::from(problem);
            Err(match rows.first {
                Some(first) => error.at(&sources[first.source].path).line(first.line),
                None => error,
            })
        };
        let of = self.rows - self.weightless.count - self.dropped.count;
        if self.nothing_trained.count * 10 > of {
            let problem = Problem::NothingTrained { rows: self.nothing_trained.count, of };
            return at(&self.nothing_trained, problem);
        }
        if self.documents == 0 && self.dropped.count > 0 {
            let problem = Problem::AllDropped { rows: self.dropped.count, limit: options.seq_len };
            return at(&self.dropped, problem);
        }
        if self.documents == 0 {
            return at(&self.weightless, Problem::AllWeightless { rows: self.weightless.count });
        }
        if options.allow_unmasked_eot {
            return Ok(());
        }
        if self.unmasked_ends.count > 0 {
            let token = self.ends_of_turn.join("`, `");
            let problem = Problem::UnmaskedEnds { rows: self.unmasked_ends.count, of, token };
            return at(&self.unmasked_ends, problem);
        }
        if self.missing_ends.count > 0 {
            return at(&self.missing_ends, Problem::NoEnds { rows: self.missing_ends.count, of });
        }
        Ok(())
    }
}

impl Lengths {
    /// The length that a share of the rows does not exceed; 0 if there are none.
    pub fn quantile(&self, share: f64) -> usize {
        let last = self.sorted.len().saturating_sub(1);
        self.sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(0)
    }

    /// The mean length; 0 if there are no rows.
    pub fn mean(&self) -> f64 {
        let sum: usize = self.sorted.iter().sum();
        sum as f64 / self.sorted.len().max(1) as f64
    }

    /// How many rows have each length, in ranges of one width, which is such that there are at most `most`: the
    /// shortest and the longest length of each, and the rows.
    pub fn histogram(&self, most: usize) -> Vec<(usize, usize, usize)> {
        let (Some(first), Some(last)) = (self.sorted.first(), self.sorted.last()) else { return Vec::new() };
        let width = (last - first + 1).div_ceil(most.max(1));
        let starts = (*first..=*last).step_by(width);
        let below = |length: usize| self.sorted.partition_point(|found| *found < length);
        starts.map(|start| (start, start + width - 1, below(start + width) - below(start))).collect()
    }
}

impl Thinking {
    /// Counts the blocks of a text.
    pub(super) fn of(text: &str, spans: &[mask::Span]) -> Self {
        let (open, close) = ("<think>", "</think>");
        let mut counts = Self::default();
        let mut at = 0;
        while let Some(start) = text[at..].find(open).map(|start| at + start) {
            let inside = start + open.len();
            let Some(length) = text[inside..].find(close) else { break };
            at = inside + length + close.len();
            let trained = spans.iter().any(|span| span.range.contains(&start));
            match (text[inside..inside + length].trim().is_empty(), trained) {
                (false, _) => counts.filled += 1,
                (true, true) => counts.empty_trained += 1,
                (true, false) => counts.empty_masked += 1,
            }
        }
        counts
    }
}

impl Example {
    pub(super) fn of(document: &Document, text: &Text) -> Self {
        let pairs: Vec<(u32, f32)> =
            document.tokens.iter().copied().zip(document.weights.iter().copied()).collect();
        let decoded = |end: usize| text.tokenizer.decode(&document.tokens[..end], false).unwrap_or_default();
        let mut spans = Vec::new();
        let (mut end, mut before) = (0, String::new());
        for run in pairs.chunk_by(|a, b| a.1 == b.1) {
            let start = end;
            end += run.len();
            // Tokens within a character, and white space at the beginning, need what precedes them.
            let whole = decoded(end);
            let own = match whole.strip_prefix(&before) {
                Some(own) => own.to_string(),
                None => text.tokenizer.decode(&document.tokens[start..end], false).unwrap_or_default(),
            };
            spans.push(Span { text: own, trained: run[0].1 > 0.0, weight: run[0].1, tokens: run.len() });
            before = whole;
        }
        Self { place: Place { source: document.source, line: document.line }, spans }
    }
}
