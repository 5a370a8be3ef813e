//! Kernels for AVX2 with FMA.
#![allow(unsafe_code, reason = "vector instructions")]

mod row;

use std::arch::x86_64::*;

use super::path::{Kernel, SLACK};
use super::portable::transpose_lanes;
use super::{Compute, bf16};

const ROWS: usize = 6;
const COLS: usize = 16;

/// Its kernel, if the processor has the features.
pub(super) fn kernel(compute: Compute) -> Option<&'static Kernel> {
    const F32: Kernel = Kernel {
        name: "avx2",
        compute: Compute::F32,
        rows: ROWS,
        cols: COLS,
        block: 256,
        tile: tile_f32,
        transpose,
        pair_neighbours,
        pair_rows,
        row: row::KERNEL,
    };
    const BF16: Kernel = Kernel { compute: Compute::Bf16, block: 512, tile: tile_bf16, ..F32 };
    found().then_some(match compute {
        Compute::F32 => &F32,
        Compute::Bf16 => &BF16,
    })
}

/// Whether the processor has the features.
pub(super) fn found() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

tile!(
    tile_f32: "avx2,fma", [1 2 3 4 5 6] of ROWS, 8, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, prefetch,
    std::convert::identity, _mm256_fmadd_ps
);

tile!(
    tile_bf16: "avx2,fma", [1 2 3 4 5 6] of ROWS, 8, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, prefetch,
    flush, add_pair
);

/// Fetches the sums that come next.
#[inline(always)]
fn prefetch(place: *mut f32) {
    // SAFETY: a prefetch does not fault, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) }
}

/// Zeros for denormals.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn flush(values: __m256) -> __m256 {
    let sign = _mm256_set1_ps(-0.0);
    let tiny = _mm256_cmp_ps::<_CMP_LT_OQ>(_mm256_andnot_ps(sign, values), _mm256_set1_ps(bf16::SMALLEST));
    _mm256_blendv_ps(values, _mm256_and_ps(values, sign), tiny)
}

/// [`bf16::multiply_add`].
#[inline]
#[target_feature(enable = "avx2,fma")]
fn multiply_add(a: __m256, b: __m256, sums: __m256) -> __m256 {
    let results = _mm256_fmadd_ps(a, b, sums);
    let magnitudes = _mm256_andnot_ps(_mm256_set1_ps(-0.0), results);
    let smallest = _mm256_cmp_ps::<_CMP_EQ_OQ>(magnitudes, _mm256_set1_ps(bf16::SMALLEST));
    if _mm256_movemask_ps(smallest) == 0 { flush(results) } else { multiply_add_slow(a, b, sums) }
}

#[cold]
#[target_feature(enable = "avx2,fma")]
fn multiply_add_slow(a: __m256, b: __m256, sums: __m256) -> __m256 {
    let (a, b, sums) = (lanes(a), lanes(b), lanes(sums));
    let results: [f32; 8] = std::array::from_fn(|i| bf16::multiply_add(a[i], b[i], sums[i]));
    // SAFETY: eight lanes.
    unsafe { _mm256_loadu_ps(results.as_ptr()) }
}

#[target_feature(enable = "avx2")]
fn lanes(vector: __m256) -> [f32; 8] {
    let mut lanes = [0.0; 8];
    // SAFETY: eight lanes.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), vector) };
    lanes
}

/// [`bf16::add_pair`].
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_pair(a: __m256, b: __m256, sums: __m256) -> __m256 {
    let upper = _mm256_castsi256_ps(_mm256_set1_epi32(0xffff_0000u32 as i32));
    let sums = multiply_add(_mm256_and_ps(a, upper), _mm256_and_ps(b, upper), sums);
    multiply_add(lower(a), lower(b), sums)
}

#[inline]
#[target_feature(enable = "avx2")]
fn lower(pairs: __m256) -> __m256 {
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(pairs)))
}

fn pair_neighbours(values: &[f32], pairs: &mut [f32]) {
    #[target_feature(enable = "avx2")]
    fn wide(values: &[f32], pairs: &mut [f32]) {
        bf16::pair_neighbours(values, pairs);
    }
    // SAFETY: a kernel is found only on processors with these features.
    unsafe { wide(values, pairs) }
}

fn pair_rows(even: &[f32], odd: &[f32], pairs: &mut [f32]) {
    #[target_feature(enable = "avx2")]
    fn wide(even: &[f32], odd: &[f32], pairs: &mut [f32]) {
        bf16::pair_rows(even, odd, pairs);
    }
    // SAFETY: a kernel is found only on processors with these features.
    unsafe { wide(even, odd, pairs) }
}

