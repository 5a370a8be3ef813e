//! What cannot be trained, and what an adapter that starts a training may not be.

use lorakit_tensor::problems;

problems! {
    /// What cannot be trained, and what an adapter that starts a training may not be.
    pub(crate) enum Problem {
        /// A target names no linear.
        Target { name: String, known: Vec<&'static str> } = Usage,
            "no linear is called `{}`; the known ones are all-linear, {}", name.escape_debug(), known.join(", ");
        /// A target is the embedding or the head.
        End { name: String, known: Vec<&'static str> } = Unsupported,
            "`{}` is not trained: only the linears of layers are, {}", name.escape_debug(), known.join(", ");
        /// No target at all.
        NoTarget = Usage, "no linear is to be trained";
        /// Layers are given in a form that is not known.
        Layers { text: String } = Usage,
            "`{}` names no layers; `all`, `last:8` and `0-3,7` do", text.escape_debug();
        /// Layers beyond those of the model.
        Beyond { text: String, layers: usize } = Usage,
            "`{}` names layers that the model does not have: it has {layers}, counted from 0", text.escape_debug();
        /// A rank that no adapter has.
        Rank { rank: usize } = Usage, "the rank is {rank}; it must be from 1 to 65536";
        /// An alpha that is no scale.
        Alpha { alpha: f64 } = Usage, "alpha is {alpha}; it must be a finite number other than 0";
        /// Parts of an adapter are on weights that are not trained.
        Untrained { count: usize, total: usize } = Unsupported,
            "{count} of {total} parts of the adapter change weights that are not trained: only the linears of layers are";
        /// An adapter that would be written holds nothing.
        Nothing = Damaged, "has no factors, so there is nothing to save";
        /// What was saved has other factors than what was trained.
        OtherParts { found: usize, expected: usize } = Verification,
            "has {found} products of factors, and {expected} were trained";
    }
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
        Usage: no linear is called `<name>`; the known ones are all-linear, <word>, <word>
        Unsupported: `<name>` is not trained: only the linears of layers are, <word>, <word>
        Usage: no linear is to be trained
        Usage: `<text>` names no layers; `all`, `last:8` and `0-3,7` do
        Usage: `<text>` names layers that the model does not have: it has 12, counted from 0
        Usage: the rank is 12; it must be from 1 to 65536
        Usage: alpha is 12; it must be a finite number other than 0
        Unsupported: 12 of 12 parts of the adapter change weights that are not trained: only the linears of layers are
        Damaged: has no factors, so there is nothing to save
            export the adapter again; inspecting it lists what is wrong
        Verification: has 12 products of factors, and 12 were trained
            nothing was written; this should not happen, please report it
        ");
    }
}
