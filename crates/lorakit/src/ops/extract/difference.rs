//! What a tuned weight has that its base lacks.

use std::ops::Range;

use lorakit_linalg::product;
use lorakit_quant::{codec, encoder};
use ndarray::{Array2, ArrayView2, Axis};

use super::Problem;
use super::step::Step;
use crate::ops::Problem as VerbProblem;
use crate::ops::panels::{EachPanel, PANEL, Panels};
use crate::{Error, Result, TensorRef};

/// `D = T - W`: rows of the tuned tensor `T` less the same rows of the base's `W`.
#[derive(Debug, Clone)]
pub(super) struct Difference {
    /// `W`.
    pub(super) base: TensorRef,
    /// `T`.
    pub(super) tuned: TensorRef,
    /// The steps of `T`; `None` if it is quantised.
    pub(super) step: Option<Step>,
    /// The steps of `W`, likewise.
    base_step: Option<Step>,
    /// The rows, and their width.
    pub(super) rows: Range<usize>,
    pub(super) cols: usize,
}

/// Sums over the values of a [`Difference`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Measured {
    /// `||D||`, squared.
    pub(super) delta: f64,
    /// `||W||`, squared.
    pub(super) base: f64,
    /// Number of values that differ.
    pub(super) moved: u64,
    /// Number of rows in which a value differs.
    pub(super) rows: usize,
    /// The energy that rounding these rows of `T` to its dtype is expected to have put into `D`; `None` for quantised
    /// tensors.
    pub(super) rounding: Option<f64>,
    /// The same, without what it cannot have put into values that did not move: see [`Step::reach`].
    pub(super) noise: f64,
    /// How much more than that may be there, after earlier roundings.
    pub(super) slack: f64,
    /// How much more it is if the base was rounded to coarser steps than those of `T` after training started from it; 0
    /// if it has no such steps.
    pub(super) coarser: f64,
}

/// How close factors come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compared {
    /// `||D - B A||`.
    pub(super) residual: f64,
    /// Share of the values of `W + B A`, rounded, that are those of `T`; `None` for quantised tensors.
    pub(super) same: Option<f64>,
}

impl Difference {
    /// All rows. With `packed`, `T` is decoded from fewer bits than its dtype says.
    pub(super) fn new(base: TensorRef, tuned: TensorRef, packed: bool) -> Self {
        let (rows, cols) = tuned.info().rows_cols();
        let step = Step::of(tuned.info().dtype).filter(|_| !packed);
        let base_step = Step::of(base.info().dtype);
        Difference { base, tuned, step, base_step, rows: 0..rows, cols }
    }

