#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use lorakit_tensor::{DType, TensorInfo};
use serde_json::json;

use super::*;
use crate::ErrorKind;
use crate::adapter::{Experts, ModuleKind, Scaling};
use crate::model::ModelConfig;
use crate::tensor::tests::tensor;

fn base(tensors: &[(&str, &[usize])]) -> Vec<TensorInfo> {
    let info = |(name, shape): &(&str, &[usize])| TensorInfo {
        name: name.to_string(),
        dtype: DType::F32,
        shape: shape.to_vec(),
    };
    tensors.iter().map(info).collect()
}

/// An adapter with one module, whose factors are `(rank, inputs)` and `(outputs, rank)`.
fn adapter(path: &str, rank: usize, inputs: usize, outputs: usize) -> Adapter {
    let mut adapter = Adapter::of("peft", Path::new("made"));
    let a = tensor("a", &[rank, inputs], &vec![1.0; rank * inputs]);
    let b = tensor("b", &[outputs, rank], &vec![1.0; outputs * rank]);
    adapter.modules.push(Module::new(path, ModuleKind::Linear, a, b, Scaling::Fixed(1.0)));
    adapter
}

/// An adapter whose module packs all experts of a layer.
fn packed(layer: &str, parameter: &str, ranks: usize, inputs: usize, outputs: usize) -> Adapter {
    let mut adapter = adapter(&format!("{layer}.{parameter}"), ranks, inputs, outputs);
    let module = &mut adapter.modules[0];
    (module.parameter, module.experts) = (Some(parameter.into()), Some(Experts::All));
    adapter
}

fn targets(tensors: &[TensorInfo], config: Option<&ModelConfig>, adapter: &Adapter) -> Result<Vec<String>> {
    let edits = fit(&Resolver::new(tensors, config), adapter, FitOptions::default())?;
    Ok(edits.into_iter().map(|edit| edit.target).collect())
}

#[test]
fn a_stack_that_could_be_either_is_refused_with_both() {
    let tensors = base(&[
        ("a.layers.0.mlp.experts.down_proj", &[2, 4, 3]),
        ("b.layers.0.mlp.experts.down_proj", &[2, 4, 3]),
    ]);
    let adapter = packed("layers.0.mlp.experts", "down_proj", 2, 3, 4);
    let error = targets(&tensors, None, &adapter).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous);
    assert!(error.detail_lines()[0].contains("a.layers.0.mlp.experts.down_proj or b.layers"), "{error}");
}

#[test]
fn one_expert_has_no_place_in_a_transposed_stack() {
    let tensors = base(&[("model.layers.0.mlp.experts.down_proj", &[2, 4, 4])]);
    let adapter = adapter("model.layers.0.mlp.experts.1.down_proj", 1, 4, 4);
    assert_eq!(targets(&tensors, None, &adapter).unwrap(), ["model.layers.0.mlp.experts.down_proj"]);
    let config = ModelConfig { json: json!({ "model_type": "gpt_oss" }) };
    assert_eq!(targets(&tensors, Some(&config), &adapter).unwrap_err().kind(), ErrorKind::Shape);
}

/// transformers 5 trains `mlp.experts.gate_up_proj`; Mixtral's files have `block_sparse_moe.experts.0.w1`.
#[test]
fn adapters_of_transformers_5_find_files_of_mixtral() {
    let names: Vec<String> = (0..2)
        .flat_map(|e| {
            ["w1", "w2", "w3"].map(|w| format!("model.layers.0.block_sparse_moe.experts.{e}.{w}.weight"))
        })
        .collect();
    let shapes: Vec<(&str, &[usize])> = names
        .iter()
        .map(|name| (name.as_str(), if name.contains("w2") { &[4usize, 3][..] } else { &[3, 4][..] }))
        .collect();
    let tensors = base(&shapes);
    let adapter = packed("model.layers.0.mlp.experts", "gate_up_proj", 2, 4, 6);
    let expected: Vec<String> = [0, 1]
        .iter()
        .flat_map(|e| ["w1", "w3"].map(|w| format!("model.layers.0.block_sparse_moe.experts.{e}.{w}.weight")))
        .collect();
    assert_eq!(targets(&tensors, None, &adapter).unwrap(), expected);
}

#[test]
fn the_output_of_a_tied_model_is_named_after_its_input() {
    let tied = ModelConfig { json: json!({ "tie_word_embeddings": true }) };
    for (embedding, head) in [
        ("gpt_neox.embed_in.weight", "embed_out.weight"),
        ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight"),
    ] {
        let tensors = base(&[(embedding, &[5, 4])]);
        let adapter = adapter(head.trim_end_matches(".weight"), 1, 4, 5);
        assert_eq!(targets(&tensors, Some(&tied), &adapter).unwrap(), [head]);
        assert_eq!(Resolver::new(&tensors, Some(&tied)).in_place_of(head), Some(0));
    }
}

