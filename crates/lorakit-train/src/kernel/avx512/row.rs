//! Products of one row.

use std::arch::x86_64::*;

use super::packed;
use crate::kernel::row::{LANES, ROWS, RowKernel, Sums};

pub(super) const KERNEL: RowKernel = RowKernel { add, four_bit: Some(four_bit), packed: packed::rows };

row_chains!(add: "avx512f", 16, 4, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_fmadd_ps);

/// A value is one lookup in the table times the scale of its block. The codes at even places are the upper halves of
/// bytes, those at odd places the lower halves.
fn four_bit(
    table: &[f32; 16],
    codes: [&[[u8; 32]]; ROWS],
    scales: [&[f32]; ROWS],
    x: &[f32],
    sums: &mut Sums,
) {
    #[target_feature(enable = "avx512f")]
    fn wide(
        table: &[f32; 16],
        codes: [&[[u8; 32]]; ROWS],
        scales: [&[f32]; ROWS],
        x: &[[f32; 64]],
        sums: &mut Sums,
    ) {
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
        // Even and odd places in turn.
        let first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        let second = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        for (chains, sums) in chains.into_iter().zip(sums) {
            let [even, odd] = chains;
            // SAFETY: two vectors of sums.
            unsafe {
                _mm512_storeu_ps(sums.as_mut_ptr(), _mm512_permutex2var_ps(even, first, odd));
                _mm512_storeu_ps(sums.as_mut_ptr().add(16), _mm512_permutex2var_ps(even, second, odd));
            }
        }
    }
    // SAFETY: a kernel is found only on processors with these features.
    unsafe { wide(table, codes, scales, x.as_chunks().0, sums) }
}
