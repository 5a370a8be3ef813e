//! How a quantised checkpoint looks to readers, to the bit.

use std::fs;

use lorakit_tensor::ReadMode;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use super::{MODULE, bytes, golden, norm, seen, write_model};
use crate::support::{Sandbox, entries, fixtures};
use crate::weights::{Tensor, Weights};

/// The weights that are seen instead of `packed`, which must be decoded by the named scheme.
fn decoded(packed: Weights, quantization: Value, scheme: &str) -> Weights {
    let sandbox = Sandbox::new();
    write_model(&sandbox.path("model"), &packed, quantization);
    let (weights, packing) = seen(&sandbox.path("model"), ReadMode::Mapped);
    assert_eq!(packing.as_deref(), Some(scheme));
    let (positioned, _) = seen(&sandbox.path("model"), ReadMode::Positioned);
    assert_eq!(positioned, weights);
    weights
}

fn f32s(shape: &[usize], values: impl Iterator<Item = f32>) -> Tensor {
    bytes(Dtype::F32, shape, values.flat_map(f32::to_le_bytes).collect())
}

#[test]
fn four_bits_decode_to_what_bitsandbytes_decodes() {
    let names = entries(&fixtures().join("golden/bnb"));
    let cases: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix(".safetensors")).collect();
    assert_eq!(cases.len(), 68);
    for case in cases {
        let (packed, dequantized) = golden(case);
        let mut scheme = format!("bitsandbytes {}", case[..3].to_uppercase());
        if let Some(block) = ["128", "256"].iter().find(|block| case.contains(&format!("b{block}"))) {
            scheme.push_str(&format!(", blocks of {block}"));
        }
        if case.ends_with("-dq") {
            scheme.push_str(", double quantised");
        }
        let weight = format!("{MODULE}.weight");
        let weights =
            decoded(packed, json!({ "quant_method": "bitsandbytes" }), &format!("{scheme}: {weight}"));
        let expected = [(weight, dequantized), ("model.norm.weight".into(), norm())];
        assert_eq!(weights, expected.into(), "{case}");
    }
}

/// Codes may be stored as any dtype (`bnb_4bit_quant_storage`); the bytes are the same.
#[test]
fn codes_stored_as_another_dtype() {
    let (mut packed, dequantized) = golden("nf4-bf16-normal-b64");
    let codes = packed.get_mut(&format!("{MODULE}.weight")).unwrap();
    (codes.dtype, codes.shape) = (Dtype::BF16, vec![codes.bytes.len() / 2, 1]);
    let weights = decoded(packed, json!({}), &format!("bitsandbytes NF4: {MODULE}.weight"));
    assert_eq!(weights[&format!("{MODULE}.weight")], dequantized);
}

#[test]
fn eight_bits_of_bitsandbytes() {
    let codes: Vec<u8> = (0..3 * 5).map(|i| (i * 17) as u8).collect();
    let scb = [0.5_f32, 3.0, 0.0];
    let expected: Vec<f32> =
        (0..15).map(|i| f32::from(codes[i] as i8) * scb[i / 5] * 0.007_874_016_f32).collect();
    let packed = [
        (format!("{MODULE}.weight"), bytes(Dtype::I8, &[3, 5], codes)),
        (format!("{MODULE}.SCB"), f32s(&[3], scb.into_iter())),
        (format!("{MODULE}.weight_format"), bytes(Dtype::U8, &[], vec![0])),
    ];
    let weights = decoded(packed.into(), json!({}), &format!("bitsandbytes LLM.int8: {MODULE}.weight"));
    assert_eq!(weights, [(format!("{MODULE}.weight"), f32s(&[3, 5], expected.into_iter()))].into());
}

/// The value of E4M3 bits by definition.
fn e4m3(bits: u8) -> f32 {
    let (power, fraction) = (i32::from(bits >> 3 & 15), f32::from(bits & 7) / 8.0);
    let magnitude = if power == 0 { fraction / 64.0 } else { (1.0 + fraction) * 2f32.powi(power - 7) };
    if bits < 128 { magnitude } else { -magnitude }
}

/// E4M3 codes without NaN.
fn codes(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i * 37 % 251) as u8).map(|code| if code & 0x7f == 0x7f { 0 } else { code }).collect()
}

fn bf16_scales(count: usize) -> Vec<f64> {
    (0..count).map(|i| 0.25 + i as f64 / 8.0).collect()
}

/// Weights `[rows, cols]` with scales of tiles are seen as `F32` products.
#[track_caller]
fn assert_fp8(shape: [usize; 2], tile: [usize; 2], name: &str, scales: Tensor, values: &[f32], scheme: &str) {
    let [rows, cols] = shape;
    let (codes, across) = (codes(rows * cols), cols.div_ceil(tile[1]));
    let product = |i: usize| e4m3(codes[i]) * values[i / cols / tile[0] * across + i % cols / tile[1]];
    let expected = f32s(&shape, (0..rows * cols).map(product));
    let packed = [
        (format!("{MODULE}.weight"), bytes(Dtype::F8_E4M3, &shape, codes.clone())),
        (format!("{MODULE}.{name}"), scales),
        (format!("{MODULE}.input_scale"), f32s(&[], [0.5].into_iter())),
        (format!("{MODULE}.bias"), norm()),
    ];
    let weights =
        decoded(packed.into(), json!({ "quant_method": "fp8" }), &format!("{scheme}: {MODULE}.weight"));
    let expected = [(format!("{MODULE}.weight"), expected), (format!("{MODULE}.bias"), norm())];
    assert_eq!(weights, expected.into());
}

