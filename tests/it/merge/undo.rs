//! A merge with a negative weight: what is taken out, what is left, what cannot be.

use std::path::Path;

use safetensors::tensor::Dtype;
use serde_json::Value;

use crate::support::{Sandbox, TIMES, fixtures, peft};
use crate::weights::read_folder;

fn report(sandbox: &Sandbox, line: &str) -> Value {
    serde_json::from_str(&sandbox.run(&format!("{line} --json"), &[]).ok().stdout).unwrap()
}

/// How far the model in `back` is from `base`, over the weights that `merged` changed.
struct Truth {
    touched: u64,
    differing: f64,
    norm: f64,
    largest: f64,
}

/// The distance between neighbouring values at `value`.
fn step(dtype: Dtype, value: f64) -> f64 {
    let bits = if dtype == Dtype::F32 { 23 } else { 7 };
    2f64.powi(value.abs().max(1e-38).log2().floor() as i32 - bits)
}

/// Merges at 1 and at -1, and measures. No weight may come back further off than one step.
fn there_and_back(sandbox: &Sandbox, base: &Path, adapter: &Path, options: &str) -> (Value, Truth) {
    sandbox.merge(base, adapter, "there", "");
    let minus = format!("merge there {}=-1 -o back {options}", adapter.display());
    let report = report(sandbox, &minus);
    let [original, there, back] = [base, &sandbox.path("there"), &sandbox.path("back")].map(read_folder);
    let touched = report["residue"]["touched"].as_u64().unwrap();
    let mut truth = Truth { touched, differing: 0.0, norm: 0.0, largest: 0.0 };
    for (name, tensor) in original.iter().filter(|(name, tensor)| **tensor != there[*name]) {
        let values = tensor.values().into_iter().zip(there[name].values()).zip(back[name].values());
        for ((w, merged), r) in values {
            let off = (r - w).abs();
            truth.differing += f64::from(u8::from(off != 0.0));
            truth.norm += off * off;
            truth.largest = truth.largest.max(off);
            let step = step(tensor.dtype, merged).max(step(tensor.dtype, w));
            assert!(off <= step, "{name}: {w} {merged} {r}");
        }
    }
    truth.norm = truth.norm.sqrt();
    (report, truth)
}

#[track_caller]
fn assert_foretold(report: &Value, truth: &Truth) {
    let left = &report["residue"];
    let number = |field: &str| left[field].as_f64().unwrap();
    let share = truth.differing / truth.touched as f64;
    println!("{left}, in truth {share} {} {}", truth.norm, truth.largest);
    let foretold = number("differing_share");
    assert!((share - foretold).abs() <= 0.05 * share + 1e-3, "{share} {left}");
    assert!((truth.norm / number("norm") - 1.0).abs() < 0.1, "{} {left}", truth.norm);
    assert!(truth.largest <= number("largest"), "{} {left}", truth.largest);
}

#[test]
fn what_is_left_in_bf16() {
    let sandbox = Sandbox::new();
    let (base, adapter) = (fixtures().join("tiny-orders"), fixtures().join("tiny-json-lora"));
    let (report, truth) = there_and_back(&sandbox, &base, &adapter, "");
    assert_foretold(&report, &truth);
    assert_eq!(report["adapters"][0]["held"], 1.0);
}

/// In f32, a sum that was rounded to bf16 keeps its rounding error in nearly every weight.
#[test]
fn what_is_left_in_another_dtype() {
    for dtype in ["f32", "f16"] {
        let sandbox = Sandbox::new();
        let (base, adapter) = (peft("bases/llama-bf16"), peft("adapters/plain"));
        let (report, truth) = there_and_back(&sandbox, &base, &adapter, &format!("--dtype {dtype}"));
        assert_foretold(&report, &truth);
    }
}

#[test]
fn what_is_left_in_f32() {
    let sandbox = Sandbox::new();
    let (report, truth) = there_and_back(&sandbox, &peft("bases/llama-f32"), &peft("adapters/f32"), "");
    assert_foretold(&report, &truth);
}

fn inputs(sandbox: &Sandbox) {
    sandbox.copy(&peft("bases/llama-bf16"), "base");
    sandbox.copy(&peft("adapters/attn-r4"), "adapter");
    sandbox.copy(&peft("adapters/plain"), "other");
}

