//! The answer is what the template adds to its prompt.

use super::{Scene, Span};

impl Scene<'_> {
    /// What the template adds to the prompt of each answer. None if that cannot be seen: a prompt is not a prefix of
    /// the text, because the template writes earlier answers otherwise than the last.
    pub(super) fn prefix(&self, text: &str, weights: &[f32]) -> Option<Vec<Span>> {
        let trained = self.turns().filter(|turn| weights[*turn] > 0.0);
        let span = |turn: usize| {
            let start = self.prompt(turn)?;
            if !text.starts_with(&start) {
                return None;
            }
            // Some templates ask without a header where they write one, as after the result of a call.
            let start = start.len() + self.masker.manner.header_length(&text[start.len()..]);
            let end = if turn + 1 == self.messages.len() {
                text.len()
            } else {
                let with = self.render(&self.messages[..=turn], false).ok()?.text;
                self.end(&with, text, start)?
            };
            Some(Span { range: start..end, weight: weights[turn] })
        };
        trained.map(span).collect()
    }

    /// Where the answer ends that begins at `start` and with which `with` ends; `text` goes on. After the answer, both
    /// may have different special tokens.
    fn end(&self, with: &str, text: &str, start: usize) -> Option<usize> {
        let common = common(with, text);
        let mut end = with.len();
        while end > common {
            let kept = &with[..end];
            end = match self.masker.before_special(kept) {
                Some(before) => before.len(),
                None => kept.trim_end().len(),
            };
            if end == kept.len() {
                return None;
            }
        }
        if end < start {
            return None;
        }
        // The token that begins the next message may be the one at which the model stops.
        if self.masker.before_special(with[start..end].trim_end()).is_none() {
            let next = self.masker.ends.iter().find(|stop| text[end..].starts_with(stop.as_str()));
            end += next.map_or(0, String::len);
        }
        Some(end)
    }
}

/// The length of the longest common beginning.
fn common(a: &str, b: &str) -> usize {
    let differs = a.char_indices().zip(b.chars()).find(|((_, a), b)| a != b);
    differs.map_or(a.len().min(b.len()), |((at, _), _)| at)
}
