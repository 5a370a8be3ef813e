//! Hand-made adapters and models, and what is reported about them.

use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use super::*;
use crate::plan::Silent;
use crate::{Finding, Severity};

type Tensor = (String, Vec<usize>, Vec<f32>);

fn write(path: &Path, tensors: &[Tensor]) {
    let bytes = |v: &[f32]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let data: Vec<_> = tensors.iter().map(|(name, shape, values)| (name, shape, bytes(values))).collect();
    let views = data
        .iter()
        .map(|(name, shape, b)| (name.as_str(), TensorView::new(Dtype::F32, (*shape).clone(), b).unwrap()));
    safetensors::serialize_to_file(views, None, path).unwrap();
}

fn folder(config: &str, json: &Value, weights: &str, tensors: &[Tensor]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(config), json.to_string()).unwrap();
    write(&folder.path().join(weights), tensors);
    folder
}

fn adapter(json: &Value, tensors: &[Tensor]) -> tempfile::TempDir {
    folder("adapter_config.json", json, "adapter_model.safetensors", tensors)
}

/// `A (2, 3)` and `B (4, 2)` of `layers.LAYER.q_proj`, with one value each.
fn factors(layer: usize, a: f32, b: f32) -> [Tensor; 2] {
    let name = |half| format!("base_model.model.model.layers.{layer}.q_proj.lora_{half}.weight");
    [(name("A"), vec![2, 3], vec![a; 6]), (name("B"), vec![4, 2], vec![b; 8])]
}

fn config() -> Value {
    json!({ "peft_type": "LORA", "r": 2, "lora_alpha": 4, "peft_version": "0.18.0",
            "base_model_name_or_path": "owner/name", "target_modules": ["q_proj"] })
}

fn look(path: &Path, norms: bool, base: Option<PathBuf>) -> AdapterReport {
    match inspect(path, &InspectOptions { norms, base, ..InspectOptions::default() }, &Silent).unwrap() {
        Inspection::Adapter(report) => *report,
        Inspection::Model(report) => panic!("{report:?}"),
    }
}

fn codes(findings: &[Finding]) -> Vec<(Severity, &str)> {
    findings.iter().map(|f| (f.severity, f.code)).collect()
}

#[test]
fn a_clean_adapter_has_no_findings_and_known_norms() {
    let mut tensors = [factors(0, 1.0, 0.5), factors(1, 1.0, 0.5)].concat();
    // Another direction: equal modules are copies.
    tensors[0].2[0] = -3.0;
    let folder = adapter(&config(), &tensors);
    let report = look(folder.path(), true, None);
    assert_eq!(codes(&report.findings), []);
    let module = &report.modules[1];
    assert_eq!((module.layer, module.leaf.as_str(), module.rank, module.scale), (Some(1), "q_proj", 2, 2.0));
    // Every value of B A is 1, so the norm is scale * sqrt(12).
    assert!((module.norm.unwrap() - 2.0 * 12f64.sqrt()).abs() < 1e-12);
    assert_eq!(report.grids[0].rows[0].cells, [vec![0], vec![1]]);
    assert!(look(folder.path(), false, None).modules.iter().all(|m| m.norm.is_none()));
}

#[test]
fn the_configuration_is_held_against_the_tensors() {
    let json = json!({ "peft_type": "LORA", "r": 16, "base_model_name_or_path": "/home/me/base", "peft_version": "0.18.0",
                       "target_modules": ["q_proj", "v_proj"], "modules_to_save": ["score"], "init_lora_weights": "pissa" });
    let folder = adapter(&json, &factors(0, 1.0, 1.0));
    let report = look(folder.path(), false, None);
    use Severity::{Error, Warning};
    assert_eq!(
        codes(&report.findings),
        [
            (Error, "mutated-base"),
            (Warning, "rank-mismatch"),
            (Warning, "alpha-missing"),
            (Warning, "local-path"),
            (Warning, "target-without-tensors"),
            (Warning, "saved-missing"),
        ]
    );
    assert_eq!(report.modules[0].rank, 2);
}

#[test]
fn values_are_audited_on_request() {
    let tensors = [factors(0, 1.0, 0.0), factors(1, f32::NAN, 1.0)].concat();
    let folder = adapter(&config(), &tensors);
    assert_eq!(codes(&look(folder.path(), false, None).findings), []);
    let report = look(folder.path(), true, None);
    assert_eq!(codes(&report.findings), [(Severity::Error, "non-finite"), (Severity::Warning, "untrained")]);
    assert_eq!((report.modules[0].norm, report.modules[1].norm), (Some(0.0), None));
}

