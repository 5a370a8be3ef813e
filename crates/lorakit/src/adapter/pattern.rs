//! `rank_pattern` and `alpha_pattern`, matched as PEFT matches them.
//!
//! A key is a Python regular expression for the end of a module path on a dot boundary:
//! `re.match(rf"(.*\.)?({key})$", path)`, first key in file order wins (`get_pattern_key` of PEFT 0.14 and
//! later). Before, a key had to follow a dot and one matched key served both dictionaries.

use fancy_regex::Regex;

use crate::{Error, ErrorKind, Result};

/// An ordered list of patterns with a number each.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    entries: Vec<(String, Regex, f64)>,
}

impl Patterns {
    pub(super) fn new(field: &str, pairs: &[(String, f64)]) -> Result<Self> {
        let compile = |(key, value): &(String, f64)| {
            // Python's `$` also matches before a final newline; module paths have none.
            let regex = Regex::new(&format!(r"^(?:.*\.)?(?:{key})$")).map_err(|_| {
                let message = format!("`{field}` has the key `{key}`, which is not a regular expression");
                Error::new(ErrorKind::Config, message)
            })?;
            Ok((key.clone(), regex, *value))
        };
        Ok(Patterns { entries: pairs.iter().map(compile).collect::<Result<_>>()? })
    }

    /// The number of the first key that matches module `path`.
    pub fn get(&self, path: &str) -> Option<f64> {
        let hit = self.entries.iter().find(|(_, regex, _)| regex.is_match(path).unwrap_or(false));
        hit.map(|(_, _, value)| *value)
    }

    /// What PEFT before 0.14 would have taken: only keys after a dot, from a shared key list.
    pub(super) fn get_by_old_rule(&self, keys: &[String], path: &str) -> Option<f64> {
        let matches = |key: &&String| {
            Regex::new(&format!(r"^.*\.{key}$")).is_ok_and(|r| r.is_match(path).unwrap_or(false))
        };
        let key = keys.iter().find(matches)?;
        self.entries.iter().find(|(k, _, _)| k == key).map(|(_, _, value)| *value)
    }

    /// The keys, in file order.
    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.entries.iter().map(|(key, _, _)| key)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
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
}
