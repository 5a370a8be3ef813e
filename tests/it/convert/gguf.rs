//! A Llama of two layers as a GGUF file, written from the weights of the corresponding Hugging Face model.

use std::fs;
use std::path::Path;

use half::f16;
use lorakit_tensor::format::gguf::{self, Array, Metadata, Value};
use lorakit_tensor::{DType, TensorInfo};

use crate::weights::{Matrix, noise};

pub(super) const HIDDEN: usize = 64;
pub(super) const INNER: usize = 96;
pub(super) const LAYERS: usize = 2;
pub(super) const HEADS: usize = 4;
pub(super) const KV_HEADS: usize = 2;
/// What byte-level BPE learned, lowest rank first.
pub(super) const MERGES: [&str; 3] = ["l l", "h e", "he ll"];
/// Ids of `<s>` and `</s>`, which follow the bytes and the merged tokens.
pub(super) const BOS: usize = 256 + MERGES.len();
pub(super) const EOS: usize = BOS + 1;
pub(super) const VOCAB: usize = EOS + 1;

/// Values of a block of Q8_0.
const BLOCK: usize = 32;

/// One weight.
#[derive(Clone)]
pub(super) struct Weight {
    /// Its name in the Hugging Face model.
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    /// Its values in the Hugging Face order of rows, exactly.
    pub(super) values: Vec<f64>,
    info: TensorInfo,
    bytes: Vec<u8>,
}

impl Weight {
    pub(super) fn matrix(&self) -> Matrix {
        Matrix { rows: self.shape[0], cols: self.shape[1..].iter().product(), values: self.values.clone() }
    }
}

/// A file that can be changed before it is written.
#[derive(Clone)]
pub(super) struct Gguf {
    pub(super) metadata: Vec<(String, Value)>,
    pub(super) weights: Vec<Weight>,
}

impl Gguf {
    /// The model in two parts: the metadata are in the first.
    pub(super) fn parts(&self) -> [Gguf; 2] {
        let mut parts = [self.clone(), self.clone()];
        parts[0].weights.truncate(9);
        parts[1].weights.drain(..9);
        parts[1].metadata.clear();
        for (number, part) in parts.iter_mut().enumerate() {
            part.set("split.no", Value::U16(number as u16));
            part.set("split.count", Value::U16(2));
            part.set("split.tensors.count", Value::I32(self.weights.len() as i32));
        }
        parts
    }

    /// A model with tied embeddings; most of it is Q8_0.
    pub(super) fn llama() -> Self {
        let mut gguf = Gguf { metadata: metadata(), weights: Vec::new() };
        gguf.add("token_embd", "model.embed_tokens", DType::Q8_0, &[VOCAB, HIDDEN], None);
        for layer in 0..LAYERS {
            let head = HIDDEN / HEADS;
            for (gguf_name, name, dtype, shape, heads) in [
                ("attn_norm", "input_layernorm", DType::F32, &[HIDDEN][..], None),
                ("attn_q", "self_attn.q_proj", DType::Q8_0, &[HIDDEN, HIDDEN], Some(HEADS)),
                ("attn_k", "self_attn.k_proj", DType::Q8_0, &[KV_HEADS * head, HIDDEN], Some(KV_HEADS)),
                ("attn_v", "self_attn.v_proj", DType::Q8_0, &[KV_HEADS * head, HIDDEN], None),
                ("attn_output", "self_attn.o_proj", DType::F16, &[HIDDEN, HIDDEN], None),
                ("ffn_norm", "post_attention_layernorm", DType::F32, &[HIDDEN], None),
                ("ffn_gate", "mlp.gate_proj", DType::Q8_0, &[INNER, HIDDEN], None),
                ("ffn_up", "mlp.up_proj", DType::Q8_0, &[INNER, HIDDEN], None),
                ("ffn_down", "mlp.down_proj", DType::F16, &[HIDDEN, INNER], None),
            ] {
                let (from, to) = (format!("blk.{layer}.{gguf_name}"), format!("model.layers.{layer}.{name}"));
                gguf.add(&from, &to, dtype, shape, heads);
            }
        }
        gguf.add("output_norm", "model.norm", DType::F32, &[HIDDEN], None);
        gguf
    }

    /// The same with a separate head.
    pub(super) fn untied() -> Self {
        let mut gguf = Self::llama();
        gguf.add("output", "lm_head", DType::F16, &[VOCAB, HIDDEN], None);
        gguf
    }

    fn add(&mut self, gguf: &str, name: &str, dtype: DType, shape: &[usize], heads: Option<usize>) {
        let seed = self.weights.len() as u64 + 1;
        let (bytes, values) = encoded(dtype, &noise(seed, shape.iter().product(), 0.4));
        let bytes = heads.map_or(bytes.clone(), |heads| permuted(&bytes, shape[0], heads));
        self.weights.push(Weight {
            name: format!("{name}.weight"),
            shape: shape.to_vec(),
            values,
            info: TensorInfo { name: format!("{gguf}.weight"), dtype, shape: shape.to_vec() },
            bytes,
        });
    }

