//! Which triplets of a difference stand out of the bulk that rounding left.

use std::ops::Range;

use lorakit_linalg::Svd;

use super::difference::{Difference, Measured};
use super::noise::{Flipped, Rounded};
use crate::Result;
use crate::ops::panels::largest;

/// Room above the largest singular value of noise with the same steps, as a share of it: from one draw to the next it
/// varies by some per cent.
const ROUNDED: f64 = 0.06;
/// Room above that of the difference with random signs. Swallowed changes leave errors that are not quite independent.
const FLIPPED: f64 = 0.08;
/// Room above the same for errors of which only the signs are drawn.
const SEEN: f64 = 0.05;
/// A triplet this close to the threshold may be one large error, which another draw did not have.
const DOUBTFUL: f64 = 1.12;
/// More energy than one rounding leaves, by this factor, comes from several.
const REPEATED: f64 = 1.25;
/// Less energy than one rounding leaves, by this factor, shows that it swallowed changes below half a step.
pub(super) const SWALLOWED: f64 = 0.75;
/// The most that several roundings to the tuned model's dtype leave of a base that is quantised. More comes from the
/// quantisation.
const ROUNDINGS: f64 = 2.0;
/// The share of the energy of one rounding of the base that shows that it was rounded after training started from it.
/// Triplets that are kept take some of it, and a fine-tune without low rank hardly has just as much.
const ROUNDED_BASE: Range<f64> = 0.3..1.25;
/// The most draws until the rank stays the same.
const DRAWS: usize = 6;
/// The share of a matrix's energy below which a difference of sums of squares tells nothing.
const RESOLVED: f64 = 1e-12;

/// A difference, and how far noise reaches in it.
#[derive(Debug)]
pub(super) struct Bulk<'a> {
    difference: &'a Difference,
    sums: &'a Measured,
    path: &'a str,
    /// The largest singular value of noise with the steps of the tuned weight; `None` if it has none.
    edge: Option<f64>,
}

impl<'a> Bulk<'a> {
    /// Measures noise.
    ///
    /// # Errors
    /// As [`largest`].
    pub(super) fn of(difference: &'a Difference, sums: &'a Measured, path: &'a str) -> Result<Self> {
        let edge =
            difference.step.map(|step| largest(&Rounded { of: difference, step }, path)).transpose()?;
        Ok(Bulk { difference, sums, path, edge })
    }

    /// The rank; `None` if the leading triplets `svd` are too few to tell.
    ///
    /// # Errors
    /// As [`largest`].
    pub(super) fn rank(&self, svd: &Svd) -> Result<Option<usize>> {
        let s = &svd.s;
        let known = self.edge.map(|edge| self.last(s, |kept| edge * self.by_rounding(s, kept)));
        let known = known.filter(|&kept| {
            kept == s.len() || self.sums.slack.is_finite() || self.excess(s, kept) <= ROUNDINGS
        });
        let kept = match (known, self.edge) {
            (Some(kept), _) if kept == s.len() => kept,
            (Some(kept), _) if self.excess(s, kept) < SWALLOWED => self.flipped(svd, kept)?,
            (Some(kept), Some(edge)) => self.confirmed(svd, kept, edge)?,
            _ => self.flipped(svd, 0)?,
        };
        Ok(Some(kept).filter(|&kept| kept < s.len() || s.len() >= self.most()))
    }

    /// The share of the energy that one rounding leaves which is there if `kept` triplets are kept.
    pub(super) fn excess(&self, s: &[f64], kept: usize) -> f64 {
        let ((rows, cols), kept_f) = (self.dim(), kept as f64);
        let left = (rows - kept_f) * (cols - kept_f) / (rows * cols);
        let (rest, noise) = (self.rest(s, kept), self.sums.noise * left);
        if rest > RESOLVED * self.sums.delta && noise > 0.0 { rest / noise } else { 1.0 }
    }

    /// Rows that have noise, and columns.
    fn dim(&self) -> (f64, f64) {
        (self.sums.rows as f64, self.difference.cols as f64)
    }

    /// The largest rank that there can be.
    fn most(&self) -> usize {
        self.sums.rows.min(self.difference.cols)
    }

    /// The energy without the first `kept` triplets.
    fn rest(&self, s: &[f64], kept: usize) -> f64 {
        (self.sums.delta - s[..kept].iter().map(|s| s * s).sum::<f64>()).max(0.0)
    }

    /// Up to the last triplet above the threshold for it.
    fn last(&self, s: &[f64], threshold: impl Fn(usize) -> f64) -> usize {
        (1..=s.len().min(self.most())).rev().find(|&kept| s[kept - 1] > threshold(kept)).unwrap_or(0)
    }

