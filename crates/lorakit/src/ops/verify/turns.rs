//! Deltas of several adapters, added one after the other and rounded after each, as PEFT merges them.

use lorakit_quant::{Codec, Encoder, codec, encoder};
use lorakit_tensor::DType;

use super::pair::is_float;
use super::step::step;
use crate::plan::Panel;

/// What comes of adding the deltas of several adapters one after the other, each sum rounded to the stored dtype, for
/// one panel at a time.
pub(super) struct InTurn {
    turns: usize,
    rounding: Option<(&'static dyn Encoder, &'static dyn Codec)>,
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
    pub(super) fn new(dtype: DType, turns: usize) -> Self {
        let rounding = encoder(dtype).zip(codec(dtype)).filter(|_| is_float(dtype) && turns > 1);
        let (values, of_rounded, sizes, encoded) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        InTurn { turns, rounding, values, of_rounded, sizes, encoded, once: true, twice: true }
    }

    /// Whether there is anything to add in turn.
    fn many(&self) -> bool {
        self.rounding.is_some()
    }

    /// Whether every stored byte so far is that of one way to add them in turn.
    pub(super) fn are_exact(&self) -> bool {
        self.many() && (self.once || self.twice)
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
        if steps > 1.0 && self.many() {
            steps = apart / (self.room() * step(dtype, self.sizes[at]));
        }
        if steps > 1.0 {
            steps = steps.min(apart / step(dtype, size.max(panel.summands(at))));
        }
        steps
    }

    pub(super) fn add(&mut self, panel: &Panel<'_>, bytes: &[u8]) {
        let Some((encoder, decoder)) = self.rounding else { return };
        let InTurn { values, of_rounded, sizes, encoded, .. } = self;
        for sums in [&mut *values, &mut *of_rounded] {
            sums.clear();
            sums.extend_from_slice(panel.left);
        }
        sizes.clear();
        sizes.extend(panel.left.iter().map(|w| w.abs()));
        let mut round = |values: &mut [f32]| {
            encoded.resize(bytes.len() / panel.sum.len().max(1) * values.len(), 0);
            encoder.encode(values, encoded);
            decoder.decode(encoded, values);
        };
        panel.each_term(|_, place, delta| {
            sizes[place.clone()].iter_mut().zip(delta).for_each(|(size, d)| *size += d.abs());
            let mut halfway = delta.to_vec();
            round(&mut halfway);
            for (sums, delta) in [(&mut *values, delta), (&mut *of_rounded, &halfway)] {
                let sums = &mut sums[place.clone()];
                sums.iter_mut().zip(delta).for_each(|(sum, d)| *sum += d);
                round(sums);
            }
        });
        encoded.resize(bytes.len(), 0);
        encoder.encode(values, encoded);
        self.once &= *bytes == *encoded;
        encoder.encode(of_rounded, encoded);
        self.twice &= *bytes == *encoded;
    }
}
