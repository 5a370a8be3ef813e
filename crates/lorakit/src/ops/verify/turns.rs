//! Deltas of several adapters, added one after the other and rounded after each, as PEFT merges them.

use lorakit_tensor::DType;

use super::pair::is_float;
use super::step::step;
use super::storing::Storing;
use crate::plan::Panel;

/// What comes of adding the deltas of several adapters one after the other, each sum rounded, for one panel at a time.
pub(super) struct InTurn {
    turns: usize,
    /// To what they are rounded, and as what the last is stored.
    rounding: Option<(Storing, Storing)>,
    /// What it comes to, rounded after each.
    values: Vec<f32>,
    /// The same of rounded deltas.
    of_rounded: Vec<f32>,
    /// The magnitudes of all summands: none of the sums on the way is larger.
    sizes: Vec<f32>,
    encoded: Vec<u8>,
    /// Whether every stored byte so far is that of `values`, and of `of_rounded`.
    once: bool,
    twice: bool,
}

impl InTurn {
    pub(super) fn new(grid: DType, stored: DType, turns: usize) -> Self {
        let rounding = Storing::new(grid).zip(Storing::new(stored));
        let rounding = rounding.filter(|_| is_float(grid) && turns > 1);
        let (values, of_rounded, sizes, encoded) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        InTurn { turns, rounding, values, of_rounded, sizes, encoded, once: true, twice: true }
    }

    /// Whether there is anything to add in turn.
    pub(super) fn are_many(&self) -> bool {
        self.rounding.is_some()
    }

    /// Whether every stored byte so far is that of one way to add them in turn.
    pub(super) fn are_exact(&self) -> bool {
        self.are_many() && (self.once || self.twice)
    }

    /// What all values of the panel come to as they are stored, if they are added in turn.
    pub(super) fn stored(&self) -> Option<&[f32]> {
        self.are_many().then_some(&self.values[..])
    }

    /// What value `at` of the panel comes to, if they are added in turn.
    pub(super) fn value(&self, at: usize) -> Option<f32> {
        self.values.get(at).copied()
    }

    /// How many steps apart two orders of so many roundings may end.
    fn room(&self) -> f32 {
        (self.turns as f32 + 1.0) / 2.0
    }

    /// How many steps `apart` is next to values of magnitude `size`; fewer where there were more roundings, and where
    /// large products cancel.
    pub(super) fn steps(&self, dtype: DType, at: usize, apart: f32, size: f32, panel: &Panel<'_>) -> f32 {
        let mut steps = apart / step(dtype, size);
        if steps > 1.0 && self.are_many() {
            steps = apart / (self.room() * step(dtype, self.sizes[at]));
        }
        if steps > 1.0 {
            steps = steps.min(apart / step(dtype, size.max(panel.summands(at))));
        }
        steps
    }

    pub(super) fn add(&mut self, panel: &Panel<'_>, bytes: &[u8]) {
        let InTurn { rounding, values, of_rounded, sizes, encoded, .. } = self;
        let Some((rounding, storing)) = rounding else { return };
        for sums in [&mut *values, &mut *of_rounded] {
            sums.clear();
            sums.extend_from_slice(panel.left);
        }
        sizes.clear();
        sizes.extend(panel.left.iter().map(|w| w.abs()));
        panel.each_term(|_, place, delta| {
            sizes[place.clone()].iter_mut().zip(delta).for_each(|(size, d)| *size += d.abs());
            let mut halfway = delta.to_vec();
            rounding.store(&mut halfway, encoded);
            for (sums, delta) in [(&mut *values, delta), (&mut *of_rounded, &halfway)] {
                let sums = &mut sums[place.clone()];
                sums.iter_mut().zip(delta).for_each(|(sum, d)| *sum += d);
                rounding.store(sums, encoded);
            }
        });
        storing.store(values, encoded);
        self.once &= *bytes == **encoded;
        storing.store(of_rounded, encoded);
        self.twice &= *bytes == **encoded;
    }
}
