//! Tensors that no mix touches.

use lorakit_tensor::TensorInfo;

use super::reason::Kept;

/// Parts of names of tensors that stay as they are.
const PARTS: &[(&str, Kept)] = &[
    ("_norm.weight", Kept::Norm),
    ("ffn_gate_inp.weight", Kept::Router),
    ("ffn_gate_tid2eid.weight", Kept::Router),
    ("altup", Kept::Small),
    ("laurel", Kept::Small),
    ("per_layer_model_proj", Kept::Small),
    ("ssm_conv1d", Kept::Convolution),
    ("shortconv.conv.weight", Kept::Convolution),
    ("indexer.k_proj.weight", Kept::Small),
    ("indexer.q_proj.weight", Kept::Small),
    ("time_mix_first.weight", Kept::Small),
    ("time_mix_w0.weight", Kept::Small),
    ("time_mix_w1.weight", Kept::Small),
    ("time_mix_w2.weight", Kept::Small),
    ("time_mix_v0.weight", Kept::Small),
    ("time_mix_v1.weight", Kept::Small),
    ("time_mix_v2.weight", Kept::Small),
    ("time_mix_a0.weight", Kept::Small),
    ("time_mix_a1.weight", Kept::Small),
    ("time_mix_a2.weight", Kept::Small),
    ("time_mix_g1.weight", Kept::Small),
    ("time_mix_g2.weight", Kept::Small),
    ("time_mix_decay_w1.weight", Kept::Small),
    ("time_mix_decay_w2.weight", Kept::Small),
    ("time_mix_lerp_fused.weight", Kept::Small),
    ("attn_rel_b.weight", Kept::Position),
    (".position_embd", Kept::Position),
    ("sam.pos_embd", Kept::Position),
    (".rel_pos", Kept::Position),
    ("sam.neck.", Kept::Vision),
    ("sam.net_", Kept::Vision),
    (".patch_embd", Kept::Vision),
    (".patch_merger", Kept::Vision),
    ("a.rvq.codebook", Kept::Codebook),
    ("mm.a.code_embd", Kept::Codebook),
];

/// Further parts, for one architecture alone.
const GLM5_NEXT: &[&str] = &[
    "hc_",
    "indexer.attn_q_b",
    "indexer.attn_k",
    "indexer.proj",
    "indexer_compressor_gate",
    "indexer_compressor_ape",
    "ssm_f_a.weight",
    "ssm_f_b.weight",
    "ssm_g_a.weight",
    "ssm_g_b.weight",
    "ssm_beta.weight",
    "attn_kv_a_mqa.weight",
    "attn_k_b.weight",
    "attn_v_b.weight",
];

/// Why a tensor stays as it is, or `None` if the mix decides.
pub(super) fn kept(architecture: &str, tensor: &TensorInfo) -> Option<Kept> {
    let name = tensor.name.as_str();
    // ggml does not count outer dimensions of 1.
    if tensor.shape.iter().skip_while(|&&d| d == 1).count() < 2 {
        return Some(Kept::Vector);
    }
    if let Some((_, why)) = PARTS.iter().find(|(part, _)| name.contains(part)) {
        return Some(*why);
    }
    if matches!(name, "position_embd.weight" | "token_types.weight") {
        return Some(Kept::Position);
    }
    if architecture == "glm5-next" && GLM5_NEXT.iter().any(|part| name.contains(part)) {
        return Some(Kept::Small);
    }
    (!name.ends_with("weight")).then_some(Kept::NotWeight)
}
