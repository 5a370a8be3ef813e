//! Losses, gradients and steps of whole models, compared with PEFT's (`fixtures/generate/peft_gradients.py` and
//! `peft_steps.py`).

mod bits;
mod decode;

use std::sync::Arc;

use lorakit_tensor::{Checkpoint, DType, Reader, TensorSource};
use serde_json::Value;

use super::testing::{golden, golden_json};
use super::*;
use crate::kernel::{Compute, FloatMatrix, FrozenMatrix, Products};
use crate::optimise::{AdamW, Settings};

const MODELS: &[&str] = &["llama", "llama-untied", "qwen2", "qwen3", "mistral", "smollm3", "gemma3"];
const LINEARS: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];
const PRODUCTS: Products = Products { compute: Compute::F32, threads: 1 };

struct Golden {
    about: Value,
    tensors: Checkpoint,
    model: Model,
    tokens: Vec<u32>,
    lengths: Vec<usize>,
    weights: Vec<f32>,
}

impl Golden {
    fn open(name: &str) -> Self {
        let about = golden_json(name);
        let tensors = Checkpoint::open(&golden(&format!("{name}.safetensors")), &Reader::default()).unwrap();
        let model = model(&tensors, Shape::from_config(about["config"].to_string().as_bytes()).unwrap());
        let lists = |key: &str| -> Vec<Vec<u64>> {
            let list = |list: &Value| list.as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect();
            about[key].as_array().unwrap().iter().map(list).collect()
        };
        let (documents, trained) = (lists("documents"), lists("trained"));
        Self {
            tokens: documents.iter().flatten().map(|token| *token as u32).collect(),
            lengths: documents.iter().map(Vec::len).collect(),
            weights: trained.iter().flatten().map(|trained| *trained as f32).collect(),
            about,
            tensors,
            model,
        }
    }

    fn batch(&self) -> Batch<'_> {
        Batch { tokens: &self.tokens, lengths: &self.lengths, weights: &self.weights }
    }

    fn adapter<R: Real>(&self, zero: bool) -> Adapter<R> {
        let scale = self.about["scale"].as_f64().unwrap();
        let read = |name: String, zero: bool| -> Vec<R> {
            let values = values(&self.tensors, &name).unwrap();
            values.iter().map(|value| R::of(if zero { 0.0 } else { *value })).collect()
        };
        let lora = |layer: usize, linear: &str| Lora {
            scale,
            a: read(format!("model.layers.{layer}.{linear}.lora_A.weight"), false),
            b: read(format!("model.layers.{layer}.{linear}.lora_B.weight"), zero),
        };
        let layer = |layer: usize| LINEARS.map(|linear| Some(lora(layer, linear)));
        Adapter { layers: (0..self.model.layers.len()).map(layer).collect() }
    }

    /// PEFT's gradients in the order of [`Adapter::factors`]; those of A are zero at `zero`, and are not stored.
    fn gradients(&self, point: &str) -> Vec<Option<Vec<f64>>> {
        let layers = 0..self.model.layers.len();
        let names =
            layers.flat_map(|layer| LINEARS.map(|linear| format!("{point}.model.layers.{layer}.{linear}")));
        let read = |name: String| {
            ["A", "B"].map(|side| values(&self.tensors, &format!("{name}.lora_{side}.weight")))
        };
        names.flat_map(read).collect()
    }

    fn train<R: Real>(&self, adapter: &Adapter<R>, products: Products) -> (f64, Adapter<R>) {
        self.train_as(adapter, &How::new(products))
    }

    fn train_as<R: Real>(&self, adapter: &Adapter<R>, how: &How) -> (f64, Adapter<R>) {
        let weight = self.batch().weight();
        let (mut gradients, mut loss) = (adapter.zeros(), 0.0);
        self.model.train(adapter, &self.batch(), 1.0 / weight, how, &mut gradients, &mut loss);
        (loss / weight, gradients)
    }
}

fn values(tensors: &Checkpoint, name: &str) -> Option<Vec<f64>> {
    let index = tensors.find(name)?;
    let info = &tensors.tensors()[index];
    let count = info.shape.iter().product::<usize>() as u64;
    let bytes = tensors.read(index, 0..info.dtype.byte_len(count).unwrap()).unwrap();
    Some(match info.dtype {
        DType::F32 => {
            bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
        }
        _ => bytes.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
    })
}

