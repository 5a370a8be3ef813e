//! Every mix gives every tensor the type that llama-quantize gives it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use lorakit_quant::mix::{Facts, FileType, MixError, MixOptions, TypeOverride, choose, file_order, writable};
use lorakit_tensor::{DType, TensorInfo};
use serde_json::Value;

fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/llama-quantize/policy.json");
    serde_json::from_slice(&std::fs::read(path).expect("the golden is readable")).unwrap()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

struct Model {
    facts: Facts,
    /// Names with `*` for the layer.
    templates: Vec<(String, Vec<usize>)>,
}

impl Model {
    fn find(golden: &Value, name: &str) -> Model {
        let model = list(golden, "models").iter().find(|model| model["name"] == name).unwrap();
        let number = |key: &str| model[key].as_u64().unwrap();
        let template = |pair: &Value| {
            let shape = pair[1].as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize);
            (pair[0].as_str().unwrap().to_string(), shape.collect())
        };
        Model {
            facts: Facts {
                architecture: text(model, "architecture").to_string(),
                layers: number("layers"),
                heads: number("heads"),
                heads_kv: number("heads_kv"),
                experts: number("experts"),
            },
            templates: list(model, "tensors").iter().map(template).collect(),
        }
    }

    fn names(&self, template: &str) -> Vec<String> {
        let layers = if template.contains('*') { self.facts.layers } else { 1 };
        (0..layers).map(|layer| template.replace('*', &layer.to_string())).collect()
    }

    /// In the order in which the tool visits them.
    fn tensors(&self) -> Vec<TensorInfo> {
        let mut tensors = Vec::new();
        for (template, shape) in &self.templates {
            let dtype = if shape.len() == 1 { DType::F32 } else { DType::F16 };
            let named = |name| TensorInfo { name, dtype, shape: shape.clone() };
            tensors.extend(self.names(template).into_iter().map(named));
        }
        file_order(&tensors).into_iter().map(|i| tensors[i].clone()).collect()
    }
}

fn options(case: &Value) -> MixOptions {
    let dtype = |key: &str| case[key].as_str().map(|name| writable(name).unwrap());
    let is = |key: &str| case[key].as_bool().unwrap_or(false);
    let overrides = list(case, "tensor_type").iter();
    MixOptions {
        overrides: overrides.map(|rule| TypeOverride::parse(rule.as_str().unwrap()).unwrap()).collect(),
        output: dtype("output"),
        token_embedding: dtype("token_embedding"),
        pure: is("pure"),
        leave_output: is("leave_output"),
        no_fallback: false,
        importance: is("imatrix"),
    }
}

/// `2*Q6_K Q4_K` to three types; a single type stands for all `count`.
fn expand(runs: &str, count: usize) -> Vec<DType> {
    let run = |run: &str| match run.split_once('*') {
        Some((times, name)) => vec![DType::from_name(name).unwrap(); times.parse().unwrap()],
        None => vec![DType::from_name(run).unwrap(); if runs == run { count } else { 1 }],
    };
    runs.split(' ').flat_map(run).collect()
}

#[test]
fn choices_are_those_of_the_tool() {
    let golden = golden();
    let mut seen = std::collections::HashSet::new();
    for case in list(&golden, "cases") {
        let model = Model::find(&golden, text(case, "model"));
        let mix = FileType::from_name(text(case, "mix")).unwrap();
        let tensors = model.tensors();
        let choices = choose(mix, &model.facts, &options(case), &tensors).unwrap();
        let chosen = |name: &str| {
            let at = tensors.iter().position(|tensor| tensor.name == name).unwrap();
            choices[at].clone()
        };
        for ((template, _), types) in model.templates.iter().zip(list(case, "types")) {
            let names = model.names(template);
            for (name, expected) in names.iter().zip(expand(types.as_str().unwrap(), names.len())) {
                let choice = chosen(name);
                let mut described = case.clone();
                described["types"].take();
                assert_eq!(choice.dtype, expected, "{name} ({}) of {described}", choice.reason);
            }
        }
        seen.insert(mix);
    }
    // The tool knows the number of this mix, but does not write it.
    let unseen: Vec<_> = FileType::ALL.iter().filter(|mix| !seen.contains(mix)).collect();
    assert_eq!(unseen, [&FileType::NVFP4]);
}

#[test]
fn order_is_that_of_the_tool() {
    let golden = golden();
    for file in list(&golden, "files") {
        let names = Model::find(&golden, text(file, "model")).tensors().into_iter().map(|tensor| tensor.name);
        let written: Vec<_> = list(file, "tensors").iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(names.collect::<Vec<_>>(), written);
    }
}

#[test]
fn no_fallback_names_the_tensor_and_both_types() {
    let golden = golden();
    let refusal = |model: &str, options: MixOptions| {
        let model = Model::find(&golden, model);
        choose(FileType::Q4_K_M, &model.facts, &options, &model.tensors()).unwrap_err()
    };
    let strict = MixOptions { no_fallback: true, ..MixOptions::default() };
    assert_eq!(
        refusal("smollm2", strict).to_string(),
        "`blk.0.attn_k.weight` has rows of 576 values, which are not whole Q4_K blocks of 256; the type that fits is Q5_0"
    );
    let given = MixOptions { token_embedding: Some(DType::Q6_K), ..MixOptions::default() };
    let error = refusal("rows-of-100", given);
    assert!(matches!(&error, MixError::Fallback { columns: 100, fallback: Some(DType::F16), .. }), "{error}");
    assert_eq!(error.tensor(), Some("token_embd.weight"));
}

#[test]
fn experts_need_their_layer() {
    let facts = Facts { architecture: "llama".into(), layers: 2, experts: 8, ..Facts::default() };
    let down = |name: &str| TensorInfo { name: name.into(), dtype: DType::F16, shape: vec![8, 4, 256] };
    for (name, ok) in [
        ("blk.1.ffn_down_exps.weight", true),
        ("blk.2.ffn_down_exps.weight", false),
        ("ffn_down.weight", false),
    ] {
        let choices = choose(FileType::Q4_K_M, &facts, &MixOptions::default(), &[down(name)]);
        assert_eq!(choices.is_ok(), ok, "{name}: {choices:?}");
    }
}
