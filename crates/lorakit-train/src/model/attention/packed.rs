//! One head in one document, in the orders in which tiles read it.

use std::ops::Range;

use multiversion::multiversion;

use crate::kernel::tiles::{AT_ONCE, BEHIND};
use crate::model::real::{Real, dot};

/// Rows of one head: `rows` of `x (_, heads, dim)`.
#[derive(Clone, Copy)]
pub(super) struct Head<'a, R> {
    values: &'a [R],
    stride: usize,
    pub(super) rows: usize,
    pub(super) dim: usize,
}

impl<'a, R: Real> Head<'a, R> {
    pub(super) fn of(x: &'a [R], rows: &Range<usize>, (head, heads): (usize, usize), dim: usize) -> Self {
        let stride = heads * dim;
        let first = (rows.start * stride + head * dim).min(x.len());
        Self { values: &x[first..], stride, rows: rows.len(), dim }
    }

    pub(super) fn row(&self, at: usize) -> &'a [R] {
        &self.values[at * self.stride..][..self.dim]
    }

    /// Tiles of rows, with lanes over the columns: `[tile][column][row]`.
    pub(super) fn row_tiles(&self) -> Vec<R> {
        let (height, _) = R::tile();
        let size = self.dim * height;
        let mut tiles = vec![R::ZERO; self.rows.div_ceil(height) * size + BEHIND];
        for first in (0..self.rows).step_by(height) {
            let count = height.min(self.rows - first);
            let to = &mut tiles[first / height * size..];
            R::transpose(&self.values[first * self.stride..], self.stride, count, self.dim, to, height);
        }
        tiles
    }

    /// Tiles of columns, with lanes over the rows: `[tile][row][column]`.
    pub(super) fn column_tiles(&self) -> Vec<R> {
        self.dealt(R::tile().0)
    }

    /// Panels of columns, with lanes over the rows: `[panel][row][column]`.
    pub(super) fn column_panels(&self) -> Vec<R> {
        self.dealt(R::tile().1)
    }

    fn dealt(&self, width: usize) -> Vec<R> {
        let size = self.rows * width;
        let mut dealt = vec![R::ZERO; self.dim.div_ceil(width) * size];
        for at in 0..self.rows {
            for (part, columns) in self.row(at).chunks(width).enumerate() {
                dealt[part * size + at * width..][..columns.len()].copy_from_slice(columns);
            }
        }
        dealt
    }

    /// Panels of rows, with lanes over the columns: `[panel][column][row]`.
    pub(super) fn row_panels(&self) -> Vec<R> {
        let (_, width) = R::tile();
        let size = self.dim * width;
        let mut panels = vec![R::ZERO; self.rows.div_ceil(width) * size + BEHIND];
        for first in (0..self.rows).step_by(width.min(AT_ONCE)) {
            let count = width.min(AT_ONCE).min(self.rows - first);
            let to = &mut panels[first / width * size + first % width..];
            R::transpose(&self.values[first * self.stride..], self.stride, count, self.dim, to, width);
        }
        panels
    }
}

/// A head's values times `scale`, close together.
pub(super) fn scaled<R: Real>(head: Head<R>, scale: R) -> Vec<R> {
    let mut values = Vec::with_capacity(head.rows * head.dim);
    (0..head.rows).for_each(|at| values.extend(head.row(at).iter().map(|value| *value * scale)));
    values
}

/// The products of rows of `a` with those of `b`.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub(super) fn dots<R: Real>(a: &Head<R>, b: &Head<R>) -> Vec<R> {
    (0..a.rows).map(|row| dot(a.row(row), b.row(row))).collect()
}

/// Copies `rows` rows from panels of rows, `[panel][column][row]`, times `scale`, to `to(row)`.
pub(super) fn from_row_panels<R: Real>(
    panels: &[R],
    rows: usize,
    dim: usize,
    mut to: impl FnMut(usize, &[R]),
) {
    let (_, width) = R::tile();
    let padded = dim.next_multiple_of(AT_ONCE);
    let mut turned = vec![R::ZERO; width * padded + BEHIND];
    for (panel, first) in panels.chunks_exact(dim * width).zip((0..rows).step_by(width)) {
        for column in (0..dim).step_by(AT_ONCE) {
            let count = AT_ONCE.min(dim - column);
            R::transpose(&panel[column * width..], width, count, width, &mut turned[column..], padded);
        }
        for at in 0..width.min(rows - first) {
            to(first + at, &turned[at * padded..][..dim]);
        }
    }
}

/// Adds the product of `left [tile][lane][row]`, which has `depth` lanes, and of `panel [lane][column]` to `sums`, rows
/// of a panel's width. Only the lanes `lanes` of `left` are used, to which those of `panel` belong.
pub(super) fn add<R: Real>(left: &[R], depth: usize, lanes: Range<usize>, panel: &[R], sums: &mut [R]) {
    let (height, width) = R::tile();
    for (tile, sums) in sums.chunks_mut(height * width).enumerate() {
        R::add_tile(lanes.len(), &left[(tile * depth + lanes.start) * height..], panel, sums);
    }
}
