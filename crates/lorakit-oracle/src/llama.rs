//! A Llama forward pass in f64, with an adapter next to the weights instead of inside them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::read_json;
use crate::weights::{Matrix, Weights, dot, read_folder};

/// The prompt.
const TOKENS: [usize; 12] = [3, 17, 5, 201, 44, 7, 7, 131, 90, 12, 250, 60];

/// Largest relative error of one rounding to bf16 (8 significant bits).
const BF16_ROUNDING: f64 = 1.0 / 512.0;

/// `A` and `B` of a module.
pub type Factors = (Matrix, Matrix);

/// A model that computes logits; every low-rank term is applied as `W x + s * B (A x)`.
pub struct Llama {
    config: Value,
    weights: BTreeMap<String, Matrix>,
    lora: BTreeMap<String, Factors>,
    scale: f64,
    /// The pairs that positions rotate: neighbours, as in GGUF models, or else the halves of a head.
    neighbours: bool,
}

/// Logits of every position, with the sums of the absolute products whose small remainders they are.
pub struct Logits {
    layers: usize,
    values: Vec<f64>,
    magnitudes: Vec<f64>,
}

impl Logits {
    /// The largest error of `other`, in units of the error that rounding its weights to bf16 explains.
    ///
    /// A logit is `w . h`. Rounding `w` moves it by at most `BF16_ROUNDING * sum |w_i h_i|`, which it reaches if every
    /// element is off by half an ulp in the worst direction. `h` is a sum of the embedding and what each layer adds;
    /// the rounded weights of each move it by a relative error of the same size, hence as much again per layer.
    /// (Norms and attention keep errors at their relative size; measured errors are below half of this.)
    pub fn worst_error(&self, other: &Logits) -> f64 {
        let steps = 1.0 + self.layers as f64;
        let errors = self.values.iter().zip(&other.values).zip(&self.magnitudes);
        errors.map(|((a, b), m)| (a - b).abs() / (steps * BF16_ROUNDING * m)).fold(0.0, f64::max)
    }

    /// The largest difference between two logits, relative to the largest logit.
    pub fn distance(&self, other: &Logits) -> f64 {
        let largest = other.values.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
        self.values.iter().zip(&other.values).map(|(a, b)| (a - b).abs() / largest).fold(0.0, f64::max)
    }
}

impl Llama {
    /// A model folder.
    pub fn open(folder: &Path) -> Self {
        let weights = read_folder(folder).iter().map(|(name, t)| (name.clone(), t.matrix())).collect();
        let config = read_json(&folder.join("config.json"));
        Llama { config, weights, lora: BTreeMap::new(), scale: 0.0, neighbours: false }
    }

    /// The model with pairs of neighbouring rows rotated.
    pub fn rotating_neighbours(self) -> Self {
        Llama { neighbours: true, ..self }
    }

    /// The model with other weights.
    pub fn with_weights(mut self, change: impl Fn(&str, &Matrix) -> Matrix) -> Self {
        self.weights =
            self.weights.iter().map(|(name, weight)| (name.clone(), change(name, weight))).collect();
        self
    }

    /// The model with an adapter of one rank, scaled by `alpha / r`.
    pub fn with_factors(self, lora: BTreeMap<String, Factors>, alpha: f64) -> Self {
        // If ranks differ, B takes up the difference.
        let rank = lora.values().map(|(a, _)| a.rows).max().unwrap();
        let level = |(name, (a, b)): (String, Factors)| {
            let times = rank as f64 / a.rows as f64;
            let b = Matrix::from_fn(b.rows, b.cols, |i, j| b.at(i, j) * times);
            (name, (a, b))
        };
        Llama { lora: lora.into_iter().map(level).collect(), scale: alpha / rank as f64, ..self }
    }

    /// The model with its adapter inside the weights.
    pub fn merged(mut self) -> Self {
        for (module, (a, b)) in std::mem::take(&mut self.lora) {
            let delta = b.times(&a);
            let delta = if module == "model.embed_tokens" { delta.transposed() } else { delta };
            let weight = self.weights.get_mut(&format!("{module}.weight")).unwrap();
            *weight = weight.plus(self.scale, &delta);
        }
        self
    }

    /// A base model with a PEFT adapter that is not merged; saved modules replace the base's.
    pub fn with_adapter(base: &Path, adapter: &Path) -> Self {
        let mut model = Self::open(base);
        let config = read_json(&adapter.join("adapter_config.json"));
        let rank = config["r"].as_f64().unwrap();
        let divisor = if config["use_rslora"] == true { rank.sqrt() } else { rank };
        model.scale = config["lora_alpha"].as_f64().unwrap() / divisor;
        let embed = model.weights["model.embed_tokens.weight"].clone();
        // Each side of a tied pair is free to go its own way here.
        model.weights.entry("lm_head.weight".into()).or_insert(embed);
        let tensors: Weights = read_folder(adapter);
        for (name, tensor) in &tensors {
            let name = name.strip_prefix("base_model.model.").unwrap();
            let b_of =
                |a: &str, b: &str| tensors[&format!("base_model.model.{}", name.replace(a, b))].matrix();
            if let Some(module) = name.strip_suffix(".lora_A.weight") {
                model.lora.insert(module.into(), (tensor.matrix(), b_of("lora_A", "lora_B")));
            } else if let Some(module) = name.strip_suffix(".lora_embedding_A") {
                let b = b_of("embedding_A", "embedding_B");
                model.lora.insert(module.into(), (tensor.matrix(), b));
            } else if !name.contains("lora_") && !name.contains("base_layer") {
                model.weights.insert(name.into(), tensor.matrix());
            }
        }
        model
    }

    fn number(&self, key: &str) -> f64 {
        self.config[key].as_f64().unwrap_or_else(|| self.config["rope_parameters"][key].as_f64().unwrap())
    }

