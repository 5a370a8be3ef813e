//! Families that lay out weights differently from `torch.nn.Linear`, and the order in which layers are shown.

use super::path::last;

/// Families in which layers of these names are `Conv1D`, stored as `(in, out)`.
const CONV1D_FAMILIES: &[&str] = &["gpt2", "openai-gpt", "imagegpt", "decision_transformer", "clvp"];
const CONV1D_LAYERS: &[&str] = &["c_attn", "c_proj", "c_fc", "q_attn"];

/// Families that store stacked experts as `[E, in, out]`.
const TRANSPOSED_STACKS: &[&str] = &["gpt_oss", "llama4", "llama4_text"];

/// Families whose experts PEFT knows to be stored as `[E, in, out]` (`is_transposed` of their class, which Llama 4's has
/// not): it takes stacks of other classes to be `[E, out, in]`.
const TRANSPOSED_IN_PEFT: &[&str] = &["gpt_oss", "aria", "aria_text", "openai_privacy_filter"];

/// Layers of a block, in the order in which people list them.
const ORDER: &[&str] = &[
    "q_proj",
    "k_proj",
    "v_proj",
    "qkv_proj",
    "c_attn",
    "o_proj",
    "out_proj",
    "attn.c_proj",
    "gate_proj",
    "up_proj",
    "gate_up_proj",
    "c_fc",
    "down_proj",
];

/// Whether the family stores the weight of the layer `path` as `(in, out)`.
pub(crate) fn is_stored_transposed(family: &str, path: &str) -> bool {
    CONV1D_FAMILIES.contains(&family) && CONV1D_LAYERS.contains(&last(path))
}

/// Whether the family stores stacked experts as `[E, in, out]`.
pub(crate) fn stacks_transposed(family: &str) -> bool {
    TRANSPOSED_STACKS.contains(&family)
}

/// Whether `path` is the output projection inside an adapted `nn.MultiheadAttention`, as PEFT names it.
pub(crate) fn is_attention_output(path: &str) -> bool {
    path.ends_with(".base_layer.out_proj")
}

/// Whether PEFT, since 0.19, takes stacked experts of the family to be stored as `[E, in, out]`.
pub(crate) fn is_transposed_in_peft(family: &str) -> bool {
    TRANSPOSED_IN_PEFT.contains(&family)
}

/// The place of a layer in the order in which a block computes its layers; unknown layers come last.
pub(crate) fn usual_order(path: &str) -> usize {
    ORDER.iter().position(|end| path.ends_with(end)).unwrap_or(ORDER.len())
}
