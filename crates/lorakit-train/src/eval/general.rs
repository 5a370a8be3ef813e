//! General text, on which a model must not become worse while it learns something else.

use std::path::Path;

use super::measure::WINDOW;
use super::problem::Problem;
use crate::data::Text;
use crate::{Error, Result};

/// The text that comes along: paragraphs of everyday English, written for lorakit. `general.md` states the licence.
const SHIPPED: &str = include_str!("general.txt");

/// A paragraph as tokens, or a part of a long one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Paragraph {
    /// Its place in the text, from 1 on.
    pub(super) number: usize,
    /// At least two, of which the first is not predicted.
    pub(super) tokens: Vec<u32>,
    /// Bytes of what is predicted.
    pub(super) bytes: usize,
}

/// The paragraphs of a file, or of the text that comes along.
///
/// # Errors
/// If the file cannot be read, or has no paragraphs.
pub(super) fn read(path: Option<&Path>, text: &Text, context: usize) -> Result<Vec<Paragraph>> {
    let own = path.map(|path| {
        crate::files::read_to_string(path).map_err(|e| lorakit_tensor::Error::io("read", path, e))
    });
    let own = own.transpose()?;
    let source = own.as_deref().unwrap_or(SHIPPED);
    let mut found = Vec::new();
    for (at, paragraph) in paragraphs(source).into_iter().enumerate() {
        let tokens = text.plain(&paragraph)?;
        // Each part begins with the last token of the one before, so that nothing is lost.
        let size = WINDOW.min(context.saturating_sub(1)).max(1);
        for start in (0..tokens.len().saturating_sub(1)).step_by(size) {
            let tokens = tokens[start..tokens.len().min(start + size + 1)].to_vec();
            let bytes = text.decoded(&tokens[1..], true)?.len();
            found.push(Paragraph { number: at + 1, tokens, bytes });
        }
    }
    match (found.is_empty(), path) {
        (true, Some(path)) => Err(Error::from(Problem::NoText).at(path)),
        _ => Ok(found),
    }
}

/// Paragraphs as they are, without the space around them.
fn paragraphs(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let joined = lines.split(|line| line.trim().is_empty()).map(|lines| lines.join("\n").trim().to_string());
    joined.filter(|paragraph| !paragraph.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_separated_by_empty_lines() {
        assert_eq!(paragraphs("\n a\nb \n\n\r\nc\n  \n\n"), ["a\nb", "c"]);
    }

    #[test]
    fn the_text_that_comes_along() {
        let found = paragraphs(SHIPPED);
        let words = |text: &str| text.split_whitespace().count();
        assert!((95..=110).contains(&found.len()), "{}", found.len());
        let total: usize = found.iter().map(|paragraph| words(paragraph)).sum();
        assert!((4000..9000).contains(&total), "{total} words");
        assert!(found.iter().all(|paragraph| (20..120).contains(&words(paragraph))));
        assert!(SHIPPED.is_ascii(), "every tokenizer has these characters");
        let mut sorted = found.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), found.len(), "none is there twice");
    }
}
