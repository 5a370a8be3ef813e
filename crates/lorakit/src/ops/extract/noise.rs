//! How far the noise of rounding reaches.
//!
//! Rounding a value to a float dtype leaves an error that is uniform over the step there, and the steps of one weight
//! differ a hundredfold: from value to value and, where rows differ in norm, from row to row. So no formula for noise
//! of one variance says how large its largest singular value is. It is measured instead, on noise that has the same
//! steps ([`Rounded`]); where there are no steps, or rounding left something else than uniform errors, on the
//! difference itself, without what is kept of it and with random signs ([`Flipped`]; Hong, Sheng and Dobriban, 2020).
//! Random signs undo every direction and leave each value its size.

use std::ops::Range;

use lorakit_linalg::random::philox4x32;
use lorakit_linalg::{Svd, product};
use ndarray::{Array2, Axis};

use super::difference::Difference;
use super::step::Step;
use crate::Result;
use crate::ops::panels::{EachPanel, Panels};

/// Key of the random words, which no other use of the generator has.
const KEY: [u32; 2] = [0x6e6f_6973, 0x6500_0001];

/// Errors uniform over what rounding can have done to each value of a tuned weight; none in rows that are the base's.
#[derive(Debug)]
pub(super) struct Rounded<'a> {
    pub(super) of: &'a Difference,
    pub(super) step: Step,
}

/// A difference less the product of factors, each value with a random sign.
#[derive(Debug)]
pub(super) struct Flipped<'a> {
    of: &'a Difference,
    left: Array2<f64>,
    right: Array2<f64>,
}

impl<'a> Flipped<'a> {
    /// Less its `kept` leading triplets.
    pub(super) fn new(of: &'a Difference, svd: &Svd, kept: usize) -> Self {
        let (left, right) = svd.clone().truncated(kept).factors();
        Flipped { of, left, right }
    }
}

/// Calls `each` with sixteen places of a row at a time, or the rest of it, and a random byte for each.
fn for_each_sixteen(row: usize, cols: usize, mut each: impl FnMut(Range<usize>, [u8; 16])) {
    for start in (0..cols).step_by(16) {
        let words = philox4x32([start as u32, (start as u64 >> 32) as u32, row as u32, 0], KEY);
        let mut bytes = [0; 16];
        for (bytes, word) in bytes.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        each(start..(start + 16).min(cols), bytes);
    }
}

impl Panels for Rounded<'_> {
    fn dim(&self) -> (usize, usize) {
        self.of.dim()
    }

    fn for_each_panel(&self, each: &mut EachPanel<'_>) -> Result<()> {
        let cols = self.of.cols;
        let width = cols.max(1);
        self.of.for_each_made(each, |rows, old, new, panel| {
            let pairs = old.chunks(width).zip(new.chunks(width));
            for ((row, errors), (old, new)) in rows.clone().zip(panel.chunks_mut(width)).zip(pairs) {
                if old == new {
                    errors.fill(0.0);
                    continue;
                }
                let square: f64 =
                    old.iter().zip(new).map(|(w, t)| (f64::from(*t) - f64::from(*w)).powi(2)).sum();
                let typical = (square / width as f64).sqrt();
                for_each_sixteen(row, cols, |at, bytes| {
                    let pairs = old[at.clone()].iter().zip(&new[at.clone()]);
                    for ((error, (&w, &t)), byte) in errors[at].iter_mut().zip(pairs).zip(bytes) {
                        *error = (f64::from(byte) - 127.5) / 256.0 * self.step.reach(w, t, typical);
                    }
                });
            }
        })
    }
}

impl Panels for Flipped<'_> {
    fn dim(&self) -> (usize, usize) {
        self.of.dim()
    }

    fn for_each_panel(&self, each: &mut EachPanel<'_>) -> Result<()> {
        let cols = self.of.cols;
        self.of.for_each_made(each, |rows, old, new, panel| {
            let kept = product(self.left.slice_axis(Axis(0), rows.clone().into()), self.right.view());
            let values = old.iter().zip(new).zip(&kept);
            for (to, ((&w, &t), kept)) in panel.iter_mut().zip(values) {
                *to = f64::from(t) - f64::from(w) - kept;
            }
            for (row, values) in rows.clone().zip(panel.chunks_mut(cols.max(1))) {
                for_each_sixteen(row, cols, |at, bytes| {
                    for (value, byte) in values[at].iter_mut().zip(bytes) {
                        *value = if byte & 1 == 1 { -*value } else { *value };
                    }
                });
            }
        })
    }
}
