//! Every verb that writes, with a bad value in every kind of place.

use std::path::Path;

use safetensors::tensor::Dtype;

use super::Want::{self, Copied, Refused};
use super::{Bad, check, refusal, report, spoil};
use crate::support::{Sandbox, edit_json, fixtures, peft};
use crate::weights::{Tensor, edit_file};

const TOUCHED: &str = "model.layers.0.self_attn.q_proj.weight";
const LINEAR: &str = "model.layers.0.mlp.up_proj.weight";
const NORM: &str = "model.norm.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";
const FACTOR: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";

/// A model with a tokenizer, and an adapter for it.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), "model");
    sandbox.copy(&fixtures().join("tiny-upper-lora"), "adapter");
    sandbox
}

/// `rows` are command, tensor and outcome; the input is `in`, a copy of `input`.
#[track_caller]
fn table(sandbox: &Sandbox, input: &Path, file: &str, rows: &[(&str, &str, Want)]) {
    for (line, name, want) in rows {
        check(sandbox, line, input, file, name, *want);
    }
}

#[test]
fn merges_into_floats() {
    for (base, adapter) in [("llama-bf16", "attn-r4"), ("llama-f16", "f16"), ("llama-f32", "f32")] {
        let sandbox = Sandbox::new();
        sandbox.copy(&peft(&format!("adapters/{adapter}")), "adapter");
        let input = peft(&format!("bases/{base}"));
        let other = if base == "llama-f32" { "--dtype bf16" } else { "--dtype f32" };
        let cast = format!("merge in adapter -o out {other}");
        let rows = [
            ("merge in adapter -o out", TOUCHED, Refused),
            ("merge in adapter -o out", NORM, Copied),
            ("merge in adapter -o out.safetensors", EMBEDDING, Copied),
            ("merge in adapter=0 -o out", TOUCHED, Copied),
            (cast.as_str(), NORM, Refused),
            (cast.as_str(), TOUCHED, Refused),
        ];
        table(&sandbox, &input, "in/model.safetensors", &rows);
    }
}

/// In quantised outputs, all linear layers are computed; norms and embeddings are if their dtype changes.
#[test]
fn merges_and_quantisations() {
    let sandbox = sandbox();
    let input = sandbox.path("model");
    let mut rows: Vec<(String, &str, Want)> = Vec::new();
    for verb in ["merge in adapter", "quantize in"] {
        let option = if verb.starts_with("merge") { "--quantize" } else { "--type" };
        for kind in ["nf4", "nf4 --double-quant", "int8", "fp8", "fp8-tensor", "mxfp8"] {
            let line = format!("{verb} -o out {option} {kind}");
            rows.extend([(line.clone(), LINEAR, Refused), (line.clone(), NORM, Copied)]);
            rows.push((line, EMBEDDING, Copied));
        }
        for kind in ["Q8_0", "Q4_K_M", "F16"] {
            let line = format!("{verb} -o out.gguf {option} {kind}");
            rows.extend([LINEAR, NORM, EMBEDDING].map(|name| (line.clone(), name, Refused)));
        }
        let line = format!("{verb} -o out.gguf {option} BF16");
        rows.extend([(line.clone(), LINEAR, Copied), (line, NORM, Refused)]);
    }
    for (line, name, want) in &rows {
        check(&sandbox, line, &input, "in/model.safetensors", name, *want);
    }
}

/// Permuting or stacking rows only moves bytes.
#[test]
fn conversions_of_models() {
    let sandbox = sandbox();
    let input = sandbox.path("model");
    let rows = [
        ("convert in -o out.gguf --to gguf", TOUCHED, Copied),
        ("convert in -o out.gguf --to gguf", EMBEDDING, Copied),
        ("convert in -o out.gguf --to gguf", NORM, Refused),
        ("convert in -o out.gguf --to gguf --dtype f16", TOUCHED, Refused),
    ];
    table(&sandbox, &input, "in/model.safetensors", &rows);
    sandbox.run("convert model -o bf16.gguf --to gguf", &[]).ok();
    let rows = [
        ("convert in.gguf -o out --to hf", "blk.0.attn_q.weight", Copied),
        ("convert in.gguf -o out --to hf", "blk.0.ffn_up.weight", Copied),
        ("convert in.gguf -o out --to hf", "output_norm.weight", Refused),
        ("convert in.gguf -o out --to hf --dtype f32", "output_norm.weight", Copied),
        ("convert in.gguf -o out --to hf --dtype f32", "blk.0.attn_q.weight", Refused),
        ("quantize in.gguf -o out.gguf --type Q8_0", "blk.0.attn_q.weight", Refused),
        ("quantize in.gguf -o out.gguf --type Q8_0", "output_norm.weight", Copied),
    ];
    table(&sandbox, &sandbox.path("bf16.gguf"), "in.gguf", &rows);
}

