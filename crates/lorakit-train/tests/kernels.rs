//! Two steps of training on every kernel of this machine, in a process of its own: all give the same bits, and those of
//! a digest that every machine must find.
#![allow(clippy::print_stdout, reason = "which kernels were not tested")]

use std::sync::Arc;

use lorakit_quant::bnb::FourBit;
use lorakit_train::kernel::{Compute, FloatMatrix, FourBitMatrix, NAMES, Products, force};
use lorakit_train::model::{
    Activation, Adapter, Batch, Dropout, How, Layer, LayerShape, Linear, Lora, Model, Norm, Recompute, Rope,
    Scaling, Shape, Slot,
};
use lorakit_train::optimise::{AdamW, Settings};

const RANK: usize = 4;

/// With f32 operands, with the inside of MLPs computed again, and with bf16 operands.
const DIGESTS: [u64; 3] = [0x1600_7b82_79e5_7a02, 0xbe25_e93c_9eae_178f, 0x13ca_3a8c_bd0f_498a];

/// Numbers between -1 and 1 with few digits, so that any machine finds them.
fn numbers(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1024.0 - 0.978).collect()
}

fn model() -> Model {
    let shape = Shape {
        vocabulary: 100,
        hidden: 64,
        intermediate: 100,
        heads: 6,
        kv_heads: 3,
        head_dim: 20,
        score_scale: 0.25,
        norm_epsilon: 1e-5,
        norm_plus_one: false,
        query_key_norm: true,
        norm_after: true,
        embedding_scale: 2.0,
        activation: Activation::GeluTanh,
        tied: true,
        ropes: vec![Rope { theta: 100.0, scaling: Scaling::None }],
        layers: [Some(40), None, Some(3)].map(|window| LayerShape { rope: Some(0), window }).to_vec(),
    };
    let norm = |width| Norm { weight: numbers(width, 3), plus_one: true };
    let linear = |slot| {
        let (out, inputs) = shape.size(slot);
        let values = numbers(out * inputs, 10 + slot as usize);
        Linear {
            weight: Box::new(FourBitMatrix::encode(FourBit::Nf4, &values, inputs, true)),
            bias: (slot == Slot::Key).then(|| numbers(out, 4)),
        }
    };
    let layer = |_: &LayerShape| Layer {
        linears: Slot::ALL.map(linear),
        attention_norm: norm(shape.hidden),
        mlp_norm: norm(shape.hidden),
        query_key_norm: Some((norm(shape.head_dim), norm(shape.head_dim))),
        after_norms: Some((norm(shape.hidden), norm(shape.hidden))),
    };
    let embedding =
        Arc::new(FloatMatrix { values: numbers(shape.vocabulary * shape.hidden, 5), cols: shape.hidden });
    let layers = shape.layers.iter().map(layer).collect();
    Model { embedding: embedding.clone(), layers, norm: norm(shape.hidden), head: embedding, shape }
}

/// The bits of the factors after two steps.
fn trained(model: &Model, products: Products, recompute: Recompute) -> Vec<u32> {
    let lora = |slot| {
        let (out, inputs) = model.shape.size(slot);
        let [a, b] = [RANK * inputs, out * RANK].map(|len| numbers(len, slot as usize));
        Some(Lora { scale: 0.125, a, b })
    };
    let mut adapter = Adapter { layers: model.layers.iter().map(|_| Slot::ALL.map(lora)).collect() };
    let lengths = [1, 70, 45, 130];
    let tokens: Vec<u32> = (0..lengths.iter().sum()).map(|i: usize| (i * i % 97) as u32).collect();
    let weights: Vec<f32> = (0..tokens.len()).map(|i| (i / 9 % 2) as f32).collect();
    let batch = Batch { tokens: &tokens, lengths: &lengths, weights: &weights };
    let mut optimiser = AdamW::new(Settings::default(), &adapter);
    for step in 0..2 {
        let dropout = Some(Dropout { rate: 0.1, seed: 1, step, place: 0 });
        let how = How { recompute, dropout, ..How::new(products) };
        let (mut gradients, mut loss) = (adapter.zeros(), 0.0);
        model.train(&adapter, &batch, 1.0 / batch.weight(), &how, &mut gradients, &mut loss);
        assert!(optimiser.step(&mut adapter, &gradients, 1e-3).is_some());
    }
    adapter.factors().flatten().map(|value| value.to_bits()).collect()
}

fn digest(bits: &[u32]) -> u64 {
    let add = |digest: u64, bits: &u32| (digest ^ u64::from(*bits)).wrapping_mul(0x0100_0000_01b3);
    bits.iter().fold(0xcbf2_9ce4_8422_2325, add)
}

#[test]
fn every_kernel_trains_to_the_same_bits() {
    let model = model();
    let cases = [
        (Compute::F32, Recompute::Nothing),
        (Compute::F32, Recompute::Mlp),
        (Compute::Bf16, Recompute::Nothing),
    ];
    for name in NAMES {
        if !force(Some(name)) {
            println!("{name}: skipped, because this machine lacks it");
            continue;
        }
        for threads in [1, 2] {
            let found = cases.map(|(compute, recompute)| {
                digest(&trained(&model, Products { compute, threads }, recompute))
            });
            assert_eq!(found, DIGESTS, "{name}, {threads} threads");
        }
    }
    assert!(force(None) && !force(Some("abacus")));
}
