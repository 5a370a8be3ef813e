//! Which tensor of the files is which part of a decoder. Every tensor is used once, or named.

use lorakit::Model as Files;

use super::problem::Problem;
use crate::model::{Shape, Slot};
use crate::{Error, Result};

/// What the names of tensors begin with, and what those of modules do in transformers 5.
const PREFIXES: [(&str, &str); 3] = [
    ("model.", "model."),
    ("model.language_model.", "model.language_model."),
    ("language_model.model.", "model.language_model."),
];
const EMBEDDING: &str = "embed_tokens.weight";
const EMBEDDINGS: [&str; 3] = [
    "model.embed_tokens.weight",
    "model.language_model.embed_tokens.weight",
    "language_model.model.embed_tokens.weight",
];
const HEADS: [&str; 2] = ["lm_head.weight", "language_model.lm_head.weight"];

/// Parts of models that see, which a model of language does without.
const OTHER_SENSES: [&str; 4] =
    ["vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector."];

/// Tables that old checkpoints hold and every library computes.
const COMPUTED: &str = ".rotary_emb.inv_freq";

/// The most names in an error.
const LISTED: usize = 64;

/// The positions of a model's tensors.
pub(super) struct Layout {
    pub(super) embedding: usize,
    /// Absent if it is the embedding.
    pub(super) head: Option<usize>,
    pub(super) norm: usize,
    pub(super) layers: Vec<LayerLayout>,
    /// What the names of modules begin with.
    pub(super) prefix: &'static str,
}

/// The positions of a layer's tensors.
pub(super) struct LayerLayout {
    /// Weight and bias, in the order of [`Slot::ALL`].
    pub(super) linears: [(usize, Option<usize>); 7],
    pub(super) attention_norm: usize,
    pub(super) mlp_norm: usize,
    pub(super) query_key_norm: Option<(usize, usize)>,
    pub(super) after_norms: Option<(usize, usize)>,
}

/// Which linears have biases.
#[derive(Debug, Clone, Copy)]
struct Biases {
    inputs_of_attention: bool,
    output_of_attention: bool,
    mlp: bool,
}

impl Biases {
    fn of(files: &Files) -> Self {
        let config = files.config.as_ref();
        let flag = |name: &str| config.is_some_and(|config| config.flag(name));
        let qwen2 = config.and_then(|config| config.model_type()) == Some("qwen2");
        let attention = flag("attention_bias");
        Biases {
            inputs_of_attention: attention || qwen2,
            output_of_attention: attention,
            mlp: flag("mlp_bias"),
        }
    }

    fn has(self, slot: Slot) -> bool {
        match slot {
            Slot::Query | Slot::Key | Slot::Value => self.inputs_of_attention,
            Slot::Output => self.output_of_attention,
            Slot::Gate | Slot::Up | Slot::Down => self.mlp,
        }
    }
}

/// The end of a module's path, after its layer.
pub(crate) fn module_name(slot: Slot) -> &'static str {
    match slot {
        Slot::Query => "self_attn.q_proj",
        Slot::Key => "self_attn.k_proj",
        Slot::Value => "self_attn.v_proj",
        Slot::Output => "self_attn.o_proj",
        Slot::Gate => "mlp.gate_proj",
        Slot::Up => "mlp.up_proj",
        Slot::Down => "mlp.down_proj",
    }
}

/// The path of a module below a model's prefix.
pub(crate) fn module_path(prefix: &str, layer: usize, slot: Slot) -> String {
    format!("{prefix}layers.{layer}.{}", module_name(slot))
}

/// Looks up the tensors of a decoder, and remembers which were found.
struct Finder<'a> {
    files: &'a Files,
    used: Vec<bool>,
    missing: Names,
    misshapen: Names,
}

/// Names for an error, of which the first are listed.
#[derive(Default)]
struct Names {
    count: usize,
    listed: Vec<String>,
}

impl Names {
    fn push(&mut self, name: impl FnOnce() -> String) {
        self.count += 1;
        if self.listed.len() < LISTED {
            self.listed.push(name());
        }
    }

    fn refuse(mut self, problem: impl Fn(usize) -> Problem) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        if self.count > self.listed.len() {
            self.listed.push(format!("and {} more", self.count - self.listed.len()));
        }
        Err(Error::from(problem(self.count)).details(self.listed))
    }
}