    /// With the steps that the values have, which are coarser than those of their dtype if they were rounded to another
    /// one before: a merge in BF16 is often stored as F16 or F32 afterwards.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(super) fn with_seen_steps(self) -> Result<Self> {
        let values = self.rows.start * self.cols..self.rows.end * self.cols;
        let seen = |step: Option<Step>, tensor: &TensorRef| {
            step.map(|step| step.seen(tensor, values.clone(), PANEL * self.cols)).transpose()
        };
        let (step, base_step) = (seen(self.step, &self.tuned)?, seen(self.base_step, &self.base)?);
        Ok(Difference { step, base_step, ..self })
    }

    /// Some of the rows, which are `cols` wide.
    pub(super) fn of_rows(self, rows: Range<usize>, cols: usize) -> Self {
        Difference { rows, cols, ..self }
    }

    /// Calls `each` with consecutive rows of the matrix of this size that `make` makes of the base's and the tuned values.
    pub(super) fn for_each_made(
        &self,
        each: &mut EachPanel<'_>,
        mut make: impl FnMut(&Range<usize>, &[f32], &[f32], &mut [f64]),
    ) -> Result<()> {
        let (height, cols) = self.dim();
        let mut panel = vec![0f64; PANEL.min(height) * cols];
        self.for_each_pair(|rows, old, new| {
            let panel = &mut panel[..old.len()];
            make(&rows, old, new, panel);
            let panel = ArrayView2::from_shape((rows.len(), cols), panel);
            each(
                rows,
                panel.map_err(|_| Error::from(VerbProblem::NotAMatrix).tensor(&self.tuned.info().name))?,
            )
        })
    }

    /// Calls `each` with the base's and the tuned values of consecutive rows.
    fn for_each_pair(&self, mut each: impl FnMut(Range<usize>, &[f32], &[f32]) -> Result<()>) -> Result<()> {
        let (height, cols) = self.dim();
        let (mut old, mut new) = (vec![0f32; PANEL.min(height) * cols], vec![0f32; PANEL.min(height) * cols]);
        for start in (0..height).step_by(PANEL) {
            let end = (start + PANEL).min(height);
            let (old, new) = (&mut old[..(end - start) * cols], &mut new[..(end - start) * cols]);
            let values = ((self.rows.start + start) * cols) as u64..((self.rows.start + end) * cols) as u64;
            self.base.decode(values.clone(), old)?;
            self.tuned.decode(values, new)?;
            each(start..end, old, new)?;
        }
        Ok(())
    }

    /// Sums over all values; the base's values in another dtype are not a difference.
    ///
    /// # Errors
    /// [`ErrorKind::NonFinite`](crate::ErrorKind::NonFinite); [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported)
    /// for a dtype without a decoder; if a file cannot be read.
    pub(super) fn measure(&self) -> Result<Measured> {
        let step = self.step;
        let cols = self.dim().1.max(1);
        let mut m = Measured::default();
        let mut rounding = 0.0;
        self.for_each_pair(|rows, old, new| {
            // Sums by row: one running sum of that many squares would be off by more than a good fit leaves.
            for (old, new) in old.chunks(cols).zip(new.chunks(cols)) {
                let (mut base, mut delta, mut moved) = (0.0, 0.0, 0);
                for (&w, &t) in old.iter().zip(new) {
                    let (w64, d) = (f64::from(w), f64::from(t) - f64::from(w));
                    base += w64 * w64;
                    delta += d * d;
                    moved += u64::from(d != 0.0);
                }
                m.base += base;
                m.delta += delta;
                m.moved += moved;
                if moved == 0 {
                    continue;
                }
                m.rows += 1;
                let Some(step) = step else { continue };
                let typical = (delta / cols as f64).sqrt();
                let (mut variance, mut noise) = (0.0, 0.0);
                for (&w, &t) in old.iter().zip(new) {
                    variance += step.size(t).powi(2);
                    noise += step.reach(w, t, typical).powi(2);
                }
                rounding += variance / 12.0;
                m.noise += noise / 12.0;
            }
            if m.delta.is_finite() { Ok(()) } else { Err(self.not_finite(rows.start, old, new)) }
        })?;
        let recast = self.base.info().dtype != self.tuned.info().dtype;
        if recast && m.delta > 0.0 {
            let nothing = (Array2::zeros((self.dim().0, 0)), Array2::zeros((0, self.dim().1)));
            if self.compare(nothing.0.view(), nothing.1.view())?.same == Some(1.0) {
                m.delta = 0.0;
            }
        }
        m.rounding = step.map(|_| rounding);
        // A base of blocks may be further from what was tuned than any rounding of `T`.
        m.slack = step.filter(|_| self.base_step.is_some()).map_or(f64::INFINITY, Step::slack);
        m.coarser = step.zip(self.base_step).map_or(0.0, |(step, base)| step.coarser(base));
        Ok(m)
    }

    /// The error about values from row `start` on, whose difference has no norm.
    fn not_finite(&self, start: usize, old: &[f32], new: &[f32]) -> Error {
        let first = ((self.rows.start + start) * self.cols) as u64;
        let checked = self.tuned.refuse_non_finite(first, new);
        checked.and_then(|()| self.base.refuse_non_finite(first, old)).err().unwrap_or_else(|| {
            Error::from(Problem::TooFar).tensor(&self.tuned.info().name).at(self.tuned.path())
        })
    }

    /// Compares with the product of `b (rows, r)` and `a (r, cols)`.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(super) fn compare(&self, b: ArrayView2<'_, f64>, a: ArrayView2<'_, f64>) -> Result<Compared> {
        let dtype = self.tuned.info().dtype;
        let rounds = codec(dtype).zip(encoder(dtype)).filter(|_| self.step.is_some());
        let (mut square, mut equal, mut count) = (0.0, 0u64, 0u64);
        let (mut bytes, mut rounded) = (Vec::new(), Vec::new());
        self.for_each_pair(|rows, old, new| {
            let delta = product(b.slice_axis(Axis(0), rows.into()), a);
            for ((&w, &t), d) in old.iter().zip(new).zip(&delta) {
                let left = f64::from(t) - f64::from(w) - d;
                square += left * left;
            }
            if let Some((decoder, encoder)) = rounds {
                rounded.clear();
                rounded.extend(old.iter().zip(&delta).map(|(w, d)| w + *d as f32));
                bytes.resize(dtype.byte_len(rounded.len() as u64).unwrap_or(0) as usize, 0);
                encoder.encode(&rounded, &mut bytes);
                decoder.decode(&bytes, &mut rounded);
                equal += rounded.iter().zip(new).filter(|(x, t)| x == t).count() as u64;
                count += new.len() as u64;
            }
            Ok(())
        })?;
        let same = rounds.map(|_| equal as f64 / count.max(1) as f64);
        Ok(Compared { residual: square.sqrt(), same })
    }
}