fn transpose(from: &[f32], stride: usize, rows: usize, lanes: usize, to: &mut [f32], width: usize) {
    #[target_feature(enable = "avx2")]
    fn eight(from: &[f32], stride: usize, rows: usize, lanes: usize, to: &mut [f32], width: usize) {
        assert!(rows <= 8 && from.len() >= (rows - 1) * stride + lanes);
        assert!(lanes == 0 || to.len() >= (lanes - 1) * width + 8);
        for lane in (0..lanes).step_by(8) {
            let mut square = [_mm256_setzero_ps(); 8];
            for (row, square) in square.iter_mut().enumerate().take(rows) {
                // SAFETY: the last lane of the last row is inside, and `lanes` is a multiple of 8.
                *square = unsafe { _mm256_loadu_ps(from.as_ptr().add(row * stride + lane)) };
            }
            for (column, square) in transpose_square(square).into_iter().enumerate() {
                // SAFETY: eight lanes from the beginning of the last lane's row are inside.
                unsafe { _mm256_storeu_ps(to.as_mut_ptr().add((lane + column) * width), square) };
            }
        }
    }
    const { assert!(SLACK >= 8) };
    let whole = lanes / 8 * 8;
    for first in (0..rows).step_by(8) {
        let (from, to, rows) = (&from[first * stride..], &mut to[first..], (rows - first).min(8));
        // SAFETY: a kernel is found only on processors with these features.
        unsafe { eight(from, stride, rows, whole, to, width) };
        transpose_lanes(from, stride, rows, whole..lanes, to, width);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn transpose_square(rows: [__m256; 8]) -> [__m256; 8] {
    let [r0, r1, r2, r3, r4, r5, r6, r7] = rows;
    let pairs = |a, b| (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    let ((a0, a1), (a2, a3), (a4, a5), (a6, a7)) =
        (pairs(r0, r1), pairs(r2, r3), pairs(r4, r5), pairs(r6, r7));
    let quads = |a, b| (_mm256_shuffle_ps::<0x44>(a, b), _mm256_shuffle_ps::<0xee>(a, b));
    let ((b0, b1), (b2, b3), (b4, b5), (b6, b7)) =
        (quads(a0, a2), quads(a1, a3), quads(a4, a6), quads(a5, a7));
    let low = |a, b| _mm256_permute2f128_ps::<0x20>(a, b);
    let high = |a, b| _mm256_permute2f128_ps::<0x31>(a, b);
    [
        low(b0, b4),
        low(b1, b5),
        low(b2, b6),
        low(b3, b7),
        high(b0, b4),
        high(b1, b5),
        high(b2, b6),
        high(b3, b7),
    ]
}

/// Decodes blocks of 64 values with a table of 16; the first value of a byte is in its upper half. `false` if the
/// processor lacks the features.
pub(super) fn decode_four_bit(
    table: &[f32; 16],
    codes: &[[u8; 32]],
    scales: &[f32],
    values: &mut [[f32; 64]],
) -> bool {
    #[target_feature(enable = "avx2")]
    fn decode(table: &[f32; 16], codes: &[[u8; 32]], scales: &[f32], values: &mut [[f32; 64]]) {
        // SAFETY: two times eight entries.
        let table = unsafe { [_mm256_loadu_ps(table.as_ptr()), _mm256_loadu_ps(table.as_ptr().add(8))] };
        for ((codes, scale), values) in codes.iter().zip(scales).zip(values) {
            let scaled = table.map(|half| _mm256_mul_ps(half, _mm256_set1_ps(*scale)));
            for half in 0..2 {
                // SAFETY: half of 32 bytes.
                let bytes = unsafe { _mm_loadu_si128(codes.as_ptr().add(16 * half).cast()) };
                let low = _mm_and_si128(bytes, _mm_set1_epi8(15));
                let high = _mm_and_si128(_mm_srli_epi16::<4>(bytes), _mm_set1_epi8(15));
                for (quarter, codes) in
                    [_mm_unpacklo_epi8(high, low), _mm_unpackhi_epi8(high, low)].into_iter().enumerate()
                {
                    for (eighth, codes) in [codes, _mm_srli_si128::<8>(codes)].into_iter().enumerate() {
                        let codes = _mm256_cvtepu8_epi32(codes);
                        let upper = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(codes));
                        let found = scaled.map(|half| _mm256_permutevar8x32_ps(half, codes));
                        let found = _mm256_blendv_ps(found[0], found[1], upper);
                        let at = 32 * half + 16 * quarter + 8 * eighth;
                        // SAFETY: eight of 64 values, from a multiple of eight.
                        unsafe { _mm256_storeu_ps(values.as_mut_ptr().add(at), found) };
                    }
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
