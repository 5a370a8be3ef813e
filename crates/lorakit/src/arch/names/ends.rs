//! Both ends of a language model: the input embedding and the output.

use super::path::last;

/// Input embeddings, each with the name of the output that goes with it.
const ENDS: &[(&str, &str)] = &[
    ("embed_tokens", HEAD),
    ("wte", HEAD),
    ("word_embeddings", HEAD),
    // GPT-NeoX.
    ("embed_in", "embed_out"),
    // Meta's own files, and torchtune's.
    ("tok_embeddings", "output"),
];

/// Embeddings other than those of the input: of positions, of token types, of other modalities.
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

/// The name of the output in most models.
pub(crate) const HEAD: &str = "lm_head";

/// Whether the module at that path is an input embedding.
pub(crate) fn is_embedding(path: &str) -> bool {
    ENDS.iter().any(|(embedding, _)| *embedding == last(path))
}

/// Whether the module at that path is an embedding of something other than input tokens.
pub(crate) fn is_other_embedding(path: &str) -> bool {
    OTHERS.contains(&last(path))
}

/// Whether the module at that path is an output embedding.
pub(crate) fn is_head(path: &str) -> bool {
    ENDS.iter().any(|(_, head)| *head == last(path))
}

/// Whether PEFT heeds `ensure_weight_tying` for the module at that path: it knows an embedding by these names only.
pub(crate) fn is_tied_on_request(path: &str) -> bool {
    matches!(last(path), "embed_tokens" | HEAD)
}

/// The path of the output of a model whose input embedding is at `embedding`. The output is always outside of the
/// model proper; in multimodal models, transformers before 5 has it inside the language model.
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

    #[test]
    fn names_for_which_peft_ties() {
        assert!(is_tied_on_request("model.decoder.embed_tokens") && is_tied_on_request("lm_head"));
        for path in ["transformer.wte", "word_embeddings", "gpt_neox.embed_in", "shared", "embed_out"] {
            assert!(!is_tied_on_request(path), "{path}");
        }
    }
}
