//! The parts of an adapter: low-rank modules, parameters saved whole, token rows.

use lorakit_tensor::DType;

use crate::TensorRef;

/// One low-rank module.
#[derive(Debug, Clone)]
pub struct Module {
    /// Path in the model, e.g. `model.layers.0.self_attn.q_proj`; with the parameter if that is not the `weight`, e.g.
    /// `model.layers.0.mlp.experts.gate_up_proj`.
    pub path: String,
    /// Linear-like or embedding.
    pub kind: ModuleKind,
    /// The factor `A`: `(r, in)`, `(r, in, *kernel)`, or `(r, vocab)` of an embedding.
    pub a: TensorRef,
    /// The factor `B`: `(out, r)`, or `(dim, r)` of an embedding.
    pub b: TensorRef,
    /// The factor by which the product is multiplied.
    pub scaling: Scaling,
    /// The rank that the configuration gives this module.
    pub config_rank: Option<f64>,
    /// The DoRA magnitudes.
    pub magnitude: Option<TensorRef>,
    /// The bias of `B`.
    pub bias: Option<TensorRef>,
    /// A weight that replaces the base's.
    pub base_weight: Option<TensorRef>,
    /// What its weight in a sum is multiplied by; 1 unless [`Strengths`](super::Strengths) were applied.
    pub strength: f64,
    /// The method from whose factors these were computed: `LoHa`, `LoKr`, `AdaLoRA`.
    pub expanded: Option<&'static str>,
    /// The name of the parameter, if the adapter was trained on a parameter instead of a layer (PEFT's
    /// `target_parameters`): `gate_up_proj`, or `weight`.
    pub parameter: Option<String>,
    /// Which experts it adapts, if the parameter holds those of a whole layer.
    pub experts: Option<Experts>,
    /// The quantised dtypes of `a` and `b` in the file that they were read from, where they are seen as F32.
    pub(crate) blocks: [Option<DType>; 2],
}

/// Which of the experts that one parameter holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Experts {
    /// All, packed as PEFT packs them: `A (E r, in)`, `B (out, r E)`.
    All,
    /// One of so many. Its number is also the last name of the path.
    One {
        /// Its number.
        expert: usize,
        /// How many there are.
        of: usize,
    },
}

/// The factor by which a low-rank product is multiplied.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scaling {
    /// This alpha divided by the rank (Hu et al. 2021).
    Alpha(f64),
    /// This alpha divided by the square root of the rank (rsLoRA, Kalajdzievski 2023).
    RankStabilised(f64),
    /// This number.
    Fixed(f64),
}

/// The kind of layer that a module adapts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModuleKind {
    /// Linear and convolution layers, and stacked experts.
    Linear,
    /// An embedding: the delta is `scale * (B * A)` transposed.
    Embedding,
}

/// A weight that is multiplied instead of added to. No product of factors does the same to every base.
#[derive(Debug, Clone)]
pub struct Multiplied {
    /// Path of the layer.
    pub path: String,
    /// The method: `IA3` or `OFT`.
    pub method: &'static str,
    /// What it is multiplied by.
    pub by: Multiplier,
}

/// What a weight is multiplied by.
#[derive(Debug, Clone)]
pub enum Multiplier {
    /// A factor for each output, which also applies to the layer's bias.
    Outputs(TensorRef),
    /// A factor for each input.
    Inputs(TensorRef),
    /// `(blocks, n, n)`: each run of `n` columns is multiplied from the right by the block of its own.
    Blocks(TensorRef),
    /// `(1, n, n)`: all runs of `n` columns are multiplied by the same block.
    SharedBlock(TensorRef),
}

/// A parameter that is saved whole.
#[derive(Debug, Clone)]
pub struct Saved {
    /// Name in the model, e.g. `lm_head.weight`.
    pub name: String,
    /// Its values.
    pub tensor: TensorRef,
}

