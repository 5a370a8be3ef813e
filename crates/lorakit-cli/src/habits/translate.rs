//! From the line that another program takes to the one that lorakit takes.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use lorakit::ops::convert::adapter::is_adapter;
use lorakit_tensor::ReadMode;

use super::line::{Line, Piece, quoted, unweighted};
use super::peers::Becomes;
use crate::{args, hub};

/// A line that lorakit takes.
#[derive(Debug)]
pub(super) struct Translated {
    pub(super) line: String,
    pub(super) output: Output,
}

/// Whether the typed line says what is written.
#[derive(Debug)]
pub(super) enum Output {
    /// It does, or nothing is written.
    Named,
    /// The last word does, without `-o`.
    Last(String),
    /// It does not: the name is a proposal.
    Lacking,
}

/// A verb that writes: how many inputs it takes at least and at most, what its output could be called, and the options
/// that it needs besides, with the usual values.
struct Writer {
    verb: &'static str,
    inputs: (usize, usize),
    name: &'static str,
    needs: &'static [(&'static [&'static str], &'static [&'static str])],
}

const WRITERS: &[Writer] = &[
    Writer { verb: "merge", inputs: (2, usize::MAX), name: "merged/", needs: &[] },
    Writer {
        verb: "convert",
        inputs: (1, 1),
        name: "converted/",
        needs: &[(&["--to"], &["--to", "FORMAT"])],
    },
    Writer {
        verb: "quantize",
        inputs: (1, 1),
        name: "model.gguf",
        needs: &[(&["--type"], &["--type", "Q4_K_M"])],
    },
    Writer {
        verb: "reduce",
        inputs: (1, 1),
        name: "reduced/",
        needs: &[(
            &["--rank", "--energy", "--max-error", "--kohya", "--budget", "--target-size"],
            &["--rank", "16"],
        )],
    },
    Writer { verb: "combine", inputs: (1, usize::MAX), name: "combined/", needs: &[] },
    Writer {
        verb: "extract",
        inputs: (2, 2),
        name: "adapter/",
        needs: &[(&["--rank", "--energy", "--auto"], &["--auto"])],
    },
];

/// Formats by the ending of an output, for `convert`.
const ENDINGS: &[(&str, &str)] = &[(".gguf", "gguf"), (".safetensors", "kohya")];

/// The line that lorakit takes instead, if there is one.
pub(super) fn translate(typed: &Line) -> Option<Translated> {
    let mut line = without_habits(typed);
    let writer = WRITERS.iter().find(|writer| writer.verb == line.verb);
    let mut output = Output::Named;
    if let Some(writer) = writer {
        if line.verb == "quantize" {
            name_type(&mut line);
        }
        if !line.has(&["-o", "--output"]) {
            if let Some(at) = last(&line, writer) {
                let Piece::Word(word) = &line.pieces[at] else { return None };
                output = Output::Last(quoted(std::slice::from_ref(word)));
                line.pieces[at] = Piece::Own(vec!["-o".into(), word.clone()]);
            } else {
                let name = if Path::new(writer.name).exists() { "OUT" } else { writer.name };
                line.pieces.push(Piece::Own(vec!["-o".into(), name.into()]));
                output = Output::Lacking;
            }
        }
        for (any, usual) in writer.needs {
            if !line.has(any) {
                let usual = usual.iter().map(|word| needed(word, &line)).collect();
                line.pieces.push(Piece::Own(usual));
            }
        }
    }
    let args = line.to_args();
    args::command().try_get_matches_from(&args).ok()?;
    Some(Translated { line: quoted(&args), output })
}

/// What is probably the output of a line, if one of its words is.
pub(super) fn output(typed: &Line) -> Option<String> {
    let line = without_habits(typed);
    let writer = WRITERS.iter().find(|writer| writer.verb == line.verb)?;
    let at = last(&line, writer)?;
    let (_, word) = line.words().find(|(known, _)| *known == at)?;
    Some(quoted(&[word.to_os_string()]))
}

/// The last word, if it is one more than the verb takes, or is not there to be read.
fn last(line: &Line, writer: &Writer) -> Option<usize> {
    let words: Vec<(usize, &OsStr)> = line.words().collect();
    let (at, word) = words.last()?;
    let (least, most) = writer.inputs;
    let is_input = hub::exists(Path::new(word)) || hub::exists(&unweighted(word));
    let is_spare = words.len() > most || (words.len() > least && !is_input);
    is_spare.then_some(*at)
}

/// The usual value of an option, where `FORMAT` stands for what the input and the output's name say.
fn needed(word: &str, line: &Line) -> OsString {
    if word != "FORMAT" {
        return word.into();
    }
    let args = line.to_args();
    let output = args.iter().position(|arg| arg == "-o").and_then(|at| args.get(at + 1));
    let output = output.map_or_else(String::new, |output| output.to_string_lossy().to_lowercase());
    let is_model = |word: &OsStr| is_adapter(Path::new(word), ReadMode::default()).is_ok_and(|is| !is);
    let known = ENDINGS.iter().find(|(ending, _)| output.ends_with(ending));
    match known {
        Some((_, format)) => (*format).into(),
        None if line.words().any(|(_, word)| is_model(word)) => "hf".into(),
        None => "peft".into(),
    }
}

/// `in.gguf out.gguf Q4_K_M 8`: the words of `llama-quantize` that are a type and a number of threads.
fn name_type(line: &mut Line) {
    let words: Vec<(usize, String)> =
        line.words().skip(1).map(|(at, word)| (at, word.to_string_lossy().into_owned())).collect();
    for (at, word) in words {
        if Path::new(&word).exists() {
            continue;
        }
        if !line.has(&["--type"]) && args::is_type(&word) {
            line.pieces[at] = Piece::Own(vec!["--type".into(), word.into()]);
        } else if word.parse::<usize>().is_ok() {
            line.pieces[at] = Piece::Own(vec!["-t".into(), word.into()]);
        }
    }
}

/// The line with every option of another program replaced; inputs come first.
fn without_habits(typed: &Line) -> Line {
    let (mut first, mut words, mut inputs, mut options) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut weights: Vec<String> = Vec::new();
    for piece in &typed.pieces {
        match piece {
            Piece::Own(_) => options.push(piece.clone()),
            Piece::Word(word) => words.push(word.clone()),
            Piece::Foreign(habit, values) => {
                let one = values.first().map_or("", String::as_str);
                match habit.becomes {
                    Becomes::First => first.extend(values.iter().map(OsString::from)),
                    Becomes::Inputs => inputs.extend(values.iter().flat_map(|value| split(value))),
                    Becomes::Weighted => inputs.push(weighted(values)),
                    Becomes::Weights => weights.extend(values.iter().cloned()),
                    becomes => options.extend(option(becomes, one)),
                }
            }
        }
    }
    let mut words: Vec<OsString> = first.into_iter().chain(words).chain(inputs).collect();
    // Weights are of the last inputs: the base has none.
    let skipped = words.len().saturating_sub(weights.len());
    for (word, weight) in words.iter_mut().skip(skipped).zip(weights) {
        word.push(format!("={weight}"));
    }
    let pieces = words.into_iter().map(Piece::Word).chain(options).collect();
    Line { verb: typed.verb.clone(), pieces }
}

/// The option that takes the place of another program's.
fn option(becomes: Becomes, value: &str) -> Option<Piece> {
    let words: Vec<String> = match becomes {
        Becomes::Output => vec!["-o".into(), value.into()],
        Becomes::Named(name) if value.is_empty() => vec![name.into()],
        Becomes::Named(name) => vec![name.into(), value.into()],
        Becomes::Dtype => vec!["--dtype".into(), dtype(value)?.into()],
        Becomes::Gigabytes(name) => vec![name.into(), format!("{value}GB")],
        Becomes::Fixed(words) => words.iter().map(ToString::to_string).collect(),
        Becomes::Nothing | Becomes::First | Becomes::Inputs | Becomes::Weighted | Becomes::Weights => {
            return None;
        }
    };
    Some(Piece::Own(words.into_iter().map(OsString::from).collect()))
}

/// `a.gguf 0.5`, or `a.gguf:0.5`.
fn weighted(values: &[String]) -> OsString {
    let whole = values.first().map_or("", String::as_str);
    match (values.get(1), whole.rsplit_once(':')) {
        (Some(weight), _) => format!("{whole}={weight}").into(),
        (None, Some((path, weight))) => format!("{path}={weight}").into(),
        (None, None) => whole.into(),
    }
}

/// `a,b` are two adapters, unless there is such a path.
fn split(value: &str) -> Vec<OsString> {
    if Path::new(value).exists() {
        vec![value.into()]
    } else {
        value.split(',').map(OsString::from).collect()
    }
}

/// lorakit's name of a dtype; none if it means what is done anyway.
fn dtype(name: &str) -> Option<&'static str> {
    match name.to_ascii_lowercase().trim_start_matches("torch.") {
        "float" | "float32" | "fp32" | "f32" => Some("f32"),
        "half" | "float16" | "fp16" | "f16" => Some("f16"),
        "bfloat16" | "bf16" => Some("bf16"),
        "q8_0" => Some("q8_0"),
        _ => None,
    }
}
