//! Every decoder and encoder equals the reference, bit for bit.

use std::collections::BTreeSet;
use std::path::Path;

use lorakit_quant::{CODECS, ENCODERS, codec, encoder};
use lorakit_tensor::DType;
use safetensors::SafeTensors;

const CASES: [&str; 6] = ["const", "normal", "outlier", "ramp", "uniform", "zeros"];

fn golden() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/ggml/blocks.safetensors");
    std::fs::read(path).expect("the golden is readable")
}

/// Splits `blocks.TYPE.CASE[.imatrix]`.
fn parse(name: &str) -> Option<(DType, &str)> {
    let (dtype, case) = name.strip_prefix("blocks.")?.split_once('.')?;
    Some((DType::from_name(dtype)?, case))
}

#[test]
fn decoders_equal_the_reference() {
    let file = golden();
    let golden = SafeTensors::deserialize(&file).unwrap();
    let names = golden.names();
    for codec in CODECS.iter().filter(|codec| codec.dtype().block().elements > 1) {
        let dtype = codec.dtype();
        let cases: BTreeSet<&str> = names
            .iter()
            .filter_map(|name| parse(name))
            .filter(|(d, _)| *d == dtype)
            .map(|(_, c)| c)
            .collect();
        for case in CASES {
            assert!(cases.contains(case), "{dtype} has no golden for {case}");
        }
        for case in cases {
            let blocks = golden.tensor(&format!("blocks.{dtype}.{case}")).unwrap();
            let expected = golden.tensor(&format!("dequant.{dtype}.{case}")).unwrap();
            let expected: Vec<u32> =
                expected.data().as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();

            let mut values = vec![f32::NAN; expected.len()];
            codec.decode(blocks.data(), &mut values);
            for (i, (value, expected)) in values.iter().zip(expected).enumerate() {
                let expected = f32::from_bits(expected);
                assert_eq!(value.to_bits(), expected.to_bits(), "{dtype} {case} [{i}]: {value} {expected}");
            }
        }
    }
}

#[test]
fn encoders_equal_the_reference() {
    let file = golden();
    let golden = SafeTensors::deserialize(&file).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        let tensor = golden.tensor(name).unwrap();
        tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    for encoder in ENCODERS.iter().filter(|encoder| encoder.dtype().ggml_id().is_some()) {
        let dtype = encoder.dtype();
        if dtype.block().elements == 1 {
            continue;
        }
        for case in CASES {
            let values = floats(&format!("input.{case}"));
            let expected = golden.tensor(&format!("blocks.{dtype}.{case}")).unwrap();
            let mut bytes = vec![0xaa; expected.data().len()];
            encoder.encode(&values, &mut bytes);
            assert_equal(&bytes, expected.data(), dtype, case);
        }
        let values = floats("input.normal");
        let importance = floats("imatrix.normal");
        let weighted = golden.tensor(&format!("blocks.{dtype}.normal.imatrix"));
        let plain = golden.tensor(&format!("blocks.{dtype}.normal")).unwrap();
        let expected = weighted.as_ref().unwrap_or(&plain);
        let mut bytes = vec![0xaa; expected.data().len()];
        encoder.encode_weighted(&values, &importance, &mut bytes);
        assert_equal(&bytes, expected.data(), dtype, "normal with importance");
        assert_eq!(encoder.uses_importance(), expected.data() != plain.data(), "{dtype}");
    }
}

fn assert_equal(found: &[u8], expected: &[u8], dtype: DType, case: &str) {
    let block = dtype.block().bytes;
    for (i, (found, expected)) in found.chunks(block).zip(expected.chunks(block)).enumerate() {
        assert_eq!(found, expected, "{dtype} {case}, block {i}");
    }
}

/// Any values can be encoded, whatever comes of it, and blocks do not depend on their neighbours.
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

/// Values whose scale has no finite inverse are coded as zeros, not as whatever an overflow leaves.
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

#[test]
fn every_golden_has_a_codec() {
    let file = golden();
    for name in SafeTensors::deserialize(&file).unwrap().names() {
        if name.starts_with("blocks.") {
            assert!(parse(name).is_some_and(|(dtype, _)| codec(dtype).is_some()), "{name}");
        }
    }
}

/// Any bytes are a block: what they hold may be a NaN, but never makes a decoder panic.
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
