//! Products by tiles: blocks of the inner dimension, panels decoded once for all rows, threads over tiles of sums.

use std::ops::Range;

use super::path::Kernel;
use super::{Compute, pack};

/// The left matrix, whose rows are rows of the product.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    /// Row-major values.
    pub(super) values: &'a [f32],
    /// Whether they are `(inner, rows)`.
    pub(super) transposed: bool,
}

/// The right matrix, whose columns are columns of the product.
#[derive(Clone, Copy)]
pub(super) struct Right<'a> {
    /// Its values.
    pub(super) weight: &'a dyn super::FrozenMatrix,
    /// Whether the rows of the weight are its columns.
    pub(super) transposed: bool,
}

/// Rows, inner dimension and columns of a product.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) rows: usize,
    pub(super) inner: usize,
    pub(super) cols: usize,
}

/// Adds `left · right` to `sums`, which are `(rows, cols)`.
pub(super) fn add(
    kernel: &Kernel,
    threads: usize,
    left: Left<'_>,
    right: Right<'_>,
    shape: Shape,
    sums: &mut [f32],
) {
    assert_eq!(left.values.len(), shape.rows * shape.inner, "the left matrix");
    assert_eq!(sums.len(), shape.rows * shape.cols, "the sums");
    if sums.is_empty() || shape.inner == 0 {
        return;
    }
    let group = group(kernel, right);
    let (down, across) = grid(threads, shape.rows.div_ceil(kernel.rows), shape.cols.div_ceil(group));
    let (rows, cols) = (split(shape.rows, kernel.rows, down), split(shape.cols, group, across));
    let mut parts = deal(sums, shape.cols, &rows, &cols);
    let last = parts.pop();
    std::thread::scope(|scope| {
        for part in parts {
            scope.spawn(move || run(kernel, left, right, shape, part));
        }
        if let Some(part) = last {
            run(kernel, left, right, shape, part);
        }
    });
}

/// Columns whose panels are decoded together.
fn group(kernel: &Kernel, right: Right<'_>) -> usize {
    let columns = if right.transposed { 1 } else { right.weight.granule() };
    columns.max(128).next_multiple_of(kernel.cols)
}

/// How many parts the rows and the columns are split into, of as many as there are `rows` and `cols` of. Every part of
/// the rows decodes the right matrix anew, and every part of the columns packs the left one.
fn grid(threads: usize, rows: usize, cols: usize) -> (usize, usize) {
    let threads = threads.clamp(1, rows * cols);
    let work = |down: usize, across: usize| rows.div_ceil(down) * cols.div_ceil(across);
    (1..=threads.min(rows))
        .map(|down| (down, (threads / down).min(cols)))
        .min_by_key(|(down, across)| (work(*down, *across), *down))
        .unwrap_or((1, 1))
}

/// Splits `0..len` into at most `parts` ranges of about as many pieces of `piece` each.
fn split(len: usize, piece: usize, parts: usize) -> Vec<Range<usize>> {
    let pieces = len.div_ceil(piece);
    let end = |part: usize| (pieces * part / parts * piece).min(len);
    (0..parts).map(|part| end(part)..end(part + 1)).filter(|range| !range.is_empty()).collect()
}

/// A part of the sums.
struct Part<'a> {
    rows: Range<usize>,
    cols: Range<usize>,
    sums: Vec<&'a mut [f32]>,
}

/// Deals the sums out, row by row.
fn deal<'a>(
    sums: &'a mut [f32],
    width: usize,
    rows: &[Range<usize>],
    cols: &[Range<usize>],
) -> Vec<Part<'a>> {
    let mut lines = sums.chunks_exact_mut(width);
    let mut parts = Vec::with_capacity(rows.len() * cols.len());
    for rows in rows {
        let first = parts.len();
        parts.extend(cols.iter().map(|cols| Part {
            rows: rows.clone(),
            cols: cols.clone(),
            sums: Vec::with_capacity(rows.len()),
        }));
        for mut line in lines.by_ref().take(rows.len()) {
            for part in &mut parts[first..] {
                let (here, rest) = line.split_at_mut(part.cols.len());
                part.sums.push(here);
                line = rest;
            }
        }
    }
    parts
}

