//! The float codecs against every pattern of the narrow formats, and against the `half` crate.

use half::{bf16, f16};
use lorakit_quant::{codec, encoder};
use lorakit_tensor::DType;

fn decode(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; bytes.len() / dtype.block().bytes];
    codec(dtype).expect("has a codec").decode(bytes, &mut values);
    values
}

fn encode(dtype: DType, values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * dtype.block().bytes];
    encoder(dtype).expect("has an encoder").encode(values, &mut bytes);
    bytes
}

fn halves(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect()
}

/// Every sign, exponent and upper mantissa, with lower bits around the rounding boundaries of both half formats, and
/// a million pseudo-random patterns.
fn patterns() -> Vec<f32> {
    let mut patterns = Vec::new();
    for upper in 0..=u16::MAX {
        let upper = u32::from(upper) << 16;
        for lower in [0, 1, 0x0fff, 0x1000, 0x1001, 0x2fff, 0x3000, 0x3001, 0x7fff, 0x8000, 0x8001, 0xffff] {
            patterns.push(f32::from_bits(upper | lower));
        }
    }
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for _ in 0..1_000_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        patterns.push(f32::from_bits((state >> 32) as u32));
    }
    patterns
}

#[test]
fn every_half_pattern_decodes_as_in_half() {
    let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    for (bits, value) in (0..=u16::MAX).zip(decode(DType::F16, &bytes)) {
        assert_eq!(value.to_bits(), f16::from_bits(bits).to_f32().to_bits(), "{bits:04x}");
    }
    for (bits, value) in (0..=u16::MAX).zip(decode(DType::BF16, &bytes)) {
        assert_eq!(value.to_bits(), u32::from(bits) << 16, "{bits:04x}");
    }
}

#[test]
fn every_half_pattern_survives_a_round_trip() {
    let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    for (dtype, infinity, quiet) in [(DType::F16, 0x7c00, 0x0200), (DType::BF16, 0x7f80, 0x0040)] {
        for (bits, back) in (0..=u16::MAX).zip(halves(&encode(dtype, &decode(dtype, &bytes)))) {
            let nan = bits & 0x7fff > infinity;
            assert_eq!(back, if nan { bits | quiet } else { bits }, "{dtype} {bits:04x}");
        }
    }
}

#[test]
fn halves_round_as_in_half() {
    let values = patterns();
    let (f16s, bf16s) = (halves(&encode(DType::F16, &values)), halves(&encode(DType::BF16, &values)));
    for ((value, ours), theirs) in values.iter().zip(f16s).zip(values.iter().map(|v| f16::from_f32(*v))) {
        assert_eq!(ours, theirs.to_bits(), "F16 of {:08x}", value.to_bits());
    }
    for ((value, ours), theirs) in values.iter().zip(bf16s).zip(values.iter().map(|v| bf16::from_f32(*v))) {
        assert_eq!(ours, theirs.to_bits(), "BF16 of {:08x}", value.to_bits());
    }
}

#[test]
fn halves_keep_what_is_special() {
    let values = [f32::INFINITY, -f32::INFINITY, -0.0, 65519.996, 65520.0, f32::MAX, 1e-40];
    assert_eq!(halves(&encode(DType::F16, &values)), [0x7c00, 0xfc00, 0x8000, 0x7bff, 0x7c00, 0x7c00, 0]);
    assert_eq!(halves(&encode(DType::BF16, &values)), [0x7f80, 0xff80, 0x8000, 0x4780, 0x4780, 0x7f80, 1]);
    // A NaN whose payload is in the bits that are cut.
    let nan = [f32::from_bits(0x7f80_0001), f32::from_bits(0xff80_0001)];
    assert_eq!(halves(&encode(DType::F16, &nan)), [0x7e00, 0xfe00]);
    assert_eq!(halves(&encode(DType::BF16, &nan)), [0x7fc0, 0xffc0]);
}

#[test]
fn wide_floats_keep_every_value() {
    let values = patterns();
    for dtype in [DType::F32, DType::F64] {
        for (value, back) in values.iter().zip(decode(dtype, &encode(dtype, &values))) {
            assert!(
                value.to_bits() == back.to_bits() || value.is_nan() && back.is_nan(),
                "{dtype} of {value:e}"
            );
        }
    }
}

#[test]
fn doubles_round_to_nearest_even() {
    let tie = 1.0 + f64::from(f32::EPSILON) / 2.0;
    let bytes: Vec<u8> = [tie, tie.next_up(), 1e300, -1e-300].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(decode(DType::F64, &bytes), [1.0, 1.0 + f32::EPSILON, f32::INFINITY, -0.0]);
}
