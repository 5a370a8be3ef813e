//! Kernels for AVX-512, with its instruction for bf16 where there is one.
#![allow(unsafe_code, reason = "vector instructions")]

mod packed;
mod row;

use std::arch::x86_64::*;

use super::path::{Kernel, SLACK, TRANSPOSED};
use super::portable::transpose_lanes;
use super::{Compute, bf16};

const ROWS: usize = 12;
const COLS: usize = 32;

/// Its kernel, if the processor has the features.
pub(super) fn kernel(compute: Compute) -> Option<&'static Kernel> {
    const F32: Kernel = Kernel {
        name: "avx512",
        compute: Compute::F32,
        rows: ROWS,
        cols: COLS,
        block: 640,
        tile: tile_f32,
        transpose,
        pair_neighbours,
        pair_rows,
        row: row::KERNEL,
    };
    const BF16: Kernel =
        Kernel { name: "avx512bf16", compute: Compute::Bf16, block: 512, tile: tile_bf16, ..F32 };
    match compute {
        Compute::F32 => found().then_some(&F32),
        Compute::Bf16 => (found() && is_x86_feature_detected!("avx512bf16")).then_some(&BF16),
    }
}

/// Whether the processor has the features.
pub(super) fn found() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
}

tile!(
    tile_f32: "avx512f", [1 2 3 4 5 6 7 8 9 10 11 12] of ROWS, 16, _mm512_set1_ps, _mm512_loadu_ps,
    _mm512_storeu_ps, prefetch, std::convert::identity, _mm512_fmadd_ps
);

tile!(
    tile_bf16: "avx512f,avx512bf16", [1 2 3 4 5 6 7 8 9 10 11 12] of ROWS, 16, _mm512_set1_ps, _mm512_loadu_ps,
    _mm512_storeu_ps, prefetch, std::convert::identity, add_pair
);