#[test]
fn fp8_blocks_with_ragged_edges() {
    let values: Vec<f32> = (0..6).map(|i| 0.1 + i as f32).collect();
    let scales = f32s(&[2, 3], values.iter().copied());
    assert_fp8([200, 300], [128, 128], "weight_scale_inv", scales, &values, "FP8 blocks of 128x128");
}

#[test]
fn fp8_scales_of_sixteen_bits() {
    let values = bf16_scales(6);
    let scales = Tensor::new(Dtype::BF16, &[2, 3], &values);
    let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
    assert_fp8([200, 300], [128, 128], "weight_scale_inv", scales, &values, "FP8 blocks of 128x128");
}

#[test]
fn fp8_scales_that_are_powers_of_two() {
    let exponents = vec![120, 127, 130, 100, 128, 126];
    let values: Vec<f32> = exponents.iter().map(|e| 2f32.powi(i32::from(*e) - 127)).collect();
    for dtype in [Dtype::U8, Dtype::F8_E8M0] {
        let scales = bytes(dtype, &[2, 3], exponents.clone());
        assert_fp8([256, 384], [128, 128], "weight_scale_inv", scales, &values, "FP8 blocks of 128x128");
    }
}

#[test]
fn fp8_rows_and_tensors() {
    let values: Vec<f32> = (0..40).map(|i| 0.3 + i as f32).collect();
    for shape in [vec![40, 1], vec![40]] {
        let scales = f32s(&shape, values.iter().copied());
        assert_fp8([40, 24], [1, 24], "weight_scale", scales, &values, "FP8 with a scale for each row");
    }
    for shape in [vec![], vec![1], vec![1, 1]] {
        let scales = f32s(&shape, [0.7].into_iter());
        assert_fp8([40, 24], [40, 24], "weight_scale", scales, &[0.7], "FP8 with a scale for each tensor");
    }
}

#[test]
fn mxfp8() {
    let exponents: Vec<u8> = (0..40 * 3).map(|i| 115 + (i % 20) as u8).collect();
    let values: Vec<f32> = exponents.iter().map(|e| 2f32.powi(i32::from(*e) - 127)).collect();
    let scales = bytes(Dtype::U8, &[40, 3], exponents);
    assert_fp8([40, 96], [1, 32], "weight_scale", scales, &values, "MXFP8");
}

/// Stacked experts: each has its own blocks, and those of one do not reach into the next.
#[test]
fn fp8_of_stacked_experts() {
    let (experts, rows, cols) = (3, 130, 40);
    let codes = codes(experts * rows * cols);
    let scales: Vec<f32> = (0..experts * 2).map(|i| 1.0 + i as f32).collect();
    let product = |i: usize| e4m3(codes[i]) * scales[i / (rows * cols) * 2 + i % (rows * cols) / cols / 128];
    let expected = f32s(&[experts, rows, cols], (0..codes.len()).map(product));
    let packed = [
        ("experts.down_proj".into(), bytes(Dtype::F8_E4M3, &[experts, rows, cols], codes.clone())),
        ("experts.down_proj_scale_inv".into(), f32s(&[experts, 2, 1], scales.iter().copied())),
    ];
    let weights = decoded(packed.into(), json!({}), "FP8 blocks of 128x40: experts.down_proj");
    assert_eq!(weights, [("experts.down_proj".into(), expected)].into());
}

#[test]
fn mxfp4_of_gpt_oss() {
    const E2M1: [f64; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let (experts, outputs, groups) = (2, 6, 3);
    let inputs = groups * 32;
    let blocks: Vec<u8> = (0..experts * outputs * inputs / 2).map(|i| (i * 53 % 256) as u8).collect();
    let scales: Vec<u8> = (0..experts * outputs * groups).map(|i| 110 + i as u8).collect();
    // Value `input` of row `output`, as it is stored.
    let value = |expert: usize, output: usize, input: usize| {
        let at = (expert * outputs + output) * inputs + input;
        let code = if at.is_multiple_of(2) { blocks[at / 2] & 15 } else { blocks[at / 2] >> 4 };
        let value = E2M1[usize::from(code & 7)] * 2f64.powi(i32::from(scales[at / 32]) - 127);
        if code < 8 { value } else { -value }
    };
    let shape = [experts, inputs, outputs];
    let all = (0..experts * inputs * outputs)
        .map(|i| value(i / (inputs * outputs), i % outputs, i / outputs % inputs));
    let expected = Tensor::new(Dtype::BF16, &shape, &all.collect::<Vec<f64>>());
    let name = "model.layers.0.mlp.experts.down_proj";
    let packed = [
        (format!("{name}_blocks"), bytes(Dtype::U8, &[experts, outputs, groups, 16], blocks.clone())),
        (format!("{name}_scales"), bytes(Dtype::U8, &[experts, outputs, groups], scales.clone())),
        (format!("{name}_bias"), norm()),
    ];
    let weights = decoded(packed.into(), json!({ "quant_method": "mxfp4" }), &format!("MXFP4: {name}"));
    assert_eq!(weights, [(name.to_string(), expected), (format!("{name}_bias"), norm())].into());
}

/// Without packed tensors there is nothing to decode, whatever the configuration says.
#[test]
fn ordinary_checkpoints_are_left_alone() {
    let sandbox = Sandbox::new();
    let weights: Weights = [("model.norm.weight".to_string(), norm())].into();
    write_model(&sandbox.path("model"), &weights, json!({ "quant_method": "bitsandbytes" }));
    assert_eq!(seen(&sandbox.path("model"), ReadMode::Mapped), (weights, None));
    assert_eq!(fs::read_dir(sandbox.path("model")).unwrap().count(), 2, "nothing is written");
}
