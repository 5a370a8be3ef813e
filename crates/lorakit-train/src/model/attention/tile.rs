//! Tiles of one head in one document.

use std::ops::Range;

use multiversion::multiversion;

use crate::model::real::Real;

/// Queries and keys of a tile.
pub(super) const SIDE: usize = 32;
/// Rows that are computed together.
const ROWS: usize = 4;

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

    pub(super) fn row(&self, at: usize) -> &[R] {
        &self.values[at * self.width..][..self.width]
    }

    pub(super) fn row_mut(&mut self, at: usize) -> &mut [R] {
        &mut self.values[at * self.width..][..self.width]
    }
}

/// `C += A B` for `C (SIDE, width)`, a multiple of `SIDE` wide; each entry is one chain over `inner`, in order. `A` comes
/// with the distances between its rows and between its columns, `B` with that between its rows.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub(super) fn add_product<R: Real>(
    a: (&[R], usize, usize),
    b: (&[R], usize),
    inner: usize,
    c: &mut [R],
    width: usize,
) {
    let ((a, down, across), (b, stride)) = (a, b);
    for rows in (0..SIDE).step_by(ROWS) {
        for cols in (0..width).step_by(SIDE) {
            let mut sums = [[R::ZERO; SIDE]; ROWS];
            for (row, sums) in sums.iter_mut().enumerate() {
                sums.copy_from_slice(&c[(rows + row) * width + cols..][..SIDE]);
            }
            for k in 0..inner {
                let b = &b[k * stride + cols..][..SIDE];
                for (row, sums) in sums.iter_mut().enumerate() {
                    let a = a[(rows + row) * down + k * across];
                    (0..SIDE).for_each(|col| sums[col] = a.mul_add(b[col], sums[col]));
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                c[(rows + row) * width + cols..][..SIDE].copy_from_slice(sums);
            }
        }
    }
}

/// Scores become `exp(score - highest)`, and 0 outside `seen`; returns `highest`, which is at least `top`.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub(super) fn masked_exp<R: Real>(scores: &mut [R], seen: Range<usize>, top: R) -> R {
    let inside = |at: usize| at >= seen.start && at < seen.end;
    let higher = |top: R, (at, score): (usize, &R)| if inside(at) && *score > top { *score } else { top };
    let highest = scores.iter().enumerate().fold(top, higher);
    for (at, score) in scores.iter_mut().enumerate() {
        let p = (*score - highest).exp();
        *score = if inside(at) { p } else { R::ZERO };
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
