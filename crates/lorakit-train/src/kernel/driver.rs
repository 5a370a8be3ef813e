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

impl Right<'_> {
    /// Columns of the product.
    fn cols(&self) -> usize {
        if self.transposed { self.weight.rows() } else { self.weight.cols() }
    }

    /// Places of the inner dimension that are stored together.
    fn granule(&self) -> usize {
        if self.transposed { self.weight.granule() } else { 64 }
    }

    /// Begins to read one of `parts` parts of what is packed next.
    fn fetch(&self, cols: &Range<usize>, inner: &Range<usize>, part: usize, parts: usize) {
        let (rows, cols) = if self.transposed { (cols, inner) } else { (inner, cols) };
        let end = |part: usize| rows.start + rows.len() * part / parts;
        if !cols.is_empty() {
            (end(part)..end(part + 1)).for_each(|row| self.weight.fetch(row, cols.clone()));
        }
    }

    /// Columns whose panels are decoded together.
    fn group(&self, kernel: &Kernel) -> usize {
        let columns = if self.transposed { 1 } else { self.weight.granule() };
        columns.max(128).next_multiple_of(kernel.cols)
    }
}

/// Rows and inner dimension of a product.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) rows: usize,
    pub(super) inner: usize,
}

/// What a left matrix is multiplied by, and what the product `(rows, cols)` is added to.
pub(super) struct Target<'a, 'b> {
    pub(super) right: Right<'b>,
    pub(super) sums: &'a mut [f32],
}

/// Adds the products of `left`, which is packed once, to the sums of all targets.
pub(super) fn add(
    kernel: &Kernel,
    threads: usize,
    left: Left<'_>,
    shape: Shape,
    targets: &mut [Target<'_, '_>],
) {
    assert_eq!(left.values.len(), shape.rows * shape.inner, "the left matrix");
    for target in &*targets {
        assert_eq!(target.sums.len(), shape.rows * target.right.cols(), "the sums");
    }
    if shape.rows == 0 || shape.inner == 0 {
        return;
    }
    let groups: Vec<usize> =
        targets.iter().map(|target| target.right.cols().div_ceil(target.right.group(kernel))).collect();
    let tiles = shape.rows.div_ceil(kernel.rows);
    let (down, across) = grid(threads, tiles, groups.iter().sum::<usize>().max(1));
    let rows = split(shape.rows, kernel.rows, down);
    let mut parts: Vec<Part> = Vec::with_capacity(rows.len() * across);
    for rows in &rows {
        parts.extend((0..across).map(|_| Part { rows: rows.clone(), pieces: Vec::new() }));
    }
    for target in targets {
        let right = target.right;
        let cols = split(right.cols(), right.group(kernel), across);
        deal(right, target.sums, &rows, &cols, &mut parts, across);
    }
    let last = parts.pop();
    if parts.is_empty() {
        return last.into_iter().for_each(|part| run(kernel, left, shape, part));
    }
    rayon::scope(|scope| {
        for part in parts {
            scope.spawn(move |_| run(kernel, left, shape, part));
        }
        if let Some(part) = last {
            run(kernel, left, shape, part);
        }
    });
}

/// How many parts the rows and the columns are split into, of as many as there are tiles of `rows` and groups of `cols`.
///
/// Every part of the rows decodes the right matrix anew, which takes about as long as `DECODED` tiles of a group. Every
/// part of the columns packs the left one, and its sums lie in the cache of whoever made their rows, which costs `SHARED`
/// percent.
fn grid(threads: usize, rows: usize, cols: usize) -> (usize, usize) {
    const DECODED: usize = 2;
    const SHARED: usize = 15;
    let threads = threads.clamp(1, rows * cols);
    let cost = |down: usize, across: usize| {
        let shared = if across > 1 { SHARED } else { 0 };
        (rows.div_ceil(down) + DECODED) * cols.div_ceil(across) * (100 + shared)
    };
    (1..=threads.min(rows))
        .map(|down| (down, (threads / down).min(cols)))
        .min_by_key(|(down, across)| (cost(*down, *across), *down))
        .unwrap_or((1, 1))
}

/// Splits `0..len` into at most `parts` ranges of about as many pieces of `piece` each.
fn split(len: usize, piece: usize, parts: usize) -> Vec<Range<usize>> {
    let pieces = len.div_ceil(piece);
    let end = |part: usize| (pieces * part / parts * piece).min(len);
    (0..parts).map(|part| end(part)..end(part + 1)).filter(|range| !range.is_empty()).collect()
}

/// What a thread computes: some of the rows of several products.
struct Part<'a, 'b> {
    rows: Range<usize>,
    pieces: Vec<Piece<'a, 'b>>,
}

/// Some of the columns of one product.
struct Piece<'a, 'b> {
    right: Right<'b>,
    cols: Range<usize>,
    sums: Vec<&'a mut [f32]>,
}

/// Deals the sums of one product out, row by row: to `across` parts for each range of rows.
fn deal<'a, 'b>(
    right: Right<'b>,
    sums: &'a mut [f32],
    rows: &[Range<usize>],
    cols: &[Range<usize>],
    parts: &mut [Part<'a, 'b>],
    across: usize,
) {
    if sums.is_empty() {
        return;
    }
    let mut lines = sums.chunks_exact_mut(right.cols());
    for (rows, parts) in rows.iter().zip(parts.chunks_mut(across)) {
        let mut pieces: Vec<_> = cols
            .iter()
            .map(|cols| Piece { right, cols: cols.clone(), sums: Vec::with_capacity(rows.len()) })
            .collect();
        for mut line in lines.by_ref().take(rows.len()) {
            for piece in &mut pieces {
                let (here, rest) = line.split_at_mut(piece.cols.len());
                piece.sums.push(here);
                line = rest;
            }
        }
        parts.iter_mut().zip(pieces).for_each(|(part, piece)| part.pieces.push(piece));
    }
}

/// Computes one part.
fn run(kernel: &Kernel, left: Left<'_>, shape: Shape, mut part: Part<'_, '_>) {
    let aligned = part.pieces.iter().map(|piece| piece.right.granule()).max().unwrap_or(64);
    let (mut lefts, mut panels, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    let mut edge = vec![0.0; kernel.rows * kernel.cols];
    let tiles = part.rows.len().div_ceil(kernel.rows);
    for inner in blocks(shape.inner, kernel.block, aligned) {
        let lanes = lanes(kernel, inner.len());
        let lefts = pack::left(kernel, left, shape, part.rows.clone(), inner.clone(), &mut lefts, &mut raw);
        for Piece { right, cols, sums } in &mut part.pieces {
            let group = right.group(kernel);
            for first in cols.clone().step_by(group) {
                let columns = first..cols.end.min(first + group);
                let next = columns.end..cols.end.min(columns.end + group);
                let panels =
                    pack::right(kernel, *right, columns.clone(), inner.clone(), &mut panels, &mut raw);
                let at = first - cols.start;
                let rows = sums.chunks_mut(kernel.rows).zip(lefts.chunks(lanes * kernel.rows));
                for (tile, (sums, left)) in rows.enumerate() {
                    right.fetch(&next, &inner, tile, tiles);
                    for (panel, at) in
                        panels.chunks(lanes * kernel.cols).zip((at..at + columns.len()).step_by(kernel.cols))
                    {
                        let width = kernel.cols.min(cols.len() - at);
                        if [kernel.cols, kernel.cols / 2].contains(&width) {
                            (kernel.tile)(lanes, left, panel, sums, at);
                        } else {
                            at_edge(kernel, lanes, left, panel, sums, at, &mut edge);
                        }
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
