//! Products of one row or few, as generation has them: a weight is read once, a few of its rows at a time.
//!
//! What a value is, `reference.rs` says: the products of places `l`, `l + LANES`, … of the inner dimension are one
//! chain of fused multiply-adds, and the ends of the chains are added in halves. So it depends neither on how wide
//! vectors are, nor on how many rows there are, nor on threads. Operands are f32, whatever [`super::Compute`] says.

use std::ops::Range;

use lorakit_tensor::DType;
use multiversion::multiversion;

use super::FrozenMatrix;
use super::path::{self, Kernel};

/// Chains of a sum.
pub(super) const LANES: usize = 32;

/// Rows of a weight that are worked on together: their chains hide how long an addition takes.
pub(super) const ROWS: usize = 4;

/// The chains of so many rows.
pub(super) type Sums = [[f32; LANES]; ROWS];

/// Values of a row that are decoded at a time: with those of the other rows, they stay in the nearest cache.
const PIECE: usize = 1024;

/// Multiplications that pay for a thread.
const LEAST: usize = 1 << 17;

/// Parts for each thread: one that is late has fewer of them.
const PARTS: usize = 3;

/// What one instruction set offers.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowKernel {
    /// Adds the products of `x` and of rows `stride` apart to their chains.
    pub(super) add: fn(w: &[f32], stride: usize, x: &[f32], sums: &mut Sums),
    /// The products with rows of 4 bits, given `x` in the order of [`Input::nibbles`].
    pub(super) four_bit: Option<FourBitRows>,
    /// The products with rows of a type, if it knows that.
    pub(super) packed: fn(DType) -> Option<PackedRows>,
}

/// Takes a table, and for each row its blocks of codes and their scales; returns the products.
pub(super) type FourBitRows =
    fn(table: &[f32; 16], codes: [&[[u8; 32]]; ROWS], scales: [&[f32]; ROWS], x: &[f32]) -> [f32; ROWS];

/// Takes the bytes of each row; returns the products.
pub(super) type PackedRows = fn(rows: [&[u8]; ROWS], x: &[f32]) -> [f32; ROWS];

/// The rows by which weights are multiplied, and how.
pub struct Input<'a> {
    /// `(count, inner)`.
    values: &'a [f32],
    /// The same with the even places of each 32 before the odd ones, which is the order of codes in bytes.
    nibbles: Vec<f32>,
    inner: usize,
    kernel: RowKernel,
}

impl<'a> Input<'a> {
    fn new(values: &'a [f32], inner: usize, kernel: &Kernel) -> Self {
        let mut nibbles = Vec::with_capacity(values.len());
        if inner.is_multiple_of(LANES) {
            for group in values.as_chunks::<LANES>().0 {
                nibbles.extend(group.iter().step_by(2));
                nibbles.extend(group.iter().skip(1).step_by(2));
            }
        }
        Self { values, nibbles, inner, kernel: kernel.row }
    }

    /// How many rows there are.
    pub(super) fn count(&self) -> usize {
        self.values.len().checked_div(self.inner).unwrap_or(0)
    }

    /// What multiplies the only row with rows of a type, where that is faster than decoding them first.
    pub(super) fn packed(&self, dtype: DType) -> Option<(PackedRows, &[f32])> {
        let whole = self.count() == 1 && self.inner.is_multiple_of(LANES);
        (self.kernel.packed)(dtype).filter(|_| whole).map(|find| (find, self.values))
    }

    /// What multiplies the only row, in the order of codes in bytes, with rows of 4 bits.
    pub(super) fn four_bit(&self) -> Option<(FourBitRows, &[f32])> {
        let whole = self.count() == 1 && !self.nibbles.is_empty();
        self.kernel.four_bit.filter(|_| whole).map(|find| (find, self.nibbles.as_slice()))
    }

    /// The products with the rows `rows` of a weight, whose chains `chains` finds for [`ROWS`] rows at a time: it gets
    /// their numbers, as [`each`] has them.
    fn each(
        &self,
        rows: Range<usize>,
        out: &mut [f32],
        mut chains: impl FnMut([usize; ROWS], &[&[f32]], &mut [Sums]),
    ) {
        let inputs: Vec<&[f32]> = self.values.chunks_exact(self.inner).collect();
        let count = inputs.len();
        let mut sums = vec![[[0.0; LANES]; ROWS]; count];
        each(rows, count, out, |numbers, out| {
            sums.fill([[0.0; LANES]; ROWS]);
            chains(numbers, &inputs, &mut sums);
            for (input, sums) in sums.iter_mut().enumerate() {
                let totals = totals(sums);
                for (out, total) in out[input..].iter_mut().step_by(count).zip(totals) {
                    *out = total;
                }
            }
        });
    }

    /// The products with rows of f32.
    pub(super) fn plain(&self, w: &[f32], rows: Range<usize>, out: &mut [f32]) {
        let inner = self.inner;
        self.each(rows, out, |numbers, inputs, sums| {
            let [first, .., last] = numbers;
            let w = &w[first * inner..(last + 1) * inner];
            for (input, sums) in inputs.iter().zip(sums) {
                if w.len() == ROWS * inner {
                    (self.kernel.add)(w, inner, input, sums);
                    continue;
                }
                for (w, sums) in w.chunks_exact(inner).zip(sums) {
                    let mut same = [[0.0; LANES]; ROWS];
                    (self.kernel.add)(w, 0, input, &mut same);
                    *sums = same[0];
                }
            }
        });
    }

