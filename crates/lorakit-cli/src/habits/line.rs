//! A command line that clap refused, taken apart.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Arg, Command};

use super::peers::{Habit, Values};
use crate::names;

/// A piece of the line, in the order typed.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    /// An option that lorakit has, with its values, as typed.
    Own(Vec<OsString>),
    /// An option of another program, with its values.
    Foreign(&'static Habit, Vec<String>),
    /// Anything else: an input, or an output that was not named as one.
    Word(OsString),
}

/// A command line: a verb and what follows.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) verb: String,
    pub(super) pieces: Vec<Piece>,
}

impl Line {
    /// Takes a line apart. `None` without a known verb.
    pub(super) fn of(args: &[OsString], command: &Command) -> Option<Line> {
        let mut line = Line { verb: String::new(), pieces: Vec::new() };
        let mut scope = command;
        let mut words = args.iter().skip(1).peekable();
        let mut rest = false;
        while let Some(word) = words.next() {
            let text = word.to_string_lossy();
            if rest || !text.starts_with('-') || text.len() == 1 {
                match scope.find_subcommand(word) {
                    Some(verb) if line.verb.is_empty() => (scope, line.verb) = (verb, verb.get_name().into()),
                    _ if line.verb.is_empty() => return None,
                    _ => line.pieces.push(Piece::Word(word.clone())),
                }
                continue;
            }
            if text == "--" {
                rest = true;
                continue;
            }
            let (name, attached) = match text.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_string())),
                _ => (&*text, None),
            };
            let own = option(scope, name).or_else(|| option(command, name));
            let mut take = |many: Values| {
                let most = match many {
                    Values::None => 0,
                    Values::One => 1,
                    Values::Two => 2,
                    Values::Many => usize::MAX,
                };
                let mut taken: Vec<OsString> = attached.iter().map(OsString::from).collect();
                while taken.len() < most
                    && let Some(value) = words.next_if(|next| !next.to_string_lossy().starts_with('-'))
                {
                    taken.push(value.clone());
                }
                taken
            };
            match (own, Habit::of(name, &line.verb)) {
                (None, Some(habit)) => {
                    let values =
                        take(habit.values).into_iter().map(|value| value.to_string_lossy().into_owned());
                    line.pieces.push(Piece::Foreign(habit, values.collect()));
                }
                (Some(own), _) => {
                    let takes =
                        own.get_action().takes_values() && attached.is_none() && !is_cluster(own, name);
                    let values = take(if takes { Values::One } else { Values::None });
                    let values = values.into_iter().filter(|_| attached.is_none());
                    line.pieces.push(Piece::Own([word.clone()].into_iter().chain(values).collect()));
                }
                (None, None) => line.pieces.push(Piece::Own(vec![word.clone()])),
            }
        }
        (!line.verb.is_empty()).then_some(line)
    }

    /// What is neither an option nor the value of one.
    pub(super) fn words(&self) -> impl DoubleEndedIterator<Item = (usize, &OsStr)> {
        self.pieces.iter().enumerate().filter_map(|(at, piece)| match piece {
            Piece::Word(word) => Some((at, word.as_os_str())),
            _ => None,
        })
    }

    /// Whether an option of lorakit is there.
    pub(super) fn has(&self, names: &[&str]) -> bool {
        self.pieces.iter().any(|piece| match piece {
            Piece::Own(words) => words.first().is_some_and(|word| {
                let word = word.to_string_lossy();
                names.iter().any(|name| word == *name || word.starts_with(&format!("{name}=")))
            }),
            _ => false,
        })
    }

    /// The words of the line, without what other programs have.
    pub(super) fn to_args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["lorakit".into(), self.verb.clone().into()];
        for piece in &self.pieces {
            match piece {
                Piece::Own(words) => args.extend(words.iter().cloned()),
                Piece::Foreign(..) => {}
                Piece::Word(word) => args.push(word.clone()),
            }
        }
        args
    }
}

/// `-q2` and `-o=x` hold their value.
fn is_cluster(own: &Arg, name: &str) -> bool {
    own.get_short().is_some() && !name.starts_with("--") && name.len() > 2
}

/// The option that is typed so.
fn option<'c>(command: &'c Command, name: &str) -> Option<&'c Arg> {
    let is = |arg: &&Arg| match name.strip_prefix("--") {
        Some(long) => {
            arg.get_long() == Some(long) || arg.get_all_aliases().is_some_and(|all| all.contains(&long))
        }
        None => arg.get_short().is_some_and(|short| name.chars().nth(1) == Some(short)),
    };
    command.get_arguments().find(is)
}

/// A line as it is typed in a shell.
pub(super) fn quoted(args: &[OsString]) -> String {
    let words: Vec<String> = args.iter().map(|word| names::in_a_shell(&word.to_string_lossy())).collect();
    words.join(" ")
}

/// A path without the weight behind it, if there is one.
pub(super) fn unweighted(word: &OsStr) -> PathBuf {
    let text = word.to_string_lossy();
    match text.rsplit_once('=') {
        Some((path, weight)) if weight.parse::<f64>().is_ok() => path.into(),
        _ => word.into(),
    }
}
