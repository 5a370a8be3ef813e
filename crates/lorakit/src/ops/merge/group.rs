//! Edits of all adapters, gathered by the tensor they change.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use super::{Problem, undo};
use crate::adapter::Adapter;
use crate::fit::{Change, Edit};
use crate::plan::{Dora, Initial, LowRank, Multiplied, Progress, ReplacedRows, go_on};
use crate::{Error, Model, Result, TensorRef};

/// Everything that happens to one output tensor.
#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    /// The base tensor it starts from.
    pub base: Option<usize>,
    /// Values that replace the base's.
    pub replace: Option<TensorRef>,
    /// The adapters that replace values here.
    pub replaced_by: Vec<PathBuf>,
    /// What the initialisation of an adapter took out of it, weight by weight.
    pub initial: Vec<Initial>,
    /// What the one adapter that multiplies it multiplies it by.
    pub multiplied: Option<Multiplied>,
    /// DoRA of the one adapter that has it.
    pub dora: Option<Dora>,
    /// Plain low-rank terms of all adapters.
    pub terms: Vec<LowRank>,
    /// Rows replaced at the end.
    pub rows: Vec<ReplacedRows>,
    /// Whether there are terms that add nothing, because their adapter's weight or their alpha is 0; they are left out.
    pub silent: bool,
    /// Whether PEFT rounds this tensor's delta before adding it.
    pub peft_rounds_delta: bool,
}

impl Group {
    /// The tensor as the matrix that its terms are made for.
    pub(super) fn matrix_shape(&self, tensor: &TensorRef) -> (usize, usize) {
        let (rows, cols) = tensor.info().rows_cols();
        match self.terms.first() {
            // Stacked experts `[E, d1, d2]` are `E * d1` rows.
            Some(term) if term.a.cols != cols && term.a.cols > 0 => (rows * cols / term.a.cols, term.a.cols),
            _ => (rows, cols),
        }
    }

    /// The values of the base that an adapter brings along with deltas for them.
    pub(super) fn adapted_copy(&self) -> Option<TensorRef> {
        let adapted = self.dora.is_some() || !self.terms.is_empty();
        self.replace.clone().filter(|_| adapted)
    }

    pub(super) fn only_replaces(&self) -> bool {
        let changed = !self.initial.is_empty() || self.multiplied.is_some() || self.dora.is_some();
        !changed && self.terms.is_empty() && self.rows.is_empty()
    }

    /// Takes what an initialisation took out of it into account.
    fn take_initial(&mut self, base: &Model, initial: Initial) -> Result<()> {
        let overlaps =
            |other: &Initial| initial.rows.start < other.rows.end && other.rows.start < initial.rows.end;
        if self.initial.iter().any(overlaps) {
            return Err(Problem::TwoInitial.into());
        }
        if self.base.is_some_and(|index| undo::original(base, index).is_none()) {
            return Err(Problem::InitialOfQuantised.into());
        }
        self.initial.push(initial);
        Ok(())
    }

    /// Whether it is multiplied and changed in another way as well.
    fn is_mixed(&self) -> bool {
        let others = self.dora.is_some() || self.replace.is_some();
        self.multiplied.is_some() && (others || !self.terms.is_empty() || !self.rows.is_empty())
    }
}

/// Groups by output name.
#[derive(Debug, Default)]
pub(super) struct Groups {
    map: BTreeMap<String, Group>,
}

