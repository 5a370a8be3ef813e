//! Products of one row.

use std::arch::x86_64::*;

use super::packed;
use crate::kernel::row::{LANES, ROWS, RowKernel, Sums};

pub(super) const KERNEL: RowKernel = RowKernel { add, four_bit: Some(four_bit), packed: packed::rows };

row_chains!(add: "avx512f", 16, 4, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_fmadd_ps);

/// A value is one lookup in the table times the scale of its block. The codes at even places are the upper halves of
/// bytes, those at odd places the lower halves.
fn four_bit(table: &[f32; 16], codes: [&[[u8; 32]]; ROWS], scales: [&[f32]; ROWS], x: &[f32]) -> [f32; ROWS] {
    #[target_feature(enable = "avx512f")]
    fn wide(
        table: &[f32; 16],
        codes: [&[[u8; 32]]; ROWS],
        scales: [&[f32]; ROWS],
        x: &[[f32; 64]],
    ) -> [f32; ROWS] {
        for row in 0..ROWS {
            assert!(codes[row].len() >= x.len() && scales[row].len() >= x.len());
        }
        // SAFETY: sixteen entries.
        let table = unsafe { _mm512_loadu_ps(table.as_ptr()) };
        let mut chains = [[_mm512_setzero_ps(); 2]; ROWS];
        for (block, x) in x.iter().enumerate() {
            for row in 0..ROWS {
                // SAFETY: there are as many blocks of codes and as many scales, and each block has 32 bytes.
                let (codes, scale) = unsafe {
                    (codes[row].as_ptr().add(block).cast::<u8>(), *scales[row].as_ptr().add(block))
                };
                let scaled = _mm512_mul_ps(table, _mm512_set1_ps(scale));
                for half in 0..2 {
                    // SAFETY: half of 32 bytes, and of 64 values.
                    let (bytes, even, odd) = unsafe {
                        let x = x.as_ptr().add(32 * half);
                        let bytes = _mm_loadu_si128(codes.add(16 * half).cast());
                        (bytes, _mm512_loadu_ps(x), _mm512_loadu_ps(x.add(16)))
                    };
                    // A lookup takes the lower four bits of an index.
                    let lower = _mm512_cvtepu8_epi32(bytes);
                    let upper = _mm512_srli_epi32::<4>(lower);
                    chains[row][0] =
                        _mm512_fmadd_ps(_mm512_permutexvar_ps(upper, scaled), even, chains[row][0]);
                    chains[row][1] =
                        _mm512_fmadd_ps(_mm512_permutexvar_ps(lower, scaled), odd, chains[row][1]);
                }
            }
        }
        chains.map(|[even, odd]| in_halves(even) + in_halves(odd))
    }
    // SAFETY: a kernel is found only on processors with these features.
    unsafe { wide(table, codes, scales, x.as_chunks().0) }
}

/// The sum of the lanes, added in halves.
#[target_feature(enable = "avx512f")]
pub(super) fn in_halves(lanes: __m512) -> f32 {
    let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(lanes)));
    let eight = _mm256_add_ps(_mm512_castps512_ps256(lanes), upper);
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}
