//! Why a model cannot be trained on.

use lorakit_tensor::{DType, problems};

problems! {
    /// Why a model cannot be trained on.
    pub(crate) enum Problem {
        /// The folder has no configuration.
        NoConfig = Unsupported / NameModel, "has no `config.json`, which says what kind of model it is";
        /// The embeddings are under no known name.
        NoEmbedding { known: Vec<&'static str> } = File(Incomplete),
            "has no embeddings, which would be {}", known.join(" or ");
        /// Tensors are missing.
        Missing { count: usize } = File(Incomplete),
            "lacks {} that its configuration asks for", tensors(count);
        /// Tensors have other shapes.
        Shapes { count: usize } = File(Corrupt),
            "has {} of another shape than its configuration asks for", tensors(count);
        /// Tensors that no part of the model is made of.
        Unknown { count: usize, total: usize } = Unsupported,
            "has {}, of {total}, that no part of a model of its kind is made of; training without that would train another \
             model", tensors(count);
        /// The head differs from the embedding that it should be.
        UntiedHead = File(Corrupt),
            "differs from the embeddings, although the configuration says that both are one tensor (`tie_word_embeddings`)";
        /// Quantised weights should be quantised again.
        Requantised { stored_as: String } = Requantized,
            "is stored as {stored_as}; quantising it again would lose twice: train on it as it is (`keep`), or on the \
             model from which it was made";
        /// Weights are packed in a way that is only decoded.
        Packed { stored_as: String } = Unsupported,
            "is packed as {stored_as}, which is not computed with as it is; `bf16` decodes it";
        /// A value that the type cannot hold.
        Beyond { dtype: DType } = NonFinite, "has values that {dtype} cannot hold";
        /// Scales of packed blocks.
        Scale { value: f32, block: usize } = NonFinite, "has the scale {value} at block {block}";
        /// Parts of a packed weight do not form it.
        Parts = File(Corrupt), "has codes and scales that are not those of its shape";
        /// The caller asked to stop.
        Stopped = Interrupted, "was interrupted before the model was read";
    }
}

fn tensors(count: &usize) -> String {
    if *count == 1 { "a tensor".to_string() } else { format!("{count} tensors") }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::Problem;

    #[test]
    fn every_message() {
        let mut text = String::new();
        for problem in Problem::samples() {
            let error = crate::Error::from(problem);
            let _ = writeln!(text, "{}: {error}", error.kind().name());
            if let Some(hint) = error.hint() {
                let _ = writeln!(text, "    {hint}");
            }
        }
        insta::assert_snapshot!(text, @r"
        Unsupported: has no `config.json`, which says what kind of model it is
            name a model: a folder with `config.json`, or a GGUF file
        Incomplete: has no embeddings, which would be <word> or <word>
            the file was not converted completely, or is not of the family that it names
        Incomplete: lacks 12 tensors that its configuration asks for
            the file was not converted completely, or is not of the family that it names
        Corrupt: has 12 tensors of another shape than its configuration asks for
            the file is damaged, or was made by a broken tool; fetch or export it again
        Unsupported: has 12 tensors, of 12, that no part of a model of its kind is made of; training without that would train another model
        Corrupt: differs from the embeddings, although the configuration says that both are one tensor (`tie_word_embeddings`)
            the file is damaged, or was made by a broken tool; fetch or export it again
        Requantized: is stored as <stored_as>; quantising it again would lose twice: train on it as it is (`keep`), or on the model from which it was made
            start from the 16-bit model, or accept the loss of quantising twice
        Unsupported: is packed as <stored_as>, which is not computed with as it is; `bf16` decodes it
        NonFinite: has values that F16 cannot hold
            the file is damaged, or its values are too large for the dtype of the output
        NonFinite: has the scale 12 at block 12
            the file is damaged, or its values are too large for the dtype of the output
        Corrupt: has codes and scales that are not those of its shape
            the file is damaged, or was made by a broken tool; fetch or export it again
        Interrupted: was interrupted before the model was read
            nothing was written; run it again
        ");
    }
}
