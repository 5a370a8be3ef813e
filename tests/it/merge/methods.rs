//! Methods of PEFT besides LoRA, against PEFT's own merges of the same files (`tests/peers/peft_methods.py --goldens`).

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::{Sandbox, copy_folder, edit_json, entries, fixtures};
use crate::weights::{Weights, read_file, read_folder, write_file};

fn golden(case: &str) -> PathBuf {
    fixtures().join("golden/peft-methods").join(case)
}

/// A sandbox with `base` and `adapter` of a case.
fn opened(case: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    for part in ["base", "adapter"] {
        copy_folder(&golden(case).join(part), &sandbox.path(part));
    }
    sandbox
}

/// The largest difference between tensors, relative to the largest value.
fn apart(found: &Weights, wanted: &Weights) -> f64 {
    assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    let of_tensor = |(name, wanted): (&String, &crate::weights::Tensor)| {
        let found = &found[name];
        assert_eq!((found.dtype, &found.shape), (wanted.dtype, &wanted.shape), "{name}");
        let (found, wanted) = (found.values(), wanted.values());
        let largest = wanted.iter().fold(0f64, |largest, value| largest.max(value.abs()));
        let off = found.iter().zip(&wanted).fold(0f64, |worst, (x, y)| worst.max((x - y).abs()));
        off / largest
    };
    wanted.iter().map(of_tensor).fold(0.0, f64::max)
}

fn merged(sandbox: &Sandbox, adapter: &str, out: &str) -> Weights {
    read_folder(&sandbox.merge(Path::new("base"), Path::new(adapter), out, ""))
}

#[test]
fn merges_are_those_of_peft() {
    let cases = entries(&golden(""));
    assert!(cases.len() >= 13, "{cases:?}");
    for case in cases {
        let sandbox = opened(&case);
        let found = merged(&sandbox, "adapter", "out");
        let (base, wanted) =
            (read_folder(&golden(&case).join("base")), read_file(&golden(&case).join("merged.safetensors")));
        // Every tensor of the base is one that PEFT's merge changes.
        assert!(wanted.keys().all(|name| base[name] != wanted[name]), "{case}");
        let off = apart(&found, &wanted);
        assert!(off < 1e-6, "{case}: {off:e}");
        sandbox.run("verify out --base base --adapter adapter", &[]).ok();
        // PEFT's own merge holds as well: its sums are made in another order.
        let pefts: Weights = base.into_iter().chain(wanted).collect();
        write_file(&sandbox.path("pefts.safetensors"), &pefts);
        sandbox.run("verify pefts.safetensors --base base --adapter adapter", &[]).ok();
    }
}

/// Those that equal LoRAs become LoRAs, whole layers and rows stay what they are, and neither changes the merge.
#[test]
fn conversions_keep_what_a_merge_makes() {
    for (case, method) in [
        ("adalora", "LORA"),
        ("loha", "LORA"),
        ("lokr", "LORA"),
        ("bdlora", "LORA"),
        ("velora", "LORA"),
        ("ln-tuning-biases", "LN_TUNING"),
        ("trainable-tokens", "TRAINABLE_TOKENS"),
    ] {
        let sandbox = opened(case);
        // Products of a higher rank than their matrices are written only on request.
        let nearest = if matches!(case, "loha" | "lokr") { " --approximate rank=8" } else { "" };
        sandbox.run(&format!("convert adapter -o plain --to peft{nearest}"), &[]).ok();
        let config: serde_json::Value =
            serde_json::from_slice(&fs::read(sandbox.path("plain/adapter_config.json")).unwrap()).unwrap();
        assert_eq!(config["peft_type"], method, "{case}");
        for field in ["use_bdlora", "velora_config", "init_r"] {
            assert!(config[field].is_null(), "{case}: {field}");
        }
        let off = apart(&merged(&sandbox, "plain", "out"), &merged(&sandbox, "adapter", "direct"));
        assert!(off < 1e-6, "{case}: {off:e}");
    }
}