#[test]
fn the_record_tells_what_is_in_the_model() {
    let sandbox = Sandbox::new();
    inputs(&sandbox);
    sandbox.run("merge base adapter=0.5 other -o both", &[]).ok();
    let mut texts = String::new();
    for line in [
        "merge both adapter=-0.5 -o one",
        "merge one other=-1 -o none",
        "merge none other=-1 -o twice",
        "merge both adapter=-1 -o wrong",
        "merge both adapter=-0.5 -o differs --skip v_proj",
        "merge base adapter=-1 -o negated",
        "merge one other=-1 adapter -o exchanged",
        "merge none other=-1 -o silent --lineage never",
    ] {
        let run = sandbox.run(line, &[]).ok();
        let told = run.stdout.lines().filter(|line| line.starts_with("rounding leaves"));
        texts += &format!("$ lorakit {line}\n{}{}\n", run.stderr, told.collect::<Vec<_>>().join("\n"));
    }
    let mut settings = insta::Settings::clone_current();
    TIMES.iter().for_each(|(pattern, text)| settings.add_filter(pattern, *text));
    settings.bind(|| insta::assert_snapshot!(texts, @r#"
    $ lorakit merge both adapter=-0.5 -o one
    note: `adapter`: is taken out again: the record of `both` says that it was merged at weight 0.5
    rounding leaves: about 10.10 % of the touched weights differ from what they were before the merge, 7.4e-4 of their norm in all; none by more than 3.8e-3
    $ lorakit merge one other=-1 -o none
    note: `other`: is taken out again: the record of `one` says that it was merged at weight 1
    rounding leaves: about 48.17 % of the touched weights differ from what they were before the merge, 4.3e-3 of their norm in all; none by more than 2.4e-3
    $ lorakit merge none other=-1 -o twice
    warning: `other`: the record of `none` says that it was taken out before

    $ lorakit merge both adapter=-1 -o wrong
    warning: `adapter`: the record of `both` says that it was merged at weight 0.5: at -1 it is left in at -0.5

    $ lorakit merge both adapter=-0.5 -o differs --skip v_proj
    warning: `adapter`: was merged otherwise than it is taken out: skip was none and is `["v_proj"]`

    $ lorakit merge base adapter=-1 -o negated
    rounding leaves: if the model holds this much of it, about 15.93 % of the touched weights differ from what they were before the merge, 8.4e-4 of their norm in all; none by more than 1.3e-3
    $ lorakit merge one other=-1 adapter -o exchanged
    note: `other`: is taken out again: the record of `one` says that it was merged at weight 1

    $ lorakit merge none other=-1 -o silent --lineage never
    warning: `other`: the record of `none` says that it was taken out before
    "#));
}

#[test]
fn what_cannot_be_taken_out_is_refused() {
    let sandbox = Sandbox::new();
    inputs(&sandbox);
    for name in ["dora", "modules-to-save", "token-indices"] {
        sandbox.copy(&peft(&format!("adapters/{name}")), name);
    }
    let lines = [
        "merge base dora=-1 -o out",
        "merge base modules-to-save=-1 -o out",
        "merge base token-indices=-1 -o out",
    ];
    let texts = lines.map(|line| format!("$ lorakit {line}\n{}", sandbox.refused(line)));
    insta::assert_snapshot!(texts.join("\n"), @"
    $ lorakit merge base dora=-1 -o out
    exit 1
    error: `dora`: is a DoRA adapter with weight -1: it does not add to weights, it sets their magnitudes, and what these were before is not in it; nothing can take it out of a model again

    hint: only the original base is without it; `lorakit inspect MODEL` shows what the model was made from

    $ lorakit merge base modules-to-save=-1 -o out
    exit 1
    error: `modules-to-save`: replaces 6 tensors of the base: there is no delta to subtract, so a negative weight cannot take it out of a model
      lm_head.weight
      model.layers.0.input_layernorm.weight
      model.layers.0.post_attention_layernorm.weight
      model.layers.1.input_layernorm.weight
      model.layers.1.post_attention_layernorm.weight
      model.norm.weight

    hint: only the original base has them; `--skip REGEX` keeps these modules as they are in the model, and takes the rest out

    $ lorakit merge base token-indices=-1 -o out
    exit 1
    error: `token-indices`: replaces a tensor of the base: there is no delta to subtract, so a negative weight cannot take it out of a model
      model.embed_tokens

    hint: only the original base has them; `--skip REGEX` keeps these modules as they are in the model, and takes the rest out
    ");
    // What adds to weights can be taken out alone.
    sandbox.run("merge base modules-to-save -o there", &[]).ok();
    sandbox.run("merge there modules-to-save=-1 -o back --skip lm_head|norm", &[]).ok();
    let (there, back) = (read_folder(&sandbox.path("there")), read_folder(&sandbox.path("back")));
    assert!(there["lm_head.weight"] == back["lm_head.weight"]);
    assert!(
        there["model.layers.0.self_attn.q_proj.weight"] != back["model.layers.0.self_attn.q_proj.weight"]
    );
}

/// The real model in f32 is back within one step of rounding, and as far off as was foretold.
#[test]
fn a_real_model_comes_back() {
    let Some(model) = crate::smollm2::model() else { return };
    let sandbox = Sandbox::new();
    sandbox.run("convert --to hf --dtype f32 -o base", &[&model]).ok();
    let (base, adapter) = (sandbox.path("base"), fixtures().join("smollm2-orders-lora"));
    let (report, truth) = there_and_back(&sandbox, &base, &adapter, "");
    assert_foretold(&report, &truth);
}
