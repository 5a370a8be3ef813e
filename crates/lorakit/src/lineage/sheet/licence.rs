//! The licence of what is made from several inputs. None is ever invented: one is stated if all inputs that state any
//! state the same.

use super::super::Parent;
use super::Input;
use crate::card::{Card, Value};

/// The keys that state a licence: the second and third say what `license: other` is.
pub(super) const KEYS: [&str; 3] = ["license", "license_name", "license_link"];

/// What the inputs whose weights are in the output state.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Licence {
    /// Nothing.
    Unknown,
    /// All the same; the values of [`KEYS`].
    Agreed(Vec<(&'static str, Value)>),
    /// These, by the names of the inputs.
    Differ(Vec<(String, String)>),
}

pub(super) fn of<'a>(parents: impl Iterator<Item = (&'a Parent, &'a Input)>) -> Licence {
    let mut stated: Vec<(&str, &Card)> = Vec::new();
    for (parent, input) in parents.filter(|(_, input)| !input.consulted) {
        if let Some(card) = input.card.as_ref().filter(|card| label(card).is_some()) {
            stated.push((&parent.name, card));
        }
    }
    let Some((_, first)) = stated.first() else { return Licence::Unknown };
    let same = |card: &Card| label(card).map(|text| text.to_lowercase());
    if stated.iter().any(|(_, card)| same(card) != same(first)) {
        let named = stated.iter().map(|(name, card)| ((*name).to_string(), label(card).unwrap_or_default()));
        return Licence::Differ(named.collect());
    }
    let values = KEYS.into_iter().filter_map(|key| Some((key, first.get(key)?.clone())));
    Licence::Agreed(values.filter(|(_, value)| *value != Value::Empty).collect())
}

/// The licence in a word: its identifier, and the name of another one.
fn label(card: &Card) -> Option<String> {
    let listed = card.list("license");
    let id = (!listed.is_empty()).then(|| listed.join(", "))?;
    Some(match card.text("license_name") {
        Some(name) if id.eq_ignore_ascii_case("other") => name.to_string(),
        _ => id,
    })
}
