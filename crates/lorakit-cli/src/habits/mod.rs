//! Habits that people bring: what a refused command line meant, and the line to type.
//!
//! clap says what it does not know. Here its errors learn what the user of another program meant (`peers.rs`), that
//! what stands last is the output, and that a wrong value came from a variable.

mod line;
mod peers;
#[cfg(test)]
mod tests;
mod translate;
mod variables;

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};
use lorakit_train::settings::Settings;

use crate::args;
use line::{Line, Piece};
use translate::Output;

/// Other programs, as commands: what to type instead.
const VERBS: &[(&[&str], &str)] = &[
    (
        &["download", "pull", "fetch", "get"],
        "lorakit downloads nothing: `hf download OWNER/NAME --local-dir NAME`",
    ),
    (&["upload", "push", "publish"], "lorakit uploads no models: `hf upload OWNER/NAME FOLDER`"),
    (
        &["list", "types"],
        "`lorakit quantize --list` lists the types; `lorakit inspect PATH` shows what a folder holds",
    ),
    (
        &["dequantize", "dequantise"],
        "`lorakit convert MODEL -o OUT --to hf` writes a quantised model in 16 bits",
    ),
    (
        &["unmerge", "subtract"],
        "a weight of -1 takes an adapter out: `lorakit merge MERGED ADAPTER=-1 -o OUT`",
    ),
    (
        &["svd", "compress", "shrink"],
        "`lorakit reduce` lowers ranks, `lorakit extract` makes an adapter of a model",
    ),
];

/// An error of the command line, with what was probably meant.
pub(crate) fn explain(mut error: Error, args: &[OsString]) -> Error {
    match error.kind() {
        ErrorKind::UnknownArgument | ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict => {
            let is_unknown = error.kind() == ErrorKind::UnknownArgument;
            let told = signed(&error, args).or_else(|| of_run(&error, args).filter(|_| is_unknown));
            let tips = told.map_or_else(|| of_line(&error, args), |told| vec![told]);
            if !tips.is_empty() {
                error.remove(ContextKind::SuggestedArg);
                tip(&mut error, tips);
            }
        }
        ErrorKind::InvalidSubcommand => {
            let typed = text(&error, ContextKind::InvalidSubcommand).unwrap_or_default();
            if let Some((_, told)) = VERBS.iter().find(|(names, _)| names.contains(&typed.as_str())) {
                error.remove(ContextKind::SuggestedSubcommand);
                tip(&mut error, vec![(*told).to_string()]);
            }
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => variables::name(&mut error, args),
        _ => {}
    }
    error
}

/// How a value that begins with a minus is given to an option. Without it, clap takes the value for options, and would
/// have it stand apart from that option.
fn signed(error: &Error, args: &[OsString]) -> Option<String> {
    let is_number = |text: &str| {
        text.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    text(error, ContextKind::InvalidArg).filter(|typed| is_number(typed))?;
    let command = args::command();
    let takes_values = |name: &str| {
        let of_verbs = command.get_subcommands().flat_map(Command::get_arguments);
        let mut all = command.get_arguments().chain(of_verbs);
        all.any(|arg| arg.get_long() == Some(name) && arg.get_action().takes_values())
    };
    args.windows(2).find_map(|pair| {
        let (option, value) = (pair[0].to_str()?, pair[1].to_str()?);
        let is_option = option.strip_prefix("--").is_some_and(takes_values);
        (is_option && is_number(value)).then(|| format!("`{option}={value}` gives the option that value"))
    })
}

/// What is told of an option of `train` that is none here: what it is called, or why it is not there.
fn of_run(error: &Error, args: &[OsString]) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument || args.get(1).is_none_or(|verb| verb != "train") {
        return None;
    }
    let typed = text(error, ContextKind::InvalidArg)?;
    let key = typed.strip_prefix("--")?.replace('-', "_");
    Settings::new().set(&key, "").err().map(|told| told.to_string())
}

/// What can be said about a line that does not fit.
fn of_line(error: &Error, args: &[OsString]) -> Vec<String> {
    let mut command = args::command();
    command.build();
    let Some(line) = Line::of(args, &command) else { return Vec::new() };
    let mut tips: Vec<String> = Vec::new();
    for piece in &line.pieces {
        if let Piece::Foreign(habit, _) = piece {
            let name = typed_name(args, habit.names);
            let tip = format!("`{name}`: {}", habit.tip);
            if !tips.contains(&tip) {
                tips.push(tip);
            }
        }
    }
    let stray = text(error, ContextKind::InvalidArg).is_some_and(|word| !word.starts_with('-'));
    let lacks_output =
        strings(error, ContextKind::InvalidArg).iter().any(|name| name.starts_with("--output"));
    if tips.is_empty() && !stray && !lacks_output {
        return Vec::new();
    }
    match translate::translate(&line) {
        Some(translated) => {
            let told = match &translated.output {
                Output::Named => format!("the line to type: `{}`", translated.line),
                Output::Last(output) => format!("did you mean `-o {output}`? `{}`", translated.line),
                Output::Lacking => format!("name what to write: `{}`", translated.line),
            };
            tips.push(told);
        }
        None if lacks_output && tips.is_empty() => {
            tips.extend(translate::output(&line).map(|output| format!("did you mean `-o {output}`?")))
        }
        None => {}
    }
    tips
}

/// The spelling of an option that is in the line.
fn typed_name<'n>(args: &[OsString], names: &[&'n str]) -> &'n str {
    let is_typed = |name: &&&str| {
        args.iter().any(|arg| {
            let arg = arg.to_string_lossy();
            arg == **name || arg.starts_with(&format!("{name}="))
        })
    };
    names.iter().find(is_typed).or(names.first()).copied().unwrap_or_default()
}

/// Replaces the tips of an error.
fn tip(error: &mut Error, tips: Vec<String>) {
    let tips = tips.into_iter().map(Into::into).collect();
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
}

fn text(error: &Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        _ => None,
    }
}

fn strings(error: &Error, kind: ContextKind) -> &[String] {
    match error.get(kind) {
        Some(ContextValue::Strings(texts)) => texts,
        _ => &[],
    }
}
