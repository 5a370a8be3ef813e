//! Products of one row with weights as files hold them: decoded in registers, 32 values at a time.
//!
//! A value is what the codec of `lorakit-quant` makes of it, bit for bit. Where a code has four bits or five, all values
//! that a block can have are found first, and a value is a lookup.

use std::arch::x86_64::*;

use lorakit_tensor::DType;

use super::row::in_halves;
use crate::kernel::row::{LANES, PackedRows, ROWS};

/// What multiplies rows of a type.
pub(super) fn rows(dtype: DType) -> Option<PackedRows> {
    Some(match dtype {
        DType::BF16 => products::<Bf16>,
        DType::F16 => products::<F16>,
        DType::Q8_0 => products::<Q8_0>,
        DType::Q4_0 => products::<Q4_0>,
        DType::Q4_1 => products::<Q4_1>,
        DType::Q5_0 => products::<Q5_0>,
        DType::Q5_1 => products::<Q5_1>,
        DType::Q4_K => products::<Q4K>,
        DType::Q5_K => products::<Q5K>,
        DType::Q6_K => products::<Q6K>,
        _ => return None,
    })
}

/// A form in which values are packed.
trait Form {
    /// Bytes of a block.
    const BYTES: usize;
    /// Its values, a multiple of 32.
    const VALUES: usize;
    /// What all of them need.
    type Head: Copy;
    /// # Safety
    /// The processor has AVX-512 F and BW, and `block` has as many bytes as a block.
    unsafe fn head(block: *const u8) -> Self::Head;
    /// The values from `32 part` on.
    ///
    /// # Safety
    /// As for [`Self::head`].
    unsafe fn values(block: *const u8, head: &Self::Head, part: usize) -> [__m512; 2];
}

fn products<F: Form>(rows: [&[u8]; ROWS], x: &[f32]) -> [f32; ROWS] {
    #[target_feature(enable = "avx512f,avx512bw")]
    fn wide<F: Form>(rows: [&[u8]; ROWS], x: &[f32]) -> [f32; ROWS] {
        let blocks = x.len() / F::VALUES;
        for row in rows {
            assert!(row.len() >= blocks * F::BYTES);
        }
        let mut chains = [[_mm512_setzero_ps(); 2]; ROWS];
        for block in 0..blocks {
            // SAFETY: each row has as many blocks, and the processor has the features.
            unsafe {
                let mut at = [std::ptr::null(); ROWS];
                for (at, row) in at.iter_mut().zip(rows) {
                    *at = row.as_ptr().add(block * F::BYTES);
                }
                let heads = [F::head(at[0]), F::head(at[1]), F::head(at[2]), F::head(at[3])];
                let x = x.as_ptr().add(block * F::VALUES);
                for part in 0..F::VALUES / LANES {
                    let x = x.add(LANES * part);
                    let x = [_mm512_loadu_ps(x), _mm512_loadu_ps(x.add(16))];
                    for row in 0..ROWS {
                        let values = F::values(at[row], &heads[row], part);
                        for half in 0..2 {
                            chains[row][half] = _mm512_fmadd_ps(values[half], x[half], chains[row][half]);
                        }
                    }
                }
            }
        }
        chains.map(|[first, second]| in_halves(_mm512_add_ps(first, second)))
    }
    // SAFETY: a kernel is found only on processors with these features.
    unsafe { wide::<F>(rows, x) }
}

/// Declares a [`Form`].
macro_rules! form {
    (
        $name:ident, $bytes:literal, $values:literal, $head:ty,
        head($head_block:ident) $head_body:block,
        values($block:ident, $of:ident, $part:pat) $body:block
    ) => {
        struct $name;

        impl Form for $name {
            const BYTES: usize = $bytes;
            const VALUES: usize = $values;
            type Head = $head;

            #[allow(unused_unsafe, reason = "some forms have nothing in front of their values")]
            #[inline(always)]
            unsafe fn head($head_block: *const u8) -> $head {
                // SAFETY: the caller's.
                unsafe { $head_body }
            }

            #[inline(always)]
            unsafe fn values($block: *const u8, $of: &$head, $part: usize) -> [__m512; 2] {
                // SAFETY: the caller's; all that is read belongs to the block.
                unsafe { $body }
            }
        }
    };
}

form!(Bf16, 64, 32, (), head(_block) {}, values(block, _head, _) {
    let first = _mm512_cvtepu16_epi32(_mm256_loadu_si256(block.cast()));
    let second = _mm512_cvtepu16_epi32(_mm256_loadu_si256(block.add(32).cast()));
    [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(first)), _mm512_castsi512_ps(_mm512_slli_epi32::<16>(second))]
});

