//! What is no fault, what is no evidence, and what is neither right nor wrong.

use safetensors::tensor::Dtype;
use serde_json::Value;

use super::tiny::{JSON, MODEL, NORM, adapters, base, faulty, merge};
use super::verify;
use crate::support::Sandbox;
use crate::weights::{Tensor, Weights, edit_file};

/// Rounding to 16 bits hides a factor that is nearly 1, and to 32 it does not: what is called wrong is not printed as 1.
#[test]
fn a_scale_that_is_nearly_one() {
    for (dtype, verdict) in [("bf16", "within_rounding"), ("f32", "wrong_scale")] {
        let sandbox = Sandbox::new();
        let base = base(&sandbox, dtype);
        let merged = merge(&sandbox, &base, &[("json", 1.00001)], "merged", "");
        let report = verify(&sandbox, &merged, &base, &adapters(JSON)[0]);
        assert_eq!(report["verdict"], verdict, "{report}");
        assert!(dtype == "bf16" || report["message"].as_str().unwrap().contains("1.00001 times"), "{report}");
    }
}

/// Deltas below the steps of a packed base leave less than they are, or nothing: a merge is packed again and compared.
#[test]
fn packed_models_are_packed_again() {
    let sandbox = Sandbox::new();
    let plain = base(&sandbox, "bf16");
    for kind in ["fp8", "int8", "nf4"] {
        let packed = sandbox.path(kind);
        sandbox.run(&format!("quantize --type {kind} --force -o {kind}"), &[&plain]).ok();
        for base in [&plain, &packed] {
            for weight in [0.01, 1.0] {
                let options = format!("--quantize {kind} --force");
                let merged = merge(&sandbox, base, &[("json", weight)], "merged", &options);
                let report = verify(&sandbox, &merged, base, &adapters(&[("json", weight)])[0]);
                assert_eq!(report["verdict"], "exact_once", "{kind} {weight}: {}", report["message"]);
                let report = verify(&sandbox, &merged, base, &adapters(&[("json", 2.0 * weight)])[0]);
                assert_eq!(report["holds"], false, "{kind} {weight}: {}", report["message"]);
                let said = report["message"].as_str().unwrap();
                assert!(
                    weight < 1.0 || said.contains("added 0.5 times; every value agrees"),
                    "{kind}: {said}"
                );
            }
        }
    }
}

/// What cannot be compared is neither right nor wrong.
#[test]
fn a_third_outcome() {
    let sandbox = Sandbox::new();
    let base = base(&sandbox, "bf16");
    let merged = merge(&sandbox, &base, JSON, "merged", "");
    // An integer in place of each float.
    edit_file(&merged.join(MODEL), |weights| weights.get_mut(NORM).unwrap().dtype = Dtype::I16);
    let line = format!("verify merged --base base --adapter {}", adapters(JSON)[0]);
    let run = sandbox.run(&format!("{line} --json"), &[]);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let error: Value = serde_json::from_str(run.stderr.lines().last().unwrap()).unwrap();
    assert_eq!((&report["verdict"], &report["outcome"]), (&"cannot_be_judged".into(), &"unjudged".into()));
    assert_eq!((run.code, &error["error"]["kind"]), (Some(1), &"Unjudged".into()));
    assert_eq!(faulty(&report).0, [(NORM, "unjudged")]);
    let run = sandbox.run(&line, &[]);
    assert!(run.stdout.starts_with("cannot be judged: ") && run.stdout.contains(NORM), "{}", run.stdout);
    assert!(run.stderr.contains("cannot be judged"), "{}", run.stderr);
}

/// Old models store frequencies of rotary embeddings that programs compute today, and so drop.
#[test]
fn what_follows_from_the_configuration_need_not_be_stored() {
    let sandbox = Sandbox::new();
    let plain = base(&sandbox, "bf16");
    let merged = merge(&sandbox, &plain, JSON, "merged", "");
    let old = sandbox.copy(&plain, "old");
    let add = |weights: &mut Weights| {
        for layer in 0..4 {
            let name = format!("model.layers.{layer}.self_attn.rotary_emb.inv_freq");
            weights.insert(name, Tensor::new(Dtype::F32, &[4], &[1.0, 0.1, 0.01, 0.001]));
        }
    };
    edit_file(&old.join(MODEL), add);
    let adapter = &adapters(JSON)[0];
    assert_eq!(verify(&sandbox, &merged, &old, adapter)["verdict"], "exact_once");
    edit_file(&merged.join(MODEL), add);
    assert_eq!(verify(&sandbox, &merged, &plain, adapter)["verdict"], "exact_once");
    assert_eq!(verify(&sandbox, &merged, &old, adapter)["verdict"], "exact_once");
}

/// A full merge holds more than some of its modules, and is of the same base.
#[test]
fn modules_that_were_not_asked_for() {
    let sandbox = Sandbox::new();
    let base = base(&sandbox, "bf16");
    let merged = merge(&sandbox, &base, JSON, "merged", "");
    let options = format!("{} --only self_attn", adapters(JSON)[0]);
    let report = verify(&sandbox, &merged, &base, &options);
    assert_eq!(report["verdict"], "changed", "{}", report["message"]);
    let held = report["tensors"].as_array().unwrap().iter().filter(|t| t["state"] == "exact").count();
    assert_eq!(held, 16);
}
