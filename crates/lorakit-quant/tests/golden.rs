//! Every decoder and encoder equals the reference, bit for bit.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use lorakit_quant::{CODECS, ENCODERS, codec, encoder};
use lorakit_tensor::DType;
use safetensors::SafeTensors;

const FILES: [&str; 3] = ["blocks", "bits", "iq"];
const CASES: [&str; 6] = ["const", "normal", "outlier", "ramp", "uniform", "zeros"];
/// Blocks of types that are only decoded.
const DECODED: [&str; 1] = ["random"];

/// The bytes of every golden tensor.
struct Golden(BTreeMap<String, Vec<u8>>);

impl Golden {
    fn read() -> Golden {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/ggml");
        let tensors = FILES.iter().flat_map(|name| {
            let file = std::fs::read(folder.join(format!("{name}.safetensors"))).unwrap();
            let tensors = SafeTensors::deserialize(&file).unwrap();
            tensors.iter().map(|(name, tensor)| (name.to_owned(), tensor.data().to_vec())).collect::<Vec<_>>()
        });
        Golden(tensors.collect())
    }

    fn bytes(&self, name: &str) -> &[u8] {
        self.0.get(name).unwrap_or_else(|| panic!("there is no golden {name}"))
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.bytes(name).as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    /// The type and case of every `blocks.TYPE.CASE[.imatrix]`.
    fn blocks(&self) -> impl Iterator<Item = (DType, &str)> {
        self.0.keys().filter_map(|name| name.strip_prefix("blocks.")).map(|name| {
            let (dtype, case) = name.split_once('.').unwrap();
            (DType::from_name(dtype).unwrap(), case)
        })
    }
}

#[test]
fn decoders_equal_the_reference() {
    let golden = Golden::read();
    for (dtype, case) in golden.blocks() {
        let expected = golden.floats(&format!("dequant.{dtype}.{case}"));
        let mut values = vec![f32::NAN; expected.len()];
        let codec = codec(dtype).unwrap_or_else(|| panic!("{dtype} has no decoder"));
        codec.decode(golden.bytes(&format!("blocks.{dtype}.{case}")), &mut values);
        for (i, (value, expected)) in values.iter().zip(expected).enumerate() {
            assert_eq!(value.to_bits(), expected.to_bits(), "{dtype} {case} [{i}]: {value} {expected}");
        }
    }
}

#[test]
fn every_block_type_has_goldens() {
    let golden = Golden::read();
    for dtype in CODECS.iter().map(|codec| codec.dtype()).filter(|dtype| is_block_type(*dtype)) {
        let cases = if encoder(dtype).is_some() { &CASES[..] } else { &DECODED };
        for case in cases {
            assert!(golden.blocks().any(|found| found == (dtype, case)), "{dtype} has no golden for {case}");
        }
    }
}

#[test]
fn encoders_equal_the_reference() {
    let golden = Golden::read();
    for encoder in ENCODERS.iter().filter(|encoder| is_block_type(encoder.dtype())) {
        let dtype = encoder.dtype();
        for case in CASES {
            let expected = golden.bytes(&format!("blocks.{dtype}.{case}"));
            let mut bytes = vec![0xaa; expected.len()];
            encoder.encode(&golden.floats(&format!("input.{case}")), &mut bytes);
            assert_equal(&bytes, expected, dtype, case);
        }
        // Types that ignore importance have the same blocks with it.
        let plain = golden.bytes(&format!("blocks.{dtype}.normal"));
        let expected = golden.0.get(&format!("blocks.{dtype}.normal.imatrix")).map_or(plain, Vec::as_slice);
        let (values, importance) = (golden.floats("input.normal"), golden.floats("imatrix.normal"));
        let mut bytes = vec![0xaa; expected.len()];
        encoder.encode_weighted(&values, &importance, &mut bytes);
        assert_equal(&bytes, expected, dtype, "normal with importance");
        assert_eq!(encoder.uses_importance(), expected != plain, "{dtype}");
    }
}

fn is_block_type(dtype: DType) -> bool {
    dtype.block().elements > 1
}

fn assert_equal(found: &[u8], expected: &[u8], dtype: DType, case: &str) {
    let block = dtype.block().bytes;
    for (i, (found, expected)) in found.chunks(block).zip(expected.chunks(block)).enumerate() {
        assert_eq!(found, expected, "{dtype} {case}, block {i}");
    }
}

/// Any values can be encoded, whatever the result, and blocks do not depend on their neighbours.
#[test]
fn encoders_take_any_values() {
    let mut state = 1u32;
    let mut bits = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    for encoder in ENCODERS {
        let block = encoder.dtype().block();
        let values: Vec<f32> = (0..67 * block.elements).map(|_| f32::from_bits(bits())).collect();
        let mut bytes = vec![0; 67 * block.bytes];
        encoder.encode(&values, &mut bytes);
        let mut one = vec![0; block.bytes];
        for (values, bytes) in values.chunks(block.elements).zip(bytes.chunks(block.bytes)) {
            encoder.encode(values, &mut one);
            assert_eq!(one, bytes, "{encoder:?}");
        }
        let importance: Vec<f32> = (0..block.elements).map(|_| f32::from_bits(bits())).collect();
        encoder.encode_weighted(&values, &importance, &mut bytes);
    }
}

/// Values whose scale has no finite inverse are coded as zeros, not as the result of an overflow.
#[test]
fn values_too_small_for_a_scale_are_zeros() {
    for dtype in [DType::TQ1_0, DType::TQ2_0, DType::Q8_0] {
        let encoder = encoder(dtype).expect("has an encoder");
        let block = dtype.block();
        for smallest in [f32::from_bits(1), -f32::from_bits(1)] {
            let (mut bytes, mut zeros) = (vec![0xaa; block.bytes], vec![0xaa; block.bytes]);
            encoder.encode(&vec![smallest; block.elements], &mut bytes);
            encoder.encode(&vec![0.0; block.elements], &mut zeros);
            assert_eq!(bytes, zeros, "{dtype}");
        }
    }
}

/// Any bytes are a block: they may decode to NaN, but never make a decoder panic.
#[test]
fn decoders_take_any_bytes() {
    for codec in CODECS {
        let block = codec.dtype().block();
        let mut values = vec![0.0; 256 * block.elements];
        for byte in 0..=u8::MAX {
            let bytes: Vec<u8> =
                (0..256 * block.bytes).map(|i| byte.wrapping_mul(31) ^ ((i * i) >> 3) as u8).collect();
            codec.decode(&bytes, &mut values);
        }
    }
}