impl Groups {
    /// Adds the edits of one adapter, its deltas times `weight`.
    pub(super) fn add(
        &mut self,
        base: &Model,
        adapter: &Adapter,
        weight: f64,
        edits: Vec<Edit>,
        progress: &dyn Progress,
    ) -> Result<()> {
        for edit in edits {
            go_on(progress, "anything was written")?;
            let group = self.map.entry(edit.target.clone()).or_default();
            group.base = edit.base;
            match edit.change {
                Change::Replace(tensor) => {
                    // A frozen copy of the base's own weight changes nothing and conflicts with nothing.
                    if let Some(index) = edit.base
                        && base.tensor(index).same_values(&tensor)?
                    {
                        continue;
                    }
                    if group
                        .replace
                        .as_ref()
                        .is_some_and(|other| !other.same_values(&tensor).unwrap_or(false))
                    {
                        let error = Error::from(Problem::ReplacedTwice).tensor(&edit.target);
                        return Err(error.details(both(&group.replaced_by, adapter)));
                    }
                    group.replace = Some(tensor);
                    group.replaced_by.push(adapter.path.clone());
                }
                Change::LowRank { mut terms, dora, peft_rounds_delta, initial } => {
                    if let Some(initial) = initial.filter(|initial| initial.scale != 0.0) {
                        let take = group.take_initial(base, initial);
                        take.map_err(|error| error.tensor(&edit.target).at(&adapter.path))?;
                    }
                    group.peft_rounds_delta |= peft_rounds_delta;
                    terms.iter_mut().for_each(|term| term.scale *= weight);
                    match dora {
                        None => {
                            let count = terms.len();
                            terms.retain(|term| term.scale != 0.0);
                            group.silent |= terms.len() < count;
                            group.terms.extend(terms);
                        }
                        Some((magnitude, axis)) => {
                            if group.dora.is_some() {
                                let error = Error::from(Problem::TwoDora);
                                return Err(error.tensor(&edit.target).at(&adapter.path));
                            }
                            if !group.terms.is_empty() {
                                let error = Error::from(Problem::LoraBeforeDora);
                                return Err(error.tensor(&edit.target).at(&adapter.path));
                            }
                            group.dora = Some(Dora { terms, magnitude, axis });
                        }
                    }
                }
                Change::Multiply(_) if group.multiplied.is_some() => {
                    let error = Error::from(Problem::Mixed);
                    return Err(error.tensor(&edit.target).at(&adapter.path));
                }
                Change::Multiply(by) => group.multiplied = Some(by),
                Change::Rows(tensor, rows) => {
                    let new: HashSet<usize> = rows.iter().copied().collect();
                    let mut taken = group.rows.iter().flat_map(|r| &r.rows);
                    if let Some(row) = taken.find(|row| new.contains(row)) {
                        let error = Error::from(Problem::RowReplacedTwice { row: *row }).tensor(&edit.target);
                        return Err(error.details(both(&group.replaced_by, adapter)));
                    }
                    group.rows.push(ReplacedRows { tensor, rows });
                    group.replaced_by.push(adapter.path.clone());
                }
            }
            if !group.initial.is_empty() && group.replace.is_some() {
                let error = Error::from(Problem::InitialOfReplaced);
                return Err(error.tensor(&edit.target).at(&adapter.path));
            }
            if group.is_mixed() {
                return Err(Error::from(Problem::Mixed).tensor(&edit.target).at(&adapter.path));
            }
        }
        Ok(())
    }

    /// Forgets groups that were left without any change. Returns the names of those whose terms add nothing.
    pub(super) fn drop_unchanged(&mut self, base: &Model) -> Result<HashSet<String>> {
        let unchanged = |_: &String, group: &mut Group| group.replace.is_none() && group.only_replaces();
        let dropped = self.map.extract_if(.., unchanged);
        let silent = dropped.filter(|(_, group)| group.silent).map(|(name, _)| name).collect();
        // Terms must cover the width of what they are added to, even if an adapter replaced it.
        for (name, group) in &self.map {
            let Some(tensor) = group.replace.clone().or_else(|| group.base.map(|i| base.tensor(i))) else {
                continue;
            };
            let (rows, cols) = group.matrix_shape(&tensor);
            let dora = group.dora.iter().flat_map(|d| &d.terms);
            if let Some(term) = dora.chain(&group.terms).find(|t| t.a.cols != cols || t.rows.end > rows) {
                let (delta_rows, delta_columns) = (term.rows.end, term.a.cols);
                let problem = Problem::DeltaShape { rows, columns: cols, delta_rows, delta_columns };
                return Err(Error::from(problem).tensor(name));
            }
        }
        Ok(silent)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Group> {
        self.map.get(name)
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Group> {
        self.map.remove(name)
    }

    pub(super) fn insert(&mut self, name: &str, group: Group) {
        self.map.insert(name.to_string(), group);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Group)> {
        self.map.iter()
    }

    /// The groups that no base tensor took, by name.
    pub(super) fn rest(self) -> impl Iterator<Item = (String, Group)> {
        self.map.into_iter()
    }
}

/// A line for each adapter that wants to replace the same values.
fn both(others: &[PathBuf], adapter: &Adapter) -> Vec<String> {
    others.iter().chain([&adapter.path]).map(|path| format!("`{}`", path.display())).collect()
}