/// transformers 5 names layers of vision transformers and the output of GPT-NeoX in another way than their files do.
#[test]
fn adapters_of_transformers_5_find_files_of_older_names() {
    for (tensor, path) in [
        ("vit.encoder.layer.1.attention.attention.query.weight", "vit.layers.1.attention.q_proj"),
        ("vit.encoder.layer.1.attention.output.dense.weight", "vit.layers.1.attention.o_proj"),
        ("vit.encoder.layer.1.output.dense.weight", "vit.layers.1.mlp.fc2"),
        ("embed_out.weight", "lm_head"),
        ("lm_head.weight", "embed_out"),
    ] {
        let tensors = base(&[("vit.encoder.layer.0.output.dense.weight", &[5, 4]), (tensor, &[5, 4])]);
        assert_eq!(targets(&tensors, None, &adapter(path, 1, 4, 5)).unwrap(), [tensor]);
    }
}

/// A prefix is left out only if the rest is the whole name of a tensor of the right shape.
#[test]
fn one_extra_prefix_is_left_out_and_said() {
    let tensors = base(&[("model.layers.0.q.weight", &[5, 4]), ("decoder.blocks.0.q.weight", &[5, 4])]);
    let found = |path: &str, inputs: usize| {
        let adapter = adapter(path, 1, inputs, 5);
        let found = fit_and_say(&Resolver::new(&tensors, None), &adapter, FitOptions::default());
        found.map(|(edits, note)| {
            (edits[0].target.clone(), edits[0].origin.clone(), note.map(|note| note.code))
        })
    };
    let (target, origin, note) = found("wrapped.inner.layers.0.q", 4).unwrap();
    assert_eq!((target.as_str(), origin.as_str()), ("model.layers.0.q.weight", "wrapped.inner.layers.0.q"));
    assert!(note.is_some());
    assert!(found("model.layers.0.q", 4).unwrap().2.is_none());
    // Another shape, another part of a model, only the end of a name, no such tensor.
    for (path, inputs) in
        [("x.layers.0.q", 3), ("vision_tower.layers.0.q", 4), ("x.blocks.0.q", 4), ("x.layers.1.q", 4)]
    {
        assert_eq!(found(path, inputs).unwrap_err().kind(), ErrorKind::Unmatched, "{path}");
    }
}

/// Without a prefix, no two modules may have one home, and no other prefix may lead to another.
#[test]
fn an_extra_prefix_is_kept_where_homes_would_be_shared_or_unclear() {
    let tensors = base(&[("model.layers.0.q.weight", &[5, 4])]);
    let mut both = adapter("x.layers.0.q", 1, 4, 5);
    both.modules.extend(adapter("x.model.layers.0.q", 1, 4, 5).modules);
    assert_eq!(targets(&tensors, None, &both).unwrap_err().kind(), ErrorKind::Unmatched);
    let tensors = base(&[("inner.q.weight", &[5, 4]), ("q.weight", &[5, 4])]);
    let unclear = adapter("outer.inner.q", 1, 4, 5);
    assert_eq!(targets(&tensors, None, &unclear).unwrap_err().kind(), ErrorKind::Unmatched);
    assert_eq!(targets(&tensors[..1], None, &unclear).unwrap(), ["inner.q.weight"]);
}

/// Two embeddings, and no class that tells which of them the output shares.
#[test]
fn of_two_embeddings_neither_is_the_tied_one() {
    let tied = ModelConfig { json: json!({ "tie_word_embeddings": true }) };
    let tensors = base(&[("a.embed_tokens.weight", &[5, 4]), ("b.embed_tokens.weight", &[5, 4])]);
    assert!(Resolver::new(&tensors, Some(&tied)).ties_unknown());
    assert!(!Resolver::new(&tensors[..1], Some(&tied)).ties_unknown());
}

/// Factors of one expert among all change its rows, and a saved bias of one its row.
#[test]
fn parts_of_one_expert_reach_no_other() {
    let name = "model.layers.0.mlp.experts.down_proj";
    let tensors = base(&[(name, &[3, 4, 2]), (&format!("{name}_bias"), &[3, 4])]);
    let resolver = Resolver::new(&tensors, None);
    let mut one = packed("model.layers.0.mlp.experts", "down_proj", 1, 2, 4);
    let module = &mut one.modules[0];
    module.path = format!("{}.1", module.path);
    module.experts = Some(Experts::One { expert: 1, of: 3 });
    let edits = fit(&resolver, &one, FitOptions::default()).unwrap();
    let Change::LowRank { terms, .. } = &edits[0].change else { panic!("{edits:?}") };
    assert_eq!(terms.iter().map(|term| term.rows.clone()).collect::<Vec<_>>(), [4..8]);

    let mut bias = Adapter::of("peft", Path::new("made"));
    let tensor = tensor("bias", &[4], &[1.0; 4]);
    bias.saved
        .push(crate::adapter::Saved { name: "model.layers.0.mlp.experts.down_projs.2.bias".into(), tensor });
    let edits = fit(&resolver, &bias, FitOptions::default()).unwrap();
    assert!(matches!(&edits[0].change, Change::Rows(_, rows) if *rows == [2]), "{edits:?}");
}
