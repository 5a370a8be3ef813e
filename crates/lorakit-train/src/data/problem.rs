//! What can be wrong with rows, with what a template makes of them, and with a tokenizer.

use lorakit_tensor::problems;

problems! {
    /// What can be wrong with rows, with what a template makes of them, and with a tokenizer.
    pub(crate) enum Problem {
        /// A folder has no file of the part that is asked for.
        NoPart { part: String } = Data,
            "has no `{part}.jsonl`; nor is there `{part}` as json, csv or tsv, or compressed as gz or zst";
        /// A folder has several.
        SeveralParts { found: Vec<String> } = Data,
            "has several files of rows: {}; name the one that is meant", found.join(", ");
        /// There is nothing to train on.
        NoRows = Data, "has no rows";
        /// Not one file of rows was named.
        NoSources = Usage, "no file of rows is named";
        /// A weight of a file is not one.
        SourceWeight { found: f64 } = Usage,
            "the weight of a file is {found}; it must be a number greater than 0, such as 0.25 for a quarter of its rows in each epoch";
        /// Windows must hold a token and the one that it predicts.
        SeqLen { found: usize } = Usage, "`seq_len` is {found}; it must be at least 2";
        /// A share of rows is not one.
        Share { found: f64 } = Usage, "the share of rows for validation is {found}; it must lie between 0 and 1";
        /// A share leaves nothing on one side.
        ShareOfFew { rows: usize, share: f64 } = Data,
            "validation takes {share} of the rows, which leaves one side without any: there are {rows}";

        /// A row is not JSON.
        Json { column: usize, reason: String } = Data, "column {column}: {}; each line must be a JSON object", reason.escape_debug();
        /// A row is another JSON value.
        NotAnObject = Data, "the row is not a JSON object";
        /// A row is not complete.
        OpenRow = Data, "the row is not complete: in JSONL each row is one line; several lines are read in an array, `[...]`";
        /// A row is too long.
        LongRow { limit: u64 } = Data, "the row is longer than {limit} bytes";
        /// An array is too long.
        LongArray { limit: u64 } = Data, "is a JSON array of more than {limit} bytes; write one row on each line instead";
        /// Something else stands between rows.
        Array { expected: &'static str } = Data, "the array of rows has something else where {expected} must be";
        /// Two columns have one name.
        RepeatedColumn { name: String } = Data, "two columns are called `{}`", name.escape_debug();
        /// A row of a table has too many cells, or too few.
        Cells { found: u64, expected: u64 } = Data, "the row has another number of cells, {found}, than the first line has columns, {expected}";
        /// A table is damaged.
        Table { reason: String } = Data, "the table cannot be read: {}", reason.escape_debug();
        /// A row is not text.
        NotUtf8 = Data, "the row is not UTF-8";

        /// The fields are not those of a known format.
        UnknownFormat { fields: Vec<String> } = Data,
            "the row has the fields {}; it must have `messages`, `conversations`, `instruction` and `output`, `prompt` and `completion`, `text`, or `input_ids`",
            fields.join(", ").escape_debug();
        /// The fields are those of several formats.
        SeveralFormats { formats: Vec<&'static str> } = Data / NameFormatOfRows,
            "the row could be read as {}, and `format` does not say which is meant", formats.join(" or as ");
        /// Rows of one file have different formats.
        OtherFormat { found: &'static str, format: &'static str } = Data,
            "the row is in the format {found}, the rows before it are in the format {format}; a file must have one format";
        /// A field is missing.
        NoField { field: &'static str, format: &'static str, fields: &'static str } = Data,
            "the row has no `{field}`; rows of this file are in the format {format}, which needs {fields}";
        /// A field is of another kind.
        Field { field: String, found: &'static str, expected: &'static str } = Data,
            "`{}` is {found}; it must be {expected}", field.escape_debug();
        /// A list of messages is empty.
        NoMessages { field: String } = Data, "`{}` is empty", field.escape_debug();
        /// A message has no role.
        NoRole { message: String } = Data, "`{message}` does not say whose it is: it has no `role`";
        /// A sender of ShareGPT is unknown.
        From { field: String, found: String } = Data,
            "`{field}` is \"{}\"; the known ones are human, gpt, system, function_call, observation", found.escape_debug();
        /// A message says nothing.
        NoContent { message: String } = Data, "`{message}` has no `content`, and no `tool_calls`";
        /// A message has pictures or sound.
        Part { field: String, found: String } = Data,
            "`{field}` is of the type {}; only text is trained", found.escape_debug();
        /// A call has no name.
        NoName { call: String } = Data, "`{call}` has no `name` of a function";
        /// A message that the model does not write is to be trained.
        TrainedRole { message: String, role: String } = Data,
            "`{message}` is to be trained, but its role is {}; only messages of the assistant can be", role.escape_debug();
        /// Parts of a message are to be trained.
        TrainDetail { message: String } = Data, "`{message}` has `train_detail`, which is not read; messages are trained whole, or not at all";
        /// Everything is to be trained, but for a message.
        MaskedMessage = Data, "a message says how much it counts, and `train_on` is `all`; it must be `auto` or `last-turn`";
        /// A weight is not one.
        Weight { field: String, found: String } = Data, "`{field}` is {}; it must be a number from 0 on", found.escape_debug();
        /// A column of tokens has another length.
        Lengths { field: &'static str, found: usize, expected: usize } = Data,
            "`{field}` has the length {found}, `input_ids` has {expected}";
        /// A number is not an id.
        Id { at: usize, found: i64 } = Data, "`input_ids[{at}]` is {found}, which is not the id of a token";
        /// A token is beyond the embeddings.
        Beyond { token: u32, vocabulary: usize } = Data,
            "the row has the token {token}; the model knows {vocabulary} tokens";
        /// A label is not the token itself.
        Label { at: usize, found: i64, expected: i64 } = Data,
            "`labels[{at}]` is {found}; it must be {expected}, the token itself, or -100 where nothing is trained";
        /// A text has characters that mark places here.
        PrivateUse = Data, "a text has one of the characters U+F0000 to U+F0003, which are for private use and mark places here";
        /// A row has more tokens than are trained at once.
        TooLong { tokens: usize, limit: usize } = Data,
            "the row has {tokens} tokens, `seq_len` is {limit}, and `too_long` is `error`";

        /// There is no template.
        NoTemplate = Data / NameTemplate, "rows are conversations, and the model has no chat template";
        /// Templates have names, and the usual one is missing.
        NoDefaultTemplate { found: Vec<String> } = Data / NameTemplate,
            "none of the chat templates is called `default`; there are {}", found.join(", ").escape_debug();
        /// A template is not a program, or refuses.
        Template { line: usize, reason: String } = Data,
            "the chat template fails at its line {line}: {}", reason.escape_debug();
        /// It cannot be found what is trained.
        NoMask = Data / NameTemplate,
            "the chat template does not show what of its text the model writes: it has no generation tags, a prompt is not the beginning of the conversation, and answers cannot be found in the text";
        /// A template drops calls.
        NoCalls = Data / NameTemplate,
            "the assistant calls a function, and the chat template does not write the call";
        /// Two tokens begin a text.
        TwoBos { token: String } = Data,
            "the text begins with `{}` twice; the chat template, or the row, must write it once at most", token.escape_debug();

        /// There is no tokenizer.
        NoTokenizer = File(NotFound), "has no `tokenizer.json`";
        /// The library that reads tokenizers refuses it.
        Tokenizer { reason: String } = File(Corrupt), "the tokenizer: {}", reason.escape_debug();
        /// A file of the tokenizer is not JSON.
        NotJson { reason: String } = File(Corrupt), "is not JSON: {}", reason.escape_debug();
        /// A special token is not in the vocabulary.
        NoToken { name: &'static str, token: String } = File(Corrupt),
            "`{name}` is `{}`, which is not a token of the tokenizer", token.escape_debug();

        /// An end of turn is outside the mask.
        UnmaskedEnds { rows: usize, of: usize, token: String } = Data / AllowUnmaskedEnds,
            "the end of turn, `{}`, is not trained in {rows} of {of} rows, of which this is the first; a model trained so does not stop", token.escape_debug();
        /// Nothing ends an answer.
        NoEnds { rows: usize, of: usize } = Data / AllowUnmaskedEnds,
            "no special token ends an answer in {rows} of {of} rows, of which this is the first; a model trained so does not stop";
        /// Most rows have nothing to train.
        NothingTrained { rows: usize, of: usize } = Data,
            "nothing is trained in {rows} of {of} rows, of which this is the first; at most a tenth of them is dropped";
        /// All rows are too long.
        AllDropped { rows: usize, limit: usize } = Data,
            "none of {rows} rows is left: they are longer than `seq_len`, which is {limit}, and `too_long` is `drop`";
        /// All rows have the weight 0.
        AllWeightless { rows: usize } = Data, "none of {rows} rows is left: they, or their answers, have the weight 0";
    }
}

#[cfg(test)]
mod tests {
    use super::Problem;
    use crate::error::Problem as _;

    #[test]
    fn every_message() {
        let line = |problem: Problem| {
            let text = problem.to_string();
            assert!(
                !text.is_empty() && !text.contains("--") && !text.ends_with('.'),
                "{problem:?}: {text:?}"
            );
            let hint = problem.hint().map_or(String::new(), |hint| format!(" ({hint:?})"));
            format!("{}{hint}: {text}", problem.kind().name())
        };
        let lines: Vec<String> = Problem::samples().into_iter().map(line).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
    Data: has no `<part>.jsonl`; nor is there `<part>` as json, csv or tsv, or compressed as gz or zst
    Data: has several files of rows: <found>, <found>; name the one that is meant
    Data: has no rows
    Usage: no file of rows is named
    Usage: the weight of a file is 12; it must be a number greater than 0, such as 0.25 for a quarter of its rows in each epoch
    Usage: `seq_len` is 12; it must be at least 2
    Usage: the share of rows for validation is 12; it must lie between 0 and 1
    Data: validation takes 12 of the rows, which leaves one side without any: there are 12
    Data: column 12: <reason>; each line must be a JSON object
    Data: the row is not a JSON object
    Data: the row is not complete: in JSONL each row is one line; several lines are read in an array, `[...]`
    Data: the row is longer than 12 bytes
    Data: is a JSON array of more than 12 bytes; write one row on each line instead
    Data: the array of rows has something else where <word> must be
    Data: two columns are called `<name>`
    Data: the row has another number of cells, 12, than the first line has columns, 12
    Data: the table cannot be read: <reason>
    Data: the row is not UTF-8
    Data: the row has the fields <fields>, <fields>; it must have `messages`, `conversations`, `instruction` and `output`, `prompt` and `completion`, `text`, or `input_ids`
    Data (NameFormatOfRows): the row could be read as <word> or as <word>, and `format` does not say which is meant
    Data: the row is in the format <word>, the rows before it are in the format <word>; a file must have one format
    Data: the row has no `<word>`; rows of this file are in the format <word>, which needs <word>
    Data: `<field>` is <word>; it must be <word>
    Data: `<field>` is empty
    Data: `<message>` does not say whose it is: it has no `role`
    Data: `<field>` is "<found>"; the known ones are human, gpt, system, function_call, observation
    Data: `<message>` has no `content`, and no `tool_calls`
    Data: `<field>` is of the type <found>; only text is trained
    Data: `<call>` has no `name` of a function
    Data: `<message>` is to be trained, but its role is <role>; only messages of the assistant can be
    Data: `<message>` has `train_detail`, which is not read; messages are trained whole, or not at all
    Data: a message says how much it counts, and `train_on` is `all`; it must be `auto` or `last-turn`
    Data: `<field>` is <found>; it must be a number from 0 on
    Data: `<word>` has the length 12, `input_ids` has 12
    Data: `input_ids[12]` is 12, which is not the id of a token
    Data: the row has the token 12; the model knows 12 tokens
    Data: `labels[12]` is 12; it must be 12, the token itself, or -100 where nothing is trained
    Data: a text has one of the characters U+F0000 to U+F0003, which are for private use and mark places here
    Data: the row has 12 tokens, `seq_len` is 12, and `too_long` is `error`
    Data (NameTemplate): rows are conversations, and the model has no chat template
    Data (NameTemplate): none of the chat templates is called `default`; there are <found>, <found>
    Data: the chat template fails at its line 12: <reason>
    Data (NameTemplate): the chat template does not show what of its text the model writes: it has no generation tags, a prompt is not the beginning of the conversation, and answers cannot be found in the text
    Data (NameTemplate): the assistant calls a function, and the chat template does not write the call
    Data: the text begins with `<token>` twice; the chat template, or the row, must write it once at most
    NotFound: has no `tokenizer.json`
    Corrupt: the tokenizer: <reason>
    Corrupt: is not JSON: <reason>
    Corrupt: `<word>` is `<token>`, which is not a token of the tokenizer
    Data (AllowUnmaskedEnds): the end of turn, `<token>`, is not trained in 12 of 12 rows, of which this is the first; a model trained so does not stop
    Data (AllowUnmaskedEnds): no special token ends an answer in 12 of 12 rows, of which this is the first; a model trained so does not stop
    Data: nothing is trained in 12 of 12 rows, of which this is the first; at most a tenth of them is dropped
    Data: none of 12 rows is left: they are longer than `seq_len`, which is 12, and `too_long` is `drop`
    Data: none of 12 rows is left: they, or their answers, have the weight 0
    "#);
    }
}
