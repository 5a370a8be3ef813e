//! The block types of ggml, one file each: the layout of a block, and what its values are.
//!
//! In the diagrams, `f16` fields and wider integers are little-endian; `l` counts bytes, `code` is an unsigned integer
//! unless noted otherwise. Types of 32 values have one scale; types of 256 values (`_K`, `XS`) have sub-blocks of 16 or
//! 32 values whose scales are themselves quantised.
//!
//! The inner loops take 32 values at a time where they can: the compiler unrolls shorter ones before it tries to
//! vectorise them, and then fails to.

use crate::float::{f16_to_f32, f32_to_f16};

/// Declares a type: its codec, and its block as fields of bytes in the order of the file.
///
/// The file adds `Block::decode`, which turns one block into its values.
macro_rules! block_type {
    ($name:ident { $($field:ident: $bytes:literal),+ }) => {
        #[allow(non_camel_case_types, reason = "spelled as the specification spells it")]
        #[derive(Debug)]
        pub(crate) struct $name;

        /// One block, as stored.
        struct Block {
            $($field: [u8; $bytes],)+
        }

        const BYTES: usize = lorakit_tensor::DType::$name.block().bytes;
        const VALUES: usize = lorakit_tensor::DType::$name.block().elements;
        const _: () = assert!(size_of::<Block>() == BYTES);

        impl Block {
            #[inline(always)]
            fn read(bytes: &[u8; BYTES]) -> Block {
                let mut rest = bytes.as_slice();
                Block { $($field: crate::ggml::take(&mut rest),)+ }
            }
        }

        impl crate::codec::Codec for $name {
            fn dtype(&self) -> lorakit_tensor::DType {
                lorakit_tensor::DType::$name
            }

            fn decode(&self, bytes: &[u8], values: &mut [f32]) {
                wide! {
                    fn decode(bytes: &[u8], values: &mut [f32]) {
                        for (bytes, values) in bytes.as_chunks().0.iter().zip(values.as_chunks_mut().0) {
                            Block::read(bytes).decode(values);
                        }
                    }
                }
                crate::codec::assert_whole_blocks(self.dtype(), values.len(), bytes.len());
                decode(bytes, values);
            }
        }
    };
}

/// Declares how a block is written: its fields in the order of the file.
macro_rules! block_writer {
    ({ $($field:ident),+ }) => {
        impl Block {
            #[inline(always)]
            fn write(&self, bytes: &mut [u8; BYTES]) {
                let mut rest = bytes.as_mut_slice();
                $(crate::ggml::put(&mut rest, &self.$field);)+
            }
        }
    };
}

/// Declares the encoder of a type whose blocks are coded one by one.
///
/// The file adds `Block::encode`, which turns the values of a block into the block; for a `weighted` type also
/// `Block::encode_weighted`, which turns 32 blocks of values side by side and their weights into blocks.
macro_rules! block_encoder {
    ($name:ident { $($field:ident),+ }) => {
        block_encoder!($name { $($field),+ } {});
    };
    ($name:ident { $($field:ident),+ }, weighted) => {
        block_encoder!($name { $($field),+ } {
            fn uses_importance(&self) -> bool {
                true
            }

            fn encode_weighted(&self, values: &[f32], importance: &[f32], bytes: &mut [u8]) {
                wide! {
                    fn encode(values: &[f32], importance: &[f32], bytes: &mut [u8]) {
                        use crate::ggml::search::weight;

                        // Blocks are coded here, not in a closure, which would be compiled for the narrowest width.
                        let columns = importance.as_chunks().0;
                        let mut bytes = bytes.as_chunks_mut().0.iter_mut();
                        for row in values.chunks(importance.len().max(1)) {
                            let mean = weight::sum_of_squares(row) / row.len() as f32;
                            for (blocks, columns) in row.as_chunks().0.chunks(32).zip(columns.chunks(32)) {
                                let (x, w) = weight::side_by_side(blocks, columns, mean);
                                let coded = Block::encode_weighted(&x, &w);
                                for (block, bytes) in coded.iter().take(blocks.len()).zip(&mut bytes) {
                                    block.write(bytes);
                                }
                            }
                        }
                    }
                }
                crate::codec::assert_whole_blocks(self.dtype(), values.len(), bytes.len());
                crate::codec::assert_whole_rows(values.len(), importance.len());
                encode(values, importance, bytes);
            }
        });
    };
    ($name:ident { $($field:ident),+ } { $($weighted:item)* }) => {
        block_writer!({ $($field),+ });

        impl crate::codec::Encoder for $name {
            fn dtype(&self) -> lorakit_tensor::DType {
                lorakit_tensor::DType::$name
            }

            fn encode(&self, values: &[f32], bytes: &mut [u8]) {
                wide! {
                    fn encode(values: &[f32], bytes: &mut [u8]) {
                        for (values, bytes) in values.as_chunks().0.iter().zip(bytes.as_chunks_mut().0) {
                            Block::encode(values).write(bytes);
                        }
                    }
                }
                crate::codec::assert_whole_blocks(lorakit_tensor::DType::$name, values.len(), bytes.len());
                encode(values, bytes);
            }

            $($weighted)*
        }
    };
}

