//! `rank_pattern` and `alpha_pattern`, matched the way PEFT matches them.
//!
//! A key is a Python regular expression for the end of a module path, starting at a component:
//! `re.match(rf"(.*\.)?({key})$", path)`; the first matching key in file order wins (`get_pattern_key` of PEFT
//! 0.14 and later). Before that, a key had to follow a dot, and one matching key served both dictionaries.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use fancy_regex::Regex;

use super::Problem;
use crate::Result;
use crate::arch::names::after_dots;

/// An ordered list of patterns, each with a number.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    field: &'static str,
    entries: Vec<(String, f64)>,
    keys: Keys,
}

impl PartialEq for Patterns {
    /// Compares keys and numbers, in order.
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Patterns {
    pub(super) fn new(field: &'static str, pairs: &[(String, f64)]) -> Result<Self> {
        let keys = Keys::new(pairs.iter().map(|(key, _)| key.as_str()), Rule::Current)
            .map_err(|key| Problem::Pattern { field, key })?;
        Ok(Patterns { field, entries: pairs.to_vec(), keys })
    }

    /// The number of the first key that matches module `path`.
    pub fn get(&self, path: &str) -> Option<f64> {
        self.keys.first(path).map(|index| self.entries[index].1)
    }

    /// Refuses what was matched so far if an expression took too long.
    ///
    /// # Errors
    /// `ErrorKind::Config`.
    pub(super) fn check(&self) -> Result<()> {
        let Some(index) = self.keys.hopeless.get() else { return Ok(()) };
        Err(Problem::Hopeless { field: self.field, key: self.entries[*index].0.clone() }.into())
    }

    /// The number that belongs to each key.
    fn by_key(&self) -> HashMap<&str, f64> {
        self.entries.iter().rev().map(|(key, value)| (key.as_str(), *value)).collect()
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The two dictionaries as PEFT before 0.14 reads them.
#[derive(Debug)]
pub(super) struct OldRule<'a> {
    ranks: HashMap<&'a str, f64>,
    alphas: HashMap<&'a str, f64>,
    shared: Vec<&'a str>,
    keys: Keys,
}

impl<'a> OldRule<'a> {
    pub(super) fn new(ranks: &'a Patterns, alphas: &'a Patterns) -> Self {
        let shared: Vec<&str> =
            ranks.entries.iter().chain(&alphas.entries).map(|(key, _)| key.as_str()).collect();
        // Every key already compiled as a regular expression under the current rule.
        let keys = Keys::new(shared.iter().copied(), Rule::Old).unwrap_or_default();
        OldRule { ranks: ranks.by_key(), alphas: alphas.by_key(), shared, keys }
    }

    /// The rank and the alpha of the module at `path`.
    pub(super) fn get(&self, path: &str) -> (Option<f64>, Option<f64>) {
        let key = self.keys.first(path).map(|index| self.shared[index]);
        let of_key = |numbers: &HashMap<&str, f64>| key.and_then(|key| numbers.get(key).copied());
        (of_key(&self.ranks), of_key(&self.alphas))
    }
}

/// What may precede a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Nothing, or a path and a dot.
    Current,
    /// A path and a dot.
    Old,
}

/// Keys in order. Most are plain paths, and a large adapter has thousands of them, so these are looked up.
#[derive(Debug, Clone, Default)]
struct Keys {
    /// Positions of keys for whole paths, e.g. `^model\.layers`.
    whole: HashMap<String, usize>,
    /// Positions of keys for ends of paths.
    ends: HashMap<String, usize>,
    others: Vec<(usize, Regex)>,
    after_dot: bool,
    /// The first expression whose matching was given up: it may take time without end. None is tried afterwards.
    hopeless: Arc<OnceLock<usize>>,
}

impl Keys {
    /// # Errors
    /// Returns the first key that is not a regular expression.
    fn new<'a>(keys: impl Iterator<Item = &'a str>, rule: Rule) -> std::result::Result<Self, String> {
        let after_dot = rule == Rule::Old;
        let mut all = Keys { after_dot, ..Keys::default() };
        for (index, key) in keys.enumerate() {
            match (literal(key), key.strip_prefix('^').and_then(literal)) {
                (Some(end), _) => drop(all.ends.entry(end).or_insert(index)),
                // The path cannot start after a dot.
                (_, Some(_)) if after_dot => {}
                (_, Some(path)) => drop(all.whole.entry(path).or_insert(index)),
                _ => {
                    // Python's `$` also matches before a final newline; module paths do not have one.
                    let before = if after_dot { r".*\." } else { r"(?:.*\.)?" };
                    let regex = Regex::new(&format!("^{before}(?:{key})$")).map_err(|_| key.to_string())?;
                    all.others.push((index, regex));
                }
            }
        }
        Ok(all)
    }

