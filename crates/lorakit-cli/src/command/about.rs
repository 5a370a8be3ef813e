//! What the command tells about itself: version, help as data, completion scripts.

use std::ffi::OsString;

use clap::{Arg, Command};
use clap_complete::Shell;
use serde::Serialize;

use crate::error::Failure;
use crate::ui::{self, Ui};
use crate::{args, exit};

/// The commit that this was built from, if whoever built it said so: a build that asked git would differ between an
/// archive and a clone of the same sources.
pub(crate) const COMMIT: Option<&str> = option_env!("LORAKIT_COMMIT");

/// The version of the program.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Serialize)]
struct Version {
    version: &'static str,
    commit: Option<&'static str>,
}

#[derive(Serialize)]
struct Script {
    shell: String,
    script: String,
}

/// The help page of a command, as data.
#[derive(Serialize)]
struct Help {
    command: String,
    about: String,
    usage: String,
    inputs: Vec<HelpOption>,
    options: Vec<HelpOption>,
    commands: Vec<HelpCommand>,
}

/// An argument: of an input the name is what stands for it in the usage.
#[derive(Serialize)]
struct HelpOption {
    name: String,
    short: Option<char>,
    value: Option<String>,
    values: Vec<String>,
    default: Option<String>,
    variable: Option<String>,
    required: bool,
    about: String,
}

#[derive(Serialize)]
struct HelpCommand {
    name: String,
    aliases: Vec<String>,
    about: String,
}

pub(crate) fn version(ui: &Ui) -> Result<(), Failure> {
    if ui.json {
        return ui.json("lorakit.version/1", Version { version: VERSION, commit: COMMIT });
    }
    let commit = COMMIT.map_or_else(String::new, |commit| format!(" ({commit})"));
    ui.result(&format!("lorakit {VERSION}{commit}\n"))
}

/// Prints the version as JSON; returns the exit code.
pub(crate) fn version_json() -> u8 {
    ended(Ui::of_json().json("lorakit.version/1", Version { version: VERSION, commit: COMMIT }))
}

pub(crate) fn completions(shell: Shell, ui: &Ui) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "lorakit", &mut text);
    if ui.json {
        let script = String::from_utf8_lossy(&text).into_owned();
        return ui.json("lorakit.completions/1", Script { shell: shell.to_string(), script });
    }
    ui.raw(&text)
}

/// Prints the help page that a command line asks for as JSON; returns the exit code.
pub(crate) fn help_json(line: &[OsString]) -> u8 {
    let mut command = args::command();
    command.build();
    let words = line.iter().skip(1).filter(|word| *word != "help");
    let verb = words.into_iter().find_map(|word| command.find_subcommand(word));
    ended(Ui::of_json().json("lorakit.help/1", Help::of(verb.unwrap_or(&command))))
}

fn ended(result: Result<(), Failure>) -> u8 {
    match result {
        Ok(()) => exit::OK,
        Err(failure) => {
            ui::say_failure(true, &failure, None);
            failure.exit_code()
        }
    }
}

impl Help {
    fn of(command: &Command) -> Self {
        let shown = |arg: &&Arg| !arg.is_hide_set();
        let (inputs, options): (Vec<&Arg>, Vec<&Arg>) =
            command.get_arguments().filter(shown).partition(|arg| arg.is_positional());
        let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
        let name = command.get_bin_name().unwrap_or(command.get_name()).to_string();
        let usage = command.clone().render_usage().to_string();
        Help {
            about: command.get_about().map_or_else(String::new, ToString::to_string),
            usage: usage.trim_start_matches("Usage: ").to_string(),
            inputs: inputs.into_iter().map(HelpOption::of).collect(),
            options: options.into_iter().map(HelpOption::of).collect(),
            commands: verbs.map(HelpCommand::of).collect(),
            command: name,
        }
    }
}

impl HelpOption {
    fn of(arg: &Arg) -> Self {
        let value = arg.get_value_names().map(|names| names.join(" "));
        let id = arg.get_id().to_string();
        let name = match arg.get_long() {
            Some(long) => format!("--{long}"),
            None => value.clone().unwrap_or(id),
        };
        let takes = arg.get_action().takes_values();
        let values = if takes { arg.get_possible_values() } else { Vec::new() };
        let values = values.iter().filter(|value| !value.is_hide_set());
        let defaults: Vec<String> =
            arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
        let is_shown = takes && !arg.is_hide_default_value_set() && !defaults.is_empty();
        HelpOption {
            name,
            short: arg.get_short(),
            value: value.filter(|_| takes),
            values: values.map(|value| value.get_name().to_string()).collect(),
            default: is_shown.then(|| defaults.join(" ")),
            variable: arg.get_env().map(|name| name.to_string_lossy().into_owned()),
            required: arg.is_required_set(),
            about: arg.get_help().map_or_else(String::new, ToString::to_string),
        }
    }
}

impl HelpCommand {
    fn of(command: &Command) -> Self {
        HelpCommand {
            name: command.get_name().to_string(),
            aliases: command.get_all_aliases().map(str::to_string).collect(),
            about: command.get_about().map_or_else(String::new, ToString::to_string),
        }
    }
}
