//! Products of one row.

use std::arch::x86_64::*;

use crate::kernel::row::{LANES, ROWS, RowKernel, Sums};

pub(super) const KERNEL: RowKernel = RowKernel { add, four_bit: Some(four_bit), q8_0: Some(q8_0) };

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

/// Blocks whose scales are converted together.
const SCALES: usize = 16;

fn q8_0(blocks: [&[[u8; 34]]; ROWS], x: &[f32], sums: &mut Sums) {
    #[target_feature(enable = "avx512f")]
    fn wide(blocks: [&[[u8; 34]]; ROWS], x: &[[f32; 32]], sums: &mut Sums) {
        for blocks in blocks {
            assert!(blocks.len() >= x.len());
        }
        let mut chains = [[_mm512_setzero_ps(); 2]; ROWS];
        let mut scales = [[0.0f32; SCALES]; ROWS];
        for (group, x) in x.chunks(SCALES).enumerate() {
            for row in 0..ROWS {
                let mut halves = [0u16; SCALES];
                for (half, block) in halves.iter_mut().zip(&blocks[row][group * SCALES..]) {
                    *half = u16::from_le_bytes([block[0], block[1]]);
                }
                // SAFETY: sixteen halves become sixteen scales.
                unsafe {
                    let wide = _mm512_cvtph_ps(_mm256_loadu_si256(halves.as_ptr().cast()));
                    _mm512_storeu_ps(scales[row].as_mut_ptr(), wide);
                }
            }
            for (at, x) in x.iter().enumerate() {
                // SAFETY: two vectors of values.
                let x = unsafe { [_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(16))] };
                for row in 0..ROWS {
                    let scale = _mm512_set1_ps(scales[row][at]);
                    // SAFETY: there are as many blocks, and each has 32 bytes behind its scale.
                    let codes = unsafe { blocks[row].as_ptr().add(group * SCALES + at).cast::<u8>().add(2) };
                    for half in 0..2 {
                        // SAFETY: half of 32 bytes.
                        let codes = unsafe { _mm_loadu_si128(codes.add(16 * half).cast()) };
                        let values = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes));
                        let values = _mm512_mul_ps(values, scale);
                        chains[row][half] = _mm512_fmadd_ps(values, x[half], chains[row][half]);
                    }
                }
            }
        }
        for (chains, sums) in chains.into_iter().zip(sums) {
            for (half, chains) in chains.into_iter().enumerate() {
                // SAFETY: half of the sums.
                unsafe { _mm512_storeu_ps(sums.as_mut_ptr().add(16 * half), chains) };
            }
        }
    }
    // SAFETY: a kernel is found only on processors with these features.
    unsafe { wide(blocks, x.as_chunks().0, sums) }
}
