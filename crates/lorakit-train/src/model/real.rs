//! The numbers that a model computes with: f32, and f64 for the tests of its gradients.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

use super::math;
use crate::kernel::{self, Compute, FrozenMatrix, PlainMatrix, Products, tiles};

/// Lanes of every sum over a row. Sums do not depend on how wide the machine's vectors are.
const LANES: usize = 16;

/// A floating-point number, and the products of matrices of it. See [`crate::kernel`] for shapes.
pub trait Real:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + 'static
{
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;

    /// `value`, rounded.
    fn of(value: f64) -> Self;
    /// The value in f64.
    fn to_f64(self) -> f64;
    /// `self * factor + term`, rounded once.
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// `e` to the power of this.
    fn exp(self) -> Self;

    /// `Y += X Wᵀ`.
    fn times_transposed(products: Products, x: &[Self], w: &dyn FrozenMatrix, y: &mut [Self]);
    /// `dX += dY W`.
    fn times(products: Products, dy: &[Self], w: &dyn FrozenMatrix, dx: &mut [Self]);
    /// `Y += X Wᵀ` with a trained `w (out, inputs)`, with operands of this type whatever frozen weights use.
    fn times_plain_transposed(products: Products, x: &[Self], w: &[Self], inputs: usize, y: &mut [Self]);
    /// `dX += dY W` with a trained `w (out, inputs)`.
    fn times_plain(products: Products, dy: &[Self], w: &[Self], inputs: usize, dx: &mut [Self]);
    /// `dW += dYᵀ X`, over tokens in order.
    fn add_outer(products: Products, dy: &[Self], x: &[Self], dw: &mut [Self], out: usize, inputs: usize);

    /// `Y += X Wᵀ` with several weights, which share `X`: frozen ones, and trained ones as in
    /// [`Self::times_plain_transposed`].
    fn times_transposed_each(
        products: Products,
        x: &[Self],
        frozen: &mut [(&dyn FrozenMatrix, &mut [Self])],
        plain: &mut [(&[Self], &mut [Self])],
        inputs: usize,
    ) {
        for (w, y) in frozen {
            Self::times_transposed(products, x, *w, y);
        }
        for (w, y) in plain {
            Self::times_plain_transposed(products, x, w, inputs, y);
        }
    }
    /// `dX += dY W` with a frozen weight, and with the trained `w (out, inputs)`, where they are given.
    fn times_each(
        products: Products,
        dy: &[Self],
        frozen: Option<(&dyn FrozenMatrix, &mut [Self])>,
        plain: Option<(&[Self], usize, &mut [Self])>,
    ) {
        if let Some((w, dx)) = frozen {
            Self::times(products, dy, w, dx);
        }
        if let Some((w, inputs, dx)) = plain {
            Self::times_plain(products, dy, w, inputs, dx);
        }
    }

