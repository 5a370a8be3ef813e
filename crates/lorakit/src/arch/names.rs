//! What names of modules mean, whatever the family: embeddings, heads, prefixes of wrappers.

/// Whether a module of that path is an input embedding.
pub(crate) fn is_embedding(path: &str) -> bool {
    let last = path.rsplit('.').next().unwrap_or_default();
    matches!(last, "embed_tokens" | "wte" | "word_embeddings" | "embed_in" | "tok_embeddings")
}

/// Whether a module of that path is an output embedding.
pub(crate) fn is_head(path: &str) -> bool {
    let last = path.rsplit('.').next().unwrap_or_default();
    matches!(last, "lm_head" | "embed_out" | "output")
}

/// The path without what wrappers and containers put in front.
pub(crate) fn bare(path: &str) -> &str {
    const PREFIXES: &[&str] = &["language_model.", "transformer.", "unet.", "model."];
    let stripped = PREFIXES.iter().find_map(|prefix| path.strip_prefix(prefix));
    stripped.map_or(path, bare)
}
