//! The weights of several adapters that come nearest to a merged model, all together.

use super::pair::{Pair, Rows};
use super::question::Question;
use crate::Result;
use crate::ops::merge::Sums;
use crate::plan::{Recipe, Stretch, in_order};

/// More adapters are not fitted.
const MOST: usize = 16;
/// A pivot smaller than this, relative to the largest, is that of deltas that are not independent.
const INDEPENDENT: f64 = 1e-9;

/// Weights, each with its standard error.
pub(super) type Fitted = Vec<(f64, f64)>;

/// `<D_i, D_j>` and `<M - W, D_i>`, with the deltas of each adapter; `<M - W, M - W>`, and the number of values.
#[derive(Clone)]
struct Normal {
    products: Vec<Vec<f64>>,
    along: Vec<f64>,
    moved: f64,
    values: f64,
}

/// The weights that fit best, as `sums` was planned with those `given`; `None` if deltas are not sums of terms, or not independent.
///
/// # Errors
/// As for comparing.
pub(super) fn fit(
    question: &Question<'_>,
    sums: &Sums,
    pairs: &[Option<Pair<'_>>],
    given: &[f64],
) -> Result<Option<Fitted>> {
    let plain = |pair: &Pair<'_>| {
        pair.compute.dora.is_none()
            && pair.compute.multiplied.is_none()
            && pair.compute.initial.is_empty()
            && pair.compute.replaced.is_empty()
            && pair.base.is_none()
    };
    if given.len() > MOST || given.contains(&0.0) || !pairs.iter().flatten().filter(|p| p.touched).all(plain)
    {
        return Ok(None);
    }
    // Which terms are whose follows from how many each adapter has by itself.
    let mut counts = Vec::new();
    for at in 0..given.len() {
        let mut sum = question.options.sum.clone();
        let alone = given.iter().enumerate().map(|(i, weight)| if i == at { *weight } else { 0.0 });
        sum.adapters.iter_mut().zip(alone).for_each(|(adapter, weight)| adapter.1 = weight);
        let Some(sums) = question.perhaps_sums(&sum)? else { return Ok(None) };
        counts.push(terms(&sums));
    }
    let all = terms(sums);
    let summed = |i: usize| counts.iter().map(|counts| counts.get(i)).sum::<Option<usize>>();
    if (0..all.len()).any(|i| summed(i) != Some(all[i])) {
        return Ok(None);
    }
    let one = |at: usize| {
        question.go_on()?;
        let owners =
            counts.iter().enumerate().flat_map(|(owner, counts)| vec![owner; counts[at]]).collect::<Vec<_>>();
        pairs[at]
            .as_ref()
            .filter(|pair| pair.touched)
            .map(|pair| normal(pair, &owners, given.len()))
            .transpose()
    };
    let parts = in_order(0..pairs.len(), one)?;
    let mut total = Normal::new(given.len());
    parts.iter().flatten().for_each(|part| total.add(part));
    let fitted = total.fitted();
    let times = |(factor, error): (f64, f64), weight: &f64| (factor * weight, (error * weight).abs());
    Ok(fitted.map(|fitted| fitted.into_iter().zip(given).map(|(f, weight)| times(f, weight)).collect()))
}

/// Number of terms of each tensor.
fn terms(sums: &Sums) -> Vec<usize> {
    let count = |recipe: &Recipe| if let Recipe::Compute(compute) = recipe { compute.terms.len() } else { 0 };
    sums.tensors.iter().map(|tensor| count(&tensor.recipe)).collect()
}

