//! Adapters that are damaged, or cannot be merged truthfully.

use std::fs;

use safetensors::tensor::Dtype;
use serde_json::json;

use super::{Case, Q_A, Q_B, replace};
use crate::weights::{Tensor, edit_file};

#[test]
fn nan_in_the_adapter() {
    let case = Case::new();
    case.edit(|weights| replace(weights, Q_A, |values| values[100] = f64::NAN));
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter/adapter_model.safetensors`: `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`: holds NaN at row 0, column 100 (F32)

    hint: training diverged or the file is damaged; `lorakit inspect --norms` shows which modules are affected
    ");
}

#[test]
fn infinity_in_the_base() {
    let case = Case::new();
    let name = "model.layers.0.self_attn.q_proj.weight";
    edit_file(&case.model(), |weights| {
        weights.get_mut(name).unwrap().bytes[400..402].copy_from_slice(&[0x80, 0x7f]);
    });
    insta::assert_snapshot!(case.refused(), @"
    error: `base/model.safetensors`: `model.layers.0.self_attn.q_proj.weight`: holds inf at row 1, column 72 (BF16)

    hint: the file is damaged, or its values are too large for the dtype of the output
    ");
}

#[test]
fn a_sum_that_overflows() {
    let case = Case::of("llama-f16", "f16");
    case.edit(|weights| replace(weights, Q_B, |values| values.iter_mut().for_each(|v| *v *= 1e9)));
    insta::assert_snapshot!(case.refused(), @"
    error: `base/model.safetensors`: `model.layers.0.self_attn.q_proj.weight`: comes to -5.8701875e8 at row 73, column 58, which F16 cannot hold

    hint: the file is damaged, or its values are too large for the dtype of the output
    ");
}

#[test]
fn a_zero_size_tensor() {
    let case = Case::new();
    let empty = || Tensor::new(Dtype::F32, &[0], &[]);
    case.edit(|weights| {
        weights.insert(Q_A.into(), empty());
        weights.insert(Q_B.into(), empty());
    });
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter/adapter_model.safetensors`: 2 of its 28 tensors are faulty
      `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`: has no values (shape [0]): it was saved without gathering its shards
      `base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight`: has no values (shape [0]): it was saved without gathering its shards

    hint: `lorakit inspect adapter/adapter_model.safetensors` lists what is wrong; export the adapter again
    ");
}

#[test]
fn a_missing_half() {
    let case = Case::new();
    case.edit(|weights| assert!(weights.remove(Q_B).is_some()));
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter/adapter_model.safetensors`: `model.layers.0.self_attn.q_proj`: has lora_A, but lora_B is missing

    hint: `lorakit inspect adapter/adapter_model.safetensors` lists what is wrong; export the adapter again
    ");
}

#[test]
fn halves_of_different_rank() {
    let case = Case::new();
    case.edit(|weights| weights.get_mut(Q_B).unwrap().shape = vec![64, 16]);
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter/adapter_model.safetensors`: `model.layers.0.self_attn.q_proj`: has A [8, 128] and B [64, 16], which disagree on the rank

    hint: `lorakit inspect adapter/adapter_model.safetensors` lists what is wrong; export the adapter again
    ");
}

#[test]
fn one_module_twice() {
    let case = Case::new();
    case.edit(|weights| {
        let again = weights[Q_A].clone();
        weights.insert(Q_A.replace(".weight", ".default.weight"), again);
    });
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter/adapter_model.safetensors`: `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`: is a second tensor for the same part of `model.layers.0.self_attn.q_proj`

    hint: `lorakit inspect adapter/adapter_model.safetensors` lists what is wrong; export the adapter again
    ");
}

#[test]
fn a_configuration_with_a_key_twice() {
    let case = Case::new();
    let path = case.adapter.join("adapter_config.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, text.replace("\"r\": 8,", "\"r\": 8,\n  \"r\": 16,")).unwrap();
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter/adapter_config.json`: is not valid JSON: key `r` appears twice at line 32 column 9

    hint: the file is damaged, or was made by a broken tool; fetch or export it again
    ");
}

/// Layers that training repeats are not in the base, and a merge would change those that are there twice.
#[test]
fn layers_that_are_repeated() {
    let case = Case::new();
    case.config(|config| config["layer_replication"] = json!([[0, 2], [1, 2]]));
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter`: repeats layers of the base (`layer_replication`), which a merge cannot express yet

    hint: serve it beside the base with the library that trained it
    ");
    let case = Case::new();
    case.config(|config| config["layer_replication"] = json!([]));
    case.sandbox.run(&case.arguments, &[]).ok();
}

#[test]
fn a_configuration_of_another_type() {
    let case = Case::new();
    case.config(|config| config["r"] = json!("eight"));
    insta::assert_snapshot!(case.refused(), @r#"
    error: `adapter/adapter_config.json`: `r` is "eight"; it must be a finite number

    hint: compare the file with the one in the repository of the adapter
    "#);
}

#[test]
fn an_adapter_trained_on_a_changed_base() {
    let case = Case::new();
    case.config(|config| config["init_lora_weights"] = json!("pissa_niter_4"));
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter`: was initialised with `pissa_niter_4`: whenever PEFT loads it, it takes singular vectors out of every weight that it finds by a random search, so it never loads the same model twice, and nothing can repeat that; added to the published model it gives a wrong result

    hint: convert it first: PEFT's `save_pretrained(..., path_initial_model_for_weight_conversion=...)`; or merge into the residual model that training saved, with `--residual-base`
    ");
}

