//! What can be wrong with a model card.

use lorakit_tensor::problems;

problems! {
    /// What can be wrong with a model card.
    pub(crate) enum Problem {
        /// Its front matter cannot be edited; the text says why.
        FrontMatter { message: String } = Unsupported, "{message}";
        /// An edit of a line would change something else, e.g. an anchor that is used elsewhere.
        Entangled { key: String } = Unsupported,
            "its front matter cannot be edited line by line: other keys depend on `{key}`";
    }
}
