//! Folders with 8-bit floats: the tensors that compressed-tensors stores, to the bit.

use std::fs;

use insta::assert_snapshot;
use lorakit::Model;
use lorakit_tensor::Reader;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use crate::support::{Sandbox, fixtures, read_json};
use crate::weights::{Tensor, noise, read_folder, write_file};

const MODULE: &str = "model.layers.0.mlp.down_proj";

fn quantized(kind: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), "model");
    sandbox.run(&format!("quantize model -o out --type {kind}"), &[]).ok();
    sandbox
}

/// The value of E4M3 bits by definition.
fn e4m3(bits: u8) -> f64 {
    let (power, fraction) = (i32::from(bits >> 3 & 15), f64::from(bits & 7) / 8.0);
    let magnitude = if power == 0 { fraction / 64.0 } else { (1.0 + fraction) * 2f64.powi(power - 7) };
    if bits < 128 { magnitude } else { -magnitude }
}

/// Checks codes and scales of one weight against their definition: `scale_of` makes the scale from the largest
/// magnitude of a tile of `height` rows and `width` columns.
fn assert_defined(kind: &str, [height, width]: [usize; 2], scheme: &str, scale_of: impl Fn(f64) -> f64) {
    let sandbox = quantized(kind);
    let original = read_folder(&sandbox.path("model"))[&format!("{MODULE}.weight")].matrix();
    let out = read_folder(&sandbox.path("out"));
    let (codes, scales) = (&out[&format!("{MODULE}.weight")], &out[&format!("{MODULE}.weight_scale")]);
    assert_eq!((codes.dtype, codes.shape.as_slice()), (Dtype::F8_E4M3, &[original.rows, original.cols][..]));
    let scale_values: Vec<f64> = match scales.dtype {
        Dtype::U8 => scales.bytes.iter().map(|&power| 2f64.powi(i32::from(power) - 127)).collect(),
        _ => scales.values(),
    };
    let (height, width) = (height.min(original.rows), width.min(original.cols));
    let across = original.cols / width;
    let mut largest = vec![0f64; original.rows / height * across];
    let tile = |row: usize, col: usize| row / height * across + col / width;
    for (i, value) in original.values.iter().enumerate() {
        let largest = &mut largest[tile(i / original.cols, i % original.cols)];
        *largest = largest.max(value.abs());
    }
    let expected: Vec<f64> = largest.into_iter().map(scale_of).collect();
    assert_eq!(scale_values, expected, "{kind}");
    let finite: Vec<f64> = (0..=255).filter(|code| code & 0x7f != 0x7f).map(e4m3).collect();
    for (i, value) in original.values.iter().enumerate() {
        let wanted = value / scale_values[tile(i / original.cols, i % original.cols)];
        let distance = (e4m3(codes.bytes[i]) - wanted).abs();
        let nearest = finite.iter().map(|code| (code - wanted).abs()).fold(f64::MAX, f64::min);
        // Quotients are rounded to f32 before they are rounded to the code.
        assert!(
            distance <= nearest + wanted.abs() * 1e-6,
            "{kind}: {wanted} became {}",
            e4m3(codes.bytes[i])
        );
    }
    let model = Model::open_as_hf(&sandbox.path("out"), &Reader::default(), None).unwrap();
    let packing = model.packing.as_ref().unwrap();
    assert_eq!((packing.scheme.to_string().as_str(), packing.tensors.len()), (scheme, 28));
}

#[test]
fn channels_and_tensors_have_quotients_as_scales() {
    let quotient = |largest: f64| f64::from(largest as f32 / 448.0);
    assert_defined("fp8-channel", [1, usize::MAX], "FP8 with a scale for each row", quotient);
    assert_defined("fp8-tensor", [usize::MAX; 2], "FP8 with a scale for each tensor", quotient);
}