    /// The products with rows that are decoded first.
    pub(super) fn decoded<W: FrozenMatrix + ?Sized>(&self, w: &W, rows: Range<usize>, out: &mut [f32]) {
        let piece = PIECE.next_multiple_of(w.granule()).min(self.inner);
        let mut values = vec![0.0; ROWS * piece];
        self.each(rows, out, |numbers, inputs, sums| {
            for first in (0..self.inner).step_by(piece) {
                let places = first..self.inner.min(first + piece);
                for (number, values) in numbers.into_iter().zip(values.chunks_exact_mut(piece)) {
                    w.decode(number, places.clone(), &mut values[..places.len()]);
                }
                for (input, sums) in inputs.iter().zip(&mut *sums) {
                    (self.kernel.add)(&values, piece, &input[places.clone()], sums);
                }
            }
        });
    }
}

/// Calls `products` with the numbers of [`ROWS`] rows at a time (the last one again, where there are fewer), and with
/// where their products belong: `count` for each row.
pub(super) fn each(
    rows: Range<usize>,
    count: usize,
    out: &mut [f32],
    mut products: impl FnMut([usize; ROWS], &mut [f32]),
) {
    for (first, out) in rows.clone().step_by(ROWS).zip(out.chunks_mut(ROWS * count)) {
        products(std::array::from_fn(|at| (first + at).min(rows.end - 1)), out);
    }
}

/// `Y += X Wᵀ` with one row of `x (n, in)` or few, for each of several weights: `y` is `(n, out)`.
///
/// The values are others than those of [`super::times_transposed`], because their sums have another order; they are the
/// same for each row alone.
///
/// # Panics
/// If the sizes of `x` and of any `y` are not those of as many rows.
pub fn row_times_transposed_each(threads: usize, x: &[f32], each: &mut [(&dyn FrozenMatrix, &mut [f32])]) {
    add_each(path::fastest(super::Compute::F32), threads, x, each);
}

/// [`row_times_transposed_each`] with one weight on a certain kernel.
#[doc(hidden)]
pub fn row_times_transposed_on(
    kernel: &Kernel,
    threads: usize,
    x: &[f32],
    w: &dyn FrozenMatrix,
    y: &mut [f32],
) {
    add_each(kernel, threads, x, &mut [(w, y)]);
}

fn add_each(kernel: &Kernel, threads: usize, x: &[f32], each: &mut [(&dyn FrozenMatrix, &mut [f32])]) {
    let Some(inner) = each.first().map(|(weight, _)| weight.cols()) else { return };
    let input = Input::new(x, inner, kernel);
    let count = input.count();
    assert_eq!(x.len(), count * inner, "the inputs");
    for (weight, y) in &*each {
        assert_eq!(weight.cols(), inner, "the inner dimension");
        assert_eq!(y.len(), count * weight.rows(), "the sums");
    }
    let weights: Vec<&dyn FrozenMatrix> = each.iter().map(|(weight, _)| *weight).collect();
    let rows: usize = weights.iter().map(|weight| weight.rows()).sum();
    if rows * count == 0 {
        return;
    }
    let mut out = vec![0.0; rows * count];
    let parts = (PARTS * threads).min(1 + rows * inner / LEAST).max(1);
    let height = rows.div_ceil(parts).next_multiple_of(ROWS);
    if threads <= 1 || parts == 1 {
        part(&weights, &input, 0, &mut out);
    } else {
        rayon::scope(|scope| {
            for (at, out) in out.chunks_mut(height * count).enumerate() {
                let (weights, input) = (&weights, &input);
                scope.spawn(move |_| part(weights, input, at * height, out));
            }
        });
    }
    let mut rest = out.as_slice();
    for (weight, y) in each {
        let (own, after) = rest.split_at(weight.rows() * count);
        rest = after;
        for (input, y) in y.chunks_exact_mut(weight.rows()).enumerate() {
            for (y, product) in y.iter_mut().zip(own[input..].iter().step_by(count)) {
                *y += product;
            }
        }
    }
}

/// The products with the rows from `first` on of all weights, one after another.
fn part(weights: &[&dyn FrozenMatrix], input: &Input<'_>, mut first: usize, mut out: &mut [f32]) {
    let count = input.count();
    for weight in weights {
        if first >= weight.rows() {
            first -= weight.rows();
            continue;
        }
        let rows = first..weight.rows().min(first + out.len() / count);
        let (own, rest) = out.split_at_mut(rows.len() * count);
        if !rows.is_empty() {
            weight.products(input, rows, own);
        }
        (first, out) = (0, rest);
    }
}

/// Chains without vector instructions.
pub(super) fn add(w: &[f32], stride: usize, x: &[f32], sums: &mut Sums) {
    for (row, sums) in sums.iter_mut().enumerate() {
        let w = &w[row * stride..][..x.len()];
        for (w, x) in w.chunks(LANES).zip(x.chunks(LANES)) {
            for ((w, x), sum) in w.iter().zip(x).zip(&mut *sums) {
                *sum = w.mul_add(*x, *sum);
            }
        }
    }
}

/// What every machine can do.
pub(super) const PORTABLE: RowKernel = RowKernel { add, four_bit: None, packed: |_| None };

/// The ends of the chains, added in halves.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn totals(sums: &mut Sums) -> [f32; ROWS] {
    let mut totals = [0.0; ROWS];
    for (sums, total) in sums.iter_mut().zip(&mut totals) {
        let mut half = LANES / 2;
        while half > 0 {
            for lane in 0..half {
                sums[lane] += sums[lane + half];
            }
            half /= 2;
        }
        *total = sums[0];
    }
    totals
}
