//! Anomalies planted one at a time into an adapter that was really trained, and what the audit says of each. A trained
//! adapter alone raises none of these findings, nor do those that other tests have at hand.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use super::Case;
use crate::support::{Sandbox, fixtures};
use crate::weights::{Tensor, Weights, edit_file, noise};

/// Layers that are kept of the 30: enough for a median.
const LAYERS: usize = 8;
const Q: &str = "self_attn.q_proj";
const DOWN: &str = "mlp.down_proj";

fn trained() -> Case {
    let case = Case::of(&fixtures().join("smollm2-orders-lora"));
    case.edit(|weights| {
        weights.retain(|name, _| (0..LAYERS).any(|layer| name.contains(&format!("layers.{layer}."))));
    });
    case
}

fn name(layer: usize, module: &str, half: char) -> String {
    format!("base_model.model.model.layers.{layer}.{module}.lora_{half}.weight")
}

/// Replaces the values of a tensor.
fn change(weights: &mut Weights, name: &str, change: impl Fn(usize, f64) -> f64) {
    let old = &weights[name];
    let values: Vec<f64> = old.values().into_iter().enumerate().map(|(i, v)| change(i, v)).collect();
    weights.insert(name.into(), Tensor::new(old.dtype, &old.shape, &values));
}

/// The names of all tensors with this in them.
fn those(weights: &Weights, part: &str) -> Vec<String> {
    weights.keys().filter(|name| name.contains(part)).cloned().collect()
}

/// Scales [`noise`], which is uniform over a width of 1, to a root mean square of 1.
const UNIT: f64 = 3.464;