#[test]
fn ungathered_shards_are_one_finding() {
    let empty = |layer| factors(layer, 1.0, 1.0).map(|(name, _, _)| (name, vec![0], vec![]));
    let folder = adapter(&config(), &[empty(0), empty(1)].concat());
    assert_eq!(codes(&look(folder.path(), true, None).findings), [(Severity::Error, "zero3-remnants")]);
    let [a, b] = factors(2, 1.0, 1.0);
    let one = (a.0, vec![0], vec![]);
    let folder = adapter(&config(), &[factors(0, 1.0, 1.0), [one, b.clone()]].concat());
    assert_eq!(codes(&look(folder.path(), true, None).findings), [(Severity::Error, "zero-size-tensor")]);
    let folder = adapter(&config(), &[b]);
    assert_eq!(codes(&look(folder.path(), true, None).findings), [(Severity::Error, "missing-half")]);
}

#[test]
fn a_base_gives_relative_norms_and_misfits_are_findings() {
    let folder_of = |name: &str| {
        let weight = (name.to_string(), vec![4, 3], vec![2.0; 12]);
        folder(
            "config.json",
            &json!({ "model_type": "llama", "num_hidden_layers": 3 }),
            "model.safetensors",
            &[weight],
        )
    };
    let adapter = adapter(&config(), &factors(0, 1.0, 0.5));
    let base = folder_of("model.layers.0.q_proj.weight");
    let report = look(adapter.path(), false, Some(base.path().into()));
    assert_eq!(codes(&report.findings), []);
    assert!((report.modules[0].relative.unwrap() - 1.0).abs() < 1e-12);
    assert_eq!((report.grids[0].layers, report.fit.unwrap().changed), (3, 1));

    let other = folder_of("model.layers.0.k_proj.weight");
    let report = look(adapter.path(), false, Some(other.path().into()));
    assert_eq!(codes(&report.findings), [(Severity::Error, "unmatched")]);
    assert!(report.fit.unwrap().misfit.is_some() && report.modules[0].norm.is_some());
}

#[test]
fn a_wide_delta_above_its_weight_is_told() {
    let name = |half| format!("base_model.model.model.layers.0.q_proj.lora_{half}.weight");
    let varied = |count: usize| (0..count).map(|i| (i % 7) as f32 - 3.0).collect::<Vec<f32>>();
    for (side, above) in [(192, true), (191, false)] {
        let tensors =
            [(name("A"), vec![2, side], varied(2 * side)), (name("B"), vec![side, 2], varied(2 * side))];
        let adapter = adapter(&config(), &tensors);
        let weight = ("model.layers.0.q_proj.weight".to_string(), vec![side, side], vec![1.0; side * side]);
        let base = folder("config.json", &json!({ "model_type": "llama" }), "model.safetensors", &[weight]);
        let report = look(adapter.path(), false, Some(base.path().into()));
        assert!(report.modules[0].relative.unwrap() > 1.0);
        let expected = [(Severity::Warning, "delta-above-weight")];
        assert_eq!(codes(&report.findings), if above { &expected[..] } else { &[] }, "{side}");
    }
}

#[test]
fn content_tells_adapters_from_models() {
    let adapter = adapter(&config(), &factors(0, 1.0, 1.0));
    let file = adapter.path().join("adapter_model.safetensors");
    assert_eq!(look(&file, false, None).modules.len(), 1);
    let weight = ("w.weight".to_string(), vec![2, 2], vec![1.0; 4]);
    let model = folder(
        "config.json",
        &json!({ "architectures": ["X"], "tie_word_embeddings": true }),
        "model.safetensors",
        &[weight],
    );
    for path in [model.path().to_path_buf(), model.path().join("model.safetensors")] {
        let Inspection::Model(report) = inspect(&path, &InspectOptions::default(), &Silent).unwrap() else {
            panic!()
        };
        assert_eq!(
            (report.architecture.as_deref(), report.parameters, report.tied),
            (Some("X"), 4, Some(true))
        );
    }
    let nothing = tempfile::tempdir().unwrap();
    let error = inspect(nothing.path(), &InspectOptions::default(), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoAdapter);
    let missing = inspect(&nothing.path().join("x"), &InspectOptions::default(), &Silent).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::File(lorakit_tensor::ErrorKind::NotFound));
}