/// A full delta of one parameter: it is added as it is, times the weight.
#[derive(Debug, Clone)]
pub struct Delta {
    /// Path of the module, e.g. `transformer.blocks.0.norm2`; for a parameter that is in no module of its own, such as
    /// `blocks.0.modulation`, the name of the parameter.
    pub path: String,
    /// Whether it is added to the bias of the module.
    pub of_bias: bool,
    /// Its values, in the shape of the parameter.
    pub tensor: TensorRef,
    /// What its weight in a sum is multiplied by; 1 unless [`Strengths`](super::Strengths) were applied.
    pub strength: f64,
}

/// Trained token rows.
#[derive(Debug, Clone)]
pub struct TokenRows {
    /// Path of the embedding.
    pub path: String,
    /// The replacement rows, `(n, dim)`.
    pub tensor: TensorRef,
    /// Which rows they replace.
    pub rows: Vec<usize>,
}

impl Delta {
    /// The parameter that it changes: `blocks.0.norm3.weight`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.path, if self.of_bias { "bias" } else { "weight" })
    }

    /// Outputs of the layer: rows of the weight, values of the bias.
    pub(crate) fn rows(&self) -> usize {
        self.tensor.info().shape.first().copied().unwrap_or(1)
    }
}

impl Scaling {
    /// The scale of a module of that rank.
    pub fn scale(self, rank: usize) -> f64 {
        match self {
            Scaling::Alpha(alpha) => alpha / rank as f64,
            Scaling::RankStabilised(alpha) => alpha / (rank as f64).sqrt(),
            Scaling::Fixed(scale) => scale,
        }
    }

    /// The alpha; for a fixed scale, the number that gives the scale when divided by `rank`.
    pub fn alpha(self, rank: usize) -> f64 {
        match self {
            Scaling::Alpha(alpha) | Scaling::RankStabilised(alpha) => alpha,
            Scaling::Fixed(scale) => scale * rank as f64,
        }
    }
}

impl Module {
    /// Makes a plain module, `scaling * B * A`, for the layer at `path`: `A (r, in)`, `B (out, r)`.
    pub fn new(
        path: impl Into<String>,
        kind: ModuleKind,
        a: TensorRef,
        b: TensorRef,
        scaling: Scaling,
    ) -> Self {
        Module {
            path: path.into(),
            kind,
            a,
            b,
            scaling,
            config_rank: None,
            magnitude: None,
            bias: None,
            base_weight: None,
            strength: 1.0,
            expanded: None,
            parameter: None,
            experts: None,
            blocks: [None; 2],
        }
    }

    /// Rows of `A`: the rank; for experts that PEFT packs in one module, the number of experts times the rank.
    pub fn rank(&self) -> usize {
        self.a.info().shape.first().copied().unwrap_or(0)
    }

    /// The factor by which the product is multiplied if the module has that rank.
    pub fn scale(&self, rank: usize) -> f64 {
        self.scaling.scale(rank)
    }

    /// Whether its factors have a higher rank than its weight can have.
    pub fn exceeds_rank(&self) -> bool {
        let inputs: usize = self.a.info().shape.iter().skip(1).product();
        let outputs = self.b.info().shape.first().copied().unwrap_or(0);
        !self.is_packed() && self.rank() > inputs.min(outputs)
    }

    /// Whether its factors were computed and have a higher rank than its weight: they are exact, but should not be
    /// written to a file.
    pub fn is_inflated(&self) -> bool {
        self.expanded.is_some() && self.exceeds_rank()
    }

    /// Whether it adapts the output projection inside an adapted `nn.MultiheadAttention`.
    pub(crate) fn is_attention_output(&self) -> bool {
        crate::arch::names::is_attention_output(&self.path)
    }

    /// Whether it stands for all experts of a layer (PEFT's `target_parameters`).
    pub fn is_packed(&self) -> bool {
        self.experts == Some(Experts::All)
    }
}
