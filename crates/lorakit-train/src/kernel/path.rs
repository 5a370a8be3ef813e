//! The kernels of this machine.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Compute, portable};

/// Adds the product of a tile of the left matrix and a panel of the right one to a tile of sums.
///
/// `left` is `(lanes, ROWS)`, `right` is `(lanes, COLS)`, `sums` are at most `ROWS` rows, of which columns
/// `at .. at + COLS` are meant.
pub(super) type Tile = fn(lanes: usize, left: &[f32], right: &[f32], sums: &mut [&mut [f32]], at: usize);

/// Turns `rows` rows of `lanes` lanes, `stride` apart, into columns of `to`, which is `(lanes, width)`. Up to
/// [`SLACK`] lanes behind each row of `to` are undefined afterwards, unless a later row holds them.
pub(super) type Transpose =
    fn(from: &[f32], stride: usize, rows: usize, lanes: usize, to: &mut [f32], width: usize);

/// Lanes that a [`Transpose`] may write behind its end.
pub(super) const SLACK: usize = 16;

/// How many rows a [`Transpose`] takes at most.
pub(super) const TRANSPOSED: usize = 16;

/// What one instruction set offers for one type of operands. A lane is an f32, or a pair of bf16 in 32 bits.
///
/// Values of this type are found only by [`kernels`], which looks at the processor first.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// What it needs.
    pub name: &'static str,
    /// The type of operands.
    pub compute: Compute,
    /// Rows of a tile.
    pub(super) rows: usize,
    /// Columns of a tile.
    pub(super) cols: usize,
    /// Places of the inner dimension that are done at a time, about.
    pub(super) block: usize,
    /// One tile.
    pub(super) tile: Tile,
    /// Rows to columns.
    pub(super) transpose: Transpose,
    /// Pairs of neighbours.
    pub(super) pair_neighbours: fn(&[f32], &mut [f32]),
    /// Pairs of two rows.
    pub(super) pair_rows: fn(&[f32], &[f32], &mut [f32]),
}

/// The kernels that this machine can run, the fastest first. All give the same bits.
pub fn kernels(compute: Compute) -> Vec<&'static Kernel> {
    let mut found: Vec<&'static Kernel> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        found.extend(super::avx512::kernel(compute));
        found.extend(super::avx2::kernel(compute));
    }
    #[cfg(target_arch = "aarch64")]
    found.push(super::neon::kernel(compute));
    found.push(portable::kernel(compute));
    found
}

/// The names of all kernels, on all machines.
pub const NAMES: [&str; 5] = ["avx512", "avx512bf16", "avx2", "neon", "portable"];

/// One more than the place in [`NAMES`] of the only kernel to use; 0 if the fastest is used.
static FORCED: AtomicUsize = AtomicUsize::new(0);

/// Lets this process use only the kernel of that name, for types of operands that it has and where the machine has it; the
/// fastest again if none is given. It changes no byte: tests show that with it.
pub fn force(name: Option<&str>) {
    let place = name.and_then(|name| NAMES.iter().position(|known| *known == name));
    FORCED.store(place.map_or(0, |place| place + 1), Ordering::Relaxed);
}

/// The fastest kernel of this machine, or the one that is forced.
pub(super) fn fastest(compute: Compute) -> &'static Kernel {
    let kernels = kernels(compute);
    let forced = FORCED.load(Ordering::Relaxed).checked_sub(1).map(|place| NAMES[place]);
    kernels.iter().find(|kernel| Some(kernel.name) == forced).unwrap_or(&kernels[0])
}