/// Copies that were scaled, negated, rounded or given other factors are found among many modules of their shape, and
/// nothing else is.
#[test]
fn copies_among_many() {
    use lorakit_linalg::random::gaussian;
    use ndarray::Array2;

    let (modules, rank, inputs, outputs) = (400, 4, 24, 32);
    let pair = |seed: usize| (gaussian(rank, inputs, seed as u64), gaussian(outputs, rank, !seed as u64));
    let rounded = |m: Array2<f64>| m.mapv(|v| f64::from(f32::from_bits((v as f32).to_bits() & 0xffff_0000)));
    // A matrix and its inverse go between the factors of the last one.
    let turn = Array2::from_shape_fn((rank, rank), |(i, j)| f64::from(u8::from(j >= i)));
    let back = Array2::from_shape_fn((rank, rank), |(i, j)| match j.wrapping_sub(i) {
        0 => 1.0,
        1 => -1.0,
        _ => 0.0,
    });
    let made = |(a, b): (Array2<f64>, Array2<f64>), layer: usize| match layer {
        130 => (a, b * 3.0),
        131 => (a * -1.0, b),
        132 => (rounded(a), rounded(b * 0.01)),
        133 => (turn.dot(&a), b.dot(&back)),
        _ => (a, b),
    };
    let original = |layer: usize| if (130..134).contains(&layer) { 350 - (layer - 130) * 100 } else { layer };
    let tensors: Vec<Tensor> = (0..modules)
        .flat_map(|layer| {
            let (a, b) = made(pair(original(layer)), layer);
            let name =
                |half| format!("base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{half}.weight");
            let values = |m: &Array2<f64>| m.iter().map(|v| *v as f32).collect();
            [(name("A"), vec![rank, inputs], values(&a)), (name("B"), vec![outputs, rank], values(&b))]
        })
        .collect();
    let json = json!({ "peft_type": "LORA", "r": rank, "lora_alpha": 4, "peft_version": "0.18.0",
                       "base_model_name_or_path": "owner/name", "target_modules": ["q_proj"] });
    let report = look(adapter(&json, &tensors).path(), true, None);
    let copies = report.findings.iter().filter(|finding| finding.code == "copied-module");
    let mut told: Vec<String> =
        copies.map(|f| format!("{} {}", f.subject, f.message.split(": ").next().unwrap())).collect();
    told.sort();
    let path = |layer: usize| format!("model.layers.{layer}.self_attn.q_proj");
    let mut expected: Vec<String> = (130..134)
        .map(|layer| {
            let (first, second) = (layer.min(original(layer)), layer.max(original(layer)));
            format!("{} has the delta of `{}`", path(second), path(first))
        })
        .collect();
    expected.sort();
    assert_eq!(told, expected);
}

/// What PEFT would import, and scales below zero.
#[test]
fn imports_and_signs() {
    let found = |key: &str, value: Value| {
        let mut json = config();
        json[key] = value;
        let report = look(adapter(&json, &factors(0, 1.0, 0.5)).path(), false, None);
        let told = |f: &Finding| format!("{}: {}", f.code, f.message);
        report.findings.iter().map(told).collect::<Vec<_>>().join("\n")
    };
    let mapping = |library: &str| json!({ "base_model_class": "Net", "parent_library": library });
    for library in ["transformers", "transformers.models.llama.modeling_llama", "diffusers"] {
        assert_eq!(found("auto_mapping", mapping(library)), "", "{library}");
    }
    for library in ["payload", "transformers_modules.payload", "transformers.evil/../x", "os"] {
        let told = found("auto_mapping", mapping(library));
        let expected = !library.starts_with("transformers.");
        assert_eq!(told.starts_with("imports-code: `auto_mapping.parent_library` is `"), expected, "{told}");
    }
    assert_eq!(found("megatron_core", json!("megatron.core")), "");
    assert!(
        found("megatron_core", json!("payload")).starts_with("imports-code: `megatron_core` is `payload`")
    );
    assert_eq!(found("auto_mapping", json!(["payload"])), "");
    let mut json = config();
    (json["auto_mapping"], json["task_type"]) = (mapping("payload"), json!("CAUSAL_LM"));
    assert_eq!(codes(&look(adapter(&json, &factors(0, 1.0, 0.5)).path(), false, None).findings), []);
    insta::assert_snapshot!(found("lora_alpha", json!(-32)), @"negative-scale: its scale is -16 (alpha -32, rank 2): the product of its factors is taken away instead of added, and training has no such scales");
    insta::assert_snapshot!(found("lora_alpha", json!(1e38)), @"large-scale: its scale is 5.000e37 (alpha 1.000e38, rank 2), and training usually has 0.1 to 16: if alpha or the rank is wrong, the adapter is too strong by the same factor");
}
