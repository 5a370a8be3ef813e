//! Merges in one dtype that are stored in another, or quantised, as pipelines do it.

use safetensors::tensor::Dtype;

use super::tiny::{JSON, MODEL, Q, adapters, base, faulty, merge, merge_in_f64};
use super::verify;
use crate::support::{Sandbox, edit_json};
use crate::weights::{Tensor, Weights, edit_file};

fn cast(weights: &mut Weights, name: &str, dtype: Dtype) {
    let tensor = &weights[name];
    let tensor = Tensor::new(dtype, &tensor.shape, &tensor.values());
    weights.insert(name.into(), tensor);
}

/// A merge in BF16 is that merge, whatever holds its values; a wrong weight is named there as anywhere.
#[test]
fn what_was_rounded_before_it_was_stored() {
    let sandbox = Sandbox::new();
    let base = base(&sandbox, "bf16");
    let adapter = &adapters(JSON)[0];
    let merged = merge(&sandbox, &base, JSON, "merged", "");
    let safe = merge(&sandbox, &base, JSON, "safe", "--rounding peft-safe");
    let other = merge_in_f64(&sandbox, &base, JSON, "other");
    let half = merge(&sandbox, &base, &[("json", 0.5)], "half", "");
    for kind in ["F16", "F32", "Q8_0", "Q4_K_M"] {
        for (model, verdict, says) in [
            (&merged, "exact_once", "; rounded to BF16 before it was stored"),
            (&safe, "exact_twice", "; rounded to BF16 before it was stored"),
            (&other, "", "; rounded to BF16 before it was stored"),
            (&half, "wrong_scale", "added 0.5 times; every value agrees"),
        ] {
            sandbox.run(&format!("quantize --type {kind} --force -o stored.gguf"), &[model]).ok();
            let report = verify(&sandbox, &sandbox.path("stored.gguf"), &base, adapter);
            let said = report["message"].as_str().unwrap();
            let is = if verdict.is_empty() { report["holds"] == true } else { report["verdict"] == verdict };
            assert!(is && said.contains(says), "{kind} {}: {said}\n{:?}", model.display(), faulty(&report));
        }
    }
    for dtype in [Dtype::F16, Dtype::F32] {
        let out = sandbox.copy(&merged, "cast");
        edit_file(&out.join(MODEL), |weights| {
            let names: Vec<String> = weights.keys().cloned().collect();
            names.iter().for_each(|name| cast(weights, name, dtype));
        });
        edit_json(&out.join("config.json"), |config| {
            config["dtype"] = if dtype == Dtype::F16 { "float16" } else { "float32" }.into();
        });
        let report = verify(&sandbox, &out, &base, adapter);
        assert_eq!(report["verdict"], "exact_once", "{}", report["message"]);
        std::fs::remove_dir_all(&out).unwrap();
        let out = sandbox.copy(&merged, "cast");
        edit_file(&out.join(MODEL), |weights| cast(weights, Q, dtype));
        let report = verify(&sandbox, &out, &base, adapter);
        assert_eq!(report["verdict"], "exact_once", "{}", report["message"]);
        let said = report["message"].as_str().unwrap();
        assert!(said.contains("some tensors were rounded to BF16 before they were stored"), "{said}");
        std::fs::remove_dir_all(&out).unwrap();
    }
}
