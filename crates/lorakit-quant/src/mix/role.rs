//! What a tensor is for, by its name.

/// The roles that rules tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Output,
    TokenEmbedding,
    /// Alone, or fused with others that the tool treats alike.
    AttentionValue,
    AttentionKey,
    AttentionOutput,
    FfnDown,
    Other,
}

/// Parts of names; the first that occurs decides.
const PARTS: &[(&str, Role)] = &[
    ("attn_qkv.weight", Role::AttentionValue),
    ("attn_kv_b.weight", Role::AttentionValue),
    ("attn_v.weight", Role::AttentionValue),
    ("attn_k.weight", Role::AttentionKey),
    ("attn_output.weight", Role::AttentionOutput),
    ("ffn_up", Role::Other),
    ("ffn_gate", Role::Other),
    ("ffn_down", Role::FfnDown),
];

pub(super) const PER_LAYER_EMBEDDING: &str = "per_layer_token_embd.weight";

impl Role {
    pub(super) fn of(name: &str) -> Role {
        match name {
            "output.weight" => Role::Output,
            "token_embd.weight" | PER_LAYER_EMBEDDING => Role::TokenEmbedding,
            _ => PARTS.iter().find(|(part, _)| name.contains(part)).map_or(Role::Other, |(_, role)| *role),
        }
    }
}
