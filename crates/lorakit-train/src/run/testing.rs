//! A tiny model, rows, and a writer, for tests of runs.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lorakit_tensor::publish::{self, Existing, Staged};

use super::observe::{Observer, Summary};
use super::output::Writes;
use super::ready::{self, Job, Ready};
use super::sample::Answers;
use crate::adapter::Layers;
use crate::data::Document;
use crate::error::Result;
use crate::kernel::{FloatMatrix, FrozenMatrix};
use crate::model::testing::noise;
use crate::model::{Adapter, Layer, Linear, Lora, Model, Norm, Shape, Slot};
use crate::settings::Settings;

const CONFIG: &str = r#"{"model_type": "llama", "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48,
    "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 3, "hidden_act": "silu",
    "rms_norm_eps": 1e-5, "max_position_embeddings": 128, "tie_word_embeddings": true}"#;

/// A Llama with random weights.
pub(crate) fn model() -> Model {
    let shape = Shape::from_config(CONFIG.as_bytes()).unwrap();
    let matrix = |seed: u64, (out, inputs): (usize, usize)| {
        let scale = (3.0 / inputs as f64).sqrt();
        let values = noise(out * inputs, seed).iter().map(|value| (value * scale) as f32).collect();
        FloatMatrix { values, cols: inputs }
    };
    let norm = || Norm { weight: vec![1.0; shape.hidden], plus_one: false };
    // Logits that can say that they are sure.
    let last = Norm { weight: vec![3.0; shape.hidden], plus_one: false };
    let layer = |at: usize| Layer {
        linears: Slot::ALL.map(|slot| Linear {
            weight: Box::new(matrix((10 * at + slot as usize) as u64, shape.size(slot))),
            bias: None,
        }),
        attention_norm: norm(),
        mlp_norm: norm(),
        query_key_norm: None,
        after_norms: None,
    };
    let embedding: Arc<dyn FrozenMatrix> = Arc::new(matrix(99, (shape.vocabulary, shape.hidden)));
    let layers = (0..shape.layers.len()).map(layer).collect();
    Model { embedding: embedding.clone(), layers, norm: last, head: embedding, shape }
}

/// Fresh factors of rank 4 on every linear.
pub(crate) fn adapter(model: &Model) -> Adapter<f32> {
    adapter_on(model, &Layers::All)
}

fn adapter_on(model: &Model, layers: &Layers) -> Adapter<f32> {
    let count = model.layers.len();
    let lora = |layer: usize, slot: Slot| {
        let (out, inputs) = model.shape.size(slot);
        let scale = 1.0 / (inputs as f64).sqrt();
        let a = noise(4 * inputs, (1000 + 10 * layer + slot as usize) as u64);
        Lora { scale: 2.0, a: a.iter().map(|value| (value * scale) as f32).collect(), b: vec![0.0; out * 4] }
    };
    let trained = |layer: usize| match layers {
        Layers::Last(last) => layer + last >= count,
        _ => true,
    };
    let layer = |layer: usize| Slot::ALL.map(|slot| trained(layer).then(|| lora(layer, slot)));
    Adapter { layers: (0..count).map(layer).collect() }
}

/// Rows of 6 to 13 tokens, of which the first two are not trained, and some count half.
pub(crate) fn rows(count: usize) -> Vec<Document> {
    let row = |at: usize| {
        let length = 6 + at * 5 % 8;
        let tokens = (0..length).map(|place| ((at * 7 + place * place * 3 + place) % 40) as u32).collect();
        let weight = |place: usize| if place < 2 { 0.0 } else { [1.0, 0.5][usize::from(at % 5 == 4)] };
        Document { tokens, weights: (0..length).map(weight).collect(), source: 0, line: at as u64 + 1 }
    };
    (0..count).map(row).collect()
}

/// The settings of a run into `output`.
pub(crate) fn settings(output: &Path, yaml: &str) -> Settings {
    let rate = if yaml.contains("lr:") { "" } else { "lr: 5e-3\n" };
    let least = format!("model: m\ndata: d\noutput: {:?}\ncompute: f32\n{rate}", output.display());
    let mut settings = Settings::from_yaml(&format!("{least}{yaml}")).unwrap();
    settings.finish().unwrap();
    settings
}

/// Writes factors as they are in memory.
#[derive(Default)]
pub(crate) struct Plain {
    /// Folders written.
    pub(crate) written: AtomicUsize,
}

impl Writes for Plain {
    fn write(
        &self,
        folder: &Path,
        adapter: &Adapter<f32>,
        replace: bool,
        beside: Vec<(&'static str, Vec<u8>)>,
    ) -> Result<()> {
        self.written.fetch_add(1, Ordering::Relaxed);
        let existing = match replace && folder.is_dir() {
            true => Existing::Replaced(publish::contents(folder)?),
            false => Existing::Kept,
        };
        let staged = Staged::folder(folder, existing)?;
        let mut files =
            vec![("adapter_model.safetensors", bytes(adapter)), ("adapter_config.json", b"{}".to_vec())];
        files.extend(beside);
        for (name, bytes) in files {
            fs::write(staged.path().join(name), bytes).unwrap();
        }
        let _ = staged.publish()?;
        Ok(())
    }

    fn check(&self, folder: &Path, adapter: &Adapter<f32>) -> Result<()> {
        assert!(saved(folder) == bytes(adapter));
        Ok(())
    }
}

/// The bytes of all factors.
pub(crate) fn bytes(adapter: &Adapter<f32>) -> Vec<u8> {
    adapter.factors().flatten().flat_map(|value| value.to_le_bytes()).collect()
}

/// The bytes of the adapter in a folder.
pub(crate) fn saved(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("adapter_model.safetensors")).unwrap()
}

/// What a run is made of, unless a test says otherwise.
pub(crate) struct Tiny {
    pub(crate) model: Model,
    pub(crate) rows: Vec<Document>,
    pub(crate) held: Vec<Document>,
    pub(crate) writes: Plain,
    /// The most tokens of a pass, if not what fits.
    pub(crate) pass: Option<usize>,
    pub(crate) answers: Option<Box<dyn Answers>>,
}

impl Tiny {
    pub(crate) fn new() -> Self {
        Self {
            model: model(),
            rows: rows(16),
            held: Vec::new(),
            writes: Plain::default(),
            pass: None,
            answers: None,
        }
    }

    pub(crate) fn with_validation() -> Self {
        Self { rows: rows(16), held: rows(20).split_off(16), ..Self::new() }
    }

    pub(crate) fn run(&self, settings: &Settings, observer: &mut dyn Observer) -> Result<Summary> {
        let count = self.rows.len();
        let order = |epoch: u64| (0..count).map(|at| (at * 5 + 3 * epoch as usize) % count).collect();
        let job = Job {
            settings,
            model: &self.model,
            adapter: adapter_on(&self.model, &settings.lora.layers),
            rows: &self.rows,
            held: &self.held,
            order: &order,
            digests: vec![
                ("base", "b".into()),
                ("data", ready::digest(&self.rows)),
                ("validation data", ready::digest(&self.held)),
            ],
            writes: &self.writes,
            answers: self.answers.as_deref(),
        };
        let mut ready = Ready::new(job)?;
        if let Some(pass) = self.pass {
            ready.room.pass = pass;
        }
        ready.run(observer)
    }
}