/// Declares the encoder of a type whose scales are searched for, several blocks side by side.
///
/// The file adds `GROUP`, the number of blocks, and `Block::encode`, which turns the values of a group, and the
/// importances of their columns, if any, into blocks.
macro_rules! super_block_encoder {
    ($name:ident { $($field:ident),+ }) => {
        block_writer!({ $($field),+ });

        impl crate::codec::Encoder for $name {
            fn dtype(&self) -> lorakit_tensor::DType {
                lorakit_tensor::DType::$name
            }

            fn encode(&self, values: &[f32], bytes: &mut [u8]) {
                crate::codec::assert_whole_blocks(lorakit_tensor::DType::$name, values.len(), bytes.len());
                encode(values, None, bytes);
            }

            fn uses_importance(&self) -> bool {
                true
            }

            fn encode_weighted(&self, values: &[f32], importance: &[f32], bytes: &mut [u8]) {
                crate::codec::assert_whole_blocks(lorakit_tensor::DType::$name, values.len(), bytes.len());
                crate::codec::assert_whole_rows(values.len(), importance.len());
                encode(values, Some(importance), bytes);
            }
        }

        wide! {
            fn encode(values: &[f32], importance: Option<&[f32]>, bytes: &mut [u8]) {
                let (blocks, bytes) = (values.as_chunks::<VALUES>().0, bytes.as_chunks_mut::<BYTES>().0);
                let columns = importance.map(|importance| importance.as_chunks::<VALUES>().0);
                for (n, (group, bytes)) in blocks.chunks(GROUP).zip(bytes.chunks_mut(GROUP)).enumerate() {
                    // A group with too few blocks repeats its last one.
                    let at = |i: usize| i.min(group.len() - 1);
                    let values = std::array::from_fn(|i| &group[at(i)]);
                    let columns = columns.map(|columns| {
                        std::array::from_fn(|i| &columns[(n * GROUP + at(i)) % columns.len()])
                    });
                    for (block, bytes) in Block::encode(values, columns).iter().zip(bytes) {
                        block.write(bytes);
                    }
                }
            }
        }
    };
}

mod e2m1;
mod extremes;
mod grid;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod mxfp4;
mod nvfp4;
mod q1_0;
mod q2_0;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod scale_min;
mod search;
mod tq1_0;
mod tq2_0;

pub(crate) use iq1_m::IQ1_M;
pub(crate) use iq1_s::IQ1_S;
pub(crate) use iq2_s::IQ2_S;
pub(crate) use iq2_xs::IQ2_XS;
pub(crate) use iq2_xxs::IQ2_XXS;
pub(crate) use iq3_s::IQ3_S;
pub(crate) use iq3_xxs::IQ3_XXS;
pub(crate) use iq4_nl::IQ4_NL;
pub(crate) use iq4_xs::IQ4_XS;
pub(crate) use mxfp4::MXFP4;
pub(crate) use nvfp4::NVFP4;
pub(crate) use q1_0::Q1_0;
pub(crate) use q2_0::Q2_0;
pub(crate) use q2_k::Q2_K;
pub(crate) use q3_k::Q3_K;
pub(crate) use q4_0::Q4_0;
pub(crate) use q4_1::Q4_1;
pub(crate) use q4_k::Q4_K;
pub(crate) use q5_0::Q5_0;
pub(crate) use q5_1::Q5_1;
pub(crate) use q5_k::Q5_K;
pub(crate) use q6_k::Q6_K;
pub(crate) use q8_0::Q8_0;
pub(crate) use tq1_0::TQ1_0;
pub(crate) use tq2_0::TQ2_0;

/// Splits the next field off the bytes of a block.
#[inline(always)]
fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (field, rest) = bytes.split_first_chunk().expect("a block is as long as its fields");
    *bytes = rest;
    *field
}

/// Writes the next field of a block.
#[inline(always)]
fn put<const N: usize>(bytes: &mut &mut [u8], field: &[u8; N]) {
    let (place, rest) = std::mem::take(bytes).split_at_mut(N);
    place.copy_from_slice(field);
    *bytes = rest;
}

/// The `f16` field nearest to a value.
#[inline(always)]
fn to_half(value: f32) -> [u8; 2] {
    f32_to_f16(value).to_le_bytes()
}

