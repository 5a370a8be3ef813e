//! Parts whose shapes do not fit are refused, each for its own reason: a table of what must not get through.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use lorakit_tensor::{DType, TensorInfo};
use serde_json::json;

use super::{FitOptions, Resolver, fit};
use crate::adapter::{Adapter, Module, ModuleKind, Multiplied, Multiplier, Saved, Scaling, TokenRows};
use crate::model::ModelConfig;
use crate::tensor::tests::tensor;
use crate::{ErrorKind, TensorRef};

const LINEAR: &str = "model.layers.0.self_attn.q_proj";
const SQUARE: &str = "model.layers.0.self_attn.o_proj";
const CONV: &str = "model.conv";
const EMBEDDING: &str = "model.embed_tokens";

fn base() -> Vec<TensorInfo> {
    let info = |name: String, shape: &[usize]| TensorInfo { name, dtype: DType::F32, shape: shape.to_vec() };
    vec![
        info(format!("{LINEAR}.weight"), &[6, 4]),
        info(format!("{LINEAR}.bias"), &[6]),
        info(format!("{SQUARE}.weight"), &[5, 5]),
        info(format!("{CONV}.weight"), &[6, 2, 3, 1]),
        info(format!("{EMBEDDING}.weight"), &[9, 4]),
    ]
}

fn zeros(shape: &[usize]) -> TensorRef {
    tensor("t", shape, &vec![0.0; shape.iter().product()])
}

fn module(path: &str, kind: ModuleKind, a: &[usize], b: &[usize]) -> Module {
    Module::new(path, kind, zeros(a), zeros(b), Scaling::Fixed(1.0))
}

/// What fitting says of an adapter: `fits`, or the kind of the error and its first line.
fn said(fill: impl FnOnce(&mut Adapter)) -> String {
    let (tensors, config) = (base(), ModelConfig { json: json!({ "model_type": "llama" }) });
    let mut adapter = Adapter::of("peft", Path::new("made"));
    fill(&mut adapter);
    match fit(&Resolver::new(&tensors, Some(&config)), &adapter, FitOptions::default()) {
        Ok(_) => "fits".into(),
        Err(error) => format!("{:?}: {}", error.kind(), error.detail_lines()[0]),
    }
}

#[test]
fn factors_of_every_kind_of_layer() {
    use ModuleKind::{Embedding, Linear};
    for (path, kind, a, b, fits) in [
        (LINEAR, Linear, &[2, 4][..], &[6, 2][..], true),
        // The other way round, as GPT-2 stores it: a matrix may be.
        (LINEAR, Linear, &[2, 6], &[4, 2], true),
        (LINEAR, Linear, &[2, 5], &[6, 2], false),
        (LINEAR, Linear, &[2, 4], &[5, 2], false),
        (SQUARE, Linear, &[2, 5], &[5, 2], true),
        (SQUARE, Linear, &[2, 5], &[4, 2], false),
        (CONV, Linear, &[2, 2, 3, 1], &[6, 2, 1, 1], true),
        // As many columns as rows and the reverse: no convolution is stored so.
        (CONV, Linear, &[2, 6, 1, 1], &[6, 2, 1, 1], true),
        (CONV, Linear, &[2, 3], &[6, 2], false),
        (EMBEDDING, Embedding, &[2, 9], &[4, 2], true),
        (EMBEDDING, Embedding, &[2, 4], &[9, 2], false),
        (EMBEDDING, Embedding, &[2, 8], &[4, 2], false),
        (EMBEDDING, Linear, &[2, 4], &[9, 2], true),
    ] {
        let found = said(|adapter| adapter.modules.push(module(path, kind, a, b)));
        assert_eq!(found == "fits", fits, "{path} {kind:?} {a:?} {b:?}: {found}");
        assert!(fits || found.starts_with("Shape"), "{path} {kind:?} {a:?} {b:?}: {found}");
    }
    // A convolution whose matrix is oblong, with factors the wrong way round.
    let tensors =
        vec![TensorInfo { name: "model.c.weight".into(), dtype: DType::F32, shape: vec![6, 2, 2, 1] }];
    let mut adapter = Adapter::of("peft", Path::new("made"));
    adapter.modules.push(module("model.c", Linear, &[2, 6], &[4, 2]));
    let error = fit(&Resolver::new(&tensors, None), &adapter, FitOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Shape);
}