fn model(tensors: &Checkpoint, shape: Shape) -> Model {
    let floats = |name: &str| -> Option<Vec<f32>> {
        values(tensors, name).map(|values| values.iter().map(|value| *value as f32).collect())
    };
    let matrix = |name: &str, cols| FloatMatrix { values: floats(name).unwrap(), cols };
    let norm = |name: &str| Norm { weight: floats(name).unwrap(), plus_one: shape.norm_plus_one };
    let layer = |at: usize| {
        let name = |part: &str| format!("model.layers.{at}.{part}.weight");
        let linear = |slot: Slot| Linear {
            weight: Box::new(matrix(&name(LINEARS[slot as usize]), shape.size(slot).1)),
            bias: floats(&name(LINEARS[slot as usize]).replace(".weight", ".bias")),
        };
        let mlp = if shape.norm_after { "pre_feedforward_layernorm" } else { "post_attention_layernorm" };
        let both = |first: &str, second: &str| (norm(&name(first)), norm(&name(second)));
        let after = || both("post_attention_layernorm", "post_feedforward_layernorm");
        Layer {
            linears: Slot::ALL.map(linear),
            attention_norm: norm(&name("input_layernorm")),
            mlp_norm: norm(&name(mlp)),
            query_key_norm: shape.query_key_norm.then(|| both("self_attn.q_norm", "self_attn.k_norm")),
            after_norms: shape.norm_after.then(after),
        }
    };
    let embedding: Arc<dyn FrozenMatrix> = Arc::new(matrix("model.embed_tokens.weight", shape.hidden));
    let head =
        if shape.tied { embedding.clone() } else { Arc::new(matrix("lm_head.weight", shape.hidden)) as _ };
    let layers = (0..shape.layers.len()).map(layer).collect();
    Model { embedding, layers, norm: norm("model.norm.weight"), head, shape }
}

/// The error of all gradients together, and that of the worst factor, relative to their sizes.
fn errors<R: Real>(found: &Adapter<R>, expected: &[Option<Vec<f64>>]) -> (f64, f64) {
    let (mut error, mut size, mut worst): (f64, f64, f64) = (0.0, 0.0, 0.0);
    assert_eq!(found.factors().count(), expected.len());
    for (found, expected) in found.factors().zip(expected) {
        let Some(expected) = expected else {
            assert!(found.iter().all(|value| *value == R::ZERO), "a gradient of A where B is zero");
            continue;
        };
        assert_eq!(found.len(), expected.len());
        let squares = found.iter().zip(expected).map(|(found, expected)| (found.to_f64() - expected).powi(2));
        let (off, whole) = (squares.sum::<f64>(), expected.iter().map(|value| value * value).sum::<f64>());
        (error, size, worst) = (error + off, size + whole, worst.max((off / whole).sqrt()));
    }
    ((error / size).sqrt(), worst)
}

fn compare<R: Real>(most: f64) {
    for name in MODELS {
        let golden = Golden::open(name);
        for point in ["zero", "small"] {
            let (loss, gradients) = golden.train(&golden.adapter::<R>(point == "zero"), PRODUCTS);
            let expected = golden.about[format!("{point}_loss")].as_f64().unwrap();
            assert!((loss - expected).abs() < most / 10.0, "{name}, {point}: {loss} is not {expected}");
            let (all, worst) = errors(&gradients, &golden.gradients(point));
            println!(
                "{name} {point}: loss off by {:.1e}, gradients {all:.1e}, the worst {worst:.1e}",
                loss - expected
            );
            assert!(worst < most, "{name}, {point}: the gradients are off by {all:e}, at worst {worst:e}");
        }
    }
}

#[test]
fn gradients_are_those_of_peft() {
    compare::<f32>(1e-4);
}

/// What transformers computes in f32 is all that is left of the difference.
#[test]
fn gradients_in_f64_are_nearer_to_those_of_peft() {
    compare::<f64>(1e-5);
}