/// What multiplies weights can only be merged, whole, and alone on a tensor.
#[test]
fn factors_of_weights_are_for_merges() {
    for case in ["ia3-biases", "oft"] {
        let sandbox = opened(case);
        for line in [
            "reduce adapter -o out --rank 2",
            "combine adapter adapter=0.5 -o out",
            "convert adapter -o out --to peft",
            "edit adapter -o out --license mit",
            "diff adapter adapter",
        ] {
            let run = sandbox.run(line, &[]);
            assert!(
                run.code == Some(1) && run.stderr.contains("which only a merge can do"),
                "{line}: {}",
                run.stderr
            );
        }
        sandbox.run("inspect adapter --base base", &[]).ok();
    }
    let sandbox = opened("ia3-biases");
    insta::assert_snapshot!(sandbox.refused("convert adapter -o out --to gguf --base base"), @"
    exit 1
    error: `adapter`: multiplies 4 weights of the base (IA3) instead of adding to them, which only a merge can do

    hint: merge it into its base, which holds everything: `lorakit merge BASE ADAPTER -o OUT`
    ");
    insta::assert_snapshot!(sandbox.refused("merge base adapter=0.5 -o out"), @"
    exit 1
    error: `adapter`: is an adapter of the method IA3 with weight 0.5; what multiplies weights has no strength other than 1

    hint: serve it beside the base with the library that trained it
    ");
    sandbox.copy(&sandbox.path("adapter"), "again");
    insta::assert_snapshot!(sandbox.refused("merge base adapter again -o out"), @"
    exit 1
    error: `again`: `model.layers.0.mlp.down_proj.weight`: is multiplied by one adapter (IA3, OFT) and changed by another, and their order would matter

    hint: merge the adapters one after another, in the order that should win
    ");
    // Layers that are left out are the base's.
    sandbox.run("merge base adapter -o part --skip down_proj", &[]).ok();
    let (base, part) = (read_folder(&sandbox.path("base")), read_folder(&sandbox.path("part")));
    for (name, tensor) in &part {
        assert_eq!(*tensor == base[name], name.contains("down_proj"), "{name}");
    }
}

/// PEFT up to 0.21.2 applies the delta of `out_proj` twice, in training and when it merges.
#[test]
fn attention_outputs_act_as_often_as_their_peft_has_them() {
    let sandbox = opened("mha-biases");
    let run = sandbox.run("merge base adapter -o twice", &[]).ok();
    assert!(run.stderr.contains("PEFT 0.21.2 applies twice"), "{}", run.stderr);
    let (base, twice) = (read_folder(&sandbox.path("base")), read_folder(&sandbox.path("twice")));
    edit_json(&sandbox.path("adapter/adapter_config.json"), |config| {
        config["peft_version"] = json!("0.22.0")
    });
    let once = merged(&sandbox, "adapter", "once");
    for (name, times) in [("attn.out_proj.weight", 2.0), ("attn.in_proj_weight", 1.0)] {
        let values = |weights: &Weights| weights[name].values();
        let (base, once, twice) = (values(&base), values(&once), values(&twice));
        let moved = base.iter().zip(&once).map(|(base, once)| (base - once).abs()).fold(0.0, f64::max);
        assert!(moved > 0.01, "{name}");
        for ((base, once), twice) in base.iter().zip(&once).zip(&twice) {
            assert!(((twice - base) - times * (once - base)).abs() < 1e-6, "{name}");
        }
    }
    // A combination or another format could not say how often it acts.
    edit_json(&sandbox.path("adapter/adapter_config.json"), |config| {
        config["peft_version"] = json!("0.21.2")
    });
    let run = sandbox.run("combine adapter adapter=0.5 -o out", &[]);
    assert!(run.code == Some(1) && run.stderr.contains("applied twice"), "{}", run.stderr);
    sandbox.run("convert adapter -o copy --to peft", &[]).ok();
    assert!(apart(&merged(&sandbox, "copy", "again"), &twice) < 1e-7);
}
