//! The gated activation between the linears of an MLP: `m = act(g) u`.
//!
//! Both activations are `x sigmoid(z(x))`: SiLU with `z = x`, and the tanh form of GELU with
//! `z = 2 sqrt(2 / pi) (x + 0.044715 x³)`, because `(1 + tanh z) / 2` is `sigmoid(2 z)`.

use multiversion::multiversion;

use super::parallel;
use super::real::Real;

/// The activation of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x sigmoid(x)`.
    Silu,
    /// GELU by its tanh approximation (`gelu_pytorch_tanh`).
    GeluTanh,
}

/// Values that are worked on together.
const PIECE: usize = 256;

/// `act(gate) up`.
pub(super) fn forward<R: Real>(act: Activation, gate: &[R], up: &[R], threads: usize) -> Vec<R> {
    let mut product = vec![R::ZERO; gate.len()];
    parallel::rows(threads, &mut product, 1, |first, product| {
        activated(act, &gate[first..], &up[first..], product);
    });
    product
}

/// The gradients of gate and up, each in its place, given that of their product.
pub(super) fn backward<R: Real>(act: Activation, d: &[R], gate: &mut [R], up: &mut [R], threads: usize) {
    let mut pairs: Vec<_> = gate.chunks_mut(PIECE).zip(up.chunks_mut(PIECE)).collect();
    parallel::rows_of(threads, &mut pairs, 1, PIECE, |first, pairs| {
        for (at, (gate, up)) in pairs.iter_mut().enumerate() {
            gradients(act, &d[(first + at) * PIECE..], gate, up);
        }
    });
}

#[inline(always)]
fn curve<R: Real>(act: Activation, x: R) -> (R, R) {
    match act {
        Activation::Silu => (x, R::ONE),
        Activation::GeluTanh => {
            let (scale, cube) = (R::of(1.595_769_121_605_730_7), R::of(0.044_715));
            let square = x * x;
            let z = scale * x * cube.mul_add(square, R::ONE);
            (z, scale * (R::of(3.0) * cube).mul_add(square, R::ONE))
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn activated<R: Real>(act: Activation, gate: &[R], up: &[R], product: &mut [R]) {
    for ((gate, up), product) in gate.iter().zip(up).zip(product) {
        let (z, _) = curve(act, *gate);
        *product = *gate / (R::ONE + (-z).exp()) * *up;
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn gradients<R: Real>(act: Activation, d: &[R], gate: &mut [R], up: &mut [R]) {
    for ((gate, up), d) in gate.iter_mut().zip(up).zip(d) {
        let (z, slope) = curve(act, *gate);
        let sigmoid = R::ONE / (R::ONE + (-z).exp());
        let bend = (*gate * slope * (R::ONE - sigmoid) + R::ONE) * sigmoid;
        (*gate, *up) = (*d * *up * bend, *d * *gate * sigmoid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::real::dot;
    use crate::model::testing::{agrees, noise};

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for act in [Activation::Silu, Activation::GeluTanh] {
            let (gate, up, d) = (noise(600, 1), noise(600, 2), noise(600, 3));
            let (mut dgate, mut dup) = (gate.clone(), up.clone());
            backward(act, &d, &mut dgate, &mut dup, 2);
            agrees(&gate, &dgate, |gate| dot(&forward(act, gate, &up, 2), &d));
            agrees(&up, &dup, |up| dot(&forward(act, &gate, up, 2), &d));
        }
    }
}
