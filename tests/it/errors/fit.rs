//! Adapters and bases that do not belong together, and paths that lead elsewhere.

use std::fs;

use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use super::{Case, Q_A, Q_B};
use crate::support::edit_json;
use crate::weights::{Tensor, edit_file};

#[test]
fn a_base_of_another_size() {
    let case = Case::of("llama-f16", "plain");
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter`: does not fit the base model: 14 of 14 parts of the adapter differ in shape
      model.layers.0.mlp.down_proj  base [96, 160], adapter [128, 192]
      model.layers.0.mlp.gate_proj  base [160, 96], adapter [192, 128]
      model.layers.0.mlp.up_proj  base [160, 96], adapter [192, 128]
      model.layers.0.self_attn.k_proj  base [32, 96], adapter [64, 128]
      model.layers.0.self_attn.o_proj  base [96, 96], adapter [128, 128]
      model.layers.0.self_attn.q_proj  base [96, 96], adapter [128, 128]
      model.layers.0.self_attn.v_proj  base [32, 96], adapter [64, 128]
      model.layers.1.mlp.down_proj  base [96, 160], adapter [128, 192]
      model.layers.1.mlp.gate_proj  base [160, 96], adapter [192, 128]
      model.layers.1.mlp.up_proj  base [160, 96], adapter [192, 128]
      ... 4 more (all with `--json`)

    hint: the adapter belongs to a base of another size; `lorakit inspect ADAPTER` names the one it was trained on
    ");
}

#[test]
fn a_base_of_another_family() {
    let case = Case::of("gpt2-f32", "attn-r4");
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter`: 4 of 4 parts of the adapter have no counterpart among the 28 tensors of the base
      model.layers.0.self_attn.q_proj.weight  nearest in the base: transformer.h.1.attn.c_proj.weight
      model.layers.0.self_attn.v_proj.weight  nearest in the base: transformer.h.1.attn.c_proj.weight
      model.layers.1.self_attn.q_proj.weight  nearest in the base: transformer.h.1.attn.c_proj.weight
      model.layers.1.self_attn.v_proj.weight  nearest in the base: transformer.h.1.attn.c_proj.weight

    hint: is this the base the adapter was trained on? `lorakit inspect ADAPTER --base BASE` compares them
    ");
}

#[test]
fn an_unmatched_tensor() {
    let case = Case::new();
    case.edit(|weights| {
        for name in [Q_A, Q_B] {
            let tensor = weights.remove(name).unwrap();
            weights.insert(name.replace("self_attn.q_proj", "attention.wq"), tensor);
        }
    });
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter`: 1 of 14 parts of the adapter have no counterpart among the 21 tensors of the base
      model.layers.0.attention.wq.weight  nearest in the base: model.layers.0.post_attention_layernorm.weight

    hint: is this the base the adapter was trained on? `lorakit inspect ADAPTER --base BASE` compares them
    ");
}

/// Two halves of one model; an adapter could belong to either.
#[test]
fn an_ambiguous_base() {
    let case = Case::of("llama-bf16", "attn-r4");
    edit_file(&case.model(), |weights| {
        let twice =
            |(name, t): (&String, &Tensor)| ["left", "right"].map(|p| (format!("{p}.{name}"), t.clone()));
        *weights = weights.iter().flat_map(twice).collect();
    });
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter`: 4 of 4 parts of the adapter have more than one possible counterpart in the base
      model.layers.0.self_attn.q_proj.weight  could be left.model.layers.0.self_attn.q_proj.weight or right.model.layers.0.self_attn.q_proj.weight
      model.layers.0.self_attn.v_proj.weight  could be left.model.layers.0.self_attn.v_proj.weight or right.model.layers.0.self_attn.v_proj.weight
      model.layers.1.self_attn.q_proj.weight  could be left.model.layers.1.self_attn.q_proj.weight or right.model.layers.1.self_attn.q_proj.weight
      model.layers.1.self_attn.v_proj.weight  could be left.model.layers.1.self_attn.v_proj.weight or right.model.layers.1.self_attn.v_proj.weight

    hint: merge into the part of the model that the adapter was trained on
    ");
}