/// The one scale of a tensor comes from its largest value, wherever that is; a merge finds the largest of the sum.
#[test]
fn the_largest_value_of_every_tensor_is_found() {
    let sandbox = quantized("fp8-tensor");
    sandbox.copy(&fixtures().join("tiny-upper-lora"), "adapter");
    sandbox.run("merge model adapter -o sum --dtype f32", &[]).ok();
    sandbox.run("merge model adapter -o merged --quantize fp8-tensor", &[]).ok();
    for (from, to) in [("model", "out"), ("sum", "merged")] {
        let (weights, packed) = (read_folder(&sandbox.path(from)), read_folder(&sandbox.path(to)));
        let scales = packed.iter().filter_map(|(name, scale)| Some((name.strip_suffix("_scale")?, scale)));
        let scales: Vec<_> = scales.collect();
        assert_eq!(scales.len(), 28);
        for (name, scale) in scales {
            let largest = weights[name].values().iter().fold(0f64, |largest, v| largest.max(v.abs()));
            assert_eq!(scale.values(), [f64::from(largest as f32 / 448.0)], "{to}: {name}");
        }
    }
}

#[test]
fn groups_have_powers_of_two_as_scales() {
    let power = |largest: f64| 2f64.powi((largest / 448.0).log2().ceil() as i32);
    assert_defined("mxfp8", [1, 32], "MXFP8", power);
}

#[test]
fn scales_have_the_shapes_of_compressed_tensors() {
    for (kind, dtype, shape) in [
        ("fp8-channel", Dtype::F32, vec![128, 1]),
        ("fp8-tensor", Dtype::F32, vec![1]),
        ("mxfp8", Dtype::U8, vec![128, 384 / 32]),
    ] {
        let out = read_folder(&quantized(kind).path("out"));
        let Tensor { dtype: found, shape: found_shape, .. } = &out[&format!("{MODULE}.weight_scale")];
        assert_eq!((*found, found_shape), (dtype, &shape), "{kind}");
    }
}

#[test]
fn config_says_it_as_compressed_tensors_does() {
    let config = |kind: &str| {
        let config = read_json(&quantized(kind).path("out/config.json"))["quantization_config"].clone();
        serde_json::to_string_pretty(&config).unwrap()
    };
    assert_snapshot!(config("fp8-channel"));
    assert_snapshot!(config("mxfp8"));
    let tensor: Value = serde_json::from_str(&config("fp8-tensor")).unwrap();
    assert_eq!(tensor["config_groups"]["group_0"]["weights"]["strategy"], "tensor");
}

/// MXFP8 has no shorter group at the end of a row.
#[test]
fn rows_that_are_no_groups_stay() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("model")).unwrap();
    let tensor = |rows, cols| Tensor::new(Dtype::BF16, &[rows, cols], &noise(1, rows * cols, 1.0));
    let weights = [
        ("model.layers.0.self_attn.q_proj.weight".to_string(), tensor(48, 64)),
        ("model.layers.0.self_attn.o_proj.weight".to_string(), tensor(64, 48)),
    ];
    write_file(&sandbox.path("model/model.safetensors"), &weights.into());
    let config = json!({ "model_type": "llama", "architectures": ["LlamaForCausalLM"] });
    fs::write(sandbox.path("model/config.json"), config.to_string()).unwrap();
    assert_snapshot!(sandbox.run("quantize model -o out --type mxfp8 -n", &[]).ok().stdout, @r"
    model.layers.0.self_attn.o_proj.weight    BF16 -> BF16     kept: rows do not divide into groups of 32
    model.layers.0.self_attn.q_proj.weight    BF16 -> MXFP8    linear layer

    other files: config.json, README.md

    output 9.66 kB, 1 tensor copied and 1 computed, peak memory about 2.49 MB
    ");
    sandbox.run("quantize model -o out --type mxfp8", &[]).ok();
    let config = read_json(&sandbox.path("out/config.json"));
    let ignored = json!(["model.layers.0.self_attn.o_proj", "lm_head"]);
    assert_eq!(config["quantization_config"]["ignore"], ignored);
}
