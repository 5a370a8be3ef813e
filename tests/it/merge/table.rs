//! Every method on every kind of layer, square or not, in both orientations, with and without patterns, alone and with
//! another adapter: what is merged against arithmetic in f64.

use std::fs;

use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use crate::near::assert_near;
use crate::support::Sandbox;
use crate::weights::{Matrix, Tensor, Weights, noise, read_folder, write_file};

/// What kind of layer a weight belongs to, which decides how it and its factors are stored.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// `(out, in)`.
    Linear,
    /// GPT-2's layer: `(in, out)`.
    Conv1d,
    /// `(out, in, height, width)`, seen as a matrix `(out, in * height * width)`.
    Conv([usize; 2]),
    /// `(vocabulary, dim)`, with the delta `(B A)` transposed.
    Embedding,
}

/// A layer: its path, its kind, the number of its inputs (channels, or tokens) and of its outputs.
type Layer = (&'static str, Kind, usize, usize);

/// A model with layers of all shapes that the kind may have.
struct Family {
    model_type: &'static str,
    layers: &'static [Layer],
}

const FAMILIES: [Family; 3] = [
    Family {
        model_type: "llama",
        layers: &[
            ("model.layers.0.self_attn.q_proj", Kind::Linear, 24, 24),
            ("model.layers.0.self_attn.k_proj", Kind::Linear, 24, 12),
            ("model.layers.0.mlp.up_proj", Kind::Linear, 24, 40),
            ("model.embed_tokens", Kind::Embedding, 32, 24),
        ],
    },
    Family {
        model_type: "gpt2",
        layers: &[
            ("transformer.h.0.attn.c_attn", Kind::Conv1d, 24, 72),
            ("transformer.h.0.attn.c_proj", Kind::Conv1d, 24, 24),
            ("transformer.h.0.mlp.c_proj", Kind::Conv1d, 40, 24),
            ("transformer.h.0.linear", Kind::Linear, 24, 24),
            ("transformer.wte", Kind::Embedding, 24, 24),
        ],
    },
    Family {
        model_type: "made",
        layers: &[
            ("encoder.conv", Kind::Conv([3, 5]), 10, 12),
            ("encoder.square", Kind::Conv([1, 1]), 12, 12),
            ("encoder.proj", Kind::Linear, 12, 12),
        ],
    },
];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Method {
    Plain,
    RankStabilised,
    Dora,
    Bias,
}

/// `scale * B * A` and what else an adapter has for one layer.
struct Parts {
    scale: f64,
    b: Matrix,
    a: Matrix,
    magnitude: Option<Vec<f64>>,
    bias: Option<Vec<f64>>,
}

impl Kind {
    /// The shape of the weight, and the columns of its matrix `(out, in)`.
    fn shape(self, inputs: usize, outputs: usize) -> (Vec<usize>, usize) {
        match self {
            Kind::Linear => (vec![outputs, inputs], inputs),
            Kind::Conv1d | Kind::Embedding => (vec![inputs, outputs], inputs),
            Kind::Conv([h, w]) => (vec![outputs, inputs, h, w], inputs * h * w),
        }
    }

    fn is_stored_transposed(self) -> bool {
        matches!(self, Kind::Conv1d | Kind::Embedding)
    }
}

struct Case {
    sandbox: Sandbox,
    base: Weights,
    wanted: Weights,
}

impl Case {
    fn new(family: &Family) -> Self {
        let mut base = Weights::new();
        for (i, (path, kind, inputs, outputs)) in family.layers.iter().enumerate() {
            let (shape, cols) = kind.shape(*inputs, *outputs);
            let values = noise(i as u64 + 1, outputs * cols, 1.0);
            base.insert(format!("{path}.weight"), Tensor::new(Dtype::BF16, &shape, &values));
            if *kind != Kind::Embedding {
                let values = noise(i as u64 + 50, *outputs, 1.0);
                base.insert(format!("{path}.bias"), Tensor::new(Dtype::BF16, &[*outputs], &values));
            }
        }
        let case = Case { sandbox: Sandbox::new(), wanted: base.clone(), base };
        case.write(
            "base",
            "model.safetensors",
            &case.base,
            "config.json",
            &json!({
                "model_type": family.model_type, "tie_word_embeddings": false,
            }),
        );
        case
    }

    fn write(&self, folder: &str, file: &str, weights: &Weights, config: &str, text: &Value) {
        let folder = self.sandbox.path(folder);
        fs::create_dir_all(&folder).unwrap();
        write_file(&folder.join(file), weights);
        fs::write(folder.join(config), text.to_string()).unwrap();
    }

    /// Writes an adapter and adds it to what is wanted, at `weight`.
    fn adapter(
        &mut self,
        name: &str,
        family: &Family,
        method: Method,
        lie: bool,
        patterns: bool,
        weight: f64,
    ) {
        let (rank, alpha) = (4, 6.0);
        let mut config = json!({
            "peft_type": "LORA", "peft_version": "0.21.2", "r": rank, "lora_alpha": alpha, "fan_in_fan_out": lie,
            "use_rslora": method == Method::RankStabilised, "use_dora": method == Method::Dora,
            "lora_bias": method == Method::Bias,
        });
        if patterns {
            // A path, the end of one, and an expression; the first that matches counts.
            config["rank_pattern"] = json!({ "q_proj": 3, "attn.c_proj": 2, "square": 3 });
            config["alpha_pattern"] =
                json!({ "q_proj": 5, r"h\.\d\..*c_proj": 7, "c_proj": 11, "^encoder.proj": 2, "proj": 9 });
        }
        let mut stored = Weights::new();
        for (i, (path, kind, inputs, outputs)) in family.layers.iter().enumerate() {
            let end = path.rsplit('.').next().unwrap();
            let (rank, alpha) = match end {
                _ if !patterns => (rank, alpha),
                "q_proj" => (3, 5.0),
                "c_proj" if path.contains("attn") => (2, 7.0),
                "c_proj" => (rank, 7.0),
                "square" => (3, alpha),
                "proj" => (rank, 2.0),
                _ => (rank, alpha),
            };
            let parts =
                self.parts(&mut stored, (name, i as u64), (*path, *kind, *inputs, *outputs), rank, method);
            let divisor = if method == Method::RankStabilised { (rank as f64).sqrt() } else { rank as f64 };
            let parts = Parts { scale: weight * alpha / divisor, ..parts };
            self.add(path, *kind, &parts);
        }
        self.write(name, "adapter_model.safetensors", &stored, "adapter_config.json", &config);
    }

    /// Makes the tensors of one layer, and stores them under PEFT's names.
    fn parts(
        &self,
        stored: &mut Weights,
        (name, i): (&str, u64),
        layer: Layer,
        rank: usize,
        method: Method,
    ) -> Parts {
        let (path, kind, inputs, outputs) = layer;
        let seed = i * 10 + name.len() as u64 * 1000;
        let (_, cols) = kind.shape(inputs, outputs);
        let mut keep = |key: &str, shape: &[usize], seed| {
            let tensor = Tensor::new(Dtype::F32, shape, &noise(seed, shape.iter().product(), 1.0));
            let values = tensor.values();
            stored.insert(format!("base_model.model.{path}.{key}"), tensor);
            values
        };
        let (a, b) = match kind {
            Kind::Embedding => ("lora_embedding_A", "lora_embedding_B"),
            _ => ("lora_A.weight", "lora_B.weight"),
        };
        let (a_shape, b_shape) = match kind {
            Kind::Conv([h, w]) => (vec![rank, inputs, h, w], vec![outputs, rank, 1, 1]),
            _ => (vec![rank, inputs], vec![outputs, rank]),
        };
        let (a, b) = (keep(a, &a_shape, seed), keep(b, &b_shape, seed + 1));
        let magnitude = (method == Method::Dora).then(|| {
            let shape = if matches!(kind, Kind::Conv(_)) { vec![1, outputs, 1, 1] } else { vec![outputs] };
            keep("lora_magnitude_vector", &shape, seed + 2)
        });
        let with_bias = method == Method::Bias && kind != Kind::Embedding;
        let bias = with_bias.then(|| keep("lora_B.bias", &[outputs], seed + 3));
        Parts {
            scale: 1.0,
            b: Matrix { rows: outputs, cols: rank, values: b },
            a: Matrix { rows: rank, cols, values: a },
            magnitude,
            bias,
        }
    }

    /// Adds the parts to what is wanted of one layer: `m / ||W + D|| * (W + D)` for DoRA, else `W + D`.
    fn add(&mut self, path: &str, kind: Kind, parts: &Parts) {
        let name = format!("{path}.weight");
        let old = &self.wanted[&name];
        let turned = |matrix: Matrix| if kind.is_stored_transposed() { matrix.transposed() } else { matrix };
        let mut sum = turned(old.matrix()).plus(parts.scale, &parts.b.times(&parts.a));
        if let Some(magnitude) = &parts.magnitude {
            let norm = |row: usize| sum.row(row).iter().map(|v| v * v).sum::<f64>().sqrt();
            sum = Matrix::from_fn(sum.rows, sum.cols, |i, j| magnitude[i] / norm(i) * sum.at(i, j));
        }
        // F32 carries the sum to the one rounding at the end.
        let tensor = Tensor::new(Dtype::F32, &old.shape, &turned(sum).values);
        self.wanted.insert(name, tensor);
        if let Some(bias) = &parts.bias {
            let name = format!("{path}.bias");
            let old = &self.wanted[&name];
            let sum: Vec<f64> = old.values().iter().zip(bias).map(|(x, y)| x + parts.scale * y).collect();
            self.wanted.insert(name, Tensor::new(Dtype::F32, &[sum.len()], &sum));
        }
    }

    fn assert_merged(&self, what: &str, line: &str) {
        let mut wanted = self.wanted.clone();
        for (name, tensor) in &mut wanted {
            *tensor = Tensor::new(self.base[name].dtype, &self.base[name].shape, &tensor.values());
        }
        self.sandbox.run(&format!("merge base {line} -o out --force"), &[]).ok();
        assert_near(what, &self.base, &read_folder(&self.sandbox.path("out")), &wanted);
    }
}

#[test]
fn every_method_on_every_layer() {
    for family in &FAMILIES {
        for method in [Method::Plain, Method::RankStabilised, Method::Dora, Method::Bias] {
            // The configuration may say of the layers what is not true: PEFT corrects it, by the layer's class.
            for (lie, patterns) in [(false, false), (true, false), (false, true)] {
                let what =
                    format!("{} {method:?} fan_in_fan_out {lie} patterns {patterns}", family.model_type);
                let mut case = Case::new(family);
                case.adapter("one", family, method, lie, patterns, 1.0);
                case.assert_merged(&what, "one");
                case.adapter("second", family, Method::Plain, !lie, !patterns, -0.5);
                case.assert_merged(&format!("{what}, and another"), "one second=-0.5");
            }
        }
    }
}
