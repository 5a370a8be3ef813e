//! Why a model cannot be evaluated.

use std::path::PathBuf;

use lorakit_tensor::problems;

problems! {
    /// Why a model cannot be evaluated.
    pub(crate) enum Problem {
        /// No model is named.
        NoModel = Usage, "no model is named";
        /// Nothing was left of the rows.
        NoRows { rows: usize } = Data / CheckData, "of {rows} rows none can be judged: none has an answer";
        /// All rows are too long.
        AllTooLong { rows: usize, limit: usize } = Data,
            "none of {rows} rows is left: each has more tokens than the context, which is {limit}";
        /// A context is too short for anything.
        Context { found: usize } = Usage, "a context of {found} tokens is too short: there must be at least 2";
        /// A loss is not a number.
        Loss { line: u64 } = NonFinite, "the loss of the row on line {line} is not a finite number";
        /// A loss on general text is not a number.
        GeneralLoss { paragraph: usize } = NonFinite,
            "the loss on paragraph {paragraph} of the general text is not a finite number";
        /// A general text is empty.
        NoText = Usage, "has no paragraphs: they are separated by empty lines";
        /// A scale is not one.
        Scale { found: f64 } = Usage, "the scale {found} is not finite";
        /// Something needs an adapter.
        NoAdapter { what: &'static str } = Usage, "{what}, and no adapter is named";

        /// A pattern is none.
        Pattern { text: String, reason: String } = Usage,
            "`{}` is not a regular expression: {}", text.escape_debug(), reason.escape_debug();
        /// A check is unknown.
        UnknownCheck { found: String, known: Vec<&'static str> } = Usage,
            "`{}` is not a check; there are {}", found.escape_debug(), known.join(", ");
        /// A check has a value of another kind.
        CheckValue { check: String, found: String, expected: &'static str } = Usage,
            "`{check}` is {}; it must be {expected}", lorakit_tensor::problem::excerpt(found);
        /// A keyword of JSON Schema that is not read.
        Keyword { keyword: String, place: String } = Usage,
            "`{}`, at `{}` of the schema, is not among the keywords of JSON Schema that are read", keyword.escape_debug(), place.escape_debug();
        /// A keyword of a schema has a value of another kind.
        SchemaValue { place: String, found: String, expected: &'static str } = Usage,
            "`{}` of the schema is {}; it must be {expected}", place.escape_debug(), lorakit_tensor::problem::excerpt(found);
        /// A reference leads nowhere.
        Reference { found: String } = Usage,
            "the schema refers to `{}`, which is not a place within it, such as `#/$defs/NAME`", found.escape_debug();
        /// Schemas lie too deep in each other.
        DeepSchema { deepest: usize } = Usage, "the schema goes deeper than {deepest} levels";
        /// A file is not JSON.
        NotJson { reason: String } = Usage, "is not JSON: {}", reason.escape_debug();

        /// An item of a regression file is another JSON value.
        NotAnItem = Usage, "an item must be a JSON object";
        /// An item of a regression file has a field that is unknown.
        ItemField { found: String, known: Vec<&'static str> } = Usage,
            "an item has `{}`, which is not a field of one; there are {}", found.escape_debug(), known.join(", ");
        /// An item has a value of another kind.
        ItemValue { field: &'static str, expected: &'static str } = Usage, "`{field}` of an item must be {expected}";
        /// An item asks nothing, or twice.
        ItemPrompt = Usage, "an item must have either `prompt`, a text, or `messages`";
        /// An item checks nothing.
        NoChecks = Usage, "an item has no checks in `checks`";
        /// A regression file is empty.
        NoItems = Usage, "has no items";
        /// A prompt leaves no room for an answer.
        LongPrompt { tokens: usize, context: usize } = Usage,
            "the prompt has {tokens} tokens and leaves no room for an answer in the context, which is {context}";
        /// Checks of all answers are about answers that no row has.
        NoAnswers { path: PathBuf } = Usage,
            "rows of `{}` are texts without a prompt, so that there are no answers to check", path.display();

        /// No row is left for figures.
        NothingHeldBack { rows: usize } = Usage,
            "the rows that can be judged, {rows}, are too few: none is held back for the figures; with a share of 1 these are of \
             the rows that weights are chosen on";
        /// Every weight is zero.
        NoWeights = Usage, "every weight is 0, and a search cannot begin there";

        /// The caller asked to stop.
        Stopped = Interrupted, "was interrupted before the evaluation was complete";
    }
}

#[cfg(test)]
mod tests {
    use super::Problem;
    use crate::error::Problem as _;

    #[test]
    fn every_message() {
        let line = |problem: Problem| {
            let hint = problem.hint().map_or(String::new(), |hint| format!(" ({hint:?})"));
            format!("{}{hint}: {problem}", problem.kind().name())
        };
        let lines: Vec<String> = Problem::samples().into_iter().map(line).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
