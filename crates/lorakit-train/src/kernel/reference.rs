//! The products as plain loops: what they are.

use super::bf16;
use super::row::LANES;
use super::{Compute, FrozenMatrix};

/// `Y += X Wᵀ`.
pub(super) fn times_transposed(compute: Compute, x: &[f32], w: &dyn FrozenMatrix, y: &mut [f32]) {
    let (out, inputs) = (w.rows(), w.cols());
    let mut row = vec![0.0; inputs];
    for j in 0..out {
        w.decode(j, 0..inputs, &mut row);
        for (x, y) in x.chunks_exact(inputs).zip(y.chunks_exact_mut(out)) {
            y[j] = add(compute, y[j], x, &row);
        }
    }
}

/// `Y += X Wᵀ` of few rows.
pub(super) fn row_times_transposed(x: &[f32], w: &dyn FrozenMatrix, y: &mut [f32]) {
    let (out, inputs) = (w.rows(), w.cols());
    let mut row = vec![0.0; inputs];
    for j in 0..out {
        w.decode(j, 0..inputs, &mut row);
        for (x, y) in x.chunks_exact(inputs).zip(y.chunks_exact_mut(out)) {
            let mut chains = [0.0f32; LANES];
            for (k, (w, x)) in row.iter().zip(x).enumerate() {
                chains[k % LANES] = w.mul_add(*x, chains[k % LANES]);
            }
            let mut ends = chains.to_vec();
            while let [first, second] = ends.chunks(ends.len().div_ceil(2)).collect::<Vec<_>>()[..] {
                ends = first.iter().zip(second).map(|(a, b)| a + b).collect();
            }
            y[j] += ends[0];
        }
    }
}

/// `dX += dY W`.
pub(super) fn times(compute: Compute, dy: &[f32], w: &dyn FrozenMatrix, dx: &mut [f32]) {
    let (out, inputs) = (w.rows(), w.cols());
    let mut rows = vec![0.0; out * inputs];
    for (j, row) in rows.chunks_exact_mut(inputs).enumerate() {
        w.decode(j, 0..inputs, row);
    }
    for k in 0..inputs {
        let column: Vec<f32> = rows.iter().skip(k).step_by(inputs).copied().collect();
        for (dy, dx) in dy.chunks_exact(out).zip(dx.chunks_exact_mut(inputs)) {
            dx[k] = add(compute, dx[k], dy, &column);
        }
    }
}

/// `dW += dYᵀ X`.
pub(super) fn add_outer(dy: &[f32], x: &[f32], dw: &mut [f32], out: usize, inputs: usize) {
    for (dy, x) in dy.chunks_exact(out).zip(x.chunks_exact(inputs)) {
        for (dy, dw) in dy.iter().zip(dw.chunks_exact_mut(inputs)) {
            dw.iter_mut().zip(x).for_each(|(sum, x)| *sum = dy.mul_add(*x, *sum));
        }
    }
}

/// One sum.
fn add(compute: Compute, sum: f32, a: &[f32], b: &[f32]) -> f32 {
    match compute {
        Compute::F32 => a.iter().zip(b).fold(sum, |sum, (a, b)| a.mul_add(*b, sum)),
        Compute::Bf16 => a.chunks(2).zip(b.chunks(2)).fold(bf16::flush(sum), |sum, (a, b)| {
            let pair = |of: &[f32]| bf16::pair(of[0], of.get(1).copied().unwrap_or(0.0));
            bf16::add_pair(pair(a), pair(b), sum)
        }),
    }
}
