//! Folders with packed weights: laid out as bitsandbytes and compressed-tensors lay them out, and read back.

use std::collections::BTreeMap;
use std::fs;

use safetensors::SafeTensors;
use serde_json::Value;

use crate::support::{Sandbox, fixtures, read_json};

fn quantized(options: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), "model");
    sandbox.run(&format!("quantize model -o out {options}"), &[]).ok();
    sandbox
}

/// Dtype and number of dimensions of each part of a packed weight, by suffix.
fn parts(bytes: &[u8], weight: &str) -> BTreeMap<String, (String, usize)> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let parts = file.iter().filter_map(|(name, tensor)| {
        let suffix = name.strip_prefix(weight)?;
        Some((suffix.to_string(), (format!("{:?}", tensor.dtype()), tensor.shape().len())))
    });
    parts.collect()
}

/// The same tensors with the same dtypes as in the golden that bitsandbytes wrote.
#[test]
fn parts_are_those_of_bitsandbytes() {
    for (options, golden) in [
        ("--type nf4", "nf4-bf16-normal-b64"),
        ("--type nf4 --double-quant", "nf4-bf16-normal-b64-dq"),
        ("--type fp4", "fp4-bf16-normal-b64"),
        ("--type fp4 --double-quant", "fp4-bf16-normal-b64-dq"),
    ] {
        let sandbox = quantized(options);
        let ours = fs::read(sandbox.path("out/model.safetensors")).unwrap();
        let golden = fs::read(fixtures().join(format!("golden/bnb/{golden}.safetensors"))).unwrap();
        let expected = parts(&golden, "weight");
        for layer in 0..4 {
            let weight = format!("model.layers.{layer}.mlp.down_proj.weight");
            assert_eq!(parts(&ours, &weight), expected, "{options} {weight}");
        }
        let file = SafeTensors::deserialize(&ours).unwrap();
        let state = expected.keys().find(|suffix| suffix.contains("quant_state")).unwrap();
        let json: Value = serde_json::from_slice(
            file.tensor(&format!("model.layers.0.mlp.down_proj.weight{state}")).unwrap().data(),
        )
        .unwrap();
        let golden = SafeTensors::deserialize(&golden).unwrap();
        let expected: Value =
            serde_json::from_slice(golden.tensor(&format!("weight{state}")).unwrap().data()).unwrap();
        let keys = |json: &Value| json.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&json), keys(&expected), "{options}");
        assert_eq!(json["dtype"], "bfloat16");
    }
}

#[test]
fn config_says_how_weights_are_packed() {
    let config =
        |options: &str| read_json(&quantized(options).path("out/config.json"))["quantization_config"].clone();
    let nf4 = config("--type nf4 --double-quant");
    assert_eq!(nf4["quant_method"], "bitsandbytes");
    assert_eq!(nf4["bnb_4bit_quant_type"], "nf4");
    assert_eq!(nf4["bnb_4bit_use_double_quant"], true);
    assert_eq!(nf4["bnb_4bit_compute_dtype"], "bfloat16");
    assert_eq!(nf4["llm_int8_skip_modules"], Value::Null);
    assert_eq!(config("--type int8")["load_in_8bit"], true);
    assert_eq!(config("--type fp8")["weight_block_size"], serde_json::json!([128, 128]));
}

/// With every packing, the values read back are near the stored ones.
#[test]
fn packed_weights_are_read_back() {
    let original = quantized("--type nf4");
    let values = |sandbox: &Sandbox, folder: &str| {
        sandbox.run(&format!("merge {folder} adapter=0 -o {folder}-back --dtype f32"), &[]).ok();
        let bytes = fs::read(sandbox.path(&format!("{folder}-back/model.safetensors"))).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let data = file.tensor("model.layers.1.mlp.up_proj.weight").unwrap().data().to_vec();
        data.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect::<Vec<f64>>()
    };
    original.copy(&fixtures().join("tiny-json-lora"), "adapter");
    let exact = values(&original, "model");
    let norm = exact.iter().map(|v| v * v).sum::<f64>().sqrt();
    for (options, largest) in [
        ("--type nf4", 0.11),
        ("--type nf4 --double-quant", 0.11),
        ("--type nf4 --block-size 256 --double-quant", 0.14),
        ("--type fp4", 0.15),
        ("--type int8", 0.02),
        ("--type fp8", 0.04),
        ("--type fp8-channel", 0.04),
        ("--type fp8-tensor", 0.04),
        ("--type mxfp8", 0.04),
    ] {
        let sandbox = quantized(options);
        sandbox.copy(&fixtures().join("tiny-json-lora"), "adapter");
        let found = values(&sandbox, "out");
        let error: f64 = exact.iter().zip(&found).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt() / norm;
        assert!(error > 0.0 && error < largest, "{options}: {error:.4}");
    }
}

/// The digits of the mean of the scales, which are in a header, are known only at the end.
#[test]
fn double_quantised_files_end_where_their_header_says() {
    let sandbox = quantized("--type nf4 --double-quant --max-shard-size 100kB");
    let index = read_json(&sandbox.path("out/model.safetensors.index.json"));
    let mut total = 0;
    for name in crate::support::entries(&sandbox.path("out")).iter().filter(|n| n.ends_with(".safetensors")) {
        let bytes = fs::read(sandbox.path(&format!("out/{name}"))).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        total += file.iter().map(|(_, tensor)| tensor.data().len()).sum::<usize>();
        for (name, tensor) in file.iter().filter(|(name, _)| name.contains("quant_state")) {
            let text = std::str::from_utf8(tensor.data()).unwrap();
            assert!(text.ends_with('}') && text.contains("nested_offset"), "{name}: {text}");
        }
    }
    assert_eq!(index["metadata"]["total_size"], total);
}
