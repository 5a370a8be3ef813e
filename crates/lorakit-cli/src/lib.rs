//! The `lorakit` command as a library, so that other front ends can offer the same command.
//!
//! Results go to stdout, everything else to stderr. Errors end with a hint: something to type. Exit codes are in
//! [`exit`].

#![deny(missing_docs)]

mod args;
mod command;
mod error;
pub mod exit;
mod hint;
mod interrupt;
mod limits;
mod progress;
mod ui;
mod units;

use std::ffi::OsString;

use clap::{ArgMatches, CommandFactory, FromArgMatches};

use args::{Cli, Command};
use error::Failure;
use ui::Ui;

/// Runs one command line as a whole process: handles signals, and raises the limit of open files.
/// Returns its exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    interrupt::watch(is_json(&args));
    limits::raise();
    let code = run(args);
    interrupt::speak();
    code
}

/// Runs one command line and returns its exit code: one of [`exit`]. Handles no signals: see [`main`].
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    let (cli, matches) = match parsed(&args) {
        Ok(parsed) => parsed,
        Err(error) if error.use_stderr() && is_json(&args) => {
            ui::usage_json(&error.to_string());
            return exit::USAGE;
        }
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { exit::USAGE } else { exit::OK };
        }
    };
    let ui = Ui::new(&cli.common);
    match args::check(&matches, &cli.command).and_then(|()| dispatch(&cli, &ui)) {
        Ok(()) => exit::OK,
        Err(failure) => {
            interrupt::speak();
            ui.failure(&failure, Some(&cli.command));
            failure.exit_code()
        }
    }
}

/// The command line, and which of its options were typed.
fn parsed(args: &[OsString]) -> Result<(Cli, ArgMatches), clap::Error> {
    let matches = Cli::command().try_get_matches_from(args)?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut Cli::command()))?;
    Ok((cli, matches))
}

/// Whether a command line that may be wrong asks for one JSON object.
fn is_json(args: &[OsString]) -> bool {
    args.iter().any(|a| a == "--json")
}

fn dispatch(cli: &Cli, ui: &Ui) -> Result<(), Failure> {
    // Checked before hours of work: an existing output is not replaced.
    if let Some(output) = cli.command.new_output() {
        command::refuse_existing(output)?;
    }
    if cli.common.threads > 0 {
        // What is done on all cores beside a run, such as digests. Without it they would be too many, not wrong.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(cli.common.threads).build_global();
    }
    match &cli.command {
        Command::Inspect(args) => command::inspect::run(args, &cli.common, ui),
        Command::Convert(args) => command::convert::run(args, &cli.common, ui),
        Command::Quantize(args) => command::quantize::run(args, &cli.common, ui),
        Command::Merge(args) => command::merge::run(args, &cli.common, ui),
        Command::Reduce(args) => command::reduce::run(args, &cli.common, ui),
        Command::Combine(args) => command::combine::run(args, &cli.common, ui),
        Command::Extract(args) => command::extract::run(args, &cli.common, ui),
        Command::Verify(args) => command::verify::run(args, &cli.common, ui),
        Command::Diff(args) => command::diff::run(args, &cli.common, ui),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "lorakit", &mut text);
            ui.raw(&text)
        }
        Command::Man => ui.raw(&manual().map_err(Failure::Output)?),
    }
}

/// The manual pages of the command and its verbs, one after another, as `man -l -` shows them.
fn manual() -> std::io::Result<Vec<u8>> {
    let mut command = Cli::command();
    command.build();
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    for verb in command.get_subcommands().filter(|c| c.get_name() != "help") {
        clap_mangen::Man::new(verb.clone()).render(&mut text)?;
    }
    Ok(text)
}
