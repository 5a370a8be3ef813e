//! What can be wrong with a tokenizer.

use lorakit_tensor::problems;

problems! {
    /// What can be wrong with a tokenizer.
    pub(crate) enum Problem {
        /// A GGUF file has a tokenizer of another kind.
        Kind { kind: String } = File(Unsupported),
            "has a tokenizer of kind `{kind}` (`tokenizer.ggml.model`); the known ones are gpt2, llama";
        /// A GGUF file names an unknown rule for cutting text.
        NamedRule { rule: String, known: Vec<&'static str> } = File(Unsupported),
            "its tokenizer cuts text by the rule `{rule}` (`tokenizer.ggml.pre`); the known ones are {}", known.join(", ");
        /// A token has two ids.
        RepeatedToken { token: String, first: usize, second: usize } = File(Corrupt),
            "the vocabulary has the token `{token}` twice, as {first} and as {second}";
        /// An array does not have one value per token.
        Values { key: &'static str, values: usize, tokens: usize } = File(Corrupt),
            "metadata key `{key}` has {values} values for {tokens} tokens";
        /// A special token is not in the vocabulary.
        Id { key: String, id: u64, tokens: usize } = File(Corrupt),
            "metadata key `{key}` is {id}; the vocabulary has {tokens} tokens";
        /// Tokens of a merge, or its result, are not in the vocabulary.
        Merge { merge: String } = File(Corrupt), "the merge `{merge}` is not two tokens that form a third";
        /// A token is too long to be searched for merges.
        LongToken { id: usize, bytes: usize, limit: usize } = File(Limit),
            "token {id} has {bytes} bytes; at most {limit} are read";

        /// A rule is asked for that llama.cpp does not have.
        NoRule { name: String, known: Vec<&'static str> } = Usage,
            "llama.cpp knows no pre-tokenizer `{name}`; the known ones are {}", known.join(", ");
        /// The folder has no tokenizer of a kind that the family knows.
        NoTokenizer { needed: Vec<&'static str> } = Unsupported / AddTokenizer,
            "has no tokenizer that a GGUF file can hold; it must have {}", needed.join(", or ");
        /// The library that reads `tokenizer.json` refuses it.
        Unreadable { reason: String } = File(Corrupt), "`tokenizer.json`: {reason}";
        /// It is not known how `tokenizer.json` cuts text.
        Rule { digest: String } = Unsupported / NamePreTokenizer,
            "`tokenizer.json` cuts text by an unknown rule (its digest is {digest})";
        /// Parts of words are marked, as in WordPiece.
        Prefix { prefix: String } = Unsupported,
            "`tokenizer.json` marks parts of words by `{prefix}`, which GGUF files cannot record for this kind of tokenizer";
        /// Text is replaced by a table that SentencePiece compiled.
        Compiled = Unsupported,
            "`tokenizer.json` replaces text by a compiled table (normalizer `Precompiled`), which is not read";
        /// Merges of `tokenizer.json` are not pairs.
        Merges = File(Corrupt), "`tokenizer.json` has merges that are not pairs of tokens";
        /// The vocabulary is larger than the configuration says.
        Size { tokens: usize, size: usize } = File(Corrupt),
            "`tokenizer.json` has {tokens} tokens, and `vocab_size` is {size}";
        /// `tokenizer.model` is not a SentencePiece message.
        SentencePiece = File(Corrupt), "`tokenizer.model` is damaged, or not a SentencePiece model";
        /// The embeddings do not have one row per token.
        Rows { rows: usize, tokens: usize } = File(Corrupt),
            "has {rows} rows for the {tokens} tokens of the vocabulary";
    }
}
