//! What a model is: its layers, sizes and switches.

use super::mlp::Activation;
use super::rope::Rope;

/// The architecture of a decoder, without weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Entries of a head.
    pub head_dim: usize,
    /// Multiplies attention scores.
    pub score_scale: f64,
    /// Added to the mean square in norms.
    pub norm_epsilon: f64,
    /// Whether the gains of norms are `1 + weight` (Gemma).
    pub norm_plus_one: bool,
    /// Whether queries and keys are normalised (Qwen3, Gemma 3).
    pub query_key_norm: bool,
    /// Whether the outputs of attention and MLP are normalised before they are added (Gemma).
    pub norm_after: bool,
    /// Multiplies embeddings.
    pub embedding_scale: f64,
    /// The activation of the MLP's gate.
    pub activation: Activation,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// The rotary positions that layers choose from.
    pub ropes: Vec<Rope>,
    /// What differs between layers.
    pub layers: Vec<LayerShape>,
}

/// What differs between layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerShape {
    /// Which of the model's rotary positions; none in NoPE layers.
    pub rope: Option<usize>,
    /// How many tokens a query sees, itself included; none if all.
    pub window: Option<usize>,
}

/// The linears of a layer, in the order of [`Slot::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are their names")]
pub enum Slot {
    Query,
    Key,
    Value,
    Output,
    Gate,
    Up,
    Down,
}

impl Slot {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Query, Self::Key, Self::Value, Self::Output, Self::Gate, Self::Up, Self::Down];
}

impl Shape {
    /// The outputs and inputs of a linear.
    pub fn size(&self, slot: Slot) -> (usize, usize) {
        let (queries, keys) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        match slot {
            Slot::Query => (queries, self.hidden),
            Slot::Key | Slot::Value => (keys, self.hidden),
            Slot::Output => (self.hidden, queries),
            Slot::Gate | Slot::Up => (self.intermediate, self.hidden),
            Slot::Down => (self.hidden, self.intermediate),
        }
    }
}
