//! Other prefixes of paths.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;

use super::problem::Problem;
use crate::adapter::Adapter;
use crate::arch::names::module_of;
use crate::{Error, Result};

/// The prefixes, each as its components.
#[derive(Debug, Clone)]
pub(super) struct Prefixes(Vec<Prefix>);

#[derive(Debug, Clone)]
struct Prefix {
    old: Vec<String>,
    new: String,
}

/// Paths that begin otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Renamed {
    /// The prefix that they had.
    pub prefix_before: String,
    /// The prefix that they have.
    pub prefix: String,
    /// How many paths: of modules, and of parameters that are saved whole.
    pub paths: usize,
}

impl Prefixes {
    /// Takes `base_model.model.` and a last dot as written by people who copy names from files.
    pub(super) fn new(pairs: &[(String, String)]) -> Self {
        let plain = |text: &str| crate::adapter::key::without_wrapper(text).trim_matches('.').to_string();
        let prefix = |(old, new): &(String, String)| {
            let old = plain(old).split('.').filter(|part| !part.is_empty()).map(str::to_string).collect();
            Prefix { old, new: plain(new) }
        };
        Prefixes(pairs.iter().map(prefix).collect())
    }

    /// The prefix with which `path` begins: which one, its components, and what takes its place.
    pub(super) fn of(&self, path: &str) -> Option<(usize, &[String], &str)> {
        let begins = |prefix: &&Prefix| {
            let mut components = path.split('.');
            prefix.old.iter().all(|part| components.next() == Some(part))
        };
        let at = self.0.iter().position(|prefix| begins(&prefix))?;
        Some((at, &self.0[at].old, &self.0[at].new))
    }

    /// `path` with another prefix; `None` if it keeps its own.
    pub(super) fn renamed(&self, path: &str) -> Option<String> {
        let (_, old, new) = self.of(path)?;
        let rest: Vec<&str> = path.split('.').skip(old.len()).collect();
        Some(
            [new, &rest.join(".")]
                .iter()
                .filter(|part| !part.is_empty())
                .copied()
                .collect::<Vec<_>>()
                .join("."),
        )
    }

    /// Refuses prefixes that match nothing, and new paths that are empty or not unique; counts the others.
    ///
    /// # Errors
    /// See [`Problem`].
    pub(super) fn check(&self, adapter: &Adapter) -> Result<Vec<Renamed>> {
        let place = |problem: Problem| Error::from(problem).at(&adapter.path);
        let paths = paths(adapter);
        let mut counts = vec![0; self.0.len()];
        let mut taken: HashMap<String, &str> = HashMap::new();
        for path in &paths {
            let new = match self.of(path) {
                Some((at, ..)) => {
                    counts[at] += 1;
                    self.renamed(path).unwrap_or_default()
                }
                None => (*path).to_string(),
            };
            if new.is_empty() {
                return Err(place(Problem::NoPath { path: (*path).to_string() }));
            }
            if let Some(other) = taken.insert(new.clone(), path) {
                let (one, other) = (other.to_string(), (*path).to_string());
                return Err(place(Problem::Collision { one, other, path: new }));
            }
        }
        let renamed = |(prefix, paths): (&Prefix, usize)| {
            let prefix_before = prefix.old.join(".");
            if paths == 0 {
                return Err(place(self.nothing(&prefix_before, prefix.old.len(), adapter)));
            }
            Ok(Renamed { prefix_before, prefix: prefix.new.clone(), paths })
        };
        self.0.iter().zip(counts).map(renamed).collect()
    }

    /// The problem of a prefix that matches nothing, with the nearest one that would.
    fn nothing(&self, prefix: &str, length: usize, adapter: &Adapter) -> Problem {
        let begin = |path: &&str| path.split('.').take(length).collect::<Vec<_>>().join(".");
        let known: BTreeSet<String> = paths(adapter).iter().map(begin).collect();
        let likeness = |other: &String| strsim::normalized_levenshtein(prefix, other);
        let nearest = known.into_iter().max_by(|x, y| likeness(x).total_cmp(&likeness(y)));
        let prefix = prefix.to_string();
        match nearest {
            Some(nearest) => Problem::NoSuchPrefix { prefix, nearest },
            None => Problem::NoPaths { prefix },
        }
    }
}

/// The paths of everything that the adapter changes.
pub(super) fn paths(adapter: &Adapter) -> BTreeSet<&str> {
    let modules = adapter.modules.iter().map(|module| module.path.as_str());
    let saved = adapter.saved.iter().map(|saved| module_of(&saved.name));
    let rows = adapter.token_rows.iter().map(|rows| rows.path.as_str());
    let deltas = adapter.deltas.iter().map(|delta| delta.path.as_str());
    modules.chain(saved).chain(rows).chain(deltas).filter(|path| !path.is_empty()).collect()
}

/// The adapter with its new paths.
pub(super) fn renamed(mut adapter: Adapter, prefixes: &Prefixes) -> Adapter {
    for module in &mut adapter.modules {
        module.path = prefixes.renamed(&module.path).unwrap_or_else(|| module.path.clone());
    }
    for saved in &mut adapter.saved {
        if let Some((path, leaf)) = saved.name.rsplit_once('.') {
            let path = prefixes.renamed(path).unwrap_or_else(|| path.to_string());
            saved.name = format!("{path}.{leaf}");
        }
    }
    for delta in &mut adapter.deltas {
        delta.path = prefixes.renamed(&delta.path).unwrap_or_else(|| delta.path.clone());
    }
    for rows in &mut adapter.token_rows {
        rows.path = prefixes.renamed(&rows.path).unwrap_or_else(|| rows.path.clone());
    }
    adapter
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(pairs: &[(&str, &str)], path: &str) -> Option<String> {
        let pairs: Vec<_> = pairs.iter().map(|(old, new)| (old.to_string(), new.to_string())).collect();
        Prefixes::new(&pairs).renamed(path)
    }

    #[test]
    fn prefixes_are_whole_components() {
        let path = "model.layers.1.q";
        assert_eq!(renamed(&[("model", "text.model")], path).unwrap(), "text.model.layers.1.q");
        assert_eq!(renamed(&[("model.", "")], path).unwrap(), "layers.1.q");
        assert_eq!(renamed(&[("base_model.model.model.layers", "h")], path).unwrap(), "h.1.q");
        assert_eq!(renamed(&[("", "text")], path).unwrap(), "text.model.layers.1.q");
        assert_eq!(renamed(&[("model.layers", "h"), ("model", "x")], path).unwrap(), "h.1.q");
        assert_eq!(renamed(&[("model.layers.1", "h")], "model.layers.10.q"), None);
        assert_eq!(renamed(&[("mod", "x")], path), None);
    }
}