/// What is kept in bf16 costs less than what PEFT loses by computing in it.
#[test]
fn gradients_from_halves_are_near_those_of_peft() {
    let peer = golden_json("steps");
    for name in MODELS {
        let golden = Golden::open(name);
        let how = How { recompute: Recompute::Mlp, ..How::new(PRODUCTS) };
        let (_, gradients) = golden.train_as(&golden.adapter::<f32>(false), &how);
        let (all, worst) = errors(&gradients, &golden.gradients("small"));
        let of_peer = peer["models"][name]["bf16"]["all"].as_f64().unwrap();
        println!("{name}: gradients {all:.1e}, the worst {worst:.1e}, of PEFT {of_peer:.1e}");
        assert!(all < of_peer, "{name}: the gradients are off by {all:e}, at worst {worst:e}");
    }
}

#[test]
fn greedy_tokens_are_the_likeliest() {
    let golden = Golden::open("llama");
    let adapter = golden.adapter::<f32>(false);
    let prompt = &golden.tokens[..3];
    let tokens = golden.model.greedy(&adapter, prompt, &[], 4, PRODUCTS);
    assert_eq!(tokens.len(), 4);
    let all = [prompt, &tokens].concat();
    let vocabulary = golden.model.shape.vocabulary;
    let logits = golden.model.logits(&adapter, &all, 2..6, PRODUCTS);
    for (logits, token) in logits.chunks_exact(vocabulary).zip(&tokens) {
        assert!(logits.iter().all(|logit| *logit <= logits[*token as usize]));
    }
    let stop = tokens[2];
    let before = tokens.iter().position(|token| *token == stop).unwrap();
    assert_eq!(golden.model.greedy(&adapter, prompt, &[stop], 4, PRODUCTS), tokens[..before]);
    assert!(golden.model.greedy(&adapter, prompt, &[], 0, PRODUCTS).is_empty());
}

#[test]
fn logits_are_those_that_the_loss_has() {
    let golden = Golden::open("gemma3");
    let adapter = golden.adapter::<f64>(false);
    let tokens = &golden.tokens[..golden.lengths[0]];
    let (vocabulary, last) = (golden.model.shape.vocabulary, tokens.len() - 1);
    let logits = golden.model.logits(&adapter, tokens, last - 1..last, PRODUCTS);
    assert_eq!(logits.len(), vocabulary);
    let mut weights = vec![0.0; tokens.len()];
    weights[last] = 1.0;
    let mut loss = 0.0;
    let batch = Batch { tokens, lengths: &[tokens.len()], weights: &weights };
    golden.model.loss(&adapter, &batch, PRODUCTS, &mut loss);
    let whole: f64 = logits.iter().map(|logit| logit.exp()).sum();
    assert!((loss - (whole.ln() - logits[tokens[last] as usize])).abs() < 1e-12);
}

/// What PEFT computes with bf16 operands is the measure: it rounds the results too.
#[test]
fn gradients_with_bf16_operands_are_nearer_than_those_of_peft() {
    let peer = golden_json("steps");
    for name in MODELS {
        let golden = Golden::open(name);
        let products = Products { compute: Compute::Bf16, threads: 1 };
        let (_, gradients) = golden.train(&golden.adapter::<f32>(false), products);
        let (all, worst) = errors(&gradients, &golden.gradients("small"));
        let of_peer = |key: &str| peer["models"][name]["bf16"][key].as_f64().unwrap();
        println!(
            "{name}: {all:.1e} and {worst:.1e}, of PEFT {:.1e} and {:.1e}",
            of_peer("all"),
            of_peer("worst")
        );
        assert!(all < 1.2 * of_peer("all"), "{name}: off by {all:e}, and PEFT by {:e}", of_peer("all"));
    }
}

#[test]
fn losses_of_twenty_steps_are_those_of_peft() {
    let peer = golden_json("steps");
    let settings = Settings { max_norm: peer["longest"].as_f64(), ..Settings::default() };
    for name in MODELS {
        let golden = Golden::open(name);
        let mut adapter = golden.adapter::<f32>(false);
        let mut optimiser = AdamW::new(settings, &adapter);
        let expected = peer["models"][name]["losses"].as_array().unwrap();
        assert_eq!(expected.len(), 20);
        for (step, expected) in expected.iter().map(|loss| loss.as_f64().unwrap()).enumerate() {
            let (loss, gradients) = golden.train(&adapter, PRODUCTS);
            assert!((loss - expected).abs() < 1e-3, "{name}, step {step}: {loss} is not {expected}");
            optimiser.step(&mut adapter, &gradients, peer["rate"].as_f64().unwrap()).unwrap();
        }
    }
}