    /// The threshold for keeping `kept` triplets, relative to the largest singular value of noise of all rows and
    /// columns: each triplet takes up one of both.
    fn by_rounding(&self, s: &[f64], kept: usize) -> f64 {
        let ((rows, cols), taken) = (self.dim(), kept as f64);
        let free = ((rows - taken).sqrt() + (cols - taken).sqrt()) / (rows.sqrt() + cols.sqrt());
        let excess = self.excess(s, kept);
        let by_base = ROUNDED_BASE.contains(&(excess / self.sums.coarser));
        let repeated = match excess {
            ..REPEATED => 1.0,
            _ if by_base => excess,
            _ => excess.min(self.sums.slack),
        };
        self.with(ROUNDED) * free * repeated.sqrt()
    }

    /// 1 and some room. The largest singular value of smaller matrices varies more (Tracy and Widom).
    fn with(&self, room: f64) -> f64 {
        let (rows, cols) = self.dim();
        1.0 + room * (256.0 / rows.min(cols).max(1.0)).powf(2.0 / 3.0).max(1.0)
    }

    /// The largest singular value of what is left of `kept` triplets, with random signs.
    fn without(&self, svd: &Svd, kept: usize) -> Result<f64> {
        largest(&Flipped::new(self.difference, svd, kept), self.path)
    }

    /// How much larger it is without random signs: what is left has fewer rows and columns of freedom than the signs
    /// spread it over.
    fn gathered(&self, kept: usize) -> f64 {
        let ((rows, cols), taken) = (self.dim(), kept as f64);
        let (free_rows, free_cols) = ((rows - taken).sqrt(), (cols - taken).sqrt());
        let spread = free_rows * free_cols * (1.0 / rows.sqrt() + 1.0 / cols.sqrt());
        if spread > 0.0 { (free_rows + free_cols) / spread } else { 1.0 }
    }

    /// Drops triplets near the threshold, from the last, until one stands out of what is left without it.
    fn confirmed(&self, svd: &Svd, mut kept: usize, edge: f64) -> Result<usize> {
        let doubtful = |kept| svd.s[kept - 1] < DOUBTFUL * edge * self.by_rounding(&svd.s, kept);
        while kept > 0 && doubtful(kept) {
            let left = self.without(svd, kept - 1)? * self.gathered(kept - 1);
            if svd.s[kept - 1] > self.with(SEEN) * left {
                break;
            }
            kept -= 1;
        }
        Ok(kept)
    }

    /// As many as stand out of what is left, from `kept` on.
    fn flipped(&self, svd: &Svd, mut kept: usize) -> Result<usize> {
        for _ in 0..DRAWS {
            let (edge, rest) = (self.without(svd, kept)?, self.rest(&svd.s, kept));
            let resolved = (RESOLVED * self.sums.delta).sqrt();
            let threshold = |after| {
                let energy = self.rest(&svd.s, after) / rest;
                self.with(FLIPPED) * edge * self.gathered(after) * energy.sqrt()
            };
            let more = self.last(&svd.s, |after| threshold(after).max(resolved));
            if more <= kept || more == svd.s.len() {
                return Ok(more.max(kept));
            }
            kept = more;
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use lorakit_linalg::random::gaussian;
    use lorakit_linalg::svd;
    use ndarray::Array2;

    use super::*;
    use crate::tensor::tests::tensor;

    /// The rank of `change`, of a base of zeros, as it is or with an unknown rounding.
    fn rank(change: &Array2<f64>, packed: bool, count: usize) -> Option<usize> {
        let (rows, cols) = change.dim();
        let values: Vec<f32> = change.iter().map(|v| *v as f32).collect();
        let [base, tuned] = [vec![0.0; values.len()], values].map(|v| tensor("w", &[rows, cols], &v));
        let difference = Difference::new(base, tuned, packed);
        let sums = difference.measure().unwrap();
        let svd = svd(change.view()).unwrap().truncated(count);
        Bulk::of(&difference, &sums, "w").unwrap().rank(&svd).unwrap()
    }

    /// Directions in noise of unknown level are found, also where rows differ in norm.
    #[test]
    fn what_stands_out_of_noise() {
        let (rows, cols) = (120, 80);
        for spread in [1f64, 5.0] {
            let mut noise = gaussian(rows, cols, 1) * 1e-3;
            for (i, mut row) in noise.rows_mut().into_iter().enumerate() {
                row *= spread.powf(i as f64 / rows as f64);
            }
            let signal = gaussian(rows, 8, 2).dot(&gaussian(8, cols, 3)) * 1e-2;
            assert_eq!(rank(&(&noise + &signal), true, 32), Some(8), "{spread}");
            assert_eq!(rank(&noise, true, 32), Some(0), "{spread}");
        }
    }

    /// Noise above the floor of rounding is signal: a full fine-tune has no low rank.
    #[test]
    fn what_is_more_than_rounding() {
        let change = gaussian(60, 40, 1);
        assert_eq!((rank(&change, false, 40), rank(&change, false, 20)), (Some(40), None));
    }

    /// Rows that are those of the base have no noise.
    #[test]
    fn some_rows() {
        let mut change = gaussian(90, 5, 1).dot(&gaussian(5, 60, 2));
        change.slice_axis_mut(ndarray::Axis(0), (10..70).into()).fill(0.0);
        assert_eq!(rank(&change, false, 32), Some(5));
    }
}