    /// The first key that matches.
    fn first(&self, path: &str) -> Option<usize> {
        let whole = (!self.after_dot).then_some(path);
        let ends = after_dots(path).chain(whole);
        let ends = ends.filter_map(|end| self.ends.get(end));
        let found = ends.chain(self.whole.get(path)).min().copied();
        let before = |index: &usize| found.is_none_or(|found| *index < found);
        let mut others = self.others.iter().take_while(|(index, _)| before(index));
        let is_match = |(index, regex): &&(usize, Regex)| {
            self.hopeless.get().is_none()
                && regex.is_match(path).unwrap_or_else(|_| {
                    self.hopeless.get_or_init(|| *index);
                    false
                })
        };
        others.find(is_match).map(|(index, _)| *index).or(found)
    }
}

/// The only text that a pattern can match, if there is just one: `layers\.0` is `layers.0`.
fn literal(pattern: &str) -> Option<String> {
    let mut text = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.push(chars.next().filter(|c| !c.is_alphanumeric() && *c != '<' && *c != '>')?),
            c if c.is_alphanumeric() || matches!(c, '_' | '-') => text.push(c),
            _ => return None,
        }
    }
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(pairs: &[(&str, f64)]) -> Patterns {
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.to_string(), *v)).collect();
        Patterns::new("rank_pattern", &pairs).unwrap()
    }

    #[test]
    fn keys_match_ends_of_paths_on_dot_boundaries() {
        let p = patterns(&[("q_proj", 4.0), (r"layers\.1\.mlp\.(up|down)_proj", 12.0), ("^lm_head", 2.0)]);
        assert_eq!(p.get("model.layers.0.self_attn.q_proj"), Some(4.0));
        assert_eq!(p.get("model.layers.0.self_attn.xq_proj"), None);
        assert_eq!(p.get("model.layers.1.mlp.down_proj"), Some(12.0));
        assert_eq!(p.get("model.layers.11.mlp.down_proj"), None);
        assert_eq!(p.get("lm_head"), Some(2.0));
        assert_eq!(p.get("q_proj.base"), None);
    }

    #[test]
    fn the_first_key_wins_and_lookarounds_work() {
        let p = patterns(&[(r".*(?<!k_)proj", 1.0), ("k_proj", 2.0)]);
        assert_eq!(p.get("a.q_proj"), Some(1.0));
        assert_eq!(p.get("a.k_proj"), Some(2.0));
        assert!(Patterns::new("rank_pattern", &[("(".into(), 1.0)]).is_err());
    }

    #[test]
    fn keys_without_a_choice_match_as_their_expressions_do() {
        let keys = ["a.b", r"a\.b", "b", "^b", r"^a\.b", r"x\.a\.b", "a_b-c", r"\d", "b|c", r"^x\.a\.b"];
        for key in keys {
            let (new, old) = (
                Keys::new([key].into_iter(), Rule::Current).unwrap(),
                Keys::new([key].into_iter(), Rule::Old).unwrap(),
            );
            for path in ["b", "a.b", "x.a.b", "y.x.a.b", "aab", "xa.b", "a_b-c", "1", "a.1", "c", ""] {
                let is_match = |regex: String| Regex::new(&regex).unwrap().is_match(path).unwrap();
                let (meant, before) =
                    (is_match(format!(r"^(?:.*\.)?(?:{key})$")), is_match(format!(r"^.*\.(?:{key})$")));
                assert_eq!(
                    (new.first(path).is_some(), old.first(path).is_some()),
                    (meant, before),
                    "{key} {path}"
                );
            }
        }
    }

    #[test]
    fn an_expression_without_end_is_refused() {
        let p = patterns(&[(r"(?=(a|a)*$)(a|a)*b", 4.0)]);
        assert!(p.check().is_ok());
        assert_eq!(p.get(&"a".repeat(40)), None);
        let error = p.check().unwrap_err().to_string();
        assert!(error.ends_with("which takes too long to match"), "{error}");
    }

    #[test]
    fn order_decides_between_looked_up_and_other_keys() {
        for (keys, value) in
            [([".*b", r"a\.b", "b"], 0.0), (["c", r"a\.b", ".*b"], 1.0), (["b", r"a\.b", ".*b"], 0.0)]
        {
            let pairs: Vec<_> = keys.iter().enumerate().map(|(i, key)| (*key, i as f64)).collect();
            assert_eq!(patterns(&pairs).get("x.a.b"), Some(value), "{keys:?}");
        }
    }

    #[test]
    fn before_0_14_a_key_followed_a_dot_and_served_both() {
        let (ranks, alphas) = (patterns(&[("q", 1.0), (r"l\.v", 2.0)]), patterns(&[("v", 3.0), ("q", 4.0)]));
        let old = OldRule::new(&ranks, &alphas);
        assert_eq!((old.get("m.q"), old.get("q")), ((Some(1.0), Some(4.0)), (None, None)));
        assert_eq!(old.get("m.l.v"), (Some(2.0), None));
    }
}
