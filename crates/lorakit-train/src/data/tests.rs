//! Files in, documents out.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use insta::assert_snapshot;
use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::json;
use tempfile::TempDir;

use super::testing::{Golden, fixtures};
use super::*;

fn tiny() -> Text {
    Text::open(&fixtures().join("tiny-orders")).unwrap()
}

/// Options under which nothing is too long.
fn long() -> Options {
    Options { seq_len: 4096, ..Options::default() }
}

fn source(path: &Path) -> Source {
    Source::new(path.to_path_buf())
}

/// Reads one file of that name with that content.
fn read_as(name: &str, content: impl AsRef<[u8]>, text: &Text, options: &Options) -> Result<Data> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    read(&[source(&path)], text, options)
}

fn rows(rows: &[serde_json::Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// The text of a document, with trained parts in brackets and weights other than 1 before them.
fn shown(data: &Data, text: &Text) -> String {
    let one = |document: &Document| {
        let spans = Example::of(document, text).spans;
        let part = |span: &Span| match (span.trained, span.weight) {
            (false, _) => span.text.clone(),
            (true, 1.0) => format!("[{}]", span.text),
            (true, weight) => format!("{weight}[{}]", span.text),
        };
        spans.iter().map(part).collect::<String>()
    };
    let lines: Vec<String> = data.documents.iter().map(|document| one(document).replace('\n', "⏎")).collect();
    lines.join("\n")
}

fn error(name: &str, content: impl AsRef<[u8]>, options: &Options) -> String {
    match read_as(name, content, &tiny(), options) {
        Ok(data) => format!("read: {}", shown(&data, &tiny())),
        Err(error) => {
            // The folder has another name each time.
            let error = error.to_string();
            match error.split_once(name) {
                Some((folder, rest)) if folder.starts_with('`') => format!("`{name}{rest}"),
                _ => error,
            }
        }
    }
}

const HI: &str =
    r#"{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]}"#;

#[test]
fn every_format_becomes_documents() {
    let text = tiny();
    let call = json!({"name": "f", "arguments": {"a": 1}});
    let cases = [
        json!({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo", "tool_calls": null}], "id": 7}),
        json!({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "a", "train": false}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c", "weight": 0.5}], "weight": 3}),
        json!({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}], "system": "S"}),
        json!({"conversations": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]}),
        json!({"instruction": "Add", "input": "1 2", "output": "3", "history": [["q", "a"]], "system": "S"}),
        json!({"instruction": "Add", "input": "", "output": "3"}),
        json!({"prompt": "Q: 1\nA:", "completion": " 2", "weight": 0.25}),
        json!({"prompt": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}], "response": [{"role": "assistant", "content": "c"}]}),
        json!({"text": "Once upon"}),
        json!({"text": "Ended<|im_end|>"}),
        json!({"input_ids": [1, 40, 41, 2], "labels": [-100, -100, 41, 2]}),
        json!({"input_ids": [40, 41, 2, 0, 0], "attention_mask": [1, 1, 1, 0, 0]}),
    ];
    let all: Vec<String> = cases
        .iter()
        .map(|case| {
            let data = read_as("rows.jsonl", case.to_string(), &text, &long()).unwrap();
            let format = data.report.sources[0].format;
            let method = data.report.methods.keys().next().unwrap();
            format!("{format}, {method}: {}", shown(&data, &text))
        })
        .collect();
    assert_snapshot!(all.join("\n"), @r"
    messages, prefix rendering: <|im_start|>system⏎S<|im_end|>⏎<|im_start|>user⏎Hi<|im_end|>⏎<|im_start|>assistant⏎[Yo<|im_end|>⏎]
    messages, prefix rendering: <|im_start|>user⏎Hi<|im_end|>⏎<|im_start|>assistant⏎a<|im_end|>⏎<|im_start|>user⏎b<|im_end|>⏎<|im_start|>assistant⏎1.5[c<|im_end|>⏎]
    sharegpt, prefix rendering: <|im_start|>system⏎S<|im_end|>⏎<|im_start|>user⏎Hi<|im_end|>⏎<|im_start|>assistant⏎[Yo<|im_end|>⏎]
    messages, prefix rendering: <|im_start|>user⏎Hi<|im_end|>⏎<|im_start|>assistant⏎[Yo<|im_end|>⏎]
    alpaca, prefix rendering: <|im_start|>system⏎S<|im_end|>⏎<|im_start|>user⏎q<|im_end|>⏎<|im_start|>assistant⏎[a<|im_end|>⏎]<|im_start|>user⏎Add⏎1 2<|im_end|>⏎<|im_start|>assistant⏎[3<|im_end|>⏎]
    alpaca, prefix rendering: <|im_start|>user⏎Add<|im_end|>⏎<|im_start|>assistant⏎[3<|im_end|>⏎]
    completions, given by the row: Q: 1⏎A:0.25[ 2<|im_end|>]
    completions, prefix rendering: <|im_start|>user⏎Hi<|im_end|>⏎<|im_start|>assistant⏎a<|im_end|>⏎<|im_start|>user⏎b<|im_end|>⏎<|im_start|>assistant⏎[c<|im_end|>⏎]
    text, everything: O[nce upon<|im_end|>]
    text, everything: E[nded<|im_end|>]
    tokens, given by the row: <|im_start|>F[G<|im_end|>]
    tokens, given by the row: F[G<|im_end|>]
    ");
    let refused = read_as(
        "rows.jsonl",
        json!({"conversations": [{"from": "function_call", "value": call.to_string()}]}).to_string(),
        &text,
        &long(),
    );
    assert!(refused.unwrap_err().to_string().contains("chat template"), "this template writes no calls");
}

#[test]
fn containers_hold_the_same_rows() {
    let text = tiny();
    let one = json!({"instruction": "Say \"a\", b", "input": "", "output": "Größe\nzwei", "weight": "0.5"});
    let two = json!({"instruction": "c", "input": "d", "output": "e", "weight": "1"});
    let lines = rows(&[one.clone(), two.clone()]);
    let table = "instruction,input,output,weight\n\"Say \"\"a\"\", b\",,\"Größe\nzwei\",0.5\nc,d,e,1\n";
    let expected = read_as("rows.jsonl", &lines, &text, &long()).unwrap().documents;
    assert_eq!(expected.len(), 2);
    let mut gz = GzEncoder::new(Vec::new(), Compression::default());
    gz.write_all(lines.as_bytes()).unwrap();
    let zst = compress_to_vec(lines.as_bytes(), CompressionLevel::Fastest);
    let pretty = serde_json::to_vec_pretty(&json!([one, two])).unwrap();
    let cases: [(&str, Vec<u8>, [u64; 2]); 8] = [
        ("mark.jsonl", format!("\u{FEFF}{lines}").into(), [1, 2]),
        ("blank.jsonl", format!("\n{}", lines.replace('\n', "\r\n\r\n")).into(), [2, 4]),
        ("rows.json", pretty, [2, 8]),
        ("rows.csv", table.into(), [2, 4]),
        ("rows.tsv", table.replace(", b", "; b").replace(',', "\t").replace("; b", ", b").into(), [2, 4]),
        (
            "rows.csv.gz",
            {
                let mut gz = GzEncoder::new(Vec::new(), Compression::default());
                gz.write_all(table.as_bytes()).unwrap();
                gz.finish().unwrap()
            },
            [2, 4],
        ),
        ("rows.jsonl.gz", gz.finish().unwrap(), [1, 2]),
        ("no-name", zst, [1, 2]),
    ];
    for (name, content, lines) in cases {
        let found = read_as(name, content, &text, &long()).unwrap().documents;
        for ((found, expected), line) in found.iter().zip(&expected).zip(lines) {
            let expected = Document { line, ..expected.clone() };
            assert_eq!(*found, expected, "{name}");
        }
    }
}

#[test]
fn folders_name_their_parts() {
    let text = tiny();
    let folder = TempDir::new().unwrap();
    let open = |part: &str| {
        let options = Options { part: part.to_string(), ..long() };
        let read = read(&[source(folder.path())], &text, &options);
        read.map(|data| data.sources[0].path.file_name().unwrap().to_str().unwrap().to_string())
            .map_err(|error| error.to_string().split_once("`: ").unwrap().1.to_string())
    };
    fs::write(folder.path().join("train.jsonl"), HI).unwrap();
    fs::write(folder.path().join("valid.json"), format!("[{HI}]")).unwrap();
    assert_eq!(open("train").unwrap(), "train.jsonl");
    assert_eq!(open("valid").unwrap(), "valid.json");
    fs::write(folder.path().join("train.csv.gz"), "").unwrap();
    let errors = [open("train").unwrap_err(), open("test").unwrap_err()];
    assert_snapshot!(errors.join("\n"), @r"
    has several files of rows: train.jsonl, train.csv.gz; name the one that is meant
    has no `test.jsonl`; nor is there `test` as json, csv or tsv, or compressed as gz or zst
    ");
}

#[test]
fn errors_name_file_and_line() {
    let message = |value: serde_json::Value| rows(&[json!({"messages": [value]})]);
    let chat =
        |last: serde_json::Value| rows(&[json!({"messages": [{"role": "user", "content": "Hi"}, last]})]);
    let plain = Options::default();
    let cases: Vec<(&str, String)> = vec![
        ("r.jsonl", String::new()),
        ("r.jsonl", "\n\n".into()),
        ("r.jsonl", format!("{HI}\n\n{{\"messages\": [}}\n")),
        ("r.jsonl", format!("{HI}\n[1]\n")),
        ("r.jsonl", format!("{HI}\n{{\n  \"messages\": 1}}\n")),
        ("r.json", format!("[{HI},\n{HI}\n{HI}]")),
        ("r.json", format!("[{HI},\n{HI}] x")),
        ("r.json", format!("[{HI},\n")),
        ("r.json", format!("[\n{HI}, 3]")),
        ("r.json", "[]".into()),
        ("r.csv", "text,weight\na,1\nb\n".into()),
        ("r.csv", "text,text\na,1\n".into()),
        ("r.csv", "text,weight\na,high\n".into()),
        ("r.jsonl", rows(&[json!({"question": 1, "answer": 2})])),
        ("r.jsonl", rows(&[json!({"text": "a", "instruction": "a", "output": "b"})])),
        ("r.jsonl", rows(&[json!({"text": "a"}), json!({"input_ids": [1, 2]})])),
        ("r.jsonl", format!("{}{{\"txt\": 1}}", rows(&vec![json!({"text": "a"}); 40]))),
        ("r.jsonl", rows(&[json!({"messages": 3})])),
        ("r.jsonl", rows(&[json!({"messages": []})])),
        ("r.jsonl", message(json!("Hi"))),
        ("r.jsonl", message(json!({"content": "Hi"}))),
        ("r.jsonl", message(json!({"role": 1, "content": "Hi"}))),
        ("r.jsonl", message(json!({"role": "user"}))),
        ("r.jsonl", message(json!({"role": "user", "content": 3}))),
        ("r.jsonl", message(json!({"role": "user", "content": [{"type": "image", "url": "x"}]}))),
        ("r.jsonl", message(json!({"role": "user", "content": "a", "train": true}))),
        ("r.jsonl", message(json!({"role": "assistant", "content": "a", "train": "yes"}))),
        ("r.jsonl", message(json!({"role": "assistant", "content": "a", "weight": -1}))),
        ("r.jsonl", message(json!({"role": "assistant", "content": "a", "train_detail": []}))),
        (
            "r.jsonl",
            message(
                json!({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}),
            ),
        ),
        ("r.jsonl", message(json!({"role": "assistant", "tool_calls": [{"function": {}}]}))),
        ("r.jsonl", message(json!({"role": "assistant", "tool_calls": [{"function": "f"}]}))),
        ("r.jsonl", message(json!({"role": "user", "content": "\u{F0001}"}))),
        ("r.jsonl", rows(&[json!({"messages": [{"role": "user", "content": "Hi"}], "tools": "f"})])),
        ("r.jsonl", rows(&[json!({"conversations": [{"from": "alien", "value": "Hi"}]})])),
        ("r.jsonl", rows(&[json!({"instruction": "a", "output": 3})])),
        ("r.jsonl", rows(&[json!({"instruction": "a", "output": "b", "history": [["c"]]})])),
        ("r.jsonl", rows(&[json!({"instruction": "a", "output": "b", "history": 3})])),
        ("r.jsonl", rows(&[json!({"text": "a", "weight": 0})])),
        ("r.jsonl", rows(&[json!({"prompt": "a", "completion": ["b"]})])),
        ("r.jsonl", rows(&[json!({"input_ids": [1, 2], "labels": [2]})])),
        ("r.jsonl", rows(&[json!({"input_ids": [1, 2], "labels": [2, -100]})])),
        ("r.jsonl", rows(&[json!({"input_ids": [1, -2]})])),
        ("r.jsonl", rows(&[json!({"input_ids": [1, 9000]})])),
        ("r.jsonl", rows(&[json!({"input_ids": "1 2"})])),
        ("r.jsonl", rows(&[json!({"text": "<|im_start|><|im_start|>a"})])),
        ("r.jsonl", chat(json!({"role": "user", "content": "a"}))),
        ("r.jsonl", chat(json!({"role": "assistant", "content": "a", "train": false}))),
    ];
    let found: Vec<String> = cases.into_iter().map(|(name, content)| error(name, content, &plain)).collect();
    assert_snapshot!(found.join("\n"), @r#"
    `r.jsonl`: has no rows
    `r.jsonl`: has no rows
    `r.jsonl:3`: column 15: expected value; each line must be a JSON object
    `r.jsonl:2`: the row is not a JSON object
    `r.jsonl:2`: the row is not complete: in JSONL each row is one line; several lines are read in an array, `[...]`
    `r.json:3`: the array of rows has something else where `,` or `]` must be
    `r.json:2`: the array of rows has something else where the end of the file must be
    `r.json:2`: the row is not complete: in JSONL each row is one line; several lines are read in an array, `[...]`
    `r.json:2`: the row is not a JSON object
    `r.json`: has no rows
    `r.csv:3`: the row has another number of cells, 1, than the first line has columns, 2
    `r.csv:1`: two columns are called `text`
    `r.csv:2`: `weight` is high; it must be a number from 0 on
    `r.jsonl:1`: the row has the fields question, answer; it must have `messages`, `conversations`, `instruction` and `output`, `prompt` and `completion`, `text`, or `input_ids`
    `r.jsonl:1`: the row could be read as alpaca or as text, and `format` does not say which is meant
    `r.jsonl:2`: the row is in the format tokens, the rows before it are in the format text; a file must have one format
    `r.jsonl:41`: the row has no `text`; rows of this file are in the format text, which needs `text`
    `r.jsonl:1`: `messages` is a number; it must be a list of messages
    `r.jsonl:1`: `messages` is empty
    `r.jsonl:1`: `messages[0]` is a text; it must be an object
    `r.jsonl:1`: `messages[0]` does not say whose it is: it has no `role`
    `r.jsonl:1`: `messages[0].role` is a number; it must be a text
    `r.jsonl:1`: `messages[0]` has no `content`, and no `tool_calls`
    `r.jsonl:1`: `messages[0].content` is a number; it must be a text or a list of parts
    `r.jsonl:1`: `messages[0].content[0]` is of the type image; only text is trained
    `r.jsonl:1`: `messages[0]` is to be trained, but its role is user; only messages of the assistant can be
    `r.jsonl:1`: `messages[0].train` is a text; it must be true or false
    `r.jsonl:1`: `messages[0].weight` is -1; it must be a number from 0 on
    `r.jsonl:1`: `messages[0]` has `train_detail`, which is not read; messages are trained whole, or not at all
    `r.jsonl:1`: `messages[0].tool_calls[0].function.arguments` is a text; it must be an object, or a JSON text of one
    `r.jsonl:1`: `messages[0].tool_calls[0]` has no `name` of a function
    `r.jsonl:1`: `messages[0].tool_calls[0].function` is a text; it must be an object
    `r.jsonl:1`: a text has one of the characters U+F0000 to U+F0003, which are for private use and mark places here
    `r.jsonl:1`: `tools` is a text; it must be a list, or a JSON text of one
    `r.jsonl:1`: `conversations[0].from` is "alien"; the known ones are human, gpt, system, function_call, observation
    `r.jsonl:1`: `output` is a number; it must be a text
    `r.jsonl:1`: `history[0]` is a list; it must be a pair of texts
    `r.jsonl:1`: `history` is a number; it must be a list of pairs
    `r.jsonl:1`: none of 1 rows is left: they, or their answers, have the weight 0
    `r.jsonl:1`: `prompt` is a text; it must be a list of messages
    `r.jsonl:1`: `labels` has the length 1, `input_ids` has 2
    `r.jsonl:1`: `labels[0]` is 2; it must be 1, the token itself, or -100 where nothing is trained
    `r.jsonl:1`: `input_ids[1]` is -2, which is not the id of a token
    `r.jsonl:1`: the row has the token 9000; the model knows 512 tokens
    `r.jsonl:1`: `input_ids` is a text; it must be a list of integers
    `r.jsonl:1`: the text begins with `<|im_start|>` twice; the chat template, or the row, must write it once at most
    `r.jsonl:1`: nothing is trained in 1 of 1 rows, of which this is the first; at most a tenth of them is dropped
    `r.jsonl:1`: none of 1 rows is left: they, or their answers, have the weight 0
    "#);
    let latin = error("r.csv", b"text\n\xE4\n", &plain);
    let bytes = error("r.jsonl", b"{\"text\": \"\xE4\"}\n", &plain);
    let cut = error("r.jsonl.gz", b"\x1F\x8B\x08\x00\x00", &plain);
    let short = Options { seq_len: 8, too_long: TooLong::Error, ..Options::default() };
    let too_long = error("r.jsonl", HI, &short);
    let dropped =
        error("r.jsonl", HI, &Options { seq_len: 8, too_long: TooLong::Drop, ..Options::default() });
    let masked = chat(json!({"role": "assistant", "content": "a", "train": false}));
    let all = error("r.jsonl", masked, &Options { train_on: TrainOn::All, ..Options::default() });
    let seq_len = error("r.jsonl", HI, &Options { seq_len: 1, ..Options::default() });
    assert_snapshot!([latin, bytes, cut, too_long, dropped, all, seq_len].join("\n"), @r"
    `r.csv:2`: the row is not UTF-8
    `r.jsonl:1`: column 11: invalid unicode code point; each line must be a JSON object
    `r.jsonl.gz`: cannot read it
    `r.jsonl:1`: the row has 19 tokens, `seq_len` is 8, and `too_long` is `error`
    `r.jsonl:1`: none of 1 rows is left: they are longer than `seq_len`, which is 8, and `too_long` is `drop`
    `r.jsonl:1`: a message says how much it counts, and `train_on` is `all`; it must be `auto` or `last-turn`
    `seq_len` is 1; it must be at least 2
    ");
}

#[test]
fn options_decide_what_is_trained_and_what_is_too_long() {
    let text = tiny();
    let turns = json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]});
    let with =
        |options: Options| shown(&read_as("r.jsonl", turns.to_string(), &text, &options).unwrap(), &text);
    let cases = [
        with(long()),
        with(Options { train_on: TrainOn::LastTurn, ..long() }),
        with(Options { train_on: TrainOn::All, ..long() }),
        with(Options { seq_len: 30, ..long() }),
        with(Options { seq_len: 30, too_long: TooLong::Split, ..long() }),
    ];
    assert_snapshot!(cases.join("\n"), @r"
    <|im_start|>user⏎a<|im_end|>⏎<|im_start|>assistant⏎[b<|im_end|>⏎]<|im_start|>user⏎c<|im_end|>⏎<|im_start|>assistant⏎[d<|im_end|>⏎]
    <|im_start|>user⏎a<|im_end|>⏎<|im_start|>assistant⏎b<|im_end|>⏎<|im_start|>user⏎c<|im_end|>⏎<|im_start|>assistant⏎[d<|im_end|>⏎]
    <|im_start|>[user⏎a<|im_end|>⏎<|im_start|>assistant⏎b<|im_end|>⏎<|im_start|>user⏎c<|im_end|>⏎<|im_start|>assistant⏎d<|im_end|>⏎]
    <|im_start|>user⏎a<|im_end|>⏎<|im_start|>assistant⏎[b<|im_end|>⏎]<|im_start|>user⏎c<|im_end|>⏎<|im_start|>assistant
    <|im_start|>user⏎a<|im_end|>⏎<|im_start|>assistant⏎[b<|im_end|>⏎]<|im_start|>user⏎c<|im_end|>⏎<|im_start|>assistant
    ant⏎[d<|im_end|>⏎]
    ");

    let long_text = json!({"text": "The quick brown fox jumps over the lazy dog."}).to_string();
    let windows = |too_long| {
        let options = Options { seq_len: 12, too_long, ..Options::default() };
        read_as("r.jsonl", &long_text, &text, &options).unwrap().documents
    };
    let whole = read_as("r.jsonl", &long_text, &text, &long()).unwrap();
    let split = windows(TooLong::Truncate);
    assert_eq!(split, windows(TooLong::Split), "texts are split, never truncated");
    assert!(split.len() > 2 && split.iter().all(|window| window.tokens.len() <= 12));
    let targets = |documents: &[Document]| -> Vec<u32> {
        documents.iter().flat_map(|document| document.tokens[1..].to_vec()).collect()
    };
    assert_eq!(targets(&split), targets(&whole.documents), "each token is predicted once");
}

#[test]
fn formats_that_are_given_are_not_guessed() {
    let row = json!({"text": "a", "instruction": "b", "output": "c"}).to_string();
    let text = tiny();
    let given = |format| {
        shown(&read_as("r.jsonl", &row, &text, &Options { format: Some(format), ..long() }).unwrap(), &text)
    };
    assert_snapshot!([given(Format::Text), given(Format::Alpaca)].join("\n"), @r"
    a[<|im_end|>]
    <|im_start|>user⏎b<|im_end|>⏎<|im_start|>assistant⏎[c<|im_end|>⏎]
    ");
    // That of a file wins over that of all.
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("r.jsonl");
    fs::write(&path, &row).unwrap();
    let own = Source { format: Some(Format::Alpaca), ..source(&path) };
    let options = Options { format: Some(Format::Text), ..long() };
    let formats: Vec<Format> = read(&[own, source(&path)], &text, &options)
        .unwrap()
        .report
        .sources
        .iter()
        .map(|of| of.format)
        .collect();
    assert_eq!(formats, [Format::Alpaca, Format::Text]);
}

fn chatml(source: &str) -> Text {
    let mut text = tiny();
    text.template = Some(Template::new(source).unwrap());
    text
}

#[test]
fn ends_of_turn_must_be_trained() {
    let verdict = |source: &str, allow: bool| {
        let options = Options { allow_unmasked_eot: allow, ..long() };
        match read_as("r.jsonl", format!("{HI}\n{HI}\n"), &chatml(source), &options) {
            Ok(data) => shown(&data, &tiny()),
            Err(error) => error.to_string().split_once("r.jsonl").unwrap().1.to_string(),
        }
    };
    let outside = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}";
    let none = "{% for m in messages %}### {{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}### assistant:{% endif %}";
    let found = [verdict(outside, false), verdict(outside, true), verdict(none, false), verdict(none, true)];
    assert_snapshot!(found.join("\n"), @r"
    :1`: the end of turn, `<|im_end|>`, is not trained in 2 of 2 rows, of which this is the first; a model trained so does not stop
    <|im_start|>user⏎Hi<|im_end|>⏎<|im_start|>assistant⏎[Yo]<|im_end|>⏎
    <|im_start|>user⏎Hi<|im_end|>⏎<|im_start|>assistant⏎[Yo]<|im_end|>⏎
    :1`: no special token ends an answer in 2 of 2 rows, of which this is the first; a model trained so does not stop
    ### user: Hi⏎### assistant:[ Yo⏎]
    ### user: Hi⏎### assistant:[ Yo⏎]
    ");
    let options = Options { inspect: true, ..long() };
    let report = read_as("r.jsonl", HI, &chatml(outside), &options).unwrap().report;
    assert_eq!((report.unmasked_ends.count, report.missing_ends.count, report.stops), (1, 0, true));
}

#[test]
fn templates_that_cannot_be_used_are_refused() {
    let refused = |source: &str| {
        let error = read_as("r.jsonl", HI, &chatml(source), &long()).unwrap_err();
        let text = error.to_string();
        text.split_once("r.jsonl").map_or(text.clone(), |(_, text)| text.to_string())
    };
    let rejects = "{% for m in messages %}{% if m.role == 'assistant' %}{{ raise_exception('Only users may speak') }}{% endif %}{% endfor %}";
    let twice = "{{ bos_token }}{{ bos_token }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}";
    let hides = "{% for m in messages %}{{ m.content | upper }}{% endfor %}{% if add_generation_prompt %}?{% endif %}";
    let endless =
        "{% for a in range(100000) %}{% for b in range(100000) %}{% set c = a * b %}{% endfor %}{% endfor %}";
    let mut text = tiny();
    text.template = None;
    let none = read_as("r.jsonl", HI, &text, &long()).unwrap_err().to_string();
    let broken = Template::new("{% if %}").unwrap_err().to_string();
    let unnamed = Template::named(vec![("rag".into(), "a".into())]).unwrap_err().to_string();
    let found = [refused(rejects), refused(twice), refused(hides), refused(endless), none, broken, unnamed];
    assert_snapshot!(found.join("\n"), @r"
    :1`: the chat template fails at its line 1: Only users may speak
    :1`: the text begins with `<|im_start|>` twice; the chat template, or the row, must write it once at most
    :1`: the chat template does not show what of its text the model writes: it has no generation tags, a prompt is not the beginning of the conversation, and answers cannot be found in the text
    :1`: the chat template fails at its line 1: engine ran out of fuel
    rows are conversations, and the model has no chat template
    the chat template fails at its line 1: syntax error: unexpected end of block
    none of the chat templates is called `default`; there are rag
    ");
}

#[test]
fn rows_are_dated_if_the_template_asked_for_the_date() {
    let source = "{% macro today() %}{{ strftime_now('%d %b %Y') }}{% endmacro %}{% for m in messages %}<|im_start|>{{ m.role }}\n\
                  {% if m.role == 'user' %}{{ date_string or today() }}: {% endif %}{{ m.content }}<|im_end|>\n{% endfor %}\
                  {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let mut text = chatml(source);
    text.template.as_mut().unwrap().set_day(Day::new("2026-11-30").unwrap());
    let read = |text: &Text| {
        let plain = json!({"text": "no template"});
        assert_eq!(read_as("r.jsonl", plain.to_string(), text, &long()).unwrap().report.dated.count, 0);
        let data = read_as("r.jsonl", format!("{HI}\n{HI}\n"), text, &long()).unwrap();
        (data.report.dated.count, shown(&data, text).lines().next().unwrap().to_string())
    };
    assert_snapshot!(format!("{:?}", read(&text)), @r#"(2, "<|im_start|>user⏎30 Nov 2026: Hi<|im_end|>⏎<|im_start|>assistant⏎[Yo<|im_end|>⏎]")"#);
    text.variables.insert("date_string".into(), "26 Jul 2024".into());
    assert_snapshot!(format!("{:?}", read(&text)), @r#"(0, "<|im_start|>user⏎26 Jul 2024: Hi<|im_end|>⏎<|im_start|>assistant⏎[Yo<|im_end|>⏎]")"#);
    assert!(Day::new("tomorrow").is_none() && Day::new("2026-11-31").is_none());
}

#[test]
fn rows_with_nothing_to_train_are_dropped_up_to_a_tenth() {
    let text = tiny();
    let asked = rows(&[json!({"messages": [{"role": "user", "content": "Hi"}]})]);
    let hi = format!("{HI}\n");
    let data = read_as("r.jsonl", hi.repeat(9) + &asked, &text, &long()).unwrap();
    assert_eq!((data.documents.len(), data.report.nothing_trained.count), (9, 1));
    assert_eq!(data.report.nothing_trained.first, Some(Place { source: 0, line: 10 }));
    let error = read_as("r.jsonl", hi.repeat(8) + &asked, &text, &long()).unwrap_err().to_string();
    assert!(error.contains("r.jsonl:9`: nothing is trained in 1 of 9 rows"), "{error}");
    // What has the weight 0 was meant to be left out.
    let weightless = HI.replace("{\"messages\"", "{\"weight\": 0, \"messages\"") + "\n";
    let data = read_as("r.jsonl", hi.clone() + &weightless, &text, &long()).unwrap();
    assert_eq!((data.documents.len(), data.report.weightless.count), (1, 1));
}

#[test]
fn the_report_counts() {
    let text = tiny();
    let other = HI.replace("Yo", "").replace("Hi", "Hello there");
    let data =
        read_as("r.jsonl", format!("{HI}\n{HI}\n{other}\n"), &text, &Options { inspect: true, ..long() })
            .unwrap();
    let report = &data.report;
    assert_eq!(
        (report.rows, report.documents, report.duplicates.count, report.empty_answers.count),
        (3, 3, 1, 1)
    );
    assert_eq!(report.duplicates.first, Some(Place { source: 0, line: 2 }));
    assert_eq!((report.bos.count, report.straddling.count), (3, 0));
    assert_eq!(report.ends_of_turn, ["<|im_end|>"]);
    assert!(report.stops && !report.template_thinks && report.dated.count == 0);
    assert_eq!(report.lengths.sorted.len(), 3);
    assert_eq!(report.lengths.quantile(0.0), report.lengths.sorted[0]);
    assert_eq!(report.lengths.quantile(1.0), report.lengths.sorted[2]);
    let bars = report.lengths.histogram(4);
    assert!(bars.len() <= 4 && bars.iter().map(|(_, _, rows)| rows).sum::<usize>() == 3, "{bars:?}");
    let trained: usize = report
        .examples
        .iter()
        .flat_map(|example| &example.spans)
        .filter(|span| span.trained)
        .map(|span| span.tokens)
        .sum();
    assert_eq!((report.examples.len(), trained as u64), (3, report.supervised));
    assert_eq!(data.leaked(&data), 3);

    let half = json!({"prompt": "a ", "completion": "b"}).to_string();
    let data = read_as("r.jsonl", half, &text, &long()).unwrap();
    assert_eq!(data.report.straddling.count, usize::from(data.documents[0].tokens.len() < 4));
}

#[test]
fn thoughts_are_counted() {
    let golden = Golden::read();
    let thinking = |template: &str, variables: serde_json::Value, answer: serde_json::Value| {
        let text = golden.text(template, variables.as_object().unwrap().clone());
        let row = json!({"messages": [{"role": "user", "content": "1+1?"}, answer]}).to_string();
        read_as("r.jsonl", row, &text, &long()).unwrap().report.thinking
    };
    let counts = |rows, filled, empty_trained, empty_masked, dropped| Thinking {
        rows,
        filled,
        empty_trained,
        empty_masked,
        dropped,
    };
    let (on, off) = (json!({}), json!({"enable_thinking": false}));
    let plain = json!({"role": "assistant", "content": "2"});
    let block = json!({"role": "assistant", "content": "<think>\nOne and one.\n</think>\n\n2"});
    let field = json!({"role": "assistant", "content": "2", "reasoning_content": "One and one."});
    assert_eq!(thinking("qwen3", on.clone(), block.clone()), counts(1, 1, 0, 0, 0));
    assert_eq!(thinking("qwen3", on.clone(), field.clone()), counts(1, 1, 0, 0, 0));
    assert_eq!(thinking("qwen3", on.clone(), plain.clone()), counts(1, 0, 1, 0, 0));
    assert_eq!(thinking("qwen3", off, plain.clone()), counts(1, 0, 0, 1, 0));
    assert_eq!(thinking("gptoss", on.clone(), field.clone()), counts(0, 0, 0, 0, 0));
    assert_eq!(thinking("qwen2_5", on.clone(), field), counts(1, 0, 0, 0, 1));
    assert_eq!(thinking("deepseek_r1_distill", on.clone(), block), counts(1, 0, 0, 0, 1));
    assert_eq!(thinking("qwen2_5", on, plain), counts(0, 0, 0, 0, 0));
}

#[test]
fn epochs_see_rows_as_often_as_their_source_weighs() {
    let text = tiny();
    let folder = TempDir::new().unwrap();
    let paths = ["a.jsonl", "b.jsonl", "c.jsonl"].map(|name| folder.path().join(name));
    for path in &paths {
        let rows: String = (0..10).map(|at| HI.replace("Hi", &format!("Hi {at}")) + "\n").collect();
        fs::write(path, rows).unwrap();
    }
    let sources: Vec<Source> =
        paths.iter().zip([1.0, 0.25, 2.0]).map(|(path, weight)| Source { weight, ..source(path) }).collect();
    let data = read(&sources, &text, &Options::default()).unwrap();
    let seen = |epochs: std::ops::Range<u64>| {
        let mut seen = [0; 30];
        epochs.flat_map(|at| epoch(&data, 7, at)).for_each(|document| seen[document] += 1);
        seen
    };
    let once = seen(0..1);
    assert!(once[..10] == [1; 10] && once[20..] == [2; 10], "{once:?}");
    assert!([2, 3].contains(&once[10..20].iter().sum()), "{once:?}");
    let four = seen(0..4);
    assert_eq!(four[10..20], [1; 10], "all of them once in four epochs");
    assert_eq!(epoch(&data, 7, 3), epoch(&data, 7, 3));
    assert_ne!(epoch(&data, 7, 3), epoch(&data, 8, 3));
    assert_ne!(epoch(&data, 7, 3)[..5], epoch(&data, 7, 2)[..5]);
    let error =
        |weight| read(&[Source { weight, ..source(&paths[0]) }], &text, &long()).unwrap_err().to_string();
    assert!(error(0.0).ends_with("a.jsonl`: the weight of a file is 0; it must be a number greater than 0, such as 0.25 for a quarter of its rows in each epoch"));
    assert!(error(f64::NAN).contains("NaN"));
    assert_eq!(read(&[], &text, &long()).unwrap_err().to_string(), "no file of rows is named");
}

#[test]
fn validation_has_rows_that_training_has_not() {
    let text = tiny();
    let row = |at: usize| HI.replace("Hi", &format!("Hi {}", at / 2)) + "\n";
    let content: String = (0..40).map(row).collect();
    let read = || read_as("r.jsonl", &content, &text, &Options::default()).unwrap();
    let mut data = read();
    let validation = hold_out(&mut data, &text, 0.2, 3).unwrap();
    assert_eq!((data.documents.len(), validation.documents.len()), (32, 8));
    assert_eq!((data.report.documents, validation.report.documents), (32, 8));
    assert_eq!(data.leaked(&validation), 0, "rows that are equal stay together");
    let mut again = read();
    assert_eq!(hold_out(&mut again, &text, 0.2, 3).unwrap().documents, validation.documents);
    assert_ne!(hold_out(&mut read(), &text, 0.2, 4).unwrap().documents, validation.documents);
    let few = |share| {
        hold_out(&mut read_as("r.jsonl", HI, &text, &long()).unwrap(), &text, share, 3)
            .unwrap_err()
            .to_string()
    };
    assert_snapshot!([few(0.5), few(1.0)].join("\n"), @r"
    validation takes 0.5 of the rows, which leaves one side without any: there are 1
    the share of rows for validation is 1; it must lie between 0 and 1
    ");
}

#[test]
fn each_side_of_a_validation_has_its_own_report() {
    let text = tiny();
    let asked = rows(&[json!({"messages": [{"role": "user", "content": "Hi"}]})]);
    let row =
        |at: usize| HI.replace("Hi", &format!("Hi {at}")) + "\n" + if at % 10 == 9 { &asked } else { "" };
    let content: String = (0..40).map(row).collect();
    // An array may have all its rows on one line.
    let array = format!("[{}]", content.trim_end().replace('\n', ","));
    let options = Options { inspect: true, ..long() };
    let mut drawn = Vec::new();
    for (name, content) in [("r.jsonl", &content), ("r.json", &array)] {
        let mut data = read_as(name, content, &text, &options).unwrap();
        let held = hold_out(&mut data, &text, 0.25, 3).unwrap();
        let counts = |data: &Data| {
            let report = &data.report;
            let (source, methods) = (&report.sources[0], report.methods.values().sum::<usize>());
            assert_eq!((source.rows, source.documents), (report.rows, data.documents.len()));
            assert_eq!((methods, report.lengths.sorted.len()), (report.rows, report.rows));
            (report.rows, report.documents, report.nothing_trained.count, report.bos.count)
        };
        assert_eq!(counts(&data), (34, 30, 4, 34));
        assert_eq!(counts(&held), (10, 10, 0, 10), "a row with nothing to measure is not drawn");
        assert!(held.documents.iter().all(|document| document.weights.iter().any(|weight| *weight > 0.0)));
        assert_eq!(held.report.ends_of_turn, ["<|im_end|>"]);
        let first = held.report.examples[0].spans.iter().map(|span| span.text.as_str()).collect::<String>();
        assert_eq!(first, text.tokenizer.decode(&held.documents[0].tokens, false).unwrap());
        drawn.push(held.documents.into_iter().map(|document| document.tokens).collect::<Vec<_>>());
    }
    assert_eq!(drawn[0], drawn[1]);
}

#[test]
fn prompts_of_generation_are_the_beginnings_of_what_was_trained() {
    let golden = Golden::read();
    for name in golden.templates() {
        let variables = json!({"enable_thinking": false}).as_object().unwrap().clone();
        let text = golden.text(name, variables);
        let messages = [json!({"role": "user", "content": "Hi"})];
        let Ok(prompt) = text.prompt(&messages, None) else { continue };
        let row = json!({"messages": [messages[0], {"role": "assistant", "content": "Yo"}]}).to_string();
        let Ok(data) = read_as("r.jsonl", row, &text, &long()) else { continue };
        let document = &data.documents[0];
        if document.tokens.starts_with(&prompt) {
            let trained = document.weights.iter().position(|weight| *weight > 0.0).unwrap();
            assert_eq!(trained, prompt.len(), "{name}");
        }
    }
}

/// A conversation whose users write Cyrillic and whose assistant writes Greek letters.
fn conversation() -> impl Strategy<Value = serde_json::Value> {
    let turn = ("[абвгд]{1,4}( [абвгд]{1,4}){0,3}", "[αβγδε]{1,4}(\n?[αβγδε ]{1,4}){0,3}[αβγ]");
    (prop::bool::ANY, prop::collection::vec(turn, 1..4)).prop_map(|(system, turns)| {
        let system = system.then(|| json!({"role": "system", "content": "ж"}));
        let turns = turns.into_iter().flat_map(|(user, assistant)| {
            [json!({"role": "user", "content": user}), json!({"role": "assistant", "content": assistant})]
        });
        json!({"messages": system.into_iter().chain(turns).collect::<Vec<_>>()})
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn only_the_assistant_is_trained_and_with_the_end_of_its_turns(row in conversation()) {
        let golden = Golden::read();
        let mut used = 0;
        for name in golden.templates() {
            let text = golden.text(name, serde_json::Map::new());
            // A template may refuse a message of the system, and may have no end of turn.
            let Ok(data) = read_as("r.jsonl", row.to_string(), &text, &long()) else { continue };
            used += 1;
            let example = Example::of(&data.documents[0], &text);
            let written = |trained| -> String {
                let spans = example.spans.iter().filter(|span| span.trained == trained);
                spans.map(|span| span.text.as_str()).collect()
            };
            let (trained, rest) = (written(true), written(false));
            prop_assert!(!trained.contains(|c| ('а'..='я').contains(&c)), "{name}: {trained}");
            prop_assert!(!rest.contains(|c| ('α'..='ω').contains(&c)), "{name}: {rest}");
            for span in example.spans.iter().filter(|span| span.trained) {
                let ends = &data.report.ends_of_turn;
                prop_assert!(ends.iter().any(|end| span.text.contains(end)), "{name}: {}", span.text);
            }
        }
        prop_assert!(used >= golden.templates().count() / 2);
    }

    #[test]
    fn damaged_rows_are_read_or_refused(
        kind in 0_usize..5,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        end in any::<prop::sample::Index>(),
    ) {
        let messages = json!({"messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": "{\"a\": 1}"}}], "train": true},
            {"role": "assistant", "content": "b", "weight": 0.5},
        ], "weight": 2, "tools": "[]"});
        let rows = [
            messages.to_string(),
            json!({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}).to_string(),
            json!([{"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}]).to_string(),
            "instruction,input,output\na,b,c\n".to_string(),
            json!({"instruction": "a", "output": "b", "history": [["c", "d"]]}).to_string(),
        ];
        let mut bytes = rows[kind].clone().into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(end.index(bytes.len() + 1));
        let name = if kind == 3 { "r.csv" } else { "r.jsonl" };
        // What matters is that nothing panics, and that what is read holds together.
        if let Ok(data) = read_as(name, bytes, &tiny(), &Options { inspect: true, ..long() }) {
            for document in &data.documents {
                prop_assert!(document.tokens.len() >= 2 && document.tokens.len() == document.weights.len());
                prop_assert!(document.weights[0] == 0.0 && document.weights.iter().all(|weight| weight.is_finite()));
            }
        }
    }

    #[test]
    fn packing_keeps_tokens_with_their_weights(
        lengths in prop::collection::vec(2_usize..40, 0..60),
        capacity in 8_usize..64,
    ) {
        let documents: Vec<Document> = lengths.iter().enumerate().map(|(at, length)| Document {
            tokens: (0..*length as u32).map(|token| at as u32 * 100 + token).collect(),
            weights: (0..*length).map(|token| if (token + at) % 3 == 1 { at as f32 + 1.0 } else { 0.0 }).collect(),
            source: 0,
            line: at as u64,
        }).collect();
        let packed = pack(&lengths, capacity);
        let mut seen = vec![0; documents.len()];
        for sequence in &packed {
            let room: usize = sequence.iter().map(|at| lengths[*at]).sum();
            prop_assert!(room <= capacity || sequence.len() == 1);
            let gathered = gather(&documents, sequence);
            let mut start = 0;
            for (at, length) in sequence.iter().zip(&gathered.lengths) {
                seen[*at] += 1;
                let place = start..start + length;
                prop_assert_eq!(&gathered.tokens[place.clone()], &documents[*at].tokens[..]);
                prop_assert_eq!(&gathered.weights[place], &documents[*at].weights[..]);
                start += length;
            }
            prop_assert_eq!(start, gathered.tokens.len());
        }
        prop_assert!(seen.iter().all(|times| *times == 1));
        let firsts: Vec<usize> = packed.iter().map(|sequence| sequence[0]).collect();
        prop_assert!(firsts.is_sorted(), "what was shuffled stays shuffled");
        // Best fit never leaves two sequences that would fit into one.
        let mut rooms: Vec<usize> = packed.iter().map(|sequence| sequence.iter().map(|at| lengths[*at]).sum()).collect();
        rooms.sort_unstable();
        prop_assert!(rooms.len() < 2 || rooms[0] + rooms[1] > capacity);
    }
}