/// NaN in the scale of a block is NaN in each of its values.
#[test]
fn gguf_sources_in_blocks() {
    let sandbox = sandbox();
    sandbox.run("quantize model -o blocks.gguf --type Q4_0", &[]).ok();
    let rows = [
        ("convert in.gguf -o out --to hf", "blk.0.attn_q.weight", Refused),
        ("convert in.gguf -o out --to hf", "token_embd.weight", Refused),
        ("merge in.gguf adapter -o out", "blk.3.attn_q.weight", Refused),
        ("merge in.gguf adapter -o out", "blk.0.ffn_up.weight", Refused),
        ("merge in.gguf adapter -o out.gguf --quantize keep --force", "blk.3.ffn_down.weight", Refused),
        ("merge in.gguf adapter=0 -o out.gguf --quantize keep", "blk.0.attn_q.weight", Copied),
        ("merge in.gguf adapter=0 -o out.gguf --quantize keep", "token_embd.weight", Copied),
        ("quantize in.gguf -o out.gguf --type Q8_0 --requantize", "blk.0.attn_q.weight", Refused),
        ("quantize in.gguf -o out.gguf --type Q4_0 --requantize", "blk.0.attn_q.weight", Copied),
    ];
    table(&sandbox, &sandbox.path("blocks.gguf"), "in.gguf", &rows);
}

/// Scales in separate tensors; decoded values are checked even if nothing else is done to them.
#[test]
fn packed_sources() {
    for (kind, scales) in [
        ("nf4", "model.layers.0.mlp.up_proj.weight.absmax"),
        ("nf4 --double-quant", "model.layers.0.mlp.up_proj.weight.nested_absmax"),
        ("int8", "model.layers.0.mlp.up_proj.SCB"),
        ("fp8", "model.layers.0.mlp.up_proj.weight_scale_inv"),
        ("fp8-channel", "model.layers.0.mlp.up_proj.weight_scale"),
        ("mxfp8", "model.layers.0.mlp.up_proj.weight_scale"),
        ("mxfp8", LINEAR),
    ] {
        let sandbox = sandbox();
        sandbox.run(&format!("quantize model -o packed --type {kind}"), &[]).ok();
        for line in [
            "merge in adapter -o out",
            "merge in adapter -o out --dtype f32",
            "merge in adapter=0 -o out",
            "merge in adapter -o out.gguf --quantize Q8_0",
            "convert in -o out.gguf --to gguf",
            "quantize in -o out.gguf --type Q8_0 --requantize",
        ] {
            sandbox.copy(&sandbox.path("packed"), "in");
            spoil(&sandbox.path("in/model.safetensors"), scales, Bad::Nan);
            let error = refusal(&sandbox, line);
            let found = (&error["kind"], &error["path"], &error["tensor"]);
            let wanted = (&"NonFinite".into(), &"in/model.safetensors".into(), &LINEAR.into());
            assert_eq!(found, wanted, "{kind}, {line}: {error}");
            assert!(error["message"].as_str().unwrap().contains("decodes to NaN at row"), "{error}");
            std::fs::remove_dir_all(sandbox.path("in")).unwrap();
        }
    }
}