    /// Changes a key, or adds it.
    pub(super) fn set(&mut self, key: &str, value: Value) {
        self.remove(key);
        self.metadata.push((key.into(), value));
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.metadata.retain(|(k, _)| k != key);
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut metadata = Metadata::default();
        self.metadata.iter().for_each(|(key, value)| metadata.set(key, value.clone()));
        let infos: Vec<TensorInfo> = self.weights.iter().map(|w| w.info.clone()).collect();
        let layout = gguf::layout(&metadata, &infos).unwrap();
        let mut file = layout.header;
        for (weight, offset) in self.weights.iter().zip(layout.offsets) {
            file.resize(offset as usize, 0);
            file.extend(&weight.bytes);
        }
        file.resize(layout.len as usize, 0);
        file
    }

    pub(super) fn write(&self, path: &Path) {
        fs::write(path, self.bytes()).unwrap();
    }
}

/// The bytes of `values` in a ggml type, and the values that they decode to.
fn encoded(dtype: DType, values: &[f64]) -> (Vec<u8>, Vec<f64>) {
    let (mut bytes, mut exact) = (Vec::new(), Vec::new());
    match dtype {
        DType::F32 => values.iter().for_each(|v| {
            bytes.extend((*v as f32).to_le_bytes());
            exact.push(f64::from(*v as f32));
        }),
        DType::F16 => values.iter().for_each(|v| {
            bytes.extend(f16::from_f64(*v).to_le_bytes());
            exact.push(f16::from_f64(*v).to_f64());
        }),
        DType::Q8_0 => values.chunks_exact(BLOCK).for_each(|block| {
            let largest = block.iter().fold(0.0f64, |most, v| most.max(v.abs()));
            let scale = f16::from_f64(largest / 127.0);
            let steps = block.iter().map(|v| (v / scale.to_f64()).round() as i8);
            bytes.extend(scale.to_le_bytes());
            bytes.extend(steps.clone().map(|s| s as u8));
            exact.extend(steps.map(|s| f64::from(s) * scale.to_f64()));
        }),
        other => panic!("{other}"),
    }
    (bytes, exact)
}

/// `w.reshape(heads, 2, d / 2, ...).swapaxes(1, 2)`, the order of rows that ggml's rotary embedding wants.
fn permuted(bytes: &[u8], rows: usize, heads: usize) -> Vec<u8> {
    let (row_bytes, half) = (bytes.len() / rows, rows / heads / 2);
    let row = |head: usize, side: usize, pair: usize| (head * 2 + side) * half + pair;
    let order = (0..heads).flat_map(|h| (0..half).flat_map(move |p| (0..2).map(move |s| row(h, s, p))));
    order.flat_map(|row| &bytes[row * row_bytes..(row + 1) * row_bytes]).copied().collect()
}

fn metadata() -> Vec<(String, Value)> {
    let text = |s: &str| Value::String(s.into());
    let number = |n: usize| Value::U32(n as u32);
    let kinds = (0..VOCAB).map(|id| if id < BOS { 1 } else { 3 });
    let entries = [
        ("general.architecture", text("llama")),
        ("general.name", text("Tiny")),
        ("llama.block_count", number(LAYERS)),
        ("llama.context_length", number(128)),
        ("llama.embedding_length", number(HIDDEN)),
        ("llama.feed_forward_length", number(INNER)),
        ("llama.attention.head_count", number(HEADS)),
        ("llama.attention.head_count_kv", number(KV_HEADS)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.rope.freq_base", Value::F32(100_000.0)),
        ("llama.rope.dimension_count", number(HIDDEN / HEADS)),
        ("llama.vocab_size", number(VOCAB)),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("smollm")),
        ("tokenizer.ggml.tokens", Value::Array(Array::String(tokens()))),
        ("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds.collect()))),
        ("tokenizer.ggml.merges", Value::Array(Array::String(MERGES.map(str::to_string).to_vec()))),
        ("tokenizer.ggml.bos_token_id", number(BOS)),
        ("tokenizer.ggml.eos_token_id", number(EOS)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
        ("tokenizer.chat_template", text("{{ messages[0].content }}")),
    ];
    entries.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
}

/// The 256 bytes as GPT-2 spells them, the merged tokens, and the special ones.
pub(super) fn tokens() -> Vec<String> {
    let printable = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut others = 0x100..;
    let spell = |byte: u32| if printable(byte) { Some(byte) } else { others.next() };
    let bytes = (0..256).filter_map(spell).filter_map(char::from_u32).map(String::from);
    let merged = MERGES.iter().map(|merge| merge.replace(' ', ""));
    bytes.chain(merged).chain(["<s>".to_string(), "</s>".to_string()]).collect()
}