#[test]
fn what_modules_have_beside_their_factors() {
    let with = |change: fn(&mut Module)| {
        said(|adapter| {
            let mut module = module(LINEAR, ModuleKind::Linear, &[2, 4], &[6, 2]);
            change(&mut module);
            adapter.modules.push(module);
        })
    };
    assert_eq!(with(|module| module.magnitude = Some(zeros(&[6]))), "fits");
    assert_eq!(with(|module| module.bias = Some(zeros(&[6]))), "fits");
    assert_eq!(with(|module| module.base_weight = Some(zeros(&[6, 4]))), "fits");
    type Fault = (&'static str, fn(&mut Module));
    let faults: [Fault; 6] = [
        ("magnitudes of the inputs", |module| module.magnitude = Some(zeros(&[4]))),
        ("one magnitude", |module| module.magnitude = Some(zeros(&[1]))),
        ("a bias of the inputs", |module| module.bias = Some(zeros(&[4]))),
        ("a longer bias", |module| module.bias = Some(zeros(&[7]))),
        ("a weight with fewer rows", |module| module.base_weight = Some(zeros(&[5, 4]))),
        ("a wider weight", |module| module.base_weight = Some(zeros(&[6, 5]))),
    ];
    for (what, change) in faults {
        assert!(with(change).starts_with("Shape"), "{what}: {}", with(change));
    }
}

#[test]
fn saved_tensors_and_token_rows() {
    let saved = |name: &str, shape: &[usize]| {
        said(|adapter| adapter.saved.push(Saved { name: name.into(), tensor: zeros(shape) }))
    };
    let embedding = format!("{EMBEDDING}.weight");
    for (shape, fits) in [
        (&[9, 4][..], true),
        (&[12, 4], true),
        (&[8, 4], false),
        (&[9, 5], false),
        (&[12, 5], false),
        (&[36], false),
    ] {
        assert_eq!(saved(&embedding, shape) == "fits", fits, "{shape:?}: {}", saved(&embedding, shape));
    }
    assert!(saved("model.other.weight", &[9, 4]).starts_with("Unmatched"), "nothing lists it");
    let rows = |tokens: &[usize], width: usize| {
        said(|adapter| {
            let tensor = zeros(&[tokens.len(), width]);
            adapter.token_rows.push(TokenRows { path: EMBEDDING.into(), tensor, rows: tokens.to_vec() });
        })
    };
    for (tokens, width, fits) in [
        (&[0, 8][..], 4, true),
        (&[8, 0], 4, true),
        (&[9], 4, false),
        (&[3, 9, 4], 4, false),
        (&[1], 5, false),
        (&[1], 3, false),
    ] {
        assert_eq!(rows(tokens, width) == "fits", fits, "{tokens:?} {width}: {}", rows(tokens, width));
    }
}

/// Only a tied model's head is its embedding.
#[test]
fn a_head_that_is_not_stored() {
    let tensors = base();
    for (tied, fits) in [(true, true), (false, false)] {
        let config = ModelConfig { json: json!({ "model_type": "llama", "tie_word_embeddings": tied }) };
        let mut adapter = Adapter::of("peft", Path::new("made"));
        adapter.modules.push(module("lm_head", ModuleKind::Linear, &[2, 4], &[9, 2]));
        let found = fit(&Resolver::new(&tensors, Some(&config)), &adapter, FitOptions::default());
        assert_eq!(found.is_ok(), fits, "{found:?}");
    }
}

#[test]
fn factors_of_weights() {
    use Multiplier::{Blocks, Inputs, Outputs, SharedBlock};
    type By = fn(TensorRef) -> Multiplier;
    let conv1d = "h.0.attn.c_attn";
    for (path, by, shape, fits) in [
        (LINEAR, Outputs as By, &[6, 1][..], true),
        (LINEAR, Outputs, &[4, 1], false),
        (LINEAR, Inputs, &[1, 4], true),
        (LINEAR, Inputs, &[1, 6], false),
        (LINEAR, Blocks, &[2, 2, 2], true),
        (LINEAR, Blocks, &[1, 2, 2], false),
        (LINEAR, SharedBlock, &[1, 2, 2], true),
        (LINEAR, SharedBlock, &[1, 3, 3], false),
        (CONV, Outputs, &[6, 1], true),
        // A factor for each input, and not for each value of a kernel.
        (CONV, Inputs, &[1, 2], true),
        (CONV, Inputs, &[1, 6], false),
        (CONV, Blocks, &[3, 2, 2], false),
        (conv1d, Outputs, &[12, 1], true),
        (conv1d, Outputs, &[4, 1], false),
        (conv1d, Inputs, &[1, 4], true),
        (conv1d, Inputs, &[1, 12], false),
        // Its columns are outputs, and rotations are of inputs.
        (conv1d, Blocks, &[6, 2, 2], false),
        (conv1d, SharedBlock, &[1, 2, 2], false),
    ] {
        let mut tensors = base();
        let model_type = if path == conv1d { "gpt2" } else { "llama" };
        tensors.push(TensorInfo { name: format!("{conv1d}.weight"), dtype: DType::F32, shape: vec![4, 12] });
        let config = ModelConfig { json: json!({ "model_type": model_type }) };
        let mut adapter = Adapter::of("peft", Path::new("made"));
        adapter.multiplied.push(Multiplied { path: path.into(), method: "IA3", by: by(zeros(shape)) });
        let found = fit(&Resolver::new(&tensors, Some(&config)), &adapter, FitOptions::default());
        assert_eq!(found.is_ok(), fits, "{path} {shape:?}: {found:?}");
    }
}