    /// Rows and columns of a tile.
    fn tile() -> (usize, usize);
    /// Adds the product of `left (lanes, rows)` and `right (lanes, columns)` to a tile of `sums (at most rows, columns)`.
    fn add_tile(lanes: usize, left: &[Self], right: &[Self], sums: &mut [Self]);
    /// Turns `rows` rows of `lanes` values, `stride` apart, into columns of `to (lanes, width)`. Up to
    /// `BEHIND` values behind each row of `to` are undefined afterwards, unless a later
    /// row holds them.
    fn transpose(from: &[Self], stride: usize, rows: usize, lanes: usize, to: &mut [Self], width: usize);
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    #[inline(always)]
    fn of(value: f64) -> Self {
        value as Self
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self.into()
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        self.mul_add(factor, term)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn exp(self) -> Self {
        math::exp_f32(self)
    }

    fn times_transposed(products: Products, x: &[Self], w: &dyn FrozenMatrix, y: &mut [Self]) {
        kernel::times_transposed(products, x, w, y);
    }

    fn times(products: Products, dy: &[Self], w: &dyn FrozenMatrix, dx: &mut [Self]) {
        kernel::times(products, dy, w, dx);
    }

    fn times_plain_transposed(products: Products, x: &[Self], w: &[Self], inputs: usize, y: &mut [Self]) {
        let products = Products { compute: Compute::F32, ..products };
        kernel::times_transposed(products, x, &PlainMatrix { values: w, cols: inputs }, y);
    }

    fn times_plain(products: Products, dy: &[Self], w: &[Self], inputs: usize, dx: &mut [Self]) {
        let products = Products { compute: Compute::F32, ..products };
        kernel::times(products, dy, &PlainMatrix { values: w, cols: inputs }, dx);
    }

    fn add_outer(products: Products, dy: &[Self], x: &[Self], dw: &mut [Self], out: usize, inputs: usize) {
        kernel::add_outer(products, dy, x, dw, out, inputs);
    }

    fn times_transposed_each(
        products: Products,
        x: &[Self],
        frozen: &mut [(&dyn FrozenMatrix, &mut [Self])],
        plain: &mut [(&[Self], &mut [Self])],
        inputs: usize,
    ) {
        let plain = plain.iter_mut().map(|(w, y)| (PlainMatrix { values: w, cols: inputs }, &mut **y));
        let mut plain: Vec<_> = plain.collect();
        let plain = plain.iter_mut().map(|(w, y)| (&*w as &dyn FrozenMatrix, &mut **y));
        let frozen = frozen.iter_mut().map(|(w, y)| (*w, &mut **y));
        if products.compute == Compute::F32 {
            let mut all: Vec<_> = frozen.chain(plain).collect();
            return kernel::times_transposed_each(products, x, &mut all);
        }
        kernel::times_transposed_each(products, x, &mut frozen.collect::<Vec<_>>());
        let products = Products { compute: Compute::F32, ..products };
        kernel::times_transposed_each(products, x, &mut plain.collect::<Vec<_>>());
    }

    fn times_each(
        products: Products,
        dy: &[Self],
        frozen: Option<(&dyn FrozenMatrix, &mut [Self])>,
        plain: Option<(&[Self], usize, &mut [Self])>,
    ) {
        let f32_products = Products { compute: Compute::F32, ..products };
        let plain = plain.map(|(values, cols, dx)| (PlainMatrix { values, cols }, dx));
        match (frozen, plain) {
            (Some((w, dx)), Some((plain, du))) if products.compute == Compute::F32 => {
                kernel::times_each(products, dy, &mut [(w, dx), (&plain, du)]);
            }
            (frozen, plain) => {
                if let Some((w, dx)) = frozen {
                    kernel::times(products, dy, w, dx);
                }
                if let Some((plain, du)) = plain {
                    kernel::times(f32_products, dy, &plain, du);
                }
            }
        }
    }

    fn tile() -> (usize, usize) {
        tiles::size()
    }

    fn add_tile(lanes: usize, left: &[Self], right: &[Self], sums: &mut [Self]) {
        tiles::add(lanes, left, right, sums);
    }

    fn transpose(from: &[Self], stride: usize, rows: usize, lanes: usize, to: &mut [Self], width: usize) {
        tiles::transpose(from, stride, rows, lanes, to, width);
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    #[inline(always)]
    fn of(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        self.mul_add(factor, term)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn exp(self) -> Self {
        math::exp(self)
    }

    fn times_transposed(products: Products, x: &[Self], w: &dyn FrozenMatrix, y: &mut [Self]) {
        Self::times_plain_transposed(products, x, &decoded(w), w.cols(), y);
    }

    fn times(products: Products, dy: &[Self], w: &dyn FrozenMatrix, dx: &mut [Self]) {
        Self::times_plain(products, dy, &decoded(w), w.cols(), dx);
    }

    fn times_plain_transposed(_: Products, x: &[Self], w: &[Self], inputs: usize, y: &mut [Self]) {
        let out = w.len() / inputs;
        for (x, y) in x.chunks_exact(inputs).zip(y.chunks_exact_mut(out)) {
            for (y, w) in y.iter_mut().zip(w.chunks_exact(inputs)) {
                *y = x.iter().zip(w).fold(*y, |sum, (x, w)| x.mul_add(*w, sum));
            }
        }
    }

    fn times_plain(_: Products, dy: &[Self], w: &[Self], inputs: usize, dx: &mut [Self]) {
        let out = w.len() / inputs;
        for (dy, dx) in dy.chunks_exact(out).zip(dx.chunks_exact_mut(inputs)) {
            for (dy, w) in dy.iter().zip(w.chunks_exact(inputs)) {
                dx.iter_mut().zip(w).for_each(|(sum, w)| *sum = dy.mul_add(*w, *sum));
            }
        }
    }

    fn add_outer(_: Products, dy: &[Self], x: &[Self], dw: &mut [Self], out: usize, inputs: usize) {
        for (dy, x) in dy.chunks_exact(out).zip(x.chunks_exact(inputs)) {
            for (dy, dw) in dy.iter().zip(dw.chunks_exact_mut(inputs)) {
                dw.iter_mut().zip(x).for_each(|(sum, x)| *sum = dy.mul_add(*x, *sum));
            }
        }
    }

    /// As wide as tiles get.
    fn tile() -> (usize, usize) {
        (12, 32)
    }

    fn add_tile(lanes: usize, left: &[Self], right: &[Self], sums: &mut [Self]) {
        for (row, sums) in sums.chunks_exact_mut(32).enumerate() {
            for (left, right) in left.chunks_exact(12).zip(right.chunks_exact(32)).take(lanes) {
                sums.iter_mut().zip(right).for_each(|(sum, right)| *sum = left[row].mul_add(*right, *sum));
            }
        }
    }

    /// NaN is what is undefined.
    fn transpose(from: &[Self], stride: usize, rows: usize, lanes: usize, to: &mut [Self], width: usize) {
        for lane in 0..lanes {
            for (row, to) in to[lane * width..].iter_mut().enumerate().take(tiles::BEHIND) {
                *to = if row < rows { from[row * stride + lane] } else { Self::NAN };
            }
        }
    }
}

fn decoded(w: &dyn FrozenMatrix) -> Vec<f64> {
    let mut row = vec![0.0; w.cols()];
    let mut values = Vec::with_capacity(w.rows() * w.cols());
    for j in 0..w.rows() {
        w.decode(j, 0..w.cols(), &mut row);
        values.extend(row.iter().map(|value| f64::from(*value)));
    }
    values
}

/// `values` in another type.
pub(super) fn cast<R: Real>(values: &[f32]) -> Vec<R> {
    values.iter().map(|value| R::of(f64::from(*value))).collect()
}

/// The sum of `a[i] b[i]`: lane `i mod 16` takes its products in order, then lanes are added as a tree.
#[inline(always)]
pub(super) fn dot<R: Real>(a: &[R], b: &[R]) -> R {
    let mut lanes = [R::ZERO; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a.remainder().iter().zip(b.remainder());
    for (a, b) in a.zip(b) {
        for l in 0..LANES {
            lanes[l] = a[l].mul_add(b[l], lanes[l]);
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(rest) {
        *lane = a.mul_add(*b, *lane);
    }
    tree(lanes)
}

/// The sum of `values`, in the order of [`dot`].
#[inline(always)]
pub(super) fn sum<R: Real>(values: &[R]) -> R {
    let mut lanes = [R::ZERO; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for values in chunks {
        for l in 0..LANES {
            lanes[l] += values[l];
        }
    }
    lanes.iter_mut().zip(rest).for_each(|(lane, value)| *lane += *value);
    tree(lanes)
}

/// The largest of `values`; of lanes first, as in [`sum`]. NaN is not seen.
#[inline(always)]
pub(super) fn highest<R: Real>(values: &[R]) -> R {
    let mut lanes = [values[0]; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for values in chunks {
        for l in 0..LANES {
            lanes[l] = if values[l] > lanes[l] { values[l] } else { lanes[l] };
        }
    }
    let mut highest = values[0];
    for value in lanes.iter().chain(rest) {
        highest = if *value > highest { *value } else { highest };
    }
    highest
}

#[inline(always)]
fn tree<R: Real>(mut lanes: [R; LANES]) -> R {
    let mut half = LANES / 2;
    while half > 0 {
        (0..half).for_each(|l| lanes[l] += lanes[l + half]);
        half /= 2;
    }
    lanes[0]
}