/// The code of each value. A plain loop: `array::from_fn` and `map` may not be inlined, and then miss the wide vectors.
#[inline(always)]
fn codes_of<const N: usize>(values: &[f32; N], code: impl Fn(f32) -> u8) -> [u8; N] {
    let mut codes = [0; N];
    for (codes, value) in codes.iter_mut().zip(values) {
        *codes = code(*value);
    }
    codes
}

/// `1 / value`, and 0 for 0.
#[inline(always)]
fn inverse(value: f32) -> f32 {
    if value == 0.0 { 0.0 } else { 1.0 / value }
}

/// Adding it removes the fraction and leaves the integer in the lowest bits: from 2²³ to 2²⁴ the unit in the last place
/// is 1.
const ROUNDING: f32 = 12_582_912.0;

/// The integer part of a value from 0 to 2²¹, modulo 256. Infinities and the NaN of 0 · ∞ become 0, as in C on x86;
/// they are products of values so small that the inverse of their scale is infinite. A plain `as` is not vectorised.
#[inline(always)]
fn integer_part(value: f32) -> u8 {
    let nearest = (value + ROUNDING) - ROUNDING;
    let below = if nearest > value { nearest - 1.0 } else { nearest };
    (below + ROUNDING).to_bits() as u8
}

/// The nearest integer, halves away from zero, in the range of `i8`; values that are not finite are treated as by
/// [`integer_part`].
#[inline(always)]
fn round(value: f32) -> i8 {
    /// The largest below one half: adding one half itself would round 0.49999997 up.
    const ALMOST_HALF: f32 = 0.499_999_97;
    let magnitude = integer_part(value.abs() + ALMOST_HALF) as i8;
    if value < 0.0 { magnitude.wrapping_neg() } else { magnitude }
}

/// The value of an `f16` field.
#[inline(always)]
fn half(field: [u8; 2]) -> f32 {
    f16_to_f32(u16::from_le_bytes(field))
}

/// The lower two bits of 256 codes: each byte holds values 32 apart.
#[inline(always)]
fn pairs_of_bits(codes: &[u8; 256]) -> [u8; 64] {
    let mut bytes = [0; 64];
    for (bytes, codes) in bytes.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<128>().0) {
        for (l, byte) in bytes.iter_mut().enumerate() {
            let of = |i: usize| codes[32 * i + l] & 3;
            *byte = of(0) | of(1) << 2 | of(2) << 4 | of(3) << 6;
        }
    }
    bytes
}

/// Bit 4 of each 5-bit code, in order.
#[inline(always)]
fn fifth_bits(codes: &[u8; 32]) -> [u8; 4] {
    /// Bit `8i` times this sets bit `56 + i`, where the other 7 do not collide.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let mut bits = [0; 4];
    for (bits, codes) in bits.iter_mut().zip(codes.as_chunks().0) {
        let fifth = u64::from_le_bytes(*codes) >> 4 & 0x0101_0101_0101_0101;
        *bits = (fifth.wrapping_mul(GATHER) >> 56) as u8;
    }
    bits
}

/// The bytes of 4-bit codes, the first half of the codes in bits 0–3.
#[inline(always)]
fn to_nibbles<const N: usize, const HALF: usize>(codes: &[u8; N]) -> [u8; HALF] {
    const { assert!(N == 2 * HALF) };
    let mut bytes = [0; HALF];
    for (l, byte) in bytes.iter_mut().enumerate() {
        *byte = codes[l] & 15 | (codes[l + HALF] & 15) << 4;
    }
    bytes
}

/// The `N` 4-bit codes of `N / 2` bytes: bits 0–3 of each, then bits 4–7 of each.
#[inline(always)]
fn nibbles<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut codes = [0; N];
    let (low, high) = codes.split_at_mut(N / 2);
    for ((byte, low), high) in bytes.iter().zip(low).zip(high) {
        *low = byte & 15;
        *high = byte >> 4;
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_those_of_the_standard_library() {
        let around =
            |x: f32| (-3..=3).map(move |ulps| f32::from_bits(x.to_bits().saturating_add_signed(ulps)));
        for value in (0..512).flat_map(|halves| around(halves as f32 / 2.0)).filter(|value| *value < 255.5) {
            assert_eq!(integer_part(value), value as u8, "{value}");
        }
        for value in (0..=254).flat_map(|halves| around(halves as f32 / 2.0)) {
            assert_eq!(round(value), value.round() as i8, "{value}");
            assert_eq!(round(-value), -value.round() as i8, "-{value}");
        }
    }

    #[test]
    fn fifth_bits_keep_their_order() {
        for l in 0..32 {
            let mut codes = [15; 32];
            codes[l] = 31;
            assert_eq!(u32::from_le_bytes(fifth_bits(&codes)), 1 << l);
        }
        assert_eq!(fifth_bits(&[16; 32]), [255; 4]);
    }
}
