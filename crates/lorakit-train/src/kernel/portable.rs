//! Kernels without vector instructions.

use super::path::Kernel;
use super::{Compute, bf16, row};

const ROWS: usize = 4;
const COLS: usize = 8;

/// The kernel for any processor.
pub(super) fn kernel(compute: Compute) -> &'static Kernel {
    const F32: Kernel = Kernel {
        name: "portable",
        compute: Compute::F32,
        rows: ROWS,
        cols: COLS,
        block: 256,
        tile: tile::<F32Lane>,
        transpose,
        pair_neighbours: bf16::pair_neighbours,
        pair_rows: bf16::pair_rows,
        row: row::PORTABLE,
    };
    const BF16: Kernel = Kernel { compute: Compute::Bf16, block: 512, tile: tile::<Bf16Lane>, ..F32 };
    match compute {
        Compute::F32 => &F32,
        Compute::Bf16 => &BF16,
    }
}

/// What is done with a lane.
trait Lane {
    fn begin(sum: f32) -> f32;
    fn add(a: f32, b: f32, sum: f32) -> f32;
}

struct F32Lane;

impl Lane for F32Lane {
    fn begin(sum: f32) -> f32 {
        sum
    }

    fn add(a: f32, b: f32, sum: f32) -> f32 {
        a.mul_add(b, sum)
    }
}

struct Bf16Lane;

impl Lane for Bf16Lane {
    fn begin(sum: f32) -> f32 {
        bf16::flush(sum)
    }

    fn add(a: f32, b: f32, sum: f32) -> f32 {
        bf16::add_pair(a, b, sum)
    }
}

fn tile<L: Lane>(lanes: usize, left: &[f32], right: &[f32], sums: &mut [&mut [f32]], at: usize) {
    for (i, sums) in sums.iter_mut().enumerate() {
        let end = sums.len().min(at + COLS);
        let sums = &mut sums[at..end];
        sums.iter_mut().for_each(|sum| *sum = L::begin(*sum));
        for (left, right) in left.chunks_exact(ROWS).zip(right.chunks_exact(COLS)).take(lanes) {
            sums.iter_mut().zip(right).for_each(|(sum, right)| *sum = L::add(left[i], *right, *sum));
        }
    }
}

/// Lanes one by one.
pub(super) fn transpose(
    from: &[f32],
    stride: usize,
    rows: usize,
    lanes: usize,
    to: &mut [f32],
    width: usize,
) {
    transpose_lanes(from, stride, rows, 0..lanes, to, width);
}

/// Some of the lanes, one by one.
#[inline]
pub(super) fn transpose_lanes(
    from: &[f32],
    stride: usize,
    rows: usize,
    lanes: std::ops::Range<usize>,
    to: &mut [f32],
    width: usize,
) {
    for lane in lanes {
        for row in 0..rows {
            to[lane * width + row] = from[row * stride + lane];
        }
    }
}
