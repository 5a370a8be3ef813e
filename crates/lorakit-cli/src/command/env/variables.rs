//! The variables that lorakit reads. Those that may hold paths are only said to be set.

use std::env;

use clap::{Arg, Command};
use serde::Serialize;

use crate::args;

/// Variables of other programs that lorakit honours, besides its own, and whether their values are shown.
const HONOURED: &[(&str, bool)] = &[
    ("NO_COLOR", true),
    ("CLICOLOR", true),
    ("CLICOLOR_FORCE", true),
    ("COLUMNS", true),
    ("LORAKIT_HUB_VERIFY", true),
    ("LORAKIT_HOME", false),
    ("HF_HUB_CACHE", false),
    ("HUGGINGFACE_HUB_CACHE", false),
    ("HF_HOME", false),
    ("XDG_CACHE_HOME", false),
    ("XDG_STATE_HOME", false),
];

/// A variable that is set.
#[derive(Serialize)]
pub(super) struct Variable {
    name: String,
    /// None if it may say something about the user.
    value: Option<String>,
    /// Whether lorakit reads it.
    known: bool,
}

impl Variable {
    pub(super) fn text(&self) -> String {
        let Variable { name, value, known } = self;
        match value {
            Some(value) => format!("{name}={value}"),
            None if *known => format!("{name} is set"),
            None => format!("{name} is set, and lorakit does not know it"),
        }
    }
}

/// The variables that are set, in the order of their names.
pub(super) fn set() -> Vec<Variable> {
    let own = own();
    let names = env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    let mut found: Vec<Variable> = names
        .filter_map(|name| {
            let known = own.contains(&name)
                || HONOURED.iter().any(|(honoured, _)| *honoured == name)
                || lorakit_trace::VARIABLES.contains(&name.as_str());
            let shown = own.contains(&name) || HONOURED.contains(&(name.as_str(), true));
            let value = env::var(&name).ok().filter(|_| shown);
            (known || name.starts_with("LORAKIT_")).then_some(Variable { name, value, known })
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The variables of options.
fn own() -> Vec<String> {
    let command = args::command();
    let options = command.get_arguments().chain(command.get_subcommands().flat_map(Command::get_arguments));
    options.filter_map(Arg::get_env).map(|name| name.to_string_lossy().into_owned()).collect()
}
