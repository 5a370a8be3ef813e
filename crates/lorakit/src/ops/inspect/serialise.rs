//! Fields of reports, for programs, that are serialised otherwise than their types are.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

/// A value, and how many modules have it.
#[derive(Serialize)]
struct Count<T> {
    value: T,
    modules: usize,
}

/// How many modules have each rank, as a list.
pub(super) fn ranks<S: Serializer>(
    counts: &BTreeMap<usize, usize>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(counts.iter().map(|(value, modules)| Count { value, modules: *modules }))
}

/// How many modules have each number.
pub(super) fn numbers<S: Serializer>(counts: &[(f64, usize)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(counts.iter().map(|(value, modules)| Count { value, modules: *modules }))
}

/// Pairs of a name and a number, as an object.
pub(super) fn named<S: Serializer>(pairs: &[(&'static str, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().copied())
}
