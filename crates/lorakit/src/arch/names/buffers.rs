//! Values that follow from the configuration.

/// Ends of their names. Only some versions of a library store them.
const BUFFERS: &[&str] = &[".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".position_ids"];

/// Whether a tensor of that name holds such values, so that a model without it is the same model.
pub(crate) fn is_buffer(name: &str) -> bool {
    BUFFERS.iter().any(|end| name.ends_with(end))
}
