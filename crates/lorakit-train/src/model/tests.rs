//! Losses and gradients of whole models, compared with PEFT's (`fixtures/generate/peft_gradients.py`).

use std::sync::Arc;

use lorakit_tensor::{Checkpoint, DType, Reader, TensorSource};
use serde_json::Value;

use super::testing::{golden, golden_json};
use super::*;
use crate::kernel::{Compute, FloatMatrix, FrozenMatrix, Products};

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
        let weight = self.batch().weight();
        let (mut gradients, mut loss) = (adapter.zeros(), 0.0);
        self.model.train(
            adapter,
            &self.batch(),
            1.0 / weight,
            &How::new(products),
            &mut gradients,
            &mut loss,
        );
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

#[test]
fn threads_change_no_bit() {
    for name in MODELS {
        let golden = Golden::open(name);
        let adapter = golden.adapter::<f32>(false);
        let one = golden.train(&adapter, PRODUCTS);
        for threads in [2, 5] {
            assert!(
                golden.train(&adapter, Products { threads, ..PRODUCTS }) == one,
                "{name}, {threads} threads"
            );
        }
    }
}

#[test]
fn parts_of_a_step_add_up_to_the_same_bits() {
    for name in MODELS {
        let golden = Golden::open(name);
        let adapter = golden.adapter::<f32>(false);
        let (whole, expected) = golden.train(&adapter, PRODUCTS);
        let weight = golden.batch().weight();
        let (mut gradients, mut loss, mut from) = (adapter.zeros(), 0.0, 0);
        let mut evaluated = 0.0;
        for length in &golden.lengths {
            let part = from..from + length;
            from += length;
            let batch = Batch {
                tokens: &golden.tokens[part.clone()],
                lengths: &[*length],
                weights: &golden.weights[part],
            };
            golden.model.train(
                &adapter,
                &batch,
                1.0 / weight,
                &How::new(PRODUCTS),
                &mut gradients,
                &mut loss,
            );
            golden.model.loss(&adapter, &batch, PRODUCTS, &mut evaluated);
        }
        assert!(gradients == expected, "{name}: gradients");
        assert_eq!((loss / weight, evaluated / weight), (whole, whole), "{name}");
    }
}

#[test]
fn layers_below_the_first_trained_one_make_no_difference() {
    for name in MODELS {
        let golden = Golden::open(name);
        let mut adapter = golden.adapter::<f32>(true);
        let (whole, all) = golden.train(&adapter, PRODUCTS);
        adapter.layers[0] = Default::default();
        let (loss, last) = golden.train(&adapter, PRODUCTS);
        assert!(
            loss == whole && last.layers[1] == all.layers[1] && last.layers[0].iter().all(Option::is_none)
        );
    }
}

#[test]
fn documents_without_tokens_change_nothing() {
    let golden = Golden::open("qwen2");
    let adapter = golden.adapter::<f32>(false);
    let run = |batch: &Batch| {
        let (mut gradients, mut loss) = (adapter.zeros(), 0.0);
        golden.model.train(&adapter, batch, 1.0, &How::new(PRODUCTS), &mut gradients, &mut loss);
        (gradients, loss)
    };
    let lengths = [&[0][..], &golden.lengths[..1], &[0, 0], &golden.lengths[1..]].concat();
    assert!(run(&Batch { lengths: &lengths, ..golden.batch() }) == run(&golden.batch()));
    assert!(run(&Batch { tokens: &[], lengths: &[], weights: &[] }) == (adapter.zeros(), 0.0));
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
