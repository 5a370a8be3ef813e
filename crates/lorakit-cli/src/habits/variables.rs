//! Wrong values that came from the environment.

use std::env;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command, Error};

use super::{text, tip};
use crate::args;

/// Names the variable that a wrong value came from, if it did.
pub(super) fn name(error: &mut Error, args: &[OsString]) {
    let (Some(arg), Some(value)) =
        (text(error, ContextKind::InvalidArg), text(error, ContextKind::InvalidValue))
    else {
        return;
    };
    let mut command = args::command();
    command.build();
    let variable = |arg: &Arg| arg.get_env().map(|name| name.to_string_lossy().into_owned());
    let known = options(&command).find(|known| known.to_string() == arg);
    let Some(name) = known.and_then(variable) else { return };
    let typed = args.iter().any(|word| word.to_string_lossy().ends_with(&value));
    if typed || env::var(&name).ok().as_deref() != Some(&value) {
        return;
    }
    error.insert(ContextKind::InvalidArg, ContextValue::String(format!("{name} (the variable of {arg})")));
    tip(error, vec![format!("`unset {name}`, or correct its value")]);
}

/// The options of the command and its verbs.
fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().chain(command.get_subcommands().flat_map(Command::get_arguments))
}