impl Panels for Difference {
    fn dim(&self) -> (usize, usize) {
        (self.rows.len(), self.cols)
    }

    fn for_each_panel(&self, each: &mut EachPanel<'_>) -> Result<()> {
        self.for_each_made(each, |_, old, new, panel| {
            let values = panel.iter_mut().zip(old.iter().zip(new));
            values.for_each(|(d, (&w, &t))| *d = f64::from(t) - f64::from(w));
        })
    }
}

#[cfg(test)]
mod tests {
    use lorakit_tensor::DType;

    use super::*;
    use crate::tensor::tests::tensor;

    /// The dtype that values were rounded to last, and how much noise a base of other steps may add.
    #[test]
    fn steps_that_values_have() {
        let values = |dtype: DType| -> Vec<f32> {
            let exact = lorakit_linalg::random::gaussian(20, 10, 1);
            let round = |v: f32| match dtype {
                DType::BF16 => f32::from_bits(v.to_bits() & 0xffff_0000),
                DType::F16 => half::f16::from_f32(v).to_f32(),
                _ => v,
            };
            exact.iter().map(|v| round(*v as f32)).collect()
        };
        let [bfloat, half, float] = [DType::BF16, DType::F16, DType::F32].map(|dtype| {
            let [base, tuned] = [values(DType::BF16), values(dtype)].map(|v| tensor("w", &[20, 10], &v));
            let seen = Difference::new(base, tuned, false).with_seen_steps().unwrap();
            assert_eq!(seen.step.unwrap().seen, dtype);
            assert_eq!(seen.base_step.unwrap().seen, DType::BF16);
            let sums = seen.measure().unwrap();
            (sums.slack, sums.coarser)
        });
        assert_eq!((bfloat, half, float), ((2.0, 0.0), (2.0, 65.0), (16.0, 1.0 + 4f64.powi(16))));
    }

    #[test]
    fn sums_and_what_factors_leave() {
        let (base, tuned) = (tensor("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0]), [1.0, 3.0, 3.0, 6.0]);
        let difference = Difference::new(base, tensor("w", &[2, 2], &tuned), false);
        let m = difference.measure().unwrap();
        assert_eq!((m.delta, m.base, m.moved, m.rows), (5.0, 30.0, 2, 2));
        let (b, a) = (ndarray::arr2(&[[1.0], [1.0]]), ndarray::arr2(&[[0.0, 1.0]]));
        let compared = difference.compare(b.view(), a.view()).unwrap();
        assert_eq!((compared.residual, compared.same), (1.0, Some(0.75)));
        assert_eq!(difference.of_rows(1..2, 2).measure().unwrap().delta, 4.0);
    }

    #[test]
    fn infinity_is_named() {
        let (base, tuned) = (tensor("w", &[1, 2], &[1.0, 2.0]), tensor("w", &[1, 2], &[1.0, f32::INFINITY]));
        let error = Difference::new(base, tuned, false).measure().unwrap_err();
        assert!(error.to_string().contains("`w`") && error.to_string().contains("holds inf"), "{error}");
    }
}
