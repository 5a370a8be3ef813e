//! How much of an adapter survived being written in a coarser dtype.

use std::collections::BTreeMap;

use super::residue::Residue;

/// Sums over the values that had a delta `D` added to `W` and were stored as `W'`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Retention {
    /// `<W' - W, D>`
    pub kept: f64,
    /// `<D, D>`
    pub whole: f64,
    /// `<W, W>`, over all values of the edited tensors.
    pub base: f64,
    /// Values with a delta that is not zero.
    pub moved: u64,
    /// Of those, the ones whose stored value did not change.
    pub unchanged: u64,
    /// What is left of deltas that are taken out again; nothing otherwise.
    pub residue: Residue,
}

impl Retention {
    /// `<W' - W, D> / <D, D>`: 1 when the adapter survived whole, 0 when it vanished. `None` without a delta.
    pub fn ratio(&self) -> Option<f64> {
        (self.whole > 0.0).then(|| self.kept / self.whole)
    }

    /// Share of the values with a delta that rounding left as they were, 0 to 1.
    pub fn unchanged_share(&self) -> f64 {
        if self.moved == 0 { 0.0 } else { self.unchanged as f64 / self.moved as f64 }
    }

    /// `||D|| / ||W||`: how large the delta is relative to what it is added to. `None` if that is zero.
    pub fn strength(&self) -> Option<f64> {
        (self.base > 0.0).then(|| (self.whole / self.base).sqrt())
    }

    /// Whether the sums are finite.
    pub(super) fn is_finite(&self) -> bool {
        (self.kept + self.whole + self.base).is_finite()
    }

    /// Adds the sums of other values.
    pub fn add(&mut self, other: Retention) {
        self.kept += other.kept;
        self.whole += other.whole;
        self.base += other.base;
        self.moved += other.moved;
        self.unchanged += other.unchanged;
        self.residue.add(other.residue);
    }
}

/// Retention of one edited tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorRetention {
    /// The tensor's name in the output.
    pub name: String,
    /// The type its values are stored as, e.g. `BF16`, `Q4_K`, `NF4`.
    pub stored_as: &'static str,
    /// The sums.
    pub retention: Retention,
}

/// The sums of `tensors` by the type they are stored as.
pub fn by_type(tensors: &[TensorRetention]) -> BTreeMap<&'static str, Retention> {
    let mut types: BTreeMap<&'static str, Retention> = BTreeMap::new();
    for tensor in tensors {
        types.entry(tensor.stored_as).or_default().add(tensor.retention);
    }
    types
}

/// The sums of all `tensors`.
pub fn overall(tensors: &[TensorRetention]) -> Retention {
    let mut sum = Retention::default();
    tensors.iter().for_each(|tensor| sum.add(tensor.retention));
    sum
}
