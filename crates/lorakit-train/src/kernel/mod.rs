//! Matrix products. Matrices are row-major slices; a weight `W` is `(out, in)`, rows of `X` and `Y` are tokens.
//!
//! What each value is, is defined by plain loops (`reference.rs`) and not by how fast they are done: with
//! [`Compute::F32`], one chain of fused multiply-adds over the inner dimension, in order, from what is there (or zero).
//! With [`Compute::Bf16`], operands are rounded to bf16 (to nearest even), and pairs `2 j`, `2 j + 1` of the inner
//! dimension are added as `vdpbf16ps` does: the odd one first, then the even one, each a fused multiply-add, with
//! denormal operands and results as zeros. A last one without a partner is paired with zero.
//!
//! ```text
//!   frozen, four_bit   weights, and how their values are decoded
//!   driver             blocks of the inner dimension, threads over tiles of sums
//!   row                products of one row
//!   pack               operands in the order in which tiles read them
//!   fetch              weights on their way to the cache
//!   math               elementary functions and sums, the same bits everywhere
//!   tiles              single tiles, for attention
//!   path               which kernels this machine has
//!   avx512 avx2 neon portable
//! ```
//!
//! Generation multiplies one row, or few, by weights that come from memory, so it has products of its own
//! ([`row_times_transposed_each`]): 32 chains, over the places `l`, `l + 32`, … of the inner dimension, whose ends are added
//! in halves. Their values differ in the last bits; passes over many tokens never use them.
//!
//! A panel of the weight is decoded once for all tokens and stays in a cache. A tile of sums is loaded, gets all
//! products of a block, and is stored: so the chain of a sum goes on from block to block.

mod bf16;
mod driver;
mod fetch;
mod four_bit;
mod frozen;
mod pack;
mod path;
mod portable;
#[cfg(test)]
mod reference;
mod row;
#[macro_use]
mod tile;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(test)]
mod tests;
pub(crate) mod tiles;

pub mod math;

pub use four_bit::{FourBitMatrix, Scales};
pub use frozen::{FloatMatrix, FrozenMatrix, PackedMatrix, PlainMatrix};
#[doc(hidden)]
pub use path::{Kernel, NAMES, force, kernels};
pub use row::row_times_transposed_each;
#[doc(hidden)]
pub use row::{Input, row_times_transposed_on};

use driver::{Left, Right, Shape, Target};

/// The type of the operands of products with frozen weights. Sums are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compute {
    /// f32 operands.
    #[default]
    F32,
    /// bf16 operands.
    Bf16,
}

/// How products are computed.
#[derive(Debug, Clone, Copy)]
pub struct Products {
    /// The type of operands.
    pub compute: Compute,
    /// Number of threads; it changes no byte.
    pub threads: usize,
}

impl Products {
    /// How many threads pay for so many multiplications: beginning one costs some tens of microseconds.
    fn threads_for(self, multiplications: usize) -> usize {
        self.threads.min(1 + multiplications / (1 << 22))
    }
}

/// `Y += X Wᵀ`: `x` is `(n, in)`, `y` is `(n, out)`. The chain of each sum begins with what is in `y`.
///
/// # Panics
/// If the sizes of `x` and `y` are not those of as many tokens.
pub fn times_transposed(products: Products, x: &[f32], w: &dyn FrozenMatrix, y: &mut [f32]) {
    times_transposed_on(path::fastest(products.compute), products.threads_for(x.len() * w.rows()), x, w, y);
}

/// [`times_transposed`] of the same `x` with several weights.
///
/// # Panics
/// If the sizes of `x` and of any `y` are not those of as many tokens.
pub fn times_transposed_each(products: Products, x: &[f32], each: &mut [(&dyn FrozenMatrix, &mut [f32])]) {
    add_each(products, x, each, true);
}

/// [`times`] of the same `dy` with several weights.
///
/// # Panics
/// If the sizes of `dy` and of any `dx` are not those of as many tokens.
pub fn times_each(products: Products, dy: &[f32], each: &mut [(&dyn FrozenMatrix, &mut [f32])]) {
    add_each(products, dy, each, false);
}

