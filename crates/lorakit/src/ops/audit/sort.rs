//! The order of entries.

use std::cmp::{Ordering, Reverse};

use super::entry::Entry;
use crate::Severity;
use crate::choice::choices;

/// What entries are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// By path; numbers in it count as numbers.
    #[default]
    Path,
    /// The largest first.
    Size,
    /// The highest rank first.
    Rank,
    /// The gravest findings first, then the most.
    Findings,
}

choices! { Sort {
    Path = "path", "by path; numbers in it count as numbers";
    Size = "size", "the largest first";
    Rank = "rank", "the highest rank first";
    Findings = "findings", "the gravest findings first, then the most";
} }

/// Sorts entries; those that are equal stay in the order of their paths.
pub(super) fn sort(entries: &mut [Entry], by: Sort) {
    let path = |entry: &Entry| entry.place().to_string_lossy().into_owned();
    entries.sort_by_cached_key(|entry| Natural(path(entry)));
    match by {
        Sort::Path => {}
        Sort::Size => entries.sort_by_key(|entry| Reverse(entry.bytes)),
        Sort::Rank => entries.sort_by_key(|entry| Reverse(entry.rank.map(|rank| rank.max))),
        Sort::Findings => entries.sort_by_key(|entry| {
            Reverse(
                [Severity::Error, Severity::Warning, Severity::Note].map(|severity| entry.count(severity)),
            )
        }),
    }
}

/// A text in which `checkpoint-500` comes before `checkpoint-1000`.
#[derive(Debug, PartialEq, Eq)]
struct Natural(String);

impl Ord for Natural {
    fn cmp(&self, other: &Self) -> Ordering {
        let (mut a, mut b) = (self.0.as_str(), other.0.as_str());
        loop {
            let (x, y) = (first_part(&mut a), first_part(&mut b));
            if x.is_empty() || y.is_empty() {
                return x.cmp(y).then_with(|| self.0.cmp(&other.0));
            }
            let order = match (number(x), number(y)) {
                // Without leading zeros, the longer number is the larger one.
                (Some(x), Some(y)) => x.len().cmp(&y.len()).then_with(|| x.cmp(y)),
                _ => x.cmp(y),
            };
            if order.is_ne() {
                return order;
            }
        }
    }
}

impl PartialOrd for Natural {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Cuts off the digits, or the text without digits, at the beginning.
fn first_part<'t>(text: &mut &'t str) -> &'t str {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    let (first, rest) = text.split_at(end);
    *text = rest;
    first
}

/// Digits without leading zeros.
fn number(part: &str) -> Option<&str> {
    part.starts_with(|c: char| c.is_ascii_digit()).then(|| part.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_as_numbers() {
        let mut paths =
            ["run/10", "run/9", "run/09", "run", "b2/c", "b10", "b/1", "b2"].map(|p| Natural(p.into()));
        paths.sort();
        let sorted: Vec<&str> = paths.iter().map(|p| p.0.as_str()).collect();
        assert_eq!(sorted, ["b2", "b2/c", "b10", "b/1", "run", "run/09", "run/9", "run/10"]);
    }
}
