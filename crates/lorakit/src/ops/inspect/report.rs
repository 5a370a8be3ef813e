//! Reports, for programs: what their fields alone do not say.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::{FitReport, Runtime, TargetReport, Verdict};

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

impl Serialize for FitReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'f> {
            base: String,
            fits: bool,
            misfit: Option<&'f str>,
            changed_tensors: usize,
            base_tensors: usize,
            tied: bool,
            non_finite_tensors: usize,
            checked_tensors: usize,
            unchecked_tensors: usize,
        }
        let fields = Fields {
            base: self.base.display().to_string(),
            fits: self.misfit.is_none(),
            misfit: self.misfit.as_deref(),
            changed_tensors: self.changed,
            base_tensors: self.base_tensors,
            tied: self.tied,
            non_finite_tensors: self.non_finite,
            checked_tensors: self.checked,
            unchecked_tensors: self.base_tensors.saturating_sub(self.checked),
        };
        fields.serialize(serializer)
    }
}

impl Serialize for TargetReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'t> {
            runtime: Runtime,
            accepted: bool,
            verdicts: &'t [Verdict],
        }
        let fields = Fields { runtime: self.runtime, accepted: self.is_accepted(), verdicts: &self.verdicts };
        fields.serialize(serializer)
    }
}

crate::report::by_name! { Runtime: title }
