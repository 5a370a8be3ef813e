//! A training step of a model with the shape of SmolLM2-135M, NF4 weights and an adapter of rank 16 on all linears,
//! beside the products with frozen weights that it cannot do without.

use std::io;
use std::sync::Arc;

use lorakit_quant::bnb::FourBit;
use lorakit_quant::{codec, encoder};
use lorakit_tensor::DType;
use lorakit_train::kernel::{FourBitMatrix, FrozenMatrix, PackedMatrix, Products, times, times_transposed};
use lorakit_train::model::{
    Activation, Adapter, Batch, How, Layer, LayerShape, Linear, Lora, Model, Norm, Rope, Scaling, Shape, Slot,
};

use super::Args;
use super::measure::{cost, forget, least, numbers, peak_memory};

const RANK: usize = 16;

/// The model, with random weights and so many layers.
pub(super) fn model(layers: usize) -> Model {
    let shape = Shape {
        vocabulary: 49152,
        hidden: 576,
        intermediate: 1536,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        score_scale: 0.125,
        norm_epsilon: 1e-5,
        norm_plus_one: false,
        query_key_norm: false,
        norm_after: false,
        embedding_scale: 1.0,
        activation: Activation::Silu,
        tied: true,
        ropes: vec![Rope { theta: 100_000.0, scaling: Scaling::None }],
        layers: vec![LayerShape { rope: Some(0), window: None }; layers],
    };
    let norm = || Norm { weight: vec![1.0; shape.hidden], plus_one: false };
    let linear = |slot| {
        let (out, inputs) = shape.size(slot);
        let values: Vec<f32> = numbers(out * inputs).iter().map(|value| value * 0.1).collect();
        Linear { weight: Box::new(FourBitMatrix::encode(FourBit::Nf4, &values, inputs, true)), bias: None }
    };
    let layer = |_| Layer {
        linears: Slot::ALL.map(linear),
        attention_norm: norm(),
        mlp_norm: norm(),
        query_key_norm: None,
        after_norms: None,
    };
    let mut bytes = vec![0; shape.vocabulary * shape.hidden * 2];
    let (codec, encoder) = (codec(DType::BF16), encoder(DType::BF16));
    let (Some(codec), Some(encoder)) = (codec, encoder) else { unreachable!("bf16 has both") };
    encoder.encode(&numbers(shape.vocabulary * shape.hidden), &mut bytes);
    let Some(embedding) = PackedMatrix::new(codec, bytes, shape.vocabulary, shape.hidden) else {
        unreachable!("two bytes a value")
    };
    let embedding: Arc<dyn FrozenMatrix> = Arc::new(embedding);
    Model {
        embedding: embedding.clone(),
        layers: (0..layers).map(layer).collect(),
        norm: norm(),
        head: embedding,
        shape,
    }
}

fn adapter(model: &Model) -> Adapter<f32> {
    let lora = |slot| {
        let (out, inputs) = model.shape.size(slot);
        let small = |len| numbers(len).iter().map(|value| value * 0.02).collect();
        Some(Lora { scale: 2.0, a: small(RANK * inputs), b: small(out * RANK) })
    };
    Adapter { layers: model.layers.iter().map(|_| Slot::ALL.map(lora)).collect() }
}

/// The seconds of all products with frozen weights in a step, where all but the first of each document is trained.
fn products_only(model: &Model, products: Products, tokens: usize, trained: usize, runs: usize) -> f64 {
    let one = |weight: &dyn FrozenMatrix, tokens: usize, back: bool| {
        let (x, dy) = (numbers(tokens * weight.cols()), numbers(tokens * weight.rows()));
        let (mut y, mut dx) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
        let forward = least(runs, || times_transposed(products, &x, weight, &mut y));
        forward + if back { least(runs, || times(products, &dy, weight, &mut dx)) } else { 0.0 }
    };
    let layers = model.layers.iter().enumerate().take(2).map(|(at, layer)| {
        let linears = layer.linears.iter().enumerate();
        linears.map(|(slot, linear)| one(&*linear.weight, tokens, at > 0 || slot > 2)).sum::<f64>()
    });
    let layers: Vec<f64> = layers.collect();
    let inner = layers.last().map_or(0.0, |seconds| seconds * (model.layers.len() - 1) as f64);
    layers.first().map_or(0.0, |first| first + inner) + one(&*model.head, trained, true)
}

pub(super) fn run(model: &Model, args: &Args) -> io::Result<()> {
    let lengths = [256, 256];
    let tokens: Vec<u32> = numbers(512).iter().map(|value| ((value + 0.5) * 49151.0) as u32).collect();
    let weights = vec![1.0; tokens.len()];
    let batch = Batch { tokens: &tokens, lengths: &lengths, weights: &weights };
    let trained = tokens.len() - lengths.len();
    let adapter = adapter(model);
    let mut gradients = adapter.zeros();
    let each = |seconds: f64| 1e3 * seconds / tokens.len() as f64;
    for compute in &args.compute {
        for recompute in &args.level {
            for threads in &args.threads {
                let products = Products { compute: *compute, threads: *threads };
                let how = How { recompute: *recompute, ..How::new(products) };
                let (mut loss, mut best, mut memory) = (0.0, [f64::MAX; 3], 0);
                for _ in 0..args.runs {
                    forget()?;
                    let (cpu, wall) = cost(|| {
                        model.train(&adapter, &batch, 1.0 / trained as f64, &how, &mut gradients, &mut loss);
                    });
                    memory = memory.max(peak_memory());
                    let one = Products { threads: 1, ..products };
                    let frozen = products_only(model, one, tokens.len(), trained, 1);
                    best = [cpu.min(best[0]), wall.min(best[1]), frozen.min(best[2])];
                }
                let [cpu, wall, frozen] = best.map(each);
                println!(
                    "{compute:?} {recompute:?}, {threads} threads: {:.0} tokens/s; CPU {cpu:.3} ms a token, of it frozen \
                     products {frozen:.3} ({:.0} %), the rest {:.3}; {:.0} MB at most",
                    1e3 / wall,
                    100.0 * frozen / cpu,
                    cpu - frozen,
                    memory as f64 / 1e6
                );
            }
        }
    }
    Ok(())
}
