//! Tiles of one head in one document.

use std::ops::Range;

use multiversion::multiversion;

use crate::model::real::{Real, dot};

/// Queries and keys of a tile.
pub(super) const SIDE: usize = 32;
/// Products that are added while a sum is in a register.
const STEPS: usize = 4;
/// Sums of a row that are in registers at the same time.
const LANES: usize = 16;

/// One head in one document as a matrix, padded with zeros to whole tiles.
pub(super) struct Padded<R> {
    pub(super) values: Vec<R>,
    /// Columns, with padding.
    pub(super) width: usize,
    /// Rows and columns without padding.
    size: (usize, usize),
}

impl<R: Real> Padded<R> {
    pub(super) fn zeros(rows: usize, cols: usize) -> Self {
        let width = cols.next_multiple_of(SIDE);
        Self { values: vec![R::ZERO; rows.next_multiple_of(SIDE) * width], width, size: (rows, cols) }
    }

    /// Head `head` of `x (tokens, heads, dim)` in `document`, times `scale`.
    pub(super) fn of(
        x: &[R],
        document: &Range<usize>,
        head: usize,
        heads: usize,
        dim: usize,
        scale: R,
    ) -> Self {
        let mut padded = Self::zeros(document.len(), dim);
        for (row, token) in document.clone().enumerate() {
            let from = &x[(token * heads + head) * dim..][..dim];
            let to = &mut padded.values[row * padded.width..][..dim];
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from * scale);
        }
        padded
    }

    pub(super) fn transposed(&self) -> Self {
        let (rows, cols) = self.size;
        let mut turned = Self::zeros(cols, rows);
        for row in 0..rows {
            (0..cols).for_each(|col| {
                turned.values[col * turned.width + row] = self.values[row * self.width + col]
            });
        }
        turned
    }

    /// Adds this to its head of `x (tokens, heads, dim)`.
    pub(super) fn add_to(&self, x: &mut [R], document: &Range<usize>, head: usize, heads: usize) {
        let dim = self.size.1;
        for (row, token) in document.clone().enumerate() {
            let to = &mut x[(token * heads + head) * dim..][..dim];
            to.iter_mut().zip(self.row(row)).for_each(|(to, from)| *to += *from);
        }
    }

    pub(super) fn tiles(&self) -> usize {
        self.size.0.div_ceil(SIDE)
    }

    pub(super) fn tile(&self, at: usize) -> &[R] {
        &self.values[at * SIDE * self.width..][..SIDE * self.width]
    }

    pub(super) fn tile_mut(&mut self, at: usize) -> &mut [R] {
        &mut self.values[at * SIDE * self.width..][..SIDE * self.width]
    }

    fn row(&self, at: usize) -> &[R] {
        &self.values[at * self.width..][..self.width]
    }

    pub(super) fn row_mut(&mut self, at: usize) -> &mut [R] {
        &mut self.values[at * self.width..][..self.width]
    }
}

/// `C += A B` for `C (SIDE, width)`; each entry is one chain over `inner`, in order. `A` comes with the distances between
/// its rows and between its columns, `B` with that between its rows.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub(super) fn add_product<R: Real>(
    a: (&[R], usize, usize),
    b: (&[R], usize),
    inner: usize,
    c: &mut [R],
    width: usize,
) {
    let ((a, down, across), (b, stride)) = (a, b);
    let (blocks, _) = c.as_chunks_mut::<LANES>();
    for (pair, c) in blocks.chunks_exact_mut(2 * width / LANES).enumerate() {
        let (c, d) = c.split_at_mut(width / LANES);
        let (of_c, of_d) = (&a[2 * pair * down..], &a[(2 * pair + 1) * down..]);
        let mut k = 0;
        while k + STEPS <= inner {
            add_steps::<R, STEPS>(
                [c, d],
                [&of_c[k * across..], &of_d[k * across..]],
                across,
                &b[k * stride..],
                stride,
            );
            k += STEPS;
        }
        while k < inner {
            add_steps::<R, 1>(
                [c, d],
                [&of_c[k * across..], &of_d[k * across..]],
                across,
                &b[k * stride..],
                stride,
            );
            k += 1;
        }
    }
}

/// Adds the next `N` products to all sums of two rows. A block of sums is in registers meanwhile.
#[inline(always)]
fn add_steps<R: Real, const N: usize>(
    [c, d]: [&mut [[R; LANES]]; 2],
    [of_c, of_d]: [&[R]; 2],
    across: usize,
    b: &[R],
    stride: usize,
) {
    let mut rows: [&[[R; LANES]]; N] = [&[]; N];
    let (mut c_factors, mut d_factors) = ([R::ZERO; N], [R::ZERO; N]);
    for step in 0..N {
        rows[step] = &b[step * stride..].as_chunks().0[..c.len()];
        c_factors[step] = of_c[step * across];
        d_factors[step] = of_d[step * across];
    }
    for (at, (c, d)) in c.iter_mut().zip(d).enumerate() {
        let (mut c_sums, mut d_sums) = (*c, *d);
        for step in 0..N {
            let b = rows[step][at];
            for lane in 0..LANES {
                c_sums[lane] = c_factors[step].mul_add(b[lane], c_sums[lane]);
                d_sums[lane] = d_factors[step].mul_add(b[lane], d_sums[lane]);
            }
        }
        (*c, *d) = (c_sums, d_sums);
    }
}

/// The products of each row of `a` with that of `b`, which are tiles.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub(super) fn row_products<R: Real>(a: &[R], b: &[R], width: usize) -> [R; SIDE] {
    let mut products = [R::ZERO; SIDE];
    for (row, product) in products.iter_mut().enumerate() {
        *product = dot(&a[row * width..][..width], &b[row * width..][..width]);
    }
    products
}

/// Scores become `exp(score - highest)`, and 0 outside `seen`; returns `highest`, which is at least `top`.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub(super) fn masked_exp<R: Real>(scores: &mut [R], seen: Range<usize>, top: R) -> R {
    let mut highest = top;
    for score in scores.iter().take(seen.end).skip(seen.start) {
        highest = if *score > highest { *score } else { highest };
    }
    for (at, score) in scores.iter_mut().enumerate() {
        let p = (*score - highest).exp();
        *score = if at >= seen.start && at < seen.end { p } else { R::ZERO };
    }
    highest
}

/// Scores become probabilities, and gradients of probabilities those of scores; 0 outside `seen`.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub(super) fn scores_gradient<R: Real>(scores: &mut [R], d: &mut [R], seen: Range<usize>, lse: R, delta: R) {
    for (at, (score, d)) in scores.iter_mut().zip(d).enumerate() {
        let p = (*score - lse).exp();
        let p = if at >= seen.start && at < seen.end { p } else { R::ZERO };
        (*score, *d) = (p, p * (*d - delta));
    }
}