form!(F16, 64, 32, (), head(_block) {}, values(block, _head, _) {
    let second = block.add(32);
    [_mm512_cvtph_ps(_mm256_loadu_si256(block.cast())), _mm512_cvtph_ps(_mm256_loadu_si256(second.cast()))]
});

form!(Q8_0, 34, 32, __m512, head(block) { half(block) }, values(block, d, _) {
    let first = _mm512_cvtepi8_epi32(_mm_loadu_si128(block.add(2).cast()));
    let second = _mm512_cvtepi8_epi32(_mm_loadu_si128(block.add(18).cast()));
    [_mm512_mul_ps(_mm512_cvtepi32_ps(first), *d), _mm512_mul_ps(_mm512_cvtepi32_ps(second), *d)]
});

form!(Q4_0, 18, 32, __m512, head(block) { _mm512_mul_ps(codes_from(-8.0), half(block)) }, values(block, table, _) {
    looked_up(nibbles(block.add(2)), *table)
});

form!(Q4_1, 20, 32, __m512, head(block) {
    _mm512_add_ps(_mm512_mul_ps(codes_from(0.0), half(block)), half(block.add(2)))
}, values(block, table, _) {
    looked_up(nibbles(block.add(4)), *table)
});

form!(Q5_0, 22, 32, [__m512; 2], head(block) {
    let d = half(block);
    [_mm512_mul_ps(codes_from(-16.0), d), _mm512_mul_ps(codes_from(0.0), d)]
}, values(block, tables, _) {
    with_fifth_bits(nibbles(block.add(6)), block.add(2), tables)
});

form!(Q5_1, 24, 32, [__m512; 2], head(block) {
    let (d, m) = (half(block), half(block.add(2)));
    [
        _mm512_add_ps(_mm512_mul_ps(codes_from(0.0), d), m),
        _mm512_add_ps(_mm512_mul_ps(codes_from(16.0), d), m),
    ]
}, values(block, tables, _) {
    with_fifth_bits(nibbles(block.add(8)), block.add(4), tables)
});

form!(Q4K, 144, 256, ScaleMin, head(block) { scale_min(block) }, values(block, of, part) {
    let codes = nibbles_at(block.add(16 + 32 * (part / 2)), part % 2);
    looked_up(codes, table(of, part, 0.0))
});

form!(Q5K, 176, 256, ScaleMin, head(block) { scale_min(block) }, values(block, of, part) {
    let codes = nibbles_at(block.add(48 + 32 * (part / 2)), part % 2);
    let tables = [table(of, part, 0.0), table(of, part, 16.0)];
    let bit = _mm512_set1_epi32(1 << part);
    let first = _mm512_test_epi32_mask(bytes(block.add(16)), bit);
    let second = _mm512_test_epi32_mask(bytes(block.add(32)), bit);
    looked_up_in_two(codes, [first, second], &tables)
});

form!(Q6K, 210, 256, [f32; 16], head(block) {
    let d = half(block.add(208));
    let mut scales = [0.0; 16];
    let stored = _mm512_cvtepi8_epi32(_mm_loadu_si128(block.add(192).cast()));
    _mm512_storeu_ps(scales.as_mut_ptr(), _mm512_mul_ps(d, _mm512_cvtepi32_ps(stored)));
    scales
}, values(block, scales, part) {
    // Four parts share 64 bytes of lower bits and 32 of upper ones.
    let (of, part_of) = (part / 4, part % 4);
    let low = _mm256_loadu_si256(block.add(64 * of + 32 * (part_of % 2)).cast());
    let high = _mm256_loadu_si256(block.add(128 + 32 * of).cast());
    let low = _mm256_srl_epi16(low, _mm_cvtsi32_si128(4 * (part_of / 2) as i32));
    let high = _mm256_srl_epi16(high, _mm_cvtsi32_si128(2 * part_of as i32));
    let low = _mm256_and_si256(low, _mm256_set1_epi8(15));
    let high = _mm256_slli_epi16::<4>(_mm256_and_si256(high, _mm256_set1_epi8(3)));
    let codes = _mm256_sub_epi8(_mm256_or_si256(low, high), _mm256_set1_epi8(32));
    let first = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_castsi256_si128(codes)));
    let second = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_extracti128_si256::<1>(codes)));
    [
        _mm512_mul_ps(_mm512_set1_ps(scales[2 * part]), first),
        _mm512_mul_ps(_mm512_set1_ps(scales[2 * part + 1]), second),
    ]
});

/// Scales and minima of the eight sub-blocks of a block.
type ScaleMin = [[f32; 8]; 2];