fn rms(values: &[f64]) -> f64 {
    (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt()
}

/// Four rows of `B` that together have `times` the norm of the others, each in a direction of its own.
fn spike(weights: &mut Weights, times: f64) {
    let b = name(3, DOWN, 'B');
    let (rows, rank) = (weights[&b].shape[0], weights[&b].shape[1]);
    let values = noise(5, 4 * rank, UNIT * times * rms(&weights[&b].values()) * (rows as f64 / 4.0).sqrt());
    change(weights, &b, |i, v| match [5, 77, 300, 501].iter().position(|row| *row == i / rank) {
        Some(place) => v + values[place * rank + i % rank],
        None => v,
    });
}

type Edit = fn(&mut Weights);
type Configure = fn(&mut Value);

fn nothing(_: &mut Weights) {}
fn same(_: &mut Value) {}

/// What is planted, how, and the findings it must have; nothing where such a scan is blind.
const PLANTED: &[(&str, Edit, Configure, &[&str])] = &[
    ("lora_alpha x 100", nothing, |c| c["lora_alpha"] = json!(3200), &["large-scale"]),
    ("one module x 50", |w| change(w, &name(3, Q, 'B'), |_, v| v * 50.0), same, &["stronger-than-kind"]),
    (
        "all B zero",
        |w| those(w, "lora_B").iter().for_each(|name| change(w, name, |_, _| 0.0)),
        same,
        &["untrained"],
    ),
    ("one B zero", |w| change(w, &name(3, Q, 'B'), |_, _| 0.0), same, &["untrained"]),
    (
        "NaN",
        |w| change(w, &name(3, Q, 'B'), |i, v| if i == 40 { f64::NAN } else { v }),
        same,
        &["non-finite"],
    ),
    (
        "Inf",
        |w| {
            let tensor = w.get_mut(&name(3, Q, 'A')).unwrap();
            tensor.bytes[80..82].copy_from_slice(&half::bf16::INFINITY.to_le_bytes());
        },
        same,
        &["non-finite"],
    ),
    (
        "two modules collapsed to rank 1",
        |w| {
            for layer in [2, 5] {
                let first = w[&name(layer, Q, 'A')].values();
                change(w, &name(layer, Q, 'A'), |i, _| first[i % 576]);
            }
        },
        same,
        &["collapsed-rank"],
    ),
    (
        "a layer of noise",
        |w| {
            for (seed, name) in those(w, "layers.3.").iter().enumerate() {
                let values = w[name].values();
                let new = noise(seed as u64, values.len(), UNIT * rms(&values));
                change(w, name, |i, _| new[i]);
            }
        },
        same,
        &["flat-spectrum"],
    ),
    (
        "a layer copied from another",
        |w| {
            for name in those(w, "layers.3.") {
                let other = w[&name.replace("layers.3.", "layers.6.")].clone();
                w.insert(name, other);
            }
        },
        same,
        &["copied-module"],
    ),
    (
        "A x 1e4 with B x 1e-4",
        |w| {
            those(w, "lora_A").iter().for_each(|name| change(w, name, |_, v| v * 1e4));
            those(w, "lora_B").iter().for_each(|name| change(w, name, |_, v| v * 1e-4));
        },
        same,
        &["unbalanced-factors"],
    ),
    (
        "sparse rows",
        |w| change(w, &name(3, DOWN, 'B'), |i, v| if (i / 16) % 20 == 0 { v } else { 0.0 }),
        same,
        &["few-rows"],
    ),
    ("a spike into 4 outputs, x 3", |w| spike(w, 3.0), same, &["few-rows"]),
    ("a spike into 4 outputs, x 1", |w| spike(w, 1.0), same, &["few-rows"]),
    (
        "two modules exchanged",
        |w| {
            for half in ['A', 'B'] {
                let (x, y) = (name(2, Q, half), name(6, Q, half));
                let (of_x, of_y) = (w[&x].clone(), w[&y].clone());
                w.extend([(x, of_y), (y, of_x)]);
            }
        },
        same,
        &[],
    ),
    ("another rank in the configuration", nothing, |c| c["r"] = json!(8), &["rank-mismatch"]),
    // A note that every rsLoRA has: the file does not tell with which scale it was trained.
    ("rsLoRA flag", nothing, |c| c["use_rslora"] = json!(true), &["rslora"]),
    (
        "a full lm_head",
        |w| {
            let head = Tensor::new(Dtype::BF16, &[64, 576], &noise(1, 64 * 576, 0.02));
            w.insert("base_model.model.lm_head.weight".into(), head);
        },
        same,
        &["embeddings", "modules-to-save", "saved-unnamed"],
    ),
    (
        "tensors outside target_modules",
        nothing,
        |c| c["target_modules"] = json!(["q_proj", "v_proj"]),
        &["unnamed-modules"],
    ),
    (
        "a stray tensor",
        |w| drop(w.insert(name(3, Q, 'C'), Tensor::new(Dtype::F32, &[4], &[1.0; 4]))),
        same,
        &["modules-to-save", "saved-unnamed"],
    ),
    (
        "a local path as base",
        nothing,
        |c| c["base_model_name_or_path"] = json!("/home/ann/models/smollm2"),
        &["local-path"],
    ),
];

fn codes(report: &Value) -> BTreeSet<String> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings.map(|finding| finding["code"].as_str().unwrap().to_string()).collect()
}

#[test]
fn each_is_found_by_its_finding_and_by_no_other() {
    let mut told = String::new();
    for (what, edit, configure, expected) in PLANTED {
        let case = trained();
        case.edit(edit);
        case.config(configure);
        let report = case.json("--norms");
        let expected: BTreeSet<String> = expected.iter().map(|code| (*code).to_string()).collect();
        assert_eq!(codes(&report), expected, "{what}");
        let first = &report["findings"][0];
        if !first.is_null() {
            let text = |key: &str| first[key].as_str().unwrap().replace("base_model.model.model.", "");
            told += &format!("{what}\n    {} `{}`: {}\n", text("severity"), text("subject"), text("message"));
        }
    }
    insta::assert_snapshot!("planted", told);
}