/// Fetches the sums that come next.
#[inline(always)]
fn prefetch(place: *mut f32) {
    // SAFETY: a prefetch does not fault, whatever the address.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(place.cast());
        _mm_prefetch::<_MM_HINT_T0>(place.wrapping_add(16).cast());
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn add_pair(a: __m512, b: __m512, sums: __m512) -> __m512 {
    // SAFETY: both types are 64 bytes of which all are valid.
    let [a, b] =
        unsafe { [std::mem::transmute::<__m512, __m512bh>(a), std::mem::transmute::<__m512, __m512bh>(b)] };
    _mm512_dpbf16_ps(sums, a, b)
}

fn pair_neighbours(values: &[f32], pairs: &mut [f32]) {
    #[target_feature(enable = "avx512f,avx512bw")]
    fn wide(values: &[f32], pairs: &mut [f32]) {
        bf16::pair_neighbours(values, pairs);
    }
    // SAFETY: a kernel is found only on processors with these features.
    unsafe { wide(values, pairs) }
}

fn pair_rows(even: &[f32], odd: &[f32], pairs: &mut [f32]) {
    #[target_feature(enable = "avx512f,avx512bw")]
    fn wide(even: &[f32], odd: &[f32], pairs: &mut [f32]) {
        bf16::pair_rows(even, odd, pairs);
    }
    // SAFETY: a kernel is found only on processors with these features.
    unsafe { wide(even, odd, pairs) }
}

fn transpose(from: &[f32], stride: usize, rows: usize, lanes: usize, to: &mut [f32], width: usize) {
    #[target_feature(enable = "avx512f")]
    fn sixteen(from: &[f32], stride: usize, rows: usize, lanes: usize, to: &mut [f32], width: usize) {
        assert!(rows <= 16 && from.len() >= (rows - 1) * stride + lanes);
        assert!(lanes == 0 || to.len() >= (lanes - 1) * width + 16);
        for lane in (0..lanes).step_by(16) {
            let mut square = [_mm512_setzero_ps(); 16];
            for (row, square) in square.iter_mut().enumerate().take(rows) {
                // SAFETY: the last lane of the last row is inside, and `lanes` is a multiple of 16.
                *square = unsafe { _mm512_loadu_ps(from.as_ptr().add(row * stride + lane)) };
            }
            transpose_square(&mut square);
            for (column, square) in square.into_iter().enumerate() {
                // SAFETY: sixteen lanes from the beginning of the last lane's row are inside.
                unsafe { _mm512_storeu_ps(to.as_mut_ptr().add((lane + column) * width), square) };
            }
        }
    }
    const { assert!(SLACK >= 16 && TRANSPOSED == 16) };
    let whole = lanes / 16 * 16;
    // SAFETY: a kernel is found only on processors with these features.
    unsafe { sixteen(from, stride, rows, whole, to, width) };
    transpose_lanes(from, stride, rows, whole..lanes, to, width);
}

#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_square(r: &mut [__m512; 16]) {
    let mut t = [_mm512_setzero_ps(); 16];
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    // Of each quarter: rows 4i to 4i + 3, one column of four in each register.
    for i in 0..4 {
        r[4 * i] = _mm512_shuffle_ps::<0x44>(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_shuffle_ps::<0xee>(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_shuffle_ps::<0x44>(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_shuffle_ps::<0xee>(t[4 * i + 1], t[4 * i + 3]);
    }
    // Quarters 0 and 2, then 1 and 3, of eight rows.
    for j in 0..4 {
        t[j] = _mm512_shuffle_f32x4::<0x88>(r[j], r[4 + j]);
        t[4 + j] = _mm512_shuffle_f32x4::<0xdd>(r[j], r[4 + j]);
        t[8 + j] = _mm512_shuffle_f32x4::<0x88>(r[8 + j], r[12 + j]);
        t[12 + j] = _mm512_shuffle_f32x4::<0xdd>(r[8 + j], r[12 + j]);
    }
    for j in 0..4 {
        r[j] = _mm512_shuffle_f32x4::<0x88>(t[j], t[8 + j]);
        r[4 + j] = _mm512_shuffle_f32x4::<0x88>(t[4 + j], t[12 + j]);
        r[8 + j] = _mm512_shuffle_f32x4::<0xdd>(t[j], t[8 + j]);
        r[12 + j] = _mm512_shuffle_f32x4::<0xdd>(t[4 + j], t[12 + j]);
    }
}

/// Decodes blocks of 64 values with a table of 16; the first value of a byte is in its upper half. `false` if the
/// processor lacks the features.
pub(super) fn decode_four_bit(
    table: &[f32; 16],
    codes: &[[u8; 32]],
    scales: &[f32],
    values: &mut [[f32; 64]],
) -> bool {
    #[target_feature(enable = "avx512f")]
    fn decode(table: &[f32; 16], codes: &[[u8; 32]], scales: &[f32], values: &mut [[f32; 64]]) {
        // SAFETY: sixteen entries.
        let table = unsafe { _mm512_loadu_ps(table.as_ptr()) };
        for ((codes, scale), values) in codes.iter().zip(scales).zip(values) {
            let scaled = _mm512_mul_ps(table, _mm512_set1_ps(*scale));
            for half in 0..2 {
                // SAFETY: half of 32 bytes.
                let bytes = unsafe { _mm_loadu_si128(codes.as_ptr().add(16 * half).cast()) };
                // A lookup takes the lower four bits of an index.
                let upper = _mm_srli_epi16::<4>(bytes);
                let sides = [_mm_unpacklo_epi8(upper, bytes), _mm_unpackhi_epi8(upper, bytes)];
                for (quarter, codes) in sides.into_iter().enumerate() {
                    let found = _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(codes), scaled);
                    // SAFETY: sixteen of 64 values, from a multiple of sixteen.
                    unsafe { _mm512_storeu_ps(values.as_mut_ptr().add(32 * half + 16 * quarter), found) };
                }
            }
        }
    }
    let found = found();
    if found {
        // SAFETY: the processor has the features.
        unsafe { decode(table, codes, scales, values) };
    }
    found
}