    fn linear(&self, module: &str, x: &[f64]) -> Vec<f64> {
        let tied = self.config["tie_word_embeddings"] == true && !self.weights.contains_key("lm_head.weight");
        let stored = if tied && module == "lm_head" { "model.embed_tokens" } else { module };
        let mut y = self.weights[&format!("{stored}.weight")].apply(x);
        if let Some((a, b)) = self.lora.get(module) {
            let delta = b.apply(&a.apply(x));
            y.iter_mut().zip(delta).for_each(|(y, d)| *y += self.scale * d);
        }
        y
    }

    fn embed(&self, token: usize) -> Vec<f64> {
        let mut x = self.weights["model.embed_tokens.weight"].row(token).to_vec();
        if let Some((a, b)) = self.lora.get("model.embed_tokens") {
            let column: Vec<f64> = (0..a.rows).map(|k| a.at(k, token)).collect();
            x.iter_mut().zip(b.apply(&column)).for_each(|(x, d)| *x += self.scale * d);
        }
        x
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let scale = (dot(x, x) / x.len() as f64 + self.number("rms_norm_eps")).sqrt();
        x.iter().zip(&self.weights[&format!("{name}.weight")].values).map(|(x, w)| x / scale * w).collect()
    }

    /// Rotates the two halves of each head, or its neighbours.
    fn rope(&self, x: &mut [f64], head_dim: usize, position: usize) {
        let theta = self.number("rope_theta");
        let half = head_dim / 2;
        for head in x.chunks_exact_mut(head_dim) {
            for i in 0..half {
                let angle = position as f64 * theta.powf(-(2.0 * i as f64) / head_dim as f64);
                let (one, other) = if self.neighbours { (2 * i, 2 * i + 1) } else { (i, i + half) };
                let (a, b) = (head[one], head[other]);
                head[one] = a * angle.cos() - b * angle.sin();
                head[other] = b * angle.cos() + a * angle.sin();
            }
        }
    }

    fn attention(&self, layer: &str, xs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let heads = self.number("num_attention_heads") as usize;
        let groups = self.number("num_key_value_heads") as usize;
        let head_dim = self.config["head_dim"].as_u64().map_or(xs[0].len() / heads, |d| d as usize);
        let project = |name: &str| -> Vec<Vec<f64>> {
            xs.iter().map(|x| self.linear(&format!("{layer}.self_attn.{name}"), x)).collect()
        };
        let (mut q, mut k, v) = (project("q_proj"), project("k_proj"), project("v_proj"));
        for (position, row) in q.iter_mut().chain(&mut k).enumerate() {
            self.rope(row, head_dim, position % xs.len());
        }
        let out = (0..xs.len()).map(|t| {
            let mut mixed = vec![0.0; heads * head_dim];
            for head in 0..heads {
                let own = head * head_dim..(head + 1) * head_dim;
                let shared = head * groups / heads * head_dim;
                let shared = shared..shared + head_dim;
                let scores = k[..=t].iter().map(|k| dot(&q[t][own.clone()], &k[shared.clone()]));
                let weights: Vec<f64> = scores.map(|s| (s / (head_dim as f64).sqrt()).exp()).collect();
                let total: f64 = weights.iter().sum();
                for (weight, v) in weights.iter().zip(&v) {
                    let target = mixed[own.clone()].iter_mut();
                    target.zip(&v[shared.clone()]).for_each(|(m, v)| *m += weight / total * v);
                }
            }
            self.linear(&format!("{layer}.self_attn.o_proj"), &mixed)
        });
        out.collect()
    }

    fn mlp(&self, layer: &str, x: &[f64]) -> Vec<f64> {
        let gate = self.linear(&format!("{layer}.mlp.gate_proj"), x);
        let up = self.linear(&format!("{layer}.mlp.up_proj"), x);
        let inner: Vec<f64> = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
        self.linear(&format!("{layer}.mlp.down_proj"), &inner)
    }

    /// The logits of a fixed prompt.
    pub fn logits(&self) -> Logits {
        let mut xs: Vec<Vec<f64>> = TOKENS.iter().map(|t| self.embed(*t)).collect();
        let add = |x: &mut Vec<f64>, y: Vec<f64>| x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
        let layers = self.number("num_hidden_layers") as usize;
        for layer in 0..layers {
            let layer = format!("model.layers.{layer}");
            let normed: Vec<_> =
                xs.iter().map(|x| self.norm(&format!("{layer}.input_layernorm"), x)).collect();
            for (x, y) in xs.iter_mut().zip(self.attention(&layer, &normed)) {
                add(x, y);
            }
            for x in &mut xs {
                let normed = self.norm(&format!("{layer}.post_attention_layernorm"), x);
                add(x, self.mlp(&layer, &normed));
            }
        }
        let hidden: Vec<_> = xs.iter().map(|x| self.norm("model.norm", x)).collect();
        let embed = &self.weights["model.embed_tokens.weight"];
        let mut head = self.weights.get("lm_head.weight").unwrap_or(embed).clone();
        if let Some((a, b)) = self.lora.get("lm_head") {
            head = head.plus(self.scale, &b.times(a));
        }
        let magnitude = |w: &[f64], h: &[f64]| w.iter().zip(h).map(|(w, h)| (w * h).abs()).sum::<f64>();
        let values: Vec<f64> = hidden.iter().flat_map(|h| self.linear("lm_head", h)).collect();
        assert!(values.iter().all(|v| v.is_finite()));
        Logits {
            layers,
            values,
            magnitudes: hidden
                .iter()
                .flat_map(|h| (0..head.rows).map(|i| magnitude(head.row(i), h)))
                .collect(),
        }
    }
}
