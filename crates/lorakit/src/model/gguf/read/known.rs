//! What llama.cpp knows of a family, and its GGUF files leave out, as entries of `config.json`.

use serde_json::{Map, Value};

use super::keys::Keys;
use crate::Result;

/// Gemma 3: layers of a period, the last of which sees everything.
const GEMMA3_PERIOD: u64 = 6;
/// Gemma 3: the base of rotary frequencies in sliding windows.
const GEMMA3_LOCAL_THETA: f64 = 10_000.0;
/// Gemma 3: the layers of the one size whose scores are scaled by the width of heads that it does not have.
const GEMMA3_27B: u64 = 62;

/// Adds to `config` what holds for every model of the family; heads have `head_dim` values.
///
/// # Errors
/// If a key makes no sense (`Corrupt`).
pub(super) fn add(keys: Keys<'_>, head_dim: u64, config: &mut Map<String, Value>) -> Result<()> {
    let mut set = |key: &str, value: Value| config.insert(key.to_string(), value);
    if let Some(every) = keys.architecture.unrotated_every() {
        set("no_rope_layer_interval", every.into());
    }
    if keys.architecture.gguf() == "gemma3" {
        let (hidden, heads) =
            (keys.required_integer("embedding_length")?, keys.required_integer("attention.head_count")?);
        let large = keys.required_integer("block_count")? == GEMMA3_27B;
        let scored = if large { hidden.checked_div(heads).unwrap_or(0) } else { head_dim };
        set("query_pre_attn_scalar", scored.into());
        let period = keys.integer("attention.sliding_window_pattern")?.unwrap_or(GEMMA3_PERIOD);
        set("sliding_window_pattern", period.into());
        let local = keys.float("rope.freq_base_swa")?.unwrap_or(GEMMA3_LOCAL_THETA);
        set("rope_local_base_freq", local.into());
        if let Some(cap) = keys.float("final_logit_softcapping")? {
            set("final_logit_softcapping", cap.into());
        }
    }
    Ok(())
}