#[test]
fn what_lies_beside_it() {
    let case = Case::new("attn-r4");
    let write = |name: &str| fs::write(case.sandbox.path("adapter").join(name), "x").unwrap();
    write("optimizer.pt");
    insta::assert_snapshot!(case.findings("--norms"), @"
    1 note
      note     `optimizer.pt` beside the adapter is a pickle: to unpickle may run code (`torch.load` without `weights_only`, `pickle.load`)
    ");
    write("modeling_orders.py");
    write("vocabulary.pkl");
    insta::assert_snapshot!(case.findings(""), @"
    2 warnings
      warning  `modeling_orders.py` beside the adapter: an adapter needs no code, and what loads this folder with `trust_remote_code` may run it
      warning  `optimizer.pt`, `vocabulary.pkl` beside the adapter are pickles: to unpickle may run code (`torch.load` without `weights_only`, `pickle.load`)
      headers only: `--norms` reads the values (NaN, untrained factors, strength)
    ");
}

/// Endings count whatever their case, and only Python is said to be run by loaders.
#[test]
fn programs_in_any_case() {
    let case = Case::new("attn-r4");
    for name in ["A.EXE", "run.Sh", "model.PY", "X.PKL", "MODEL.PT", "MORE.SAFETENSORS"] {
        fs::write(case.sandbox.path("adapter").join(name), "x").unwrap();
    }
    insta::assert_snapshot!(case.findings(""), @"
    4 warnings
      warning  `MODEL.PT`, `MORE.SAFETENSORS` beside the adapter: not read, so if training changed what they hold, that is missing
      warning  `model.PY` beside the adapter: an adapter needs no code, and what loads this folder with `trust_remote_code` may run it
      warning  `A.EXE`, `run.Sh` beside the adapter: an adapter needs no programs; loaders leave them alone, so do the same
      warning  `MODEL.PT`, `X.PKL` beside the adapter are pickles: to unpickle may run code (`torch.load` without `weights_only`, `pickle.load`)
      headers only: `--norms` reads the values (NaN, untrained factors, strength)
    ");
}

/// Adapters that were trained, and some with random factors, raise no finding on strength.
#[test]
fn healthy_adapters_are_not_suspected() {
    let suspects = [
        "large-scale",
        "collapsed-rank",
        "copied-module",
        "few-rows",
        "flat-spectrum",
        "stronger-than-kind",
        "unbalanced-factors",
        "delta-above-weight",
        "saved-unnamed",
    ];
    let audit = |folder: &Path| {
        let sandbox = Sandbox::new();
        sandbox.copy(folder, "adapters");
        let run = sandbox.run("inspect -r adapters --norms --json", &[]).ok();
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        let entries = report["entries"].as_array().unwrap();
        for entry in entries {
            let found = codes(entry);
            assert!(suspects.iter().all(|code| !found.contains(*code)), "{}: {found:?}", entry["path"]);
        }
        entries.len()
    };
    let mut adapters = 0;
    for folder in
        ["golden/peft/adapters", "golden/combined", "golden/peft-methods", "golden/tied", "golden/saved"]
    {
        adapters += audit(&fixtures().join(folder));
    }
    for trained in ["tiny-json-lora", "tiny-upper-lora"] {
        adapters += audit(&fixtures().join(trained));
    }
    assert!(adapters > 40, "{adapters}");
    assert_eq!(codes(&trained().json("--norms")), BTreeSet::new());
}

/// A copy with another scale is one, too.
#[test]
fn a_scaled_copy() {
    let case = Case::trained();
    let from = "model.layers.0.mlp.up_proj";
    edit_file(&case.sandbox.path("adapter/adapter_model.safetensors"), |weights| {
        for half in ['A', 'B'] {
            let name = |layer| name(layer, "mlp.up_proj", half);
            let other = weights[&name(0)].clone();
            weights.insert(name(2), other);
        }
        change(weights, &name(2, "mlp.up_proj", 'B'), |_, v| v * 0.7);
    });
    let report = case.json("--norms");
    let finding = &report["findings"][0];
    assert_eq!(
        (&finding["code"], &finding["subject"]),
        (&json!("copied-module"), &json!("model.layers.2.mlp.up_proj"))
    );
    assert!(finding["message"].as_str().unwrap().contains(from), "{finding}");
}
