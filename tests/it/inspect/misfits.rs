//! Adapters against bases they were not trained on.

use serde_json::json;

use super::Case;
use crate::support::edit_json;

#[test]
fn a_base_of_another_size() {
    insta::assert_snapshot!(Case::new("attn-r4").with_base("llama-f16").findings("--base base"), @"
    4 errors
      error    `model.layers.0.self_attn.q_proj`: base [96, 96], adapter [128, 128]
      error    `model.layers.0.self_attn.v_proj`: base [32, 96], adapter [64, 128]
      error    `model.layers.1.self_attn.q_proj`: base [96, 96], adapter [128, 128]
      error    `model.layers.1.self_attn.v_proj`: base [32, 96], adapter [64, 128]
    ");
}

#[test]
fn a_base_of_another_family() {
    insta::assert_snapshot!(Case::new("attn-r4").with_base("gpt2-f32").findings("--base base"), @"
    4 errors
      error    `model.layers.0.self_attn.q_proj.weight`: nearest in the base: transformer.h.1.attn.c_proj.weight
      error    `model.layers.0.self_attn.v_proj.weight`: nearest in the base: transformer.h.1.attn.c_proj.weight
      error    `model.layers.1.self_attn.q_proj.weight`: nearest in the base: transformer.h.1.attn.c_proj.weight
      error    `model.layers.1.self_attn.v_proj.weight`: nearest in the base: transformer.h.1.attn.c_proj.weight
    ");
}

#[test]
fn a_base_without_the_experts() {
    insta::assert_snapshot!(Case::new("moe-params").with_base("qwen2-bf16").findings("--base base"), @"
    4 errors, 1 note
      error    `model.layers.0.mlp.experts.down_proj`: nearest in the base: model.layers.0.mlp.up_proj.weight
      error    `model.layers.0.mlp.experts.gate_up_proj`: nearest in the base: model.layers.0.mlp.up_proj.weight
      error    `model.layers.1.mlp.experts.down_proj`: nearest in the base: model.layers.1.mlp.up_proj.weight
      error    `model.layers.1.mlp.experts.gate_up_proj`: nearest in the base: model.layers.1.mlp.up_proj.weight
      note     expert parameters are nested, and no name tells which is which: the innermost is taken to be the first one that the model's class defines, usually gate_up_proj, as PEFT nests them
    ");
}

/// The report says so under `fit` too, and the norms of the deltas are still there.
#[test]
fn the_rest_of_the_report() {
    let case = Case::new("attn-r4").with_base("gpt2-f32");
    let report = case.json("--base base");
    assert_eq!(report["fit"]["fits"], false);
    assert_eq!(report["fit"]["changed_tensors"], 0);
    assert!(report["fit"]["misfit"].as_str().unwrap().contains("no counterpart"));
    for module in report["modules"].as_array().unwrap() {
        assert!(module["norm"].as_f64().unwrap() > 0.0);
        assert!(module["relative_norm"].is_null());
    }
}

#[test]
fn an_adapter_as_the_base() {
    let case = Case::new("attn-r4");
    let run = case.run("--base adapter");
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    let (message, _) = run.stderr.split_once("\n\nhint: ").unwrap();
    insta::assert_snapshot!(message, @"error: `adapter`: is an adapter (it has `adapter_config.json`), not a full model");
}

#[test]
fn no_base_there() {
    let run = Case::new("attn-r4").run("--base nowhere");
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    insta::assert_snapshot!(run.stderr, @"
    error: `nowhere`: does not exist

    hint: check the path; nothing is downloaded
    ");
}

/// Embeddings are tied because the configuration says so, and that changes the finding.
#[test]
fn a_base_that_says_it_is_tied() {
    let case = Case::new("embed").with_base("llama-bf16");
    insta::assert_snapshot!(case.findings("--base base"), @"
    1 note
      note     brings the base weight of 2 of its modules along (88 % of the file), as PEFT does for adapted embeddings
    ");
    edit_json(&case.sandbox.path("base/config.json"), |config| config["tie_word_embeddings"] = json!(true));
    insta::assert_snapshot!(case.findings("--base base"), @"
    1 warning, 1 note
      warning  the base ties input and output embedding, and stores both: each keeps its own change, a merge writes two (`model.embed_tokens.weight`, `lm_head.weight`) and sets tie_word_embeddings to false; `--tied share` keeps one, and then the change reaches both sides
      note     brings the base weight of 2 of its modules along (88 % of the file), as PEFT does for adapted embeddings
    ");
}