/// They follow two halves, by which they are multiplied: `d` and `dmin`, then twelve bytes of six bits each.
///
/// # Safety
/// As for [`Form::head`].
#[inline(always)]
unsafe fn scale_min(block: *const u8) -> ScaleMin {
    // SAFETY: the caller's; the head of a block has sixteen bytes.
    unsafe {
        let by = [_mm512_cvtss_f32(half(block)), _mm512_cvtss_f32(half(block.add(2)))];
        let mut pairs = [[0.0; 8]; 2];
        for j in 0..4 {
            let (scale, min, low) = (*block.add(4 + j), *block.add(8 + j), *block.add(12 + j));
            let first = [scale & 63, min & 63];
            let second = [low & 15 | scale >> 6 << 4, low >> 4 | min >> 6 << 4];
            for of in 0..2 {
                pairs[of][j] = by[of] * f32::from(first[of]);
                pairs[of][j + 4] = by[of] * f32::from(second[of]);
            }
        }
        pairs
    }
}

/// The values of the sixteen codes from `first` on in a sub-block.
///
/// # Safety
/// As for [`Form::head`].
#[inline(always)]
unsafe fn table(of: &ScaleMin, part: usize, first: f32) -> __m512 {
    // SAFETY: the caller's.
    unsafe {
        let scaled = _mm512_mul_ps(_mm512_set1_ps(of[0][part]), codes_from(first));
        _mm512_sub_ps(scaled, _mm512_set1_ps(of[1][part]))
    }
}

/// The half at `place`, in all lanes.
///
/// # Safety
/// The processor has AVX-512 F, and two bytes can be read.
#[inline(always)]
unsafe fn half(place: *const u8) -> __m512 {
    // SAFETY: the caller's.
    unsafe { _mm512_cvtph_ps(_mm256_set1_epi16(place.cast::<i16>().read_unaligned())) }
}

/// Sixteen numbers from `first` on.
///
/// # Safety
/// The processor has AVX-512 F.
#[inline(always)]
unsafe fn codes_from(first: f32) -> __m512 {
    // SAFETY: the caller's.
    unsafe {
        let counted = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        _mm512_add_ps(_mm512_cvtepi32_ps(counted), _mm512_set1_ps(first))
    }
}

/// Sixteen bytes.
///
/// # Safety
/// The processor has AVX-512 F, and they can be read.
#[inline(always)]
unsafe fn bytes(place: *const u8) -> __m512i {
    // SAFETY: the caller's.
    unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(place.cast())) }
}

/// The lower and the upper halves of sixteen bytes, above which there may be more bits.
///
/// # Safety
/// As for [`bytes`].
#[inline(always)]
unsafe fn nibbles(place: *const u8) -> [__m512i; 2] {
    // SAFETY: the caller's.
    unsafe {
        let bytes = bytes(place);
        [bytes, _mm512_srli_epi32::<4>(bytes)]
    }
}

/// The lower (0) or the upper (1) halves of 32 bytes, above which there may be more bits.
///
/// # Safety
/// As for [`bytes`], twice.
#[inline(always)]
unsafe fn nibbles_at(place: *const u8, which: usize) -> [__m512i; 2] {
    // SAFETY: the caller's.
    unsafe {
        let by = _mm512_set1_epi32(4 * which as i32);
        [_mm512_srlv_epi32(bytes(place), by), _mm512_srlv_epi32(bytes(place.add(16)), by)]
    }
}

/// Looks codes up whose fifth bits are the four bytes at `place`.
///
/// # Safety
/// The processor has AVX-512 F, and they can be read.
#[inline(always)]
unsafe fn with_fifth_bits(codes: [__m512i; 2], place: *const u8, tables: &[__m512; 2]) -> [__m512; 2] {
    // SAFETY: the caller's.
    unsafe {
        let bits = place.cast::<u32>().read_unaligned();
        looked_up_in_two(codes, [bits as u16, (bits >> 16) as u16], tables)
    }
}

/// The values of codes, of which the lower four bits count.
///
/// # Safety
/// The processor has AVX-512 F.
#[inline(always)]
unsafe fn looked_up(codes: [__m512i; 2], table: __m512) -> [__m512; 2] {
    // SAFETY: the caller's.
    unsafe { [_mm512_permutexvar_ps(codes[0], table), _mm512_permutexvar_ps(codes[1], table)] }
}

/// The values of codes, from the second table where the fifth bit is set.
///
/// # Safety
/// The processor has AVX-512 F.
#[inline(always)]
unsafe fn looked_up_in_two(codes: [__m512i; 2], fifth: [u16; 2], tables: &[__m512; 2]) -> [__m512; 2] {
    // SAFETY: the caller's.
    unsafe {
        let [first, second] = looked_up(codes, tables[0]);
        [
            _mm512_mask_permutexvar_ps(first, fifth[0], codes[0], tables[1]),
            _mm512_mask_permutexvar_ps(second, fifth[1], codes[1], tables[1]),
        ]
    }
}
