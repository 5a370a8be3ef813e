//! Kernels for NEON, which every 64-bit ARM processor has.
#![allow(unsafe_code, reason = "vector instructions")]

use std::arch::aarch64::*;

use super::path::Kernel;
use super::portable::transpose_lanes;
use super::{Compute, bf16, row};

const ROWS: usize = 8;
const COLS: usize = 8;

/// Its kernel.
pub(super) fn kernel(compute: Compute) -> &'static Kernel {
    const F32: Kernel = Kernel {
        name: "neon",
        compute: Compute::F32,
        rows: ROWS,
        cols: COLS,
        block: 256,
        tile: tile_f32,
        transpose,
        pair_neighbours: bf16::pair_neighbours,
        pair_rows: bf16::pair_rows,
        row: row::PORTABLE,
    };
    const BF16: Kernel = Kernel { compute: Compute::Bf16, block: 512, tile: tile_bf16, ..F32 };
    match compute {
        Compute::F32 => &F32,
        Compute::Bf16 => &BF16,
    }
}

tile!(
    tile_f32: "neon", [1 2 3 4 5 6 7 8] of ROWS, 4, vdupq_n_f32, vld1q_f32, vst1q_f32, no_prefetch, std::convert::identity,
    multiply_add_f32
);

tile!(
    tile_bf16: "neon", [1 2 3 4 5 6 7 8] of ROWS, 4, vdupq_n_f32, vld1q_f32, vst1q_f32, no_prefetch, flush, add_pair
);

/// There is no stable intrinsic to fetch what comes next.
#[inline(always)]
fn no_prefetch(_: *mut f32) {}

#[inline]
#[target_feature(enable = "neon")]
fn multiply_add_f32(a: float32x4_t, b: float32x4_t, sums: float32x4_t) -> float32x4_t {
    vfmaq_f32(sums, a, b)
}

/// Zeros for denormals.
#[inline]
#[target_feature(enable = "neon")]
fn flush(values: float32x4_t) -> float32x4_t {
    let tiny = vcaltq_f32(values, vdupq_n_f32(bf16::SMALLEST));
    let sign = vandq_u32(vreinterpretq_u32_f32(values), vdupq_n_u32(0x8000_0000));
    vbslq_f32(tiny, vreinterpretq_f32_u32(sign), values)
}

/// [`bf16::multiply_add`].
#[inline]
#[target_feature(enable = "neon")]
fn multiply_add(a: float32x4_t, b: float32x4_t, sums: float32x4_t) -> float32x4_t {
    let results = vfmaq_f32(sums, a, b);
    let smallest = vceqq_f32(vabsq_f32(results), vdupq_n_f32(bf16::SMALLEST));
    if vmaxvq_u32(smallest) == 0 { flush(results) } else { multiply_add_slow(a, b, sums) }
}

#[cold]
#[target_feature(enable = "neon")]
fn multiply_add_slow(a: float32x4_t, b: float32x4_t, sums: float32x4_t) -> float32x4_t {
    let (a, b, sums) = (lanes(a), lanes(b), lanes(sums));
    let results: [f32; 4] = std::array::from_fn(|i| bf16::multiply_add(a[i], b[i], sums[i]));
    // SAFETY: four lanes.
    unsafe { vld1q_f32(results.as_ptr()) }
}

#[target_feature(enable = "neon")]
fn lanes(vector: float32x4_t) -> [f32; 4] {
    let mut lanes = [0.0; 4];
    // SAFETY: four lanes.
    unsafe { vst1q_f32(lanes.as_mut_ptr(), vector) };
    lanes
}

/// [`bf16::add_pair`].
#[inline]
#[target_feature(enable = "neon")]
fn add_pair(a: float32x4_t, b: float32x4_t, sums: float32x4_t) -> float32x4_t {
    let sums = multiply_add(upper(a), upper(b), sums);
    multiply_add(lower(a), lower(b), sums)
}

#[inline]
#[target_feature(enable = "neon")]
fn upper(pairs: float32x4_t) -> float32x4_t {
    vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(pairs), vdupq_n_u32(0xffff_0000)))
}

#[inline]
#[target_feature(enable = "neon")]
fn lower(pairs: float32x4_t) -> float32x4_t {
    vreinterpretq_f32_u32(vshlq_n_u32::<16>(vreinterpretq_u32_f32(pairs)))
}

/// Squares of four, and what is left lane by lane.
fn transpose(from: &[f32], stride: usize, rows: usize, lanes: usize, to: &mut [f32], width: usize) {
    let (tall, wide) = (rows / 4 * 4, lanes / 4 * 4);
    for row in (0..tall).step_by(4) {
        assert!(from.len() >= (row + 3) * stride + wide);
        assert!(wide == 0 || to.len() >= (wide - 1) * width + row + 4);
        for lane in (0..wide).step_by(4) {
            // SAFETY: the squares end inside, as was just checked.
            unsafe {
                transpose_square(
                    from.as_ptr().add(row * stride + lane),
                    stride,
                    to.as_mut_ptr().add(lane * width + row),
                    width,
                )
            };
        }
        transpose_lanes(&from[row * stride..], stride, 4, wide..lanes, &mut to[row..], width);
    }
    if tall < rows {
        transpose_lanes(&from[tall * stride..], stride, rows - tall, 0..lanes, &mut to[tall..], width);
    }
}

/// # Safety
/// Four rows of four lanes can be read from `from`, and written to `to`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn transpose_square(from: *const f32, stride: usize, to: *mut f32, width: usize) {
    // SAFETY: the caller's.
    let row = |i: usize| unsafe { vld1q_f32(from.add(i * stride)) };
    let (a, b, c, d) = (row(0), row(1), row(2), row(3));
    let (ab, cd) = (vtrnq_f32(a, b), vtrnq_f32(c, d));
    let low = |x, y| vcombine_f32(vget_low_f32(x), vget_low_f32(y));
    let high = |x, y| vcombine_f32(vget_high_f32(x), vget_high_f32(y));
    let columns = [low(ab.0, cd.0), low(ab.1, cd.1), high(ab.0, cd.0), high(ab.1, cd.1)];
    for (i, column) in columns.into_iter().enumerate() {
        // SAFETY: the caller's.
        unsafe { vst1q_f32(to.add(i * width), column) };
    }
}
