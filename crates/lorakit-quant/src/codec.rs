//! The codec traits and the tables of all types.

use std::fmt::Debug;

use lorakit_tensor::DType;

use crate::float::{BF16, F16, F32, F64, all_finite};
use crate::float8::{F8_E4M3, F8_E5M2, F8_E8M0};
use crate::ggml::*;

/// Turns the packed bytes of one type into values.
pub trait Codec: Send + Sync + Debug {
    /// The type decoded.
    fn dtype(&self) -> DType;

    /// Decodes `bytes` into `values`.
    ///
    /// # Panics
    ///
    /// If `values` is not a whole number of blocks, or `bytes` is not the size of as many blocks.
    fn decode(&self, bytes: &[u8], values: &mut [f32]);

    /// Whether `bytes`, which are whole blocks, hold neither NaN nor infinity. An `F64` too large for an `f32` is
    /// finite.
    fn all_finite(&self, bytes: &[u8]) -> bool {
        /// A multiple of every block size.
        const PIECE: usize = 4096;
        let block = self.dtype().block();
        let mut values = [0.0; PIECE];
        bytes.chunks(PIECE / block.elements * block.bytes).all(|bytes| {
            let values = &mut values[..bytes.len() / block.bytes * block.elements];
            self.decode(bytes, values);
            all_finite(values)
        })
    }
}

/// Turns values into the packed bytes of one type.
pub trait Encoder: Send + Sync + Debug {
    /// The type encoded.
    fn dtype(&self) -> DType;

    /// Encodes `values` into `bytes`.
    ///
    /// # Panics
    ///
    /// If `values` is not a whole number of blocks, or `bytes` is not the size of as many blocks.
    fn encode(&self, values: &[f32], bytes: &mut [u8]);

    /// Whether [`Self::encode_weighted`] differs from [`Self::encode`].
    fn uses_importance(&self) -> bool {
        false
    }

    /// Encodes rows of `importance.len()` values, where errors in column `i` count `importance[i]` times: the mean
    /// square of the activations that the column meets, as an importance matrix records it.
    ///
    /// # Panics
    ///
    /// As [`Self::encode`], and if `values` is not a whole number of rows.
    fn encode_weighted(&self, values: &[f32], importance: &[f32], bytes: &mut [u8]) {
        let _ = importance;
        self.encode(values, bytes);
    }
}

/// Every type that can be decoded.
pub const CODECS: &[&dyn Codec] = &[
    &F64, &F32, &F16, &BF16, //
    &F8_E4M3, &F8_E5M2, &F8_E8M0, //
    &Q4_0, &Q4_1, &Q5_0, &Q5_1, &Q8_0, //
    &Q2_K, &Q3_K, &Q4_K, &Q5_K, &Q6_K, //
    &IQ1_S, &IQ1_M, &IQ2_XXS, &IQ2_XS, &IQ2_S, &IQ3_XXS, &IQ3_S, &IQ4_NL, &IQ4_XS, //
    &MXFP4, &NVFP4, //
    &TQ1_0, &TQ2_0, &Q1_0, &Q2_0,
];

/// Every type that can be encoded.
pub const ENCODERS: &[&dyn Encoder] = &[
    &F64, &F32, &F16, &BF16, &F8_E4M3, &F8_E5M2, //
    &Q4_0, &Q4_1, &Q5_0, &Q5_1, &Q8_0, //
    &Q2_K, &Q3_K, &Q4_K, &Q5_K, &Q6_K, //
    &IQ4_NL, &IQ4_XS, //
    &MXFP4, &NVFP4, //
    &TQ1_0, &TQ2_0, &Q1_0, &Q2_0,
];

/// The decoder of a type, if there is one.
pub fn codec(dtype: DType) -> Option<&'static dyn Codec> {
    CODECS.iter().copied().find(|codec| codec.dtype() == dtype)
}

/// The encoder of a type, if there is one.
pub fn encoder(dtype: DType) -> Option<&'static dyn Encoder> {
    ENCODERS.iter().copied().find(|encoder| encoder.dtype() == dtype)
}

/// Panics unless `values` values of `dtype` are whole blocks of `bytes` bytes in all.
#[track_caller]
pub(crate) fn assert_whole_blocks(dtype: DType, values: usize, bytes: usize) {
    let needed = dtype.byte_len(values as u64);
    assert!(needed == Some(bytes as u64), "{values} values of {dtype} do not fit {bytes} bytes");
}

/// Panics unless `values` values are whole rows of `columns`.
#[track_caller]
pub(crate) fn assert_whole_rows(values: usize, columns: usize) {
    let whole = values == 0 || columns > 0 && values.is_multiple_of(columns);
    assert!(whole, "{values} values are not whole rows of {columns}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_found_once() {
        for listed in CODECS {
            assert_eq!(
                CODECS.iter().filter(|other| other.dtype() == listed.dtype()).count(),
                1,
                "{listed:?}"
            );
            assert_eq!(codec(listed.dtype()).map(|found| found.dtype()), Some(listed.dtype()));
        }
        for listed in ENCODERS {
            assert_eq!(encoder(listed.dtype()).map(|found| found.dtype()), Some(listed.dtype()));
            assert!(codec(listed.dtype()).is_some(), "{listed:?} is written but never read");
        }
        assert!(codec(DType::BOOL).is_none());
    }

    #[test]
    fn no_values_are_no_bytes() {
        CODECS.iter().for_each(|codec| codec.decode(&[], &mut []));
        ENCODERS.iter().for_each(|encoder| encoder.encode(&[], &mut []));
    }

    /// The shortcut by bits agrees with decoding, for every byte of every type in every place of a block; nothing is
    /// refused for the one type whose every bit pattern is a number.
    #[test]
    fn finite_is_what_decodes_to_finite_values() {
        for codec in CODECS {
            let block = codec.dtype().block();
            let mut bad = 0;
            // Two bytes at each place, and the whole block, because IQ1_M has its scale in four places.
            let places = (0..block.bytes).map(|place| (place, 2.min(block.bytes - place)));
            for (place, len) in places.chain([(0, block.bytes)]) {
                for byte in [0x00, 0x7b, 0x7c, 0x7e, 0x7f, 0x80, 0xf0, 0xfc, 0xff] {
                    let mut bytes = vec![0x3c; block.bytes * 3];
                    bytes[block.bytes + place..][..len].fill(byte);
                    let mut values = vec![0.0; block.elements * 3];
                    codec.decode(&bytes, &mut values);
                    let finite = match codec.dtype() {
                        DType::F64 => bytes.as_chunks().0.iter().all(|v| f64::from_le_bytes(*v).is_finite()),
                        _ => values.iter().all(|v| v.is_finite()),
                    };
                    assert_eq!(codec.all_finite(&bytes), finite, "{codec:?} {place} {byte:#x}");
                    bad += usize::from(!finite);
                }
            }
            let always = codec.dtype() == DType::NVFP4;
            assert_eq!(bad == 0, always, "{codec:?}");
        }
        assert!(F64.all_finite(&1e300f64.to_le_bytes()) && !F64.all_finite(&f64::INFINITY.to_le_bytes()));
        assert!(Q8_0.all_finite(&[0; 34 * 1000]) && F32.all_finite(&[]));
    }

    #[test]
    #[should_panic(expected = "31 values of Q4_0 do not fit 18 bytes")]
    fn a_partial_block_is_a_bug() {
        Q4_0.decode(&[0; 18], &mut [0.0; 31]);
    }
}
