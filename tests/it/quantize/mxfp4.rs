//! The experts of gpt-oss as MXFP4: written in the form in which they are read.

use std::fs;

use insta::assert_snapshot;
use lorakit::Model;
use lorakit_tensor::Reader;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use crate::support::{Run, Sandbox, edit_json, fixtures, read_json};
use crate::weights::{Tensor, Weights, edit_file, noise, read_folder, write_file};

const EXPERTS: usize = 3;
const HIDDEN: usize = 64;
/// More rows than are processed at a time.
const INNER: usize = 320;
const MODULE: &str = "model.layers.0.mlp.experts";

fn tensor(shape: &[usize], seed: u64) -> Tensor {
    Tensor::new(Dtype::BF16, shape, &noise(seed, shape.iter().product(), 0.5))
}

/// A model of one layer with stacked experts, as gpt-oss has them in 16 bits; and adapters for its experts and its
/// attention.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    let weights: Weights = [
        (format!("{MODULE}.gate_up_proj"), tensor(&[EXPERTS, HIDDEN, 2 * INNER], 1)),
        (format!("{MODULE}.gate_up_proj_bias"), tensor(&[EXPERTS, 2 * INNER], 2)),
        (format!("{MODULE}.down_proj"), tensor(&[EXPERTS, INNER, HIDDEN], 3)),
        (format!("{MODULE}.down_proj_bias"), tensor(&[EXPERTS, HIDDEN], 4)),
        ("model.layers.0.mlp.router.weight".into(), tensor(&[EXPERTS, HIDDEN], 5)),
        ("model.layers.0.self_attn.q_proj.weight".into(), tensor(&[128, HIDDEN], 6)),
    ]
    .into();
    let experts: Weights = [
        (format!("base_model.model.{MODULE}.lora_A.weight"), tensor(&[2 * EXPERTS, INNER], 7)),
        (format!("base_model.model.{MODULE}.lora_B.weight"), tensor(&[HIDDEN, 2 * EXPERTS], 8)),
    ]
    .into();
    let attention: Weights = [
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight".into(), tensor(&[2, HIDDEN], 9)),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight".into(), tensor(&[128, 2], 10)),
    ]
    .into();
    let config =
        json!({ "model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"], "torch_dtype": "bfloat16" });
    let lora = |targets: Value| json!({ "peft_type": "LORA", "peft_version": "0.21.2", "r": 2, "lora_alpha": 1, "target_parameters": targets });
    for (folder, file, weights, name, config) in [
        ("model", "model.safetensors", weights, "config.json", config),
        (
            "experts",
            "adapter_model.safetensors",
            experts,
            "adapter_config.json",
            lora(json!(["experts.down_proj"])),
        ),
        ("attention", "adapter_model.safetensors", attention, "adapter_config.json", lora(Value::Null)),
    ] {
        fs::create_dir(sandbox.path(folder)).unwrap();
        write_file(&sandbox.path(folder).join(file), &weights);
        fs::write(sandbox.path(folder).join(name), config.to_string()).unwrap();
    }
    sandbox
}