#[test]
fn a_quantised_base() {
    let case = Case::of("llama-bf16", "attn-r4");
    edit_file(&case.model(), |weights| {
        for (_, tensor) in weights.iter_mut().filter(|(name, _)| name.contains("proj")) {
            tensor.dtype = Dtype::F8_E4M3;
            tensor.bytes = tensor.bytes.iter().step_by(2).copied().collect();
        }
    });
    edit_json(&case.base.join("config.json"), |config| {
        config["quantization_config"] = json!({ "quant_method": "fp8" });
    });
    insta::assert_snapshot!(case.refused(), @"
    error: `base`: is quantised by fp8: 4 of the tensors to edit are stored as F8_E4M3, to which nothing can be added

    hint: merge into the unquantised model, or choose types that can be written: `--quantize Q8_0`
    ");
}

#[test]
fn base_and_adapter_swapped() {
    let mut case = Case::new();
    case.arguments = "merge adapter base -o out".into();
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter`: is an adapter (it has `adapter_config.json`), not a full model

    hint: base first, then adapters: `lorakit merge BASE ADAPTER... -o OUT`
    ");
}

#[test]
fn a_base_as_the_adapter() {
    let mut case = Case::new();
    case.arguments = "merge base base -o out".into();
    insta::assert_snapshot!(case.refused(), @"
    error: `base`: is a full model (it has `config.json` and no `adapter_config.json`), not an adapter

    hint: base first, then adapters: `lorakit merge BASE ADAPTER... -o OUT`
    ");
}

#[test]
fn paths_that_do_not_exist() {
    let mut case = Case::new();
    case.arguments = "merge base nowhere -o out".into();
    insta::assert_snapshot!(case.refused(), @"
    error: `nowhere`: does not exist

    hint: check the path; nothing is downloaded
    ");
    case.arguments = "merge nowhere adapter -o out".into();
    insta::assert_snapshot!(case.refused(), @"
    error: `nowhere`: does not exist

    hint: check the path; nothing is downloaded
    ");
}

#[test]
fn the_folder_above_the_adapter() {
    let mut case = Case::new();
    fs::create_dir(case.sandbox.path("run")).unwrap();
    fs::rename(&case.adapter, case.sandbox.path("run/checkpoint-10")).unwrap();
    case.arguments = "merge base run -o out".into();
    insta::assert_snapshot!(case.refused(), @"
    error: `run`: holds no adapter: `adapter_config.json` is missing
      `run/checkpoint-10` is one

    hint: name the folder that holds the adapter
    ");
}

#[test]
fn an_adapter_without_weights() {
    let case = Case::new();
    fs::remove_file(case.weights()).unwrap();
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter`: has no `adapter_model.safetensors` and no `adapter_model.bin`

    hint: name an adapter: a folder with `adapter_config.json` and `adapter_model.safetensors`
    ");
}

#[test]
fn a_failure_as_json() {
    let mut case = Case::of("llama-bf16", "attn-r4");
    case.edit(|weights| {
        weights.retain(|name, _| name == Q_A || name == Q_B);
        weights.insert(Q_B.into(), Tensor::new(Dtype::F32, &[2, 4], &[0.5; 8]));
    });
    case.arguments.push_str(" --json");
    let object: Value = serde_json::from_str(&case.refused()).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&object).unwrap(), @r#"
    {
      "error": {
        "kind": "Shape",
        "message": "`adapter`: does not fit the base model: 1 of 1 parts of the adapter differ in shape",
        "path": "adapter",
        "tensor": null,
        "details": [
          "model.layers.0.self_attn.q_proj  base [128, 128], adapter [2, 128]"
        ],
        "causes": [],
        "hints": [
          "the adapter belongs to a base of another size; `lorakit inspect ADAPTER` names the one it was trained on"
        ],
        "exit_code": 1
      }
    }
    "#);
}

#[test]
fn a_token_beyond_the_vocabulary() {
    let case = Case::of("llama-bf16", "token-indices");
    // The first missing row: the vocabulary has 320.
    case.config(|config| config["trainable_token_indices"]["embed_tokens"] = json!([3, 5, 320]));
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter`: does not fit the base model: 1 of 3 parts of the adapter differ in shape
      model.embed_tokens  token 320 is trained, and the base has 320

    hint: the adapter belongs to a base of another size; `lorakit inspect ADAPTER` names the one it was trained on
    ");
    case.config(|config| config["trainable_token_indices"]["embed_tokens"] = json!([3, 5, 319]));
    let run = case.sandbox.run(&case.arguments, &[]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

#[test]
fn a_saved_embedding_with_fewer_rows() {
    let case = Case::of("llama-bf16", "modules-to-save");
    case.edit(|weights| {
        let head = weights.get_mut("base_model.model.lm_head.weight").unwrap();
        head.shape[0] = 300;
        let len = 300 * head.bytes.len() / 320;
        head.bytes.truncate(len);
    });
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter`: does not fit the base model: 1 of 8 parts of the adapter differ in shape
      lm_head.weight  base [320, 128], adapter [300, 128]

    hint: the adapter belongs to a base of another size; `lorakit inspect ADAPTER` names the one it was trained on
    ");
}
