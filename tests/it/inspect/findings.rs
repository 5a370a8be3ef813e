//! Faults visible in the headers, configuration and values of an adapter.

use safetensors::tensor::Dtype;
use serde_json::json;

use super::Case;
use crate::weights::{Tensor, Weights};

const Q_A: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
const Q_B: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";

fn case() -> Case {
    Case::new("attn-r4")
}

fn change(weights: &mut Weights, name: &str, change: impl Fn(usize, f64) -> f64) {
    let old = &weights[name];
    let values: Vec<f64> = old.values().into_iter().enumerate().map(|(i, v)| change(i, v)).collect();
    weights.insert(name.into(), Tensor::new(old.dtype, &old.shape, &values));
}

#[test]
fn remnants_of_zero3() {
    let case = case();
    case.edit(|weights| {
        weights.values_mut().for_each(|tensor| *tensor = Tensor::new(tensor.dtype, &[0], &[]));
    });
    insta::assert_snapshot!(case.findings(""), @"
    1 error
      error    8 of 8 tensors are empty: DeepSpeed ZeRO-3 saved them without gathering its shards. Recover them with `zero_to_fp32.py` from the training checkpoint, or train with `stage3_gather_16bit_weights_on_model_save`
      headers only: `--norms` reads the values (NaN, untrained factors, strength)
    ");
}

#[test]
fn one_empty_tensor() {
    let case = case();
    case.edit(|weights| drop(weights.insert(Q_A.into(), Tensor::new(Dtype::F32, &[0], &[]))));
    insta::assert_snapshot!(case.findings(""), @"
    1 error
      error    `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`: has no values (shape [0]): it was saved without gathering its shards
      headers only: `--norms` reads the values (NaN, untrained factors, strength)
    ");
}

#[test]
fn a_missing_half() {
    let case = case();
    case.edit(|weights| drop(weights.remove(Q_B)));
    insta::assert_snapshot!(case.findings(""), @"
    1 error
      error    `model.layers.0.self_attn.q_proj`: has lora_A, but lora_B is missing
      headers only: `--norms` reads the values (NaN, untrained factors, strength)
    ");
}

#[test]
fn halves_of_different_rank() {
    let case = case();
    case.edit(|weights| drop(weights.insert(Q_B.into(), Tensor::new(Dtype::F32, &[128, 3], &[0.5; 384]))));
    insta::assert_snapshot!(case.findings(""), @"
    1 error
      error    `model.layers.0.self_attn.q_proj`: has A [4, 128] and B [128, 3], which disagree on the rank
      headers only: `--norms` reads the values (NaN, untrained factors, strength)
    ");
}

#[test]
fn one_module_that_was_never_trained() {
    let case = case();
    case.edit(|weights| change(weights, Q_B, |_, _| 0.0));
    assert_eq!(case.findings("").lines().next(), Some("none"));
    insta::assert_snapshot!(case.findings("--norms"), @"
    1 warning
      warning  `model.layers.0.self_attn.q_proj`: has an all-zero factor: it was never trained and changes nothing
    ");
}

#[test]
fn an_adapter_that_was_never_trained() {
    let case = case();
    case.edit(|weights| {
        let names: Vec<String> = weights.keys().filter(|n| n.contains("lora_B")).cloned().collect();
        names.iter().for_each(|name| change(weights, name, |_, _| 0.0));
    });
    insta::assert_snapshot!(case.findings("--norms"), @"
    1 warning
      warning  every module has an all-zero factor: it was never trained and changes nothing
    ");
}

/// Headers are sound, and nothing else is read unless asked for.
#[test]
fn values_that_are_not_finite() {
    let case = case();
    case.edit(|weights| {
        change(weights, Q_A, |i, v| if i < 3 { f64::NAN } else { v });
        change(weights, Q_B, |i, v| if i == 7 { f64::NEG_INFINITY } else { v });
    });
    insta::assert_snapshot!(case.findings(""), @"
    none
      headers only: `--norms` reads the values (NaN, untrained factors, strength)
    ");
    insta::assert_snapshot!(case.findings("--norms"), @"
    2 errors
      error    `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`: holds NaN or infinity: 3 of its 512 values
      error    `base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight`: holds NaN or infinity: 1 of its 512 values
    ");
    let modules = case.json("--norms")["modules"].clone();
    let norms = modules.as_array().unwrap().iter().map(|m| m["norm"].is_number());
    assert_eq!(norms.collect::<Vec<_>>(), [false, true, true, true]);
}

#[test]
fn a_rank_that_the_configuration_denies() {
    let case = case();
    case.config(|config| config["r"] = json!(8));
    insta::assert_snapshot!(case.findings(""), @"
    1 warning
      warning  `model.layers.0.self_attn.q_proj`: its factors have rank 4, and the configuration says 8: the factors decide, scale 1 (and 3 more modules)
      headers only: `--norms` reads the values (NaN, untrained factors, strength)
    ");
}

#[test]
fn a_configuration_with_little_in_it() {
    let case = case();
    case.config(|config| {
        let config = config.as_object_mut().unwrap();
        for key in ["r", "lora_alpha", "base_model_name_or_path"] {
            config.remove(key);
        }
    });
    insta::assert_snapshot!(case.findings(""), @"
    1 warning, 2 notes
      warning  `lora_alpha` is missing from the configuration; PEFT's default, 8, is used
      note     `r` is missing from the configuration; the factors' own is used
      note     the configuration does not name its base model
      headers only: `--norms` reads the values (NaN, untrained factors, strength)
    ");
}

#[test]
fn the_path_of_another_machine() {
    let case = case();
    case.config(|config| config["base_model_name_or_path"] = json!("/home/ann/models/llama"));
    insta::assert_snapshot!(case.findings(""), @"
    1 warning
      warning  `base_model_name_or_path` is `/home/ann/models/llama`, a path on the machine that trained it
      headers only: `--norms` reads the values (NaN, untrained factors, strength)
    ");
}

#[test]
fn targets_without_tensors() {
    let case = case();
    case.config(|config| {
        config["target_modules"] = json!(["q_proj", "v_proj", "k_proj"]);
        config["modules_to_save"] = json!(["lm_head"]);
    });
    insta::assert_snapshot!(case.findings(""), @"
    2 warnings
      warning  `target_modules` names `k_proj`, for which there are no tensors
      warning  `modules_to_save` names `lm_head`, and the file does not have it
      headers only: `--norms` reads the values (NaN, untrained factors, strength)
    ");
}

#[test]
fn an_initialisation_that_changed_the_base() {
    for init in ["pissa", "pissa_niter_4", "olora", "corda"] {
        let case = case();
        case.config(|config| config["init_lora_weights"] = json!(init));
        assert!(case.findings("").contains(&format!("was initialised with `{init}`")), "{init}");
    }
    let case = case();
    case.config(|config| config["init_lora_weights"] = json!("pissa"));
    insta::assert_snapshot!(case.findings(""), @"
    1 error
      error    was initialised with `pissa`, which changed the base weights: it fits the residual model that training saved, not the published one
      headers only: `--norms` reads the values (NaN, untrained factors, strength)
    ");
}

#[test]
fn another_method() {
    let case = case();
    case.config(|config| config["peft_type"] = json!("VERA"));
    insta::assert_snapshot!(case.findings(""), @"
    1 error
      error    is an adapter of the method VERA, which is not merged
      headers only: `--norms` reads the values (NaN, untrained factors, strength)
    ");
}

#[test]
fn the_tensors_of_another_method() {
    let case = case();
    case.edit(|weights| {
        let vector = Tensor::new(Dtype::F32, &[128, 1], &[1.0; 128]);
        *weights =
            [("base_model.model.model.layers.0.self_attn.k_proj.vera_lambda_b".to_string(), vector)].into();
    });
    case.config(|config| *config = json!({ "peft_type": "VERA", "target_modules": ["k_proj"] }));
    insta::assert_snapshot!(case.findings(""), @"
    2 errors, 1 note
      error    `base_model.model.model.layers.0.self_attn.k_proj.vera_lambda_b`: belongs to VeRA, which is not a plain LoRA
      error    is an adapter of the method VERA, which is not merged
      note     the configuration does not name its base model
      headers only: `--norms` reads the values (NaN, untrained factors, strength)
    ");
}

#[test]
fn dora_without_magnitudes() {
    let case = case();
    case.config(|config| config["use_dora"] = json!(true));
    insta::assert_snapshot!(case.findings(""), @"
    1 warning
      warning  `use_dora` is true, and no module has magnitudes: it acts as LoRA
      headers only: `--norms` reads the values (NaN, untrained factors, strength)
    ");
}

/// A whole report comes before the verdict, and both reach a program that reads JSON.
#[test]
fn a_verdict_as_json() {
    let case = case();
    case.edit(|weights| drop(weights.remove(Q_B)));
    let run = case.run("--json");
    assert_eq!(run.code, Some(1));
    let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report["reports"][0]["findings"][0]["severity"], "error");
    let failure: serde_json::Value = serde_json::from_str(&run.stderr).unwrap();
    assert_eq!((&failure["error"]["kind"], &failure["error"]["exit_code"]), (&json!("Audit"), &json!(1)));
}