/// `values` of a group as MXFP4 stores them, by definition.
fn rounded(values: &[f64]) -> Vec<f64> {
    const CODES: [f64; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let largest = values.iter().fold(0f64, |a, v| a.max(v.abs()));
    let scale = 2f64.powi((largest / 6.0).log2().ceil() as i32);
    let nearest = |value: &f64| {
        let distance = |code: usize| (CODES[code] - value.abs() / scale).abs();
        let even_first = [0, 2, 4, 6, 1, 3, 5, 7];
        let code = even_first.into_iter().min_by(|a, b| distance(*a).total_cmp(&distance(*b))).unwrap();
        (CODES[code] * scale).copysign(*value)
    };
    values.iter().map(nearest).collect()
}

#[test]
fn experts_are_read_as_they_were_rounded() {
    let sandbox = sandbox();
    sandbox.run("quantize model -o out --type mxfp4", &[]).ok();
    let out = read_folder(&sandbox.path("out"));
    let shape =
        |name: &str| (out[&format!("{MODULE}.{name}")].dtype, out[&format!("{MODULE}.{name}")].shape.clone());
    assert_eq!(shape("gate_up_proj_blocks"), (Dtype::U8, vec![EXPERTS, 2 * INNER, HIDDEN / 32, 16]));
    assert_eq!(shape("gate_up_proj_scales"), (Dtype::U8, vec![EXPERTS, 2 * INNER, HIDDEN / 32]));
    assert_eq!(shape("down_proj_blocks"), (Dtype::U8, vec![EXPERTS, HIDDEN, INNER / 32, 16]));

    let original = read_folder(&sandbox.path("model"));
    let model = Model::open_as_hf(&sandbox.path("out"), &Reader::default(), None).unwrap();
    assert_eq!(model.packing.as_ref().unwrap().scheme.to_string(), "MXFP4");
    assert_eq!(model.tensors().len(), original.len());
    for (index, info) in model.tensors().iter().enumerate() {
        let (seen, original) = (model.tensor(index).values().unwrap(), &original[&info.name]);
        assert_eq!(info.shape, original.shape);
        let mut expected = original.values();
        if let [experts, inputs, outputs] = original.shape[..] {
            for (expert, output) in (0..experts).flat_map(|e| (0..outputs).map(move |o| (e, o))) {
                let column: Vec<usize> =
                    (0..inputs).map(|i| (expert * inputs + i) * outputs + output).collect();
                for group in column.chunks(32) {
                    let values: Vec<f64> = group.iter().map(|&at| expected[at]).collect();
                    group.iter().zip(rounded(&values)).for_each(|(&at, value)| expected[at] = value);
                }
            }
        }
        let seen: Vec<f64> = seen.into_iter().map(f64::from).collect();
        assert!(seen == expected, "{}", info.name);
    }
    let config = read_json(&sandbox.path("out/config.json"))["quantization_config"].to_string();
    assert_snapshot!(config);
    assert_snapshot!(sandbox.run("quantize model -o plan --type mxfp4 -n", &[]).ok().stdout);
}

/// In f32 the sum is stored as it is, so quantising it is the only rounding.
#[test]
fn one_step_equals_two() {
    let sandbox = sandbox();
    sandbox.run("merge model experts -o sum --dtype f32", &[]).ok();
    sandbox.run("quantize sum -o two --type mxfp4", &[]).ok();
    let run = sandbox.run("merge model experts -o one --quantize mxfp4 --json", &[]).ok();
    let (one, two) = (read_folder(&sandbox.path("one")), read_folder(&sandbox.path("two")));
    for part in ["gate_up_proj_blocks", "gate_up_proj_scales", "down_proj_blocks", "down_proj_scales"] {
        let name = format!("{MODULE}.{part}");
        assert!(one[&name] == two[&name], "{part}");
    }
    let json: Value = serde_json::from_str(&run.stdout).unwrap();
    let kept = json["retention"]["MXFP4"]["retention"].as_f64().unwrap();
    assert!((kept - 1.0).abs() < 0.1, "{kept}");
}

/// Other programs may use other codes for the same values; weights that do not change keep their codes.
#[test]
fn what_is_not_changed_is_copied() {
    let sandbox = sandbox();
    sandbox.run("quantize model -o base --type mxfp4", &[]).ok();
    let mut weights = read_folder(&sandbox.path("base"));
    let part = |kind: &str| format!("{MODULE}.down_proj_{kind}");
    // All values are 1/2: code 1 with scale 1, where we would write code 6 with scale 1/8.
    weights.get_mut(&part("blocks")).unwrap().bytes.fill(0x11);
    weights.get_mut(&part("scales")).unwrap().bytes.fill(127);
    write_file(&sandbox.path("base/model.safetensors"), &weights);
    sandbox.run("merge base attention -o out --quantize mxfp4", &[]).ok();
    let out = read_folder(&sandbox.path("out"));
    for (name, tensor) in &weights {
        assert_eq!(*tensor == out[name], !name.contains("q_proj"), "{name}");
    }
    sandbox.run("quantize base -o again --type mxfp4 --requantize", &[]).ok();
    assert!(weights == read_folder(&sandbox.path("again")));
}

/// transformers packs all experts of a layer or none.
#[test]
fn promoted_experts_stay_together() {
    let sandbox = sandbox();
    let line = "merge model experts -o out --quantize mxfp4 --promote";
    sandbox.run(line, &[]).ok();
    let (out, original) = (read_folder(&sandbox.path("out")), read_folder(&sandbox.path("model")));
    assert!(out.keys().eq(original.keys()));
    let config = read_json(&sandbox.path("out/config.json"));
    let unconverted = config["quantization_config"]["modules_to_not_convert"].as_array().unwrap();
    assert!(unconverted.contains(&MODULE.into()), "{unconverted:?}");
}

#[test]
fn what_cannot_be_packed() {
    let sandbox = sandbox();
    let refused = |line: &str| {
        let before = sandbox.entries();
        let Run { code, stderr, .. } = sandbox.run(line, &[]);
        assert_eq!((code, sandbox.entries()), (Some(1), before));
        stderr
    };
    sandbox.copy(&fixtures().join("tiny-orders"), "llama");
    assert_snapshot!(refused("quantize llama -o out --type mxfp4"));
    let file = sandbox.path("model/model.safetensors");
    edit_file(&file, |weights| {
        weights.insert(format!("{MODULE}.down_proj"), tensor(&[EXPERTS, 48, HIDDEN], 1));
    });
    assert_snapshot!(refused("quantize model -o out --type mxfp4"));
    edit_json(&sandbox.path("llama/config.json"), |config| config["model_type"] = "gpt_oss".into());
    assert_snapshot!(refused("quantize llama -o out --type mxfp4"));
}
