//! The products as plain loops: what they are.

use super::{Compute, FrozenMatrix, Products};

/// `Y += X Wᵀ`: `x` is `(n, in)`, `y` is `(n, out)`. The chain of each sum begins with what is in `y`.
pub fn times_transposed(products: Products, x: &[f32], w: &dyn FrozenMatrix, y: &mut [f32]) {
    assert_eq!(products.compute, Compute::F32);
    let (out, inputs) = (w.rows(), w.cols());
    let mut row = vec![0.0; inputs];
    for j in 0..out {
        w.decode(j, 0..inputs, &mut row);
        for (x, y) in x.chunks_exact(inputs).zip(y.chunks_exact_mut(out)) {
            y[j] = x.iter().zip(&row).fold(y[j], |sum, (x, w)| x.mul_add(*w, sum));
        }
    }
}

/// `dX += dY W`: `dy` is `(n, out)`, `dx` is `(n, in)`. The chain of each sum begins with what is in `dx`.
pub fn times(products: Products, dy: &[f32], w: &dyn FrozenMatrix, dx: &mut [f32]) {
    assert_eq!(products.compute, Compute::F32);
    let (out, inputs) = (w.rows(), w.cols());
    let mut row = vec![0.0; inputs];
    for j in 0..out {
        w.decode(j, 0..inputs, &mut row);
        for (dy, dx) in dy.chunks_exact(out).zip(dx.chunks_exact_mut(inputs)) {
            dx.iter_mut().zip(&row).for_each(|(sum, w)| *sum = dy[j].mul_add(*w, *sum));
        }
    }
}

/// `dW += dYᵀ X`: `dy` is `(n, out)`, `x` is `(n, in)`, `dw` is `(out, in)`. Tokens are added in order, always in f32.
pub fn add_outer(_: Products, dy: &[f32], x: &[f32], dw: &mut [f32], out: usize, inputs: usize) {
    for (dy, x) in dy.chunks_exact(out).zip(x.chunks_exact(inputs)) {
        for (dy, dw) in dy.iter().zip(dw.chunks_exact_mut(inputs)) {
            dw.iter_mut().zip(x).for_each(|(sum, x)| *sum = dy.mul_add(*x, *sum));
        }
    }
}