/// Every initialisation that leaves a residual in the base.
#[test]
fn initialisations_that_change_the_base() {
    for init in ["pissa", "corda", "lora_ga", "loftq", "LoftQ", "pissa_niter_16", "olora_2"] {
        let case = Case::of("llama-bf16", "attn-r4");
        case.config(|config| config["init_lora_weights"] = json!(init));
        let message = case.refused();
        let said = format!("was initialised with `{}`", init.to_lowercase());
        assert!(message.contains(&said) && message.contains("a wrong result"), "{init}: {message}");
    }
    for init in [json!(true), json!(false), json!("gaussian"), json!("eva"), json!("orthogonal"), json!(null)]
    {
        let case = Case::of("llama-bf16", "attn-r4");
        case.config(|config| config["init_lora_weights"] = init.clone());
        let run = case.sandbox.run(&case.arguments, &[]);
        assert_eq!(run.code, Some(0), "{init}: {}", run.stderr);
    }
}

/// Every option that makes an adapter more than a low-rank sum.
#[test]
fn options_that_no_sum_can_honour() {
    for (option, value) in [
        ("alora_invocation_tokens", json!([1])),
        ("arrow_config", json!({ "top_k": 3 })),
        ("use_qalora", json!(true)),
        ("use_bdlora", json!(true)),
        ("kasa_config", json!({ "beta": 0.0001, "gamma": 0.001 })),
    ] {
        let case = Case::of("llama-bf16", "attn-r4");
        case.config(|config| config[option] = value);
        let message = case.refused();
        let why = ["cannot be merged", "its delta is not the product of its factors"];
        assert!(why.iter().any(|why| message.contains(why)), "{option}: {message}");
        assert!(message.contains(option), "{option}: {message}");
    }
}

#[test]
fn an_activated_lora() {
    let case = Case::new();
    case.config(|config| config["alora_invocation_tokens"] = json!([151_644, 77_091]));
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter`: cannot be merged: it is an activated LoRA, which acts on some tokens only (`alora_invocation_tokens: [151644,77091]`)

    hint: serve it beside the base with the library that trained it
    ");
}

#[test]
fn another_method() {
    let case = Case::new();
    case.config(|config| config["peft_type"] = json!("VERA"));
    for line in [
        "reduce adapter -o out --rank 2",
        "combine adapter adapter=0.5 -o out",
        "convert adapter -o out --to peft",
        "diff adapter adapter",
        "verify base --base base --adapter adapter",
    ] {
        let run = case.sandbox.run(line, &[]);
        assert!(
            run.code != Some(0) && run.stderr.contains("was trained with VERA"),
            "{line}: {}",
            run.stderr
        );
    }
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter`: was trained with VERA, which is not among the methods that are understood

    hint: serve it beside the base with the library that trained it
    ");
    let case = Case::new();
    case.edit(|weights| {
        let tensor = weights.remove(Q_A).unwrap();
        weights.insert(Q_A.replace("lora_A", "hada_w1_a"), tensor);
        weights.remove(Q_B);
    });
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter/adapter_model.safetensors`: `base_model.model.model.layers.0.self_attn.q_proj.hada_w1_a.weight`: belongs to LoHa, which is not a plain LoRA

    hint: serve it beside the base with the library that trained it
    ");
}

#[test]
fn two_adapters_that_save_the_same_module() {
    let mut case = Case::of("llama-bf16", "modules-to-save");
    let other = case.sandbox.copy(&case.adapter, "other");
    edit_file(&other.join("adapter_model.safetensors"), |weights| {
        replace(weights, "base_model.model.lm_head.weight", |values| values.reverse());
    });
    case.arguments = "merge base adapter other -o out".into();
    insta::assert_snapshot!(case.refused(), @"
    error: `lm_head.weight`: would be replaced by two adapters
      `adapter`
      `other`

    hint: merge the adapters one after another, in the order that should win
    ");
}

#[test]
fn two_adapters_that_train_the_same_token() {
    let mut case = Case::of("llama-bf16", "token-indices");
    case.arguments = "merge base adapter adapter -o out".into();
    insta::assert_snapshot!(case.refused(), @"
    error: `model.embed_tokens.weight`: row 3 would be replaced by two adapters
      `adapter`
      `adapter`

    hint: merge the adapters one after another, in the order that should win
    ");
}

#[test]
fn dora_of_half_strength() {
    let mut case = Case::of("llama-bf16", "dora");
    case.arguments = "merge base adapter=0.5 -o out".into();
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter`: is a DoRA adapter with weight 0.5; DoRA has no strength other than 1

    hint: serve it beside the base with the library that trained it
    ");
}

/// A magnitude of a row without a norm: what it is divided by is zero, also where codes could hold no NaN.
#[test]
fn dora_on_a_row_of_zeros() {
    for options in ["", " --quantize nf4", " --quantize int8"] {
        let mut case = Case::of("llama-bf16", "dora");
        case.arguments += options;
        edit_file(&case.model(), |weights| {
            let row = &mut weights.get_mut("model.layers.0.self_attn.q_proj.weight").unwrap().bytes[..256];
            row.fill(0);
        });
        case.edit(|weights| replace(weights, Q_B, |values| values[..8].fill(0.0)));
        let refused = case.refused();
        assert!(refused.contains("q_proj.weight`: comes to NaN at row 0, column 0"), "{options}: {refused}");
    }
}

#[test]
fn token_rows_of_another_number() {
    for tokens in [json!([3, 5]), json!([3, 5, 7, 9])] {
        let case = Case::of("llama-bf16", "token-indices");
        let listed = tokens.as_array().unwrap().len();
        case.config(|config| config["trainable_token_indices"]["embed_tokens"] = tokens);
        let wanted =
            format!("`model.embed_tokens`: holds 3 token rows, and the configuration lists {listed}");
        assert!(case.refused().contains(&wanted), "{}", case.refused());
    }
}