/// Computes one part.
fn run(kernel: &Kernel, left: Left<'_>, right: Right<'_>, shape: Shape, part: Part<'_>) {
    let Part { rows, cols, mut sums } = part;
    let group = group(kernel, right);
    let aligned = if right.transposed { right.weight.granule() } else { 64 };
    let (mut lefts, mut panels, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    let mut edge = vec![0.0; kernel.rows * kernel.cols];
    for inner in blocks(shape.inner, kernel.block, aligned) {
        let lanes = lanes(kernel, inner.len());
        pack::left(kernel, left, shape, rows.clone(), inner.clone(), &mut lefts, &mut raw);
        for first in cols.clone().step_by(group) {
            let columns = first..cols.end.min(first + group);
            pack::right(kernel, right, columns.clone(), inner.clone(), &mut panels, &mut raw);
            let at = first - cols.start;
            for (sums, left) in sums.chunks_mut(kernel.rows).zip(lefts.chunks(lanes * kernel.rows)) {
                for (panel, at) in
                    panels.chunks(lanes * kernel.cols).zip((at..at + columns.len()).step_by(kernel.cols))
                {
                    let width = kernel.cols.min(cols.len() - at);
                    if width == kernel.cols {
                        (kernel.tile)(lanes, left, panel, sums, at);
                    } else {
                        at_edge(kernel, lanes, left, panel, sums, at, &mut edge);
                    }
                }
            }
        }
    }
}

/// A tile that is wider than what is left.
fn at_edge(
    kernel: &Kernel,
    lanes: usize,
    left: &[f32],
    panel: &[f32],
    sums: &mut [&mut [f32]],
    at: usize,
    edge: &mut [f32],
) {
    let mut tile: Vec<&mut [f32]> = edge.chunks_exact_mut(kernel.cols).take(sums.len()).collect();
    for (tile, sums) in tile.iter_mut().zip(&*sums) {
        tile[..sums.len() - at].copy_from_slice(&sums[at..]);
    }
    (kernel.tile)(lanes, left, panel, &mut tile, 0);
    for (tile, sums) in tile.iter().zip(sums) {
        let width = sums.len() - at;
        sums[at..].copy_from_slice(&tile[..width]);
    }
}

/// Lanes of so many places of the inner dimension.
pub(super) fn lanes(kernel: &Kernel, places: usize) -> usize {
    match kernel.compute {
        Compute::F32 => places,
        Compute::Bf16 => places.div_ceil(2),
    }
}

/// Splits the inner dimension evenly, in multiples of 64 and of `aligned`, into blocks of `about` places.
fn blocks(inner: usize, about: usize, aligned: usize) -> Vec<Range<usize>> {
    split(inner, aligned.next_multiple_of(64), inner.div_ceil(about))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_even() {
        assert_eq!(blocks(576, 512, 64), [0..256, 256..576]);
        assert_eq!(blocks(576, 256, 64), [0..192, 192..384, 384..576]);
        assert_eq!(blocks(1, 256, 64), [0..1]);
        assert_eq!(blocks(300, 256, 256), [0..256, 256..300]);
    }

    #[test]
    fn threads_get_what_there_is() {
        assert_eq!(grid(1, 10, 10), (1, 1));
        assert_eq!(grid(4, 1, 10), (1, 4));
        assert_eq!(grid(4, 10, 1), (4, 1));
        assert_eq!(grid(64, 2, 3), (2, 3));
        assert_eq!(split(10, 4, 2), [0..4, 4..10]);
        assert_eq!(split(3, 4, 2), [0..3]);
    }
}