fn add_each(
    products: Products,
    values: &[f32],
    each: &mut [(&dyn FrozenMatrix, &mut [f32])],
    transposed: bool,
) {
    let sizes = |weight: &dyn FrozenMatrix| match transposed {
        true => (weight.cols(), weight.rows()),
        false => (weight.rows(), weight.cols()),
    };
    let Some(inner) = each.first().map(|(weight, _)| sizes(*weight).0) else { return };
    let work = values.len() * each.iter().map(|(weight, _)| sizes(*weight).1).sum::<usize>();
    let mut targets = Vec::with_capacity(each.len());
    for (weight, sums) in each {
        assert_eq!(sizes(*weight).0, inner, "the inner dimension");
        targets.push(Target { right: Right { weight: *weight, transposed }, sums });
    }
    let shape = Shape { rows: tokens(values, inner), inner };
    let left = Left { values, transposed: false };
    driver::add(path::fastest(products.compute), products.threads_for(work), left, shape, &mut targets);
}

/// `dX += dY W`: `dy` is `(n, out)`, `dx` is `(n, in)`. The chain of each sum begins with what is in `dx`.
///
/// # Panics
/// If the sizes of `dy` and `dx` are not those of as many tokens.
pub fn times(products: Products, dy: &[f32], w: &dyn FrozenMatrix, dx: &mut [f32]) {
    times_on(path::fastest(products.compute), products.threads_for(dy.len() * w.cols()), dy, w, dx);
}

/// `dW += dYᵀ X`: `dy` is `(n, out)`, `x` is `(n, in)`, `dw` is `(out, in)`. Tokens are added in order, always in f32.
///
/// # Panics
/// If the sizes of `dy` and `x` are not those of as many tokens, or `dw` is not `out · inputs` values.
pub fn add_outer(products: Products, dy: &[f32], x: &[f32], dw: &mut [f32], out: usize, inputs: usize) {
    add_outer_on(
        path::fastest(Compute::F32),
        products.threads_for(dy.len() * inputs),
        dy,
        x,
        dw,
        out,
        inputs,
    );
}

/// [`times_transposed`] on a certain kernel.
#[doc(hidden)]
pub fn times_transposed_on(kernel: &Kernel, threads: usize, x: &[f32], w: &dyn FrozenMatrix, y: &mut [f32]) {
    let shape = Shape { rows: tokens(x, w.cols()), inner: w.cols() };
    let left = Left { values: x, transposed: false };
    let right = Right { weight: w, transposed: true };
    driver::add(kernel, threads, left, shape, &mut [Target { right, sums: y }]);
}

/// [`times`] on a certain kernel.
#[doc(hidden)]
pub fn times_on(kernel: &Kernel, threads: usize, dy: &[f32], w: &dyn FrozenMatrix, dx: &mut [f32]) {
    let shape = Shape { rows: tokens(dy, w.rows()), inner: w.rows() };
    let left = Left { values: dy, transposed: false };
    let right = Right { weight: w, transposed: false };
    driver::add(kernel, threads, left, shape, &mut [Target { right, sums: dx }]);
}

/// [`add_outer`] on a certain kernel, of [`Compute::F32`].
#[doc(hidden)]
pub fn add_outer_on(
    kernel: &Kernel,
    threads: usize,
    dy: &[f32],
    x: &[f32],
    dw: &mut [f32],
    out: usize,
    inputs: usize,
) {
    let x = PlainMatrix { values: x, cols: inputs };
    let shape = Shape { rows: out, inner: x.rows() };
    let left = Left { values: dy, transposed: true };
    let right = Right { weight: &x, transposed: false };
    driver::add(kernel, threads, left, shape, &mut [Target { right, sums: dw }]);
}

/// How many rows of `width` values there are.
fn tokens(values: &[f32], width: usize) -> usize {
    values.len().checked_div(width).unwrap_or(0)
}