/// The sums of one tensor.
fn normal(pair: &Pair<'_>, owners: &[usize], adapters: usize) -> Result<Normal> {
    let mut sums = Normal::new(adapters);
    let mut deltas = vec![Vec::new(); adapters];
    pair.for_each(&Stretch::new(&crate::plan::Silent, 0), |Rows { base, found, panel, .. }| {
        deltas.iter_mut().for_each(|delta: &mut Vec<f64>| {
            delta.clear();
            delta.resize(base.len(), 0.0);
        });
        panel.each_term(|term, place, values| {
            let delta = deltas[owners[term]][place].iter_mut();
            delta.zip(values).for_each(|(delta, value)| *delta += f64::from(*value));
        });
        let moved: Vec<f64> = found.iter().zip(base).map(|(x, w)| f64::from(*x) - f64::from(*w)).collect();
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        sums.moved += product(&moved, &moved);
        sums.values += moved.len() as f64;
        for i in 0..adapters {
            sums.along[i] += product(&moved, &deltas[i]);
            for j in 0..adapters {
                sums.products[i][j] += product(&deltas[i], &deltas[j]);
            }
        }
    })?;
    Ok(sums)
}

impl Normal {
    fn new(adapters: usize) -> Self {
        let (products, along) = (vec![vec![0.0; adapters]; adapters], vec![0.0; adapters]);
        Normal { products, along, moved: 0.0, values: 0.0 }
    }

    fn add(&mut self, other: &Self) {
        for (sum, more) in self.products.iter_mut().zip(&other.products) {
            sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
        self.along.iter_mut().zip(&other.along).for_each(|(sum, more)| *sum += more);
        self.moved += other.moved;
        self.values += other.values;
    }

    /// The factors that fit best, each with its standard error if what they leave is noise.
    fn fitted(self) -> Option<Fitted> {
        let factors = self.clone().solve()?;
        let explained: f64 = factors.iter().zip(&self.along).map(|(factor, along)| factor * along).sum();
        let noise = (self.moved - explained).max(0.0) / self.values.max(1.0);
        let error = |at: usize| {
            let mut unit = self.clone();
            unit.along.iter_mut().enumerate().for_each(|(i, along)| *along = if i == at { 1.0 } else { 0.0 });
            Some((noise * unit.solve()?[at].max(0.0)).sqrt())
        };
        (0..factors.len()).map(|at| Some((factors[at], error(at)?))).collect()
    }

    /// Solves `products * x = along` by elimination; the matrix is symmetric and not negative, so the diagonal serves.
    fn solve(mut self) -> Option<Vec<f64>> {
        let n = self.along.len();
        let largest = (0..n).map(|i| self.products[i][i]).fold(0.0, f64::max);
        for i in 0..n {
            let pivot = self.products[i][i];
            if !pivot.is_finite() || pivot <= INDEPENDENT * largest {
                return None;
            }
            for below in i + 1..n {
                let factor = self.products[below][i] / pivot;
                for j in i..n {
                    self.products[below][j] -= factor * self.products[i][j];
                }
                self.along[below] -= factor * self.along[i];
            }
        }
        let mut x = vec![0.0; n];
        for i in (0..n).rev() {
            let known: f64 = (i + 1..n).map(|j| self.products[i][j] * x[j]).sum();
            x[i] = (self.along[i] - known) / self.products[i][i];
        }
        Some(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_come_out_of_their_sums() {
        let products = vec![vec![4.0, 1.0, 0.0], vec![1.0, 3.0, -1.0], vec![0.0, -1.0, 2.0]];
        let wanted = [1.0, -0.5, 0.25];
        let along = products.iter().map(|row| row.iter().zip(wanted).map(|(p, x)| p * x).sum()).collect();
        let normal = Normal { products, along, moved: 104.125, values: 100.0 };
        // <M - W, M - W> less what the weights explain, 4.125, is 100: 1 for each value.
        let found = normal.fitted().unwrap();
        assert!(found.iter().zip(wanted).all(|((x, _), y)| (x - y).abs() < 1e-12), "{found:?}");
        // The first of the diagonal of the inverse.
        assert!((found[0].1 - (5.0f64 / 18.0).sqrt()).abs() < 1e-12, "{found:?}");
        let (products, along) = (vec![vec![1.0, 1.0], vec![1.0, 1.0]], vec![1.0, 1.0]);
        assert_eq!(Normal { products, along, moved: 1.0, values: 1.0 }.solve(), None);
    }
}
