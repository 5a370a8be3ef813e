//! RMSNorm.

use multiversion::multiversion;

use super::parallel;
use super::real::{Real, cast, dot};

/// The frozen gains of an RMSNorm.
#[derive(Debug, Clone)]
pub struct Norm {
    /// One for each column.
    pub weight: Vec<f32>,
    /// Whether gains are `1 + weight` (Gemma).
    pub plus_one: bool,
}

impl Norm {
    fn gains<R: Real>(&self) -> Vec<R> {
        let mut gains = cast(&self.weight);
        if self.plus_one {
            gains.iter_mut().for_each(|gain| *gain = R::ONE + *gain);
        }
        gains
    }

    /// `1 / sqrt(mean x² + epsilon)` of each row of `x`: all that the backward pass needs besides `x`.
    pub(super) fn rates<R: Real>(&self, x: &[R], epsilon: f64, threads: usize) -> Vec<R> {
        let width = self.weight.len();
        let mut rates = vec![R::ZERO; x.len() / width];
        parallel::rows_of(threads, &mut rates, 1, width, |first, rates| {
            rates_of(&x[first * width..], width, R::of(epsilon), rates);
        });
        rates
    }

    /// `y = gain x rate`.
    pub(super) fn forward<R: Real>(&self, x: &[R], rates: &[R], threads: usize) -> Vec<R> {
        let (width, gains) = (self.weight.len(), self.gains());
        let mut y = vec![R::ZERO; x.len()];
        parallel::rows(threads, &mut y, width, |first, y| {
            scaled(&x[first * width..], &rates[first..], &gains, y);
        });
        y
    }

    /// Adds the gradient of `x` to `dx`, given that of `y`.
    pub(super) fn backward<R: Real>(&self, dy: &[R], x: &[R], rates: &[R], dx: &mut [R], threads: usize) {
        let (width, gains) = (self.weight.len(), self.gains());
        parallel::rows(threads, dx, width, |first, dx| {
            add_gradient(&dy[first * width..], &x[first * width..], &rates[first..], &gains, dx);
        });
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn rates_of<R: Real>(x: &[R], width: usize, epsilon: R, rates: &mut [R]) {
    let count = R::of(width as f64);
    for (x, rate) in x.chunks_exact(width).zip(rates) {
        *rate = R::ONE / (dot(x, x) / count + epsilon).sqrt();
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn scaled<R: Real>(x: &[R], rates: &[R], gains: &[R], y: &mut [R]) {
    let width = gains.len();
    for ((x, rate), y) in x.chunks_exact(width).zip(rates).zip(y.chunks_exact_mut(width)) {
        for ((x, gain), y) in x.iter().zip(gains).zip(y) {
            *y = *x * *rate * *gain;
        }
    }
}

/// With `g = gain dy` and `n = x rate`, `dx = rate (g - n mean(g n))`.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn add_gradient<R: Real>(dy: &[R], x: &[R], rates: &[R], gains: &[R], dx: &mut [R]) {
    let width = gains.len();
    let mut g = vec![R::ZERO; width];
    for (row, dx) in dx.chunks_exact_mut(width).enumerate() {
        let (dy, x, rate) = (&dy[row * width..][..width], &x[row * width..][..width], rates[row]);
        (0..width).for_each(|i| g[i] = dy[i] * gains[i]);
        let mean = dot(&g, x) * rate / R::of(width as f64);
        (0..width).for_each(|i| dx[i] += rate * (g[i] - x[i] * rate * mean));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{agrees, noise};

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        for plus_one in [false, true] {
            let norm = Norm { weight: noise(19, 1).iter().map(|v| *v as f32).collect(), plus_one };
            let (x, dy) = (noise(3 * 19, 2), noise(3 * 19, 3));
            let rates = norm.rates(&x, 1e-3, 1);
            let mut dx = vec![0.0; x.len()];
            norm.backward(&dy, &x, &rates, &mut dx, 1);
            let y = |x: &[f64]| norm.forward(x, &norm.rates(x, 1e-3, 1), 1);
            agrees(&x, &dx, |x| dot(&y(x), &dy));
        }
    }
}
