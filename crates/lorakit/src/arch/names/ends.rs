//! Both ends of a language model: the input embedding and the output.

use super::path::last;

/// Input embeddings, and what the output beside each is called.
const ENDS: &[(&str, &str)] = &[
    ("embed_tokens", HEAD),
    ("wte", HEAD),
    ("word_embeddings", HEAD),
    // GPT-NeoX.
    ("embed_in", "embed_out"),
    // Meta's own files, and torchtune's.
    ("tok_embeddings", "output"),
];

/// Embeddings beside those of the input: of positions, of kinds of tokens, of other modalities.
const OTHERS: &[&str] = &[
    "wpe",
    "shared",
    "embeddings",
    "embed_positions",
    "position_embedding",
    "position_embeddings",
    "token_embedding",
    "token_type_embeddings",
];

/// The output of most models.
pub(crate) const HEAD: &str = "lm_head";

/// Whether a module of that path is an input embedding.
pub(crate) fn is_embedding(path: &str) -> bool {
    ENDS.iter().any(|(embedding, _)| *embedding == last(path))
}

/// Whether a module of that path is an embedding of something else than input tokens.
pub(crate) fn is_other_embedding(path: &str) -> bool {
    OTHERS.contains(&last(path))
}

/// Whether a module of that path is an output embedding.
pub(crate) fn is_head(path: &str) -> bool {
    ENDS.iter().any(|(_, head)| *head == last(path))
}

/// The path of the output of a model whose input embedding is at `embedding`: transformers before 5 has it inside the
/// language model of a multimodal one, and outside of the model proper everywhere.
pub(crate) fn head_of(embedding: &str) -> String {
    let head = ENDS.iter().find(|(own, _)| *own == last(embedding)).map_or(HEAD, |(_, head)| head);
    let outer = if embedding.starts_with("language_model.") { "language_model." } else { "" };
    format!("{outer}{head}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_goes_with_the_input() {
        for (embedding, head) in [
            ("model.embed_tokens", "lm_head"),
            ("transformer.wte", "lm_head"),
            ("language_model.model.embed_tokens", "language_model.lm_head"),
            ("model.language_model.embed_tokens", "lm_head"),
            ("gpt_neox.embed_in", "embed_out"),
            ("tok_embeddings", "output"),
            ("", "lm_head"),
        ] {
            assert_eq!(head_of(embedding), head);
            assert!(is_head(head) && !is_embedding(head));
        }
    }
}
