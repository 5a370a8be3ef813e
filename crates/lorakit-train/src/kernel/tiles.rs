//! Single tiles, of operands that the caller has packed: what small products are made of. Always in f32.

use super::path::{self, SLACK, TRANSPOSED};
use super::{Compute, Kernel};

/// Most rows of a tile, of any kernel.
const ROWS: usize = 12;

/// Values that may be overwritten behind the end of what [`transpose`] writes.
pub(crate) const BEHIND: usize = SLACK;

/// How many rows [`transpose`] takes at most.
pub(crate) const AT_ONCE: usize = TRANSPOSED;

fn kernel() -> &'static Kernel {
    path::fastest(Compute::F32)
}

/// Rows and columns of a tile.
pub(crate) fn size() -> (usize, usize) {
    (kernel().rows, kernel().cols)
}

/// Adds the product of `left (lanes, rows)` and `right (lanes, columns)` to `sums (at most rows, columns)`; each sum is
/// one chain over the lanes, in order.
pub(crate) fn add(lanes: usize, left: &[f32], right: &[f32], sums: &mut [f32]) {
    let kernel = kernel();
    let count = sums.len() / kernel.cols;
    let mut rest = sums.chunks_exact_mut(kernel.cols);
    let mut rows: [&mut [f32]; ROWS] = std::array::from_fn(|_| rest.next().unwrap_or_default());
    (kernel.tile)(lanes, left, right, &mut rows[..count], 0);
}

/// Turns `rows` rows of `lanes` values, `stride` apart, into columns of `to (lanes, width)`. Up to [`BEHIND`] values
/// behind each row of `to` are undefined afterwards, unless a later row holds them.
pub(crate) fn transpose(
    from: &[f32],
    stride: usize,
    rows: usize,
    lanes: usize,
    to: &mut [f32],
    width: usize,
) {
    (kernel().transpose)(from, stride, rows, lanes, to, width);
}
