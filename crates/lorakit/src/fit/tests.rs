#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use lorakit_tensor::{DType, TensorInfo};
use serde_json::json;

use super::*;
use crate::ErrorKind;
use crate::adapter::{Experts, ModuleKind, Scaling};
use crate::model::ModelConfig;
use crate::plan::Initial;
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
    assert_eq!(terms.len(), 1);
    assert_eq!(terms[0].rows, 4..8);

    let mut bias = Adapter::of("peft", Path::new("made"));
    let tensor = tensor("bias", &[4], &[1.0; 4]);
    bias.saved
        .push(crate::adapter::Saved { name: "model.layers.0.mlp.experts.down_projs.2.bias".into(), tensor });
    let edits = fit(&resolver, &bias, FitOptions::default()).unwrap();
    assert!(matches!(&edits[0].change, Change::Rows(_, rows) if *rows == [2]), "{edits:?}");
}

/// What OLoRA takes out of the weight of the one module of `adapter`.
fn taken(tensors: &[TensorInfo], config: Option<&ModelConfig>, adapter: &Adapter) -> Result<Vec<Initial>> {
    let options = FitOptions { initial: true, ..FitOptions::default() };
    let edits = fit(&Resolver::new(tensors, config), adapter, options)?;
    let initial = |edit: Edit| match edit.change {
        Change::LowRank { initial, .. } => initial,
        _ => None,
    };
    Ok(edits.into_iter().filter_map(initial).collect())
}

fn olora(mut adapter: Adapter) -> Adapter {
    adapter.config.init = "olora".into();
    adapter
}

#[test]
fn olora_takes_out_of_the_weights_that_peft_decomposes() {
    let initial = |rows| Initial { rows, rank: 2, scale: 1.0 };
    let linear = olora(adapter("a.proj", 2, 6, 4));
    let tensors = base(&[("a.proj.weight", &[4, 6])]);
    assert_eq!(taken(&tensors, None, &linear).unwrap(), [initial(0..4)]);
    // On a residual base, and by another initialisation, nothing.
    let edits = fit(&Resolver::new(&tensors, None), &linear, FitOptions::default()).unwrap();
    assert!(matches!(&edits[0].change, Change::LowRank { initial: None, .. }), "{edits:?}");
    assert_eq!(taken(&tensors, None, &adapter("a.proj", 2, 6, 4)).unwrap(), []);

    // One expert of a stack is a weight of its own.
    let expert = olora(adapter("layers.0.mlp.experts.1.down_proj", 2, 3, 4));
    let stack = base(&[("layers.0.mlp.experts.down_proj", &[3, 4, 3])]);
    assert_eq!(taken(&stack, None, &expert).unwrap(), [initial(4..8)]);

    // A copy of the weight in the adapter is loaded after the initialisation.
    let mut copied = linear.clone();
    copied.modules[0].base_weight = Some(tensor("w", &[4, 6], &[1.0; 24]));
    assert_eq!(taken(&tensors, None, &copied).unwrap(), []);

    // Factors of an embedding begin with zero. `A` is (rank, rows), `B` is (columns, rank).
    let mut embedding = olora(adapter("a.proj", 2, 4, 6));
    embedding.modules[0].kind = ModuleKind::Embedding;
    assert_eq!(taken(&tensors, None, &embedding).unwrap(), []);
}

#[test]
fn layers_that_olora_does_not_know_are_refused() {
    let told = |tensors: &[TensorInfo], adapter: &Adapter, config: Option<&ModelConfig>, why: &str| {
        let error = taken(tensors, config, adapter).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unmergeable, "{error}");
        assert!(error.detail_lines()[0].contains(why), "{why}: {:?}", error.detail_lines());
    };
    let stack = base(&[("layers.0.mlp.experts.down_proj", &[2, 4, 3])]);
    told(&stack, &olora(packed("layers.0.mlp.experts", "down_proj", 2, 3, 4)), None, "stacked experts");

    let mut convolution = olora(adapter("a.conv", 2, 6, 4));
    convolution.modules[0].a = tensor("a", &[2, 3, 2, 1], &[1.0; 12]);
    convolution.modules[0].b = tensor("b", &[4, 2, 1, 1], &[1.0; 8]);
    told(&base(&[("a.conv.weight", &[4, 3, 2, 1])]), &convolution, None, "a convolution");

    let turned = base(&[("a.proj.weight", &[6, 4])]);
    told(&turned, &olora(adapter("a.proj", 2, 6, 4)), None, "stored as (in, out)");

    let attention = base(&[("a.attn.in_proj_weight", &[12, 4])]);
    told(&attention, &olora(adapter("a.attn", 2, 4, 12)), None, "MultiheadAttention");

    let mut bias = olora(adapter("a.proj", 2, 6, 4));
    bias.modules[0].bias = Some(tensor("bias", &[4], &[1.0; 4]));
    told(&base(&[("a.proj.weight", &[4, 6]), ("a.proj.bias", &[4])]), &bias, None, "lora_bias");
}
