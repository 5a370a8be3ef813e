//! Why a tensor gets its type.

use std::fmt;

use lorakit_tensor::DType;

/// Why a tensor gets its type; its `Display` is a cell of the plan's table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// It stays as it is.
    Kept(Kept),
    /// The type of the mix.
    Mix,
    /// The output matrix.
    Output,
    /// The token embedding of a model without an output matrix: it serves as both.
    TiedOutput,
    /// The token embedding, which ternary mixes code differently.
    TokenEmbedding,
    /// Attention values, alone or fused with queries and keys.
    AttentionValue,
    /// Attention keys of a model with eight experts.
    AttentionKey,
    /// The output projection of attention.
    AttentionOutput,
    /// The down projection of the feed-forward network; with `layer` where only some layers get this type.
    FfnDown {
        /// The layer, as the rule counts it.
        layer: Option<u64>,
    },
    /// A matrix that `MXFP4_MOE` codes as `Q8_0` because it is not an expert.
    NotExpert,
    /// `glm5-next` has matrices that stay at 8 bits.
    Sensitive,
    /// An override of the user.
    Override(String),
    /// The user's type for the output.
    OutputOption,
    /// The user's type for the token embedding.
    TokenEmbeddingOption,
    /// Rows of `columns` values do not divide into blocks of the type that was `wanted`.
    Fallback {
        /// Length of a row.
        columns: usize,
        /// The type by all other rules.
        wanted: DType,
    },
}

/// Why a tensor stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kept {
    /// It has fewer than two dimensions.
    Vector,
    /// Its name does not end in `weight`.
    NotWeight,
    /// A normalisation.
    Norm,
    /// It chooses experts.
    Router,
    /// Positions or token types.
    Position,
    /// A short convolution.
    Convolution,
    /// Part of a vision encoder.
    Vision,
    /// Codes of audio.
    Codebook,
    /// Small, and sensitive.
    Small,
    /// The user asked to leave the output.
    Asked,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Kept(kept) => write!(f, "kept: {kept}"),
            Reason::Mix => f.write_str("mix"),
            Reason::Output => f.write_str("output: more bits"),
            Reason::TiedOutput => f.write_str("tied output: more bits"),
            Reason::TokenEmbedding => f.write_str("token embedding: more bits"),
            Reason::AttentionValue => f.write_str("attention values: more bits"),
            Reason::AttentionKey => f.write_str("attention keys: more bits"),
            Reason::AttentionOutput => f.write_str("attention output: more bits"),
            Reason::FfnDown { layer: None } => f.write_str("ffn_down: more bits"),
            Reason::FfnDown { layer: Some(layer) } => write!(f, "ffn_down of layer {layer}: more bits"),
            Reason::NotExpert => f.write_str("not an expert"),
            Reason::Sensitive => f.write_str("sensitive: more bits"),
            Reason::Override(pattern) => write!(f, "override `{pattern}`"),
            Reason::OutputOption => f.write_str("type given for the output"),
            Reason::TokenEmbeddingOption => f.write_str("type given for the token embedding"),
            Reason::Fallback { columns, wanted } => {
                write!(f, "rows of {columns} are not whole {wanted} blocks of {}", wanted.block().elements)
            }
        }
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kept::Vector => "a vector",
            Kept::NotWeight => "not a weight",
            Kept::Norm => "a norm",
            Kept::Router => "routes experts",
            Kept::Position => "positions",
            Kept::Convolution => "a short convolution",
            Kept::Vision => "vision",
            Kept::Codebook => "a codebook",
            Kept::Small => "small and sensitive",
            Kept::Asked => "as asked",
        })
    }
}
