//! The kernels of this machine.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::row::RowKernel;
use super::{Compute, portable};

/// Adds the product of a tile of the left matrix and a panel of the right one to a tile of sums.
///
/// `left` is `(lanes, ROWS)`, `right` is `(lanes, COLS)`, `sums` are at most `ROWS` rows, of which columns
/// `at .. at + COLS` are meant, or half as many where the rows end there.
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
    /// Products of one row, always in f32.
    pub(super) row: RowKernel,
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

/// Which kernel is used, counted from 1; 0 is the fastest.
static FORCED: AtomicUsize = AtomicUsize::new(0);

/// Makes the whole process use the kernels called `name`, or the fastest ones again: between passes, not during one. Since
/// all give the same bits, that changes times only. `false` if this machine cannot run them.
pub fn force(name: Option<&str>) -> bool {
    let at = name.map_or(Some(0), |name| NAMES.iter().position(|known| *known == name).map(|at| at + 1));
    let known =
        |at: usize| at == 0 || kernels(Compute::F32).iter().any(|kernel| kernel.name == NAMES[at - 1]);
    let found = at.filter(|at| known(*at));
    if let Some(at) = found {
        FORCED.store(at, Ordering::Relaxed);
    }
    found.is_some()
}

/// The names of instruction sets, the fastest first.
pub const NAMES: [&str; 4] = ["avx512", "avx2", "neon", "portable"];

/// The fastest kernel of this machine, or the one that was forced. Where the forced instruction set has no kernel for
/// bf16, that is the portable one.
pub(super) fn fastest(compute: Compute) -> &'static Kernel {
    static FOUND: [OnceLock<[&Kernel; 1 + NAMES.len()]>; 2] = [OnceLock::new(), OnceLock::new()];
    let found = FOUND[compute as usize].get_or_init(|| {
        let kernels = kernels(compute);
        let named = |name: &str| kernels.iter().find(|kernel| kernel.name.starts_with(name));
        std::array::from_fn(|at| match at.checked_sub(1) {
            None => kernels[0],
            Some(at) => named(NAMES[at]).unwrap_or(&kernels[kernels.len() - 1]),
        })
    });
    found[FORCED.load(Ordering::Relaxed)]
}
