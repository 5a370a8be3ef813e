//! Tokens become text as they come: in whole characters, and no further than a text that stops the answer may have begun.

use tokenizers::Tokenizer;

use super::problem::Problem;
use crate::Result;

/// The text of an answer.
pub(super) struct Stream<'a> {
    tokenizer: &'a Tokenizer,
    stop: &'a [String],
    tokens: Vec<u32>,
    /// Tokens before this one are text that stays as it is; those up to `read` are decoded again with what follows, because
    /// a decoder may put a space between two tokens.
    known: usize,
    read: usize,
    text: String,
    /// Bytes that were given away.
    given: usize,
}

/// What stands for bytes that are no character, or not yet one.
const REPLACEMENT: char = '\u{FFFD}';

impl<'a> Stream<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, stop: &'a [String]) -> Self {
        Self { tokenizer, stop, tokens: Vec::new(), known: 0, read: 0, text: String::new(), given: 0 }
    }

    /// Adds a token. Returns the text that stops the answer, if it has come; the answer then ends before it.
    pub(super) fn push(&mut self, token: u32) -> Result<Option<&'a str>> {
        self.tokens.push(token);
        let new = self.unread()?;
        if new.is_empty() || new.ends_with(REPLACEMENT) {
            return Ok(None);
        }
        (self.known, self.read) = (self.read, self.tokens.len());
        Ok(self.add(&new))
    }

    /// Adds what is left: bytes that have become no character.
    pub(super) fn finish(&mut self) -> Result<Option<&'a str>> {
        let new = self.unread()?;
        self.read = self.tokens.len();
        Ok(self.add(&new))
    }

    /// What can be given away: all, once nothing more comes.
    pub(super) fn take(&mut self, all: bool) -> &str {
        let held = if all { 0 } else { self.held() };
        let from = std::mem::replace(&mut self.given, self.text.len() - held);
        &self.text[from..self.given]
    }

    /// The tokens, and their text.
    pub(super) fn into_parts(self) -> (Vec<u32>, String) {
        (self.tokens, self.text)
    }

    fn add(&mut self, new: &str) -> Option<&'a str> {
        // A text that stops may have begun in what is there.
        let longest = self.stop.iter().map(String::len).max().unwrap_or(0);
        let mut from = self.text.len().saturating_sub(longest).max(self.given);
        while !self.text.is_char_boundary(from) {
            from -= 1;
        }
        self.text.push_str(new);
        let found = self.stop.iter().filter_map(|stop| Some((self.text[from..].find(stop)? + from, stop)));
        let (at, stop) = found.min_by_key(|(at, _)| *at)?;
        self.text.truncate(at);
        Some(stop)
    }

    /// The text of tokens that are not read yet.
    fn unread(&self) -> Result<String> {
        let decode = |tokens: &[u32]| {
            let text = self.tokenizer.decode(tokens, true);
            text.map_err(|error| Problem::Tokenizer { reason: error.to_string() })
        };
        let before = decode(&self.tokens[self.known..self.read])?;
        let all = decode(&self.tokens[self.known..])?;
        Ok(all.strip_prefix(&before).unwrap_or_default().to_string())
    }

    /// Bytes at the end with which a text that stops may begin.
    fn held(&self) -> usize {
        let ends = |stop: &String| {
            let begins = |length: &usize| {
                stop.is_char_boundary(*length) && self.text[self.given..].ends_with(&stop[..*length])
            };
            (1..stop.len()).rev().find(begins).unwrap_or(0)
        };
        self.stop.iter().map(ends).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Text;

    fn text() -> Text {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/tiny-orders");
        Text::open(folder.as_ref()).unwrap()
    }

    /// The pieces of `answer`, token by token, and the text that stopped it.
    fn pieces(answer: &str, stop: &[&str]) -> (Vec<String>, Option<String>) {
        let (text, stop) = (text(), stop.iter().map(|stop| stop.to_string()).collect::<Vec<_>>());
        let mut stream = Stream::new(&text.tokenizer, &stop);
        let mut pieces = Vec::new();
        let tokens = text.tokenizer.encode(answer, false).unwrap();
        for token in tokens.get_ids() {
            let stopped = stream.push(*token).unwrap().map(str::to_string);
            pieces.push(stream.take(stopped.is_some()).to_string());
            if stopped.is_some() {
                assert_eq!(stream.into_parts().1, pieces.concat());
                return (pieces, stopped);
            }
        }
        let stopped = stream.finish().unwrap().map(str::to_string);
        pieces.push(stream.take(true).to_string());
        assert_eq!(stream.into_parts().1, pieces.concat());
        (pieces, stopped)
    }

    #[test]
    fn pieces_are_whole_characters_and_add_up() {
        for answer in ["{\"item\": \"tea\"}", "häßlich 東京 👩\u{200d}🚀!", " two  spaces\n\n", "", "é"]
        {
            let (pieces, stopped) = pieces(answer, &[]);
            assert_eq!((pieces.concat().as_str(), stopped), (answer, None));
            assert!(pieces.iter().all(|piece| !piece.contains(REPLACEMENT)), "{pieces:?}");
        }
        assert!(pieces("👩", &[]).0.len() > 3, "several tokens are one character");
    }

    #[test]
    fn half_a_character_is_given_at_the_end() {
        let text = text();
        let tokens = text.tokenizer.encode("👩", false).unwrap();
        let mut stream = Stream::new(&text.tokenizer, &[]);
        assert_eq!(stream.push(tokens.get_ids()[0]).unwrap(), None);
        assert_eq!(stream.take(false), "");
        assert_eq!(stream.finish().unwrap(), None);
        assert!(stream.take(true).contains(REPLACEMENT));
    }

    #[test]
    fn texts_that_stop_are_not_given() {
        let (found, stopped) = pieces("one, two, three", &["xyz", ", th", "three"]);
        assert_eq!((found.concat().as_str(), stopped.as_deref()), ("one, two", Some(", th")));
        // What could have been the beginning of one is given once it is not.
        let (found, stopped) = pieces("abc abd", &["abx", "abdefg"]);
        assert_eq!((found.concat().as_str(), stopped), ("abc abd", None));
        let (found, stopped) = pieces("日本語です", &["語"]);
        assert_eq!((found.concat().as_str(), stopped.as_deref()), ("日本", Some("語")));
        assert_eq!(pieces("stop", &["s"]).0.concat(), "");
    }
}