/// Adapters are small: everything in them is checked, copied or not.
#[test]
fn adapters() {
    let sandbox = Sandbox::new();
    let (base, other) = (peft("bases/llama-bf16"), peft("adapters/all-r8-second"));
    sandbox.copy(&base, "base");
    sandbox.copy(&other, "other");
    let saved = "base_model.model.lm_head.weight";
    let magnitude = "base_model.model.model.layers.0.mlp.down_proj.lora_magnitude_vector";
    let rows = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta";
    let file = "in/adapter_model.safetensors";
    let every: [(&str, &[&str], &[&str]); 4] = [
        (
            "plain",
            &[FACTOR],
            &[
                "merge base in -o out",
                "merge base in -o out.safetensors --dtype f32",
                "convert in -o out --to mlx",
                "convert in -o out --to peft --dtype f16",
                "reduce in -o out --rank 2",
                "combine in -o out",
                "combine in other=0.5 -o out",
                "verify base --base base --adapter in",
            ],
        ),
        ("modules-to-save", &[saved, FACTOR], &["merge base in -o out", "convert in -o out --to peft"]),
        ("dora", &[magnitude, FACTOR], &["merge base in -o out", "convert in -o out --to peft"]),
        ("token-indices", &[rows], &["merge base in -o out", "convert in -o out --to peft"]),
    ];
    for (adapter, names, lines) in every {
        for name in names {
            for line in lines {
                check(&sandbox, line, &peft(&format!("adapters/{adapter}")), file, name, Refused);
            }
        }
    }
}

/// The difference is computed for tensors that differ; equal ones are not part of the output.
#[test]
fn extractions() {
    let sandbox = Sandbox::new();
    let (base, tuned) = (peft("bases/llama-bf16"), peft("merged/attn-r4"));
    sandbox.copy(&base, "base");
    sandbox.copy(&tuned, "tuned");
    let line = "extract base in -o out --rank 4";
    let rows = [(line, TOUCHED, Refused), (line, NORM, Refused)];
    table(&sandbox, &tuned, "in/model.safetensors", &rows);
    check(&sandbox, "extract in tuned -o out --rank 4", &base, "in/model.safetensors", TOUCHED, Refused);
    for folder in ["base", "tuned"] {
        spoil(&sandbox.path(folder).join("model.safetensors"), NORM, Bad::Nan);
    }
    report(&sandbox, "extract base tuned -o out --rank 4");
}

/// Verbs that only compare say what they find; a base that could not be merged into cannot be compared with.
#[test]
fn comparisons() {
    let sandbox = Sandbox::new();
    let base = sandbox.copy(&peft("bases/llama-bf16"), "base");
    sandbox.copy(&peft("merged/attn-r4"), "merged");
    sandbox.copy(&peft("adapters/attn-r4"), "adapter");
    let line = "verify merged --base base --adapter adapter";
    check(
        &sandbox,
        "verify merged --base in --adapter adapter",
        &base,
        "in/model.safetensors",
        TOUCHED,
        Refused,
    );
    spoil(&sandbox.path("merged/model.safetensors"), TOUCHED, Bad::Nan);
    let run = sandbox.run(&format!("{line} --json"), &[]);
    assert_eq!(run.code, Some(1));
    let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let states = report["tensors"].as_array().unwrap();
    let of = |name: &str| states.iter().find(|t| t["name"] == name).unwrap()["state"].clone();
    assert_eq!((of(TOUCHED), of(LINEAR)), ("non_finite".into(), "kept".into()));
    let found = super::report(&sandbox, "diff base merged");
    let tensors = found["tensors"].as_array().unwrap();
    let counts = &tensors.iter().find(|t| t["name"] == TOUCHED).unwrap()["non_finite"];
    assert_eq!(*counts, serde_json::json!([0, 1]));
}

