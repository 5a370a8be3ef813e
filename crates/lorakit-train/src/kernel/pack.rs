//! Operands in the order in which kernels read them: `[tile][lane][row]` and `[panel][lane][column]`.

use std::ops::Range;

use multiversion::multiversion;

use super::Compute;
use super::driver::{Left, Right, Shape, lanes};
use super::path::{Kernel, SLACK, TRANSPOSED};

/// At least `len` values of `buffer`, with whatever they are.
fn room(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    buffer
}

/// Packs rows `rows` of the left matrix, places `inner`.
pub(super) fn left<'a>(
    kernel: &Kernel,
    left: Left<'_>,
    shape: Shape,
    rows: Range<usize>,
    inner: Range<usize>,
    to: &'a mut Vec<f32>,
    raw: &mut Vec<f32>,
) -> &'a [f32] {
    let lanes = lanes(kernel, inner.len());
    let size = lanes * kernel.rows;
    let tiles = rows.len().div_ceil(kernel.rows);
    let to = room(to, tiles * size + SLACK);
    for tile in 0..tiles {
        let first = rows.start + tile * kernel.rows;
        let count = kernel.rows.min(rows.end - first);
        let to = &mut to[tile * size..];
        if left.transposed {
            assert_eq!(kernel.compute, Compute::F32);
            let lines = &left.values[inner.start * shape.rows + first..];
            match (count == kernel.rows, count) {
                (true, 4) => gather::<4>(lines, shape.rows, lanes, to),
                (true, 6) => gather::<6>(lines, shape.rows, lanes, to),
                (true, 8) => gather::<8>(lines, shape.rows, lanes, to),
                (true, 12) => gather::<12>(lines, shape.rows, lanes, to),
                _ => {
                    for (to, line) in
                        to.chunks_exact_mut(kernel.rows).zip(lines.chunks(shape.rows)).take(lanes)
                    {
                        to[..count].copy_from_slice(&line[..count]);
                    }
                }
            }
            continue;
        }
        let from = &left.values[first * shape.inner + inner.start..];
        match kernel.compute {
            Compute::F32 => (kernel.transpose)(from, shape.inner, count, lanes, to, kernel.rows),
            Compute::Bf16 => {
                let raw = room(raw, count * lanes);
                for (from, raw) in from.chunks(shape.inner).zip(raw.chunks_exact_mut(lanes)).take(count) {
                    (kernel.pair_neighbours)(&from[..inner.len()], raw);
                }
                (kernel.transpose)(raw, lanes, count, lanes, to, kernel.rows);
            }
        }
    }
    &to[..tiles * size]
}

/// Copies the first `N` values of each line, which are `stride` values apart.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn gather<const N: usize>(lines: &[f32], stride: usize, count: usize, to: &mut [f32]) {
    for (to, line) in to.as_chunks_mut::<N>().0.iter_mut().zip(lines.chunks(stride)).take(count) {
        to.copy_from_slice(&line[..N]);
    }
}

/// Decodes and packs columns `cols` of the right matrix, places `inner`.
pub(super) fn right<'a>(
    kernel: &Kernel,
    right: Right<'_>,
    cols: Range<usize>,
    inner: Range<usize>,
    to: &'a mut Vec<f32>,
    raw: &mut Vec<f32>,
) -> &'a [f32] {
    let size = lanes(kernel, inner.len()) * kernel.cols;
    let panels = cols.len().div_ceil(kernel.cols);
    let to = room(to, panels * size + SLACK);
    if right.transposed {
        for (panel, first) in cols.clone().step_by(kernel.cols).enumerate() {
            let rows = first..cols.end.min(first + kernel.cols);
            rows_to_panel(kernel, right, rows, inner.clone(), &mut to[panel * size..], raw);
        }
    } else {
        rows_to_panels(kernel, right, cols, inner, &mut to[..panels * size], raw);
    }
    &to[..panels * size]
}

/// Rows of the weight become columns of one panel.
fn rows_to_panel(
    kernel: &Kernel,
    right: Right<'_>,
    rows: Range<usize>,
    inner: Range<usize>,
    to: &mut [f32],
    raw: &mut Vec<f32>,
) {
    let (len, lanes) = (inner.len(), lanes(kernel, inner.len()));
    let (decoded, raw) = room(raw, TRANSPOSED * len + len).split_at_mut(len);
    for first in rows.clone().step_by(TRANSPOSED) {
        let count = TRANSPOSED.min(rows.end - first);
        let to = &mut to[first - rows.start..];
        if let (Compute::F32, Some(values)) = (kernel.compute, right.weight.plain()) {
            let stride = right.weight.cols();
            (kernel.transpose)(
                &values[first * stride + inner.start..],
                stride,
                count,
                lanes,
                to,
                kernel.cols,
            );
            continue;
        }
        for (row, raw) in (first..first + count).zip(raw.chunks_exact_mut(lanes)) {
            match kernel.compute {
                Compute::F32 => right.weight.decode(row, inner.clone(), raw),
                Compute::Bf16 => {
                    right.weight.decode(row, inner.clone(), decoded);
                    (kernel.pair_neighbours)(decoded, raw);
                }
            }
        }
        (kernel.transpose)(raw, lanes, count, lanes, to, kernel.cols);
    }
}

/// Rows of the weight become lanes, or halves of lanes, of several panels.
fn rows_to_panels(
    kernel: &Kernel,
    right: Right<'_>,
    cols: Range<usize>,
    inner: Range<usize>,
    to: &mut [f32],
    raw: &mut Vec<f32>,
) {
    let width = cols.len();
    let size = lanes(kernel, inner.len()) * kernel.cols;
    let (even, raw) = room(raw, 3 * width).split_at_mut(width);
    let (odd, raw) = raw.split_at_mut(width);
    let paired = &mut raw[..width];
    let step = match kernel.compute {
        Compute::F32 => 1,
        Compute::Bf16 => 2,
    };
    for (lane, row) in inner.clone().step_by(step).enumerate() {
        let line = match (kernel.compute, right.weight.plain()) {
            (Compute::F32, Some(values)) => &values[row * right.weight.cols()..][cols.clone()],
            (Compute::F32, None) => {
                right.weight.decode(row, cols.clone(), even);
                &*even
            }
            (Compute::Bf16, _) => {
                right.weight.decode(row, cols.clone(), even);
                match row + 1 < inner.end {
                    true => right.weight.decode(row + 1, cols.clone(), odd),
                    false => odd.fill(0.0),
                }
                (kernel.pair_rows)(even, odd, paired);
                &*paired
            }
        };
        match kernel.cols {
            8 => deal::<8>(line, &mut to[lane * 8..], size),
            16 => deal::<16>(line, &mut to[lane * 16..], size),
            32 => deal::<32>(line, &mut to[lane * 32..], size),
            cols => unreachable!("panels of {cols} columns"),
        }
    }
}

/// Deals a line out to panels of `N` columns, which are `size` values apart.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn deal<const N: usize>(line: &[f32], to: &mut [f32], size: usize) {
    let (whole, rest) = line.as_chunks::<N>();
    for (i, columns) in whole.iter().enumerate() {
        to[i * size..][..N].copy_from_slice(columns);
    }
    if !rest.is_empty() {
        to[whole.len() * size..][..rest.len()].copy_from_slice(rest);
    }
}