impl<'a> Finder<'a> {
    fn find(&mut self, name: &str, shape: &[usize]) -> usize {
        let Some(index) = self.files.find(name) else {
            self.missing.push(|| name.to_string());
            return 0;
        };
        self.used[index] = true;
        let found = &self.files.tensors()[index].shape;
        if found != shape {
            self.misshapen.push(|| format!("{name}  {found:?}; it must be {shape:?}"));
        }
        index
    }

    fn layer(&mut self, prefix: &str, at: usize, shape: &Shape, biases: Biases) -> LayerLayout {
        let name = |part: &str| format!("{prefix}layers.{at}.{part}");
        let linears = Slot::ALL.map(|slot| {
            let (out, inputs) = shape.size(slot);
            let weight = self.find(&name(&format!("{}.weight", module_name(slot))), &[out, inputs]);
            let bias = name(&format!("{}.bias", module_name(slot)));
            (weight, biases.has(slot).then(|| self.find(&bias, &[out])))
        });
        let mut norm = |part: &str, width| self.find(&name(&format!("{part}.weight")), &[width]);
        let (hidden, dim) = (shape.hidden, shape.head_dim);
        let attention_norm = norm("input_layernorm", hidden);
        let second = norm("post_attention_layernorm", hidden);
        let query_key_norm =
            shape.query_key_norm.then(|| (norm("self_attn.q_norm", dim), norm("self_attn.k_norm", dim)));
        let (mlp_norm, after_norms) = if shape.norm_after {
            let after = norm("post_feedforward_layernorm", hidden);
            (norm("pre_feedforward_layernorm", hidden), Some((second, after)))
        } else {
            (second, None)
        };
        LayerLayout { linears, attention_norm, mlp_norm, query_key_norm, after_norms }
    }

    /// The tensors that were not asked for, except for those that hold nothing that is computed with.
    fn unknown(&self) -> Names {
        let config = self.files.config.as_ref();
        let sees =
            config.is_some_and(|config| config.architecture() == Some("Gemma3ForConditionalGeneration"));
        let other = |name: &str| sees && OTHER_SENSES.iter().any(|prefix| name.starts_with(prefix));
        let unused = self.files.tensors().iter().zip(&self.used).filter(|(_, used)| !**used);
        let mut names = Names::default();
        for (info, _) in unused.filter(|(info, _)| !other(&info.name) && !info.name.ends_with(COMPUTED)) {
            names.push(|| info.name.clone());
        }
        names
    }
}

impl Layout {
    /// Finds the tensors of a decoder of this shape in `files`.
    ///
    /// # Errors
    /// `Incomplete` for missing tensors, `Corrupt` for those of another shape, `Unsupported` for others, each with a
    /// line for each; if a stored head differs from the embeddings that it should be.
    pub(super) fn find(files: &Files, shape: &Shape) -> Result<Self> {
        let found = PREFIXES.iter().find(|(prefix, _)| files.find(&format!("{prefix}{EMBEDDING}")).is_some());
        let (stored, prefix) = found.ok_or(Problem::NoEmbedding { known: EMBEDDINGS.to_vec() })?;
        let used = vec![false; files.tensors().len()];
        let mut finder = Finder { files, used, missing: Names::default(), misshapen: Names::default() };
        let matrix = [shape.vocabulary, shape.hidden];
        let embedding = finder.find(&format!("{stored}{EMBEDDING}"), &matrix);
        let head_name = HEADS.into_iter().find(|name| files.find(name).is_some());
        let mut head = None;
        if !shape.tied {
            head = Some(finder.find(head_name.unwrap_or(HEADS[0]), &matrix));
        } else if let Some(copy) = head_name.and_then(|name| files.find(name)) {
            finder.used[copy] = true;
            if !files.tensor(copy).same_values(&files.tensor(embedding))? {
                let name = &files.tensors()[copy].name;
                return Err(Error::from(Problem::UntiedHead).tensor(name));
            }
        }
        let norm = finder.find(&format!("{stored}norm.weight"), &[shape.hidden]);
        let biases = Biases::of(files);
        let mut layers = Vec::new();
        for at in 0..shape.layers.len() {
            layers.push(finder.layer(stored, at, shape, biases));
        }
        let (unknown, total) = (finder.unknown(), files.tensors().len());
        finder.missing.refuse(|count| Problem::Missing { count })?;
        finder.misshapen.refuse(|count| Problem::Shapes { count })?;
        unknown.refuse(|count| Problem::Unknown { count, total })?;
        Ok(Layout { embedding, head, norm, layers, prefix })
    }
}
