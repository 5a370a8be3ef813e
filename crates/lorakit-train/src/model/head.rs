//! The head and the cross-entropy, a few trained rows at a time: the logits of a whole batch never exist.

use multiversion::multiversion;

use super::math::ln;
use super::parallel;
use super::real::{Real, highest, sum};
use crate::kernel::{FrozenMatrix, Products};

/// Logits that exist at the same time, about. Every few rows read the whole head again.
const LOGITS: usize = 1 << 23;

/// Rows whose logits exist at the same time; it changes no bit.
pub(super) fn rows_at_once(vocabulary: usize) -> usize {
    (LOGITS / vocabulary.max(1)).clamp(32, 512)
}

/// A row of the last hidden state, the token that follows it, and how much its loss counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Target {
    pub(super) row: usize,
    pub(super) token: u32,
    pub(super) weight: f64,
}

/// Adds the weighted losses of `targets` to `loss`, in order. `h` is the normalised last hidden state.
pub(super) fn loss<R: Real>(
    products: Products,
    head: &dyn FrozenMatrix,
    h: &[R],
    targets: &[Target],
    total: &mut f64,
) {
    for targets in targets.chunks(rows_at_once(head.rows())) {
        chunk(products, head, h, targets, 1.0, total);
    }
}

/// As [`loss`]; returns the gradient of `h` too, times `scale`.
pub(super) fn loss_and_gradient<R: Real>(
    products: Products,
    head: &dyn FrozenMatrix,
    h: &[R],
    targets: &[Target],
    scale: f64,
    total: &mut f64,
) -> Vec<R> {
    let hidden = head.cols();
    let mut dh = vec![R::ZERO; h.len()];
    for targets in targets.chunks(rows_at_once(head.rows())) {
        let d = chunk(products, head, h, targets, scale, total);
        let mut rows = vec![R::ZERO; targets.len() * hidden];
        R::times(products, &d, head, &mut rows);
        for (target, row) in targets.iter().zip(rows.chunks_exact(hidden)) {
            dh[target.row * hidden..][..hidden].copy_from_slice(row);
        }
    }
    dh
}

/// The gradients of the logits of a few rows.
fn chunk<R: Real>(
    products: Products,
    head: &dyn FrozenMatrix,
    h: &[R],
    targets: &[Target],
    scale: f64,
    total: &mut f64,
) -> Vec<R> {
    let (hidden, vocabulary) = (head.cols(), head.rows());
    let rows: Vec<R> =
        targets.iter().flat_map(|target| &h[target.row * hidden..][..hidden]).copied().collect();
    let mut logits = vec![R::ZERO; targets.len() * vocabulary];
    R::times_transposed(products, &rows, head, &mut logits);
    let mut work: Vec<_> = logits.chunks_exact_mut(vocabulary).zip(targets).map(|work| (work, 0.0)).collect();
    let threads = if work.len() > 1 { products.threads } else { 1 };
    let each = work.len().div_ceil(threads.max(1));
    parallel::chunks(&mut work, each, |part| {
        for ((logits, target), loss) in part {
            *loss = row(logits, target.token as usize, R::of(target.weight * scale)) * target.weight;
        }
    });
    work.iter().for_each(|(_, loss)| *total += loss);
    logits
}

/// Logits become their gradient times `factor`; returns the loss.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn row<R: Real>(logits: &mut [R], token: usize, factor: R) -> f64 {
    let top = highest(logits);
    let chosen = logits[token] - top;
    for value in logits.iter_mut() {
        *value = (*value - top).exp();
    }
    let whole = sum(logits);
    let rate = factor / whole;
    for value in logits.iter_mut() {
        *value = *value * rate;
    }
    logits[token] = logits[token] - factor;
    ln(whole.to_f64()) - chosen.to_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Compute, FloatMatrix};
    use crate::model::testing::{agrees, noise};

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let (vocabulary, hidden, tokens) = (37, 5, 800); // more than are done at once
        let values = noise(vocabulary * hidden, 1).iter().map(|v| 3.0 * *v as f32).collect();
        let head = FloatMatrix { values, cols: hidden };
        let h = noise(tokens * hidden, 2);
        let target =
            |row| Target { row, token: (row * 7 % vocabulary) as u32, weight: 0.5 + row as f64 / 64.0 };
        let targets: Vec<_> = (0..tokens).filter(|row| row % 3 != 1).map(target).collect();
        let products = Products { compute: Compute::F32, threads: 2 };
        let mut total = 0.0;
        let dh = loss_and_gradient(products, &head, &h, &targets, 0.25, &mut total);
        agrees(&h, &dh, |h| {
            let mut total = 0.0;
            loss(products, &head, h, &targets, &mut total);
            total * 0.25
        });
        assert!(total > 0.0 && dh[hidden..2 * hidden].iter().all(|value| *value == 0.0));
    }
}
