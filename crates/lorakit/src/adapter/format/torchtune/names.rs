//! Names in torchtune and in Hugging Face.

/// Names within a layer: torchtune's and Hugging Face's.
const NAMES: &[(&str, &str)] = &[
    ("attn.q_proj", "self_attn.q_proj"),
    ("attn.k_proj", "self_attn.k_proj"),
    ("attn.v_proj", "self_attn.v_proj"),
    ("attn.output_proj", "self_attn.o_proj"),
    ("mlp.w1", "mlp.gate_proj"),
    ("mlp.w2", "mlp.down_proj"),
    ("mlp.w3", "mlp.up_proj"),
];

/// `model.layers.0.self_attn.o_proj` for `layers.0.attn.output_proj`.
pub(super) fn hf_name(path: &str) -> Option<String> {
    if path == "output" {
        return Some("lm_head".into());
    }
    let (layer, name) = path.strip_prefix("layers.")?.split_once('.')?;
    layer.parse::<usize>().ok()?;
    let (_, hf) = NAMES.iter().find(|(own, _)| *own == name)?;
    Some(format!("model.layers.{layer}.{hf}"))
}

/// `layers.0.attn.output_proj` for `model.layers.0.self_attn.o_proj`.
pub(super) fn own_name(path: &str) -> Option<String> {
    if path == "lm_head" {
        return Some("output".into());
    }
    let (layer, name) = path.strip_prefix("model.layers.")?.split_once('.')?;
    let (own, _) = NAMES.iter().find(|(_, hf)| *hf == name)?;
    Some(format!("layers.{layer}.{own}"))
}