/// `inspect --base` says what a merge would.
#[test]
fn inspections() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("bases/llama-bf16"), "base");
    sandbox.copy(&peft("adapters/attn-r4"), "adapter");
    let inspect = || sandbox.run("inspect adapter --base base", &[]);
    let values = |text: &str| {
        let lines = text.lines().skip_while(|line| !line.starts_with("  values"));
        lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(values(&inspect().ok().stdout), @"  values        finite in the adapter and in the 4 tensors that it adds to; the 17 others of the base were not read");
    spoil(&sandbox.path("base/model.safetensors"), NORM, Bad::Nan);
    assert_eq!(inspect().code, Some(0), "a merge copies it");
    spoil(&sandbox.path("base/model.safetensors"), TOUCHED, Bad::Inf);
    let run = inspect();
    assert_eq!(run.code, Some(1));
    insta::assert_snapshot!(values(&run.stdout), @"  values        a merge is refused: a tensor holds NaN or infinity; the 17 others of the base were not read");
    let finding = run.stdout.split("findings").nth(1).unwrap();
    insta::assert_snapshot!(finding, @"
    : 1 error
      error    `model.layers.0.self_attn.q_proj.weight`: holds -inf at row 0, column 3 (BF16) in the base, with 1 of its 16384 values NaN or infinite: a merge refuses it
    ");
    let run = sandbox.run("inspect adapter --base base --json", &[]);
    let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let fit = &json["reports"][0]["fit"];
    assert_eq!((&fit["non_finite_tensors"], &fit["checked_tensors"]), (&1.into(), &4.into()));
    assert_eq!(fit["unchecked_tensors"], 17);
    spoil(&sandbox.path("adapter/adapter_model.safetensors"), FACTOR, Bad::Nan);
    insta::assert_snapshot!(values(&inspect().stdout), @"  values        a merge is refused: 2 tensors hold NaN or infinity; the 17 others of the base were not read");
}

/// Every copied tensor is counted, unless its values are known otherwise.
#[test]
fn what_is_counted() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("bases/llama-bf16"), "base");
    sandbox.copy(&peft("adapters/modules-to-save"), "adapter");
    let count = |report: &serde_json::Value| report["unchecked_tensors"].as_u64().unwrap();
    let merged = report(&sandbox, "merge base adapter -o out");
    let copied = merged["tensors"].as_u64().unwrap() - merged["changed_tensors"].as_u64().unwrap();
    assert_eq!(count(&merged), copied, "a saved tensor is copied too, and was looked at");
    assert!(merged["unchecked_bytes"].as_u64().unwrap() > 0);
    assert_eq!(count(&report(&sandbox, "merge base adapter -o all --check-finite")), 0);
    assert_eq!(count(&report(&sandbox, "merge base adapter -o f32 --dtype f32")), 0);
    assert_eq!(count(&report(&sandbox, "convert adapter -o copy --to peft")), 0);
    // Integers are always numbers.
    edit_file(&sandbox.path("base/model.safetensors"), |weights| {
        let ids = Tensor { dtype: Dtype::I64, shape: vec![2], bytes: vec![0xff; 16] };
        weights.insert("model.position_ids".into(), ids);
    });
    assert_eq!(count(&report(&sandbox, "merge base adapter -o ids")), copied);
    report(&sandbox, "merge base adapter -o ids-checked --check-finite");
    // For an 8-bit float without a decoder it is unknown.
    edit_file(&sandbox.path("base/model.safetensors"), |weights| {
        let strange = Tensor { dtype: Dtype::F8_E5M2FNUZ, shape: vec![4], bytes: vec![0; 4] };
        weights.insert("model.strange".into(), strange);
    });
    assert_eq!(count(&report(&sandbox, "merge base adapter -o strange")), copied + 1);
    let error = refusal(&sandbox, "merge base adapter -o strange-checked --check-finite");
    assert_eq!((&error["kind"], &error["tensor"]), (&"Unsupported".into(), &"model.strange".into()));
}

/// gpt-oss: experts that are MXFP4 already are copied as codes and exponents; one exponent means NaN.
#[test]
fn exponents_that_are_copied() {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), "model");
    edit_json(&sandbox.path("model/config.json"), |config| config["model_type"] = "gpt_oss".into());
    edit_file(&sandbox.path("model/model.safetensors"), |weights| {
        weights.retain(|name, _| name.contains("embed") || name.contains("norm"));
        let values = crate::weights::noise(5, 2 * 64 * 32, 1.0);
        let experts = Tensor::new(Dtype::BF16, &[2, 64, 32], &values);
        weights.insert("model.layers.0.mlp.experts.down_proj".into(), experts);
    });
    sandbox.run("quantize model -o packed --type mxfp4", &[]).ok();
    check(
        &sandbox,
        "quantize in -o out --type mxfp4 --requantize",
        &sandbox.path("packed"),
        "in/model.safetensors",
        "model.layers.0.mlp.experts.down_proj_scales",
        Copied,
    );
}
