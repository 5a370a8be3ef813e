//! The `lorakit` command as a library, so that other front ends can offer the same command.
//!
//! Results go to stdout, everything else to stderr. Errors end with a hint: something to type. Exit codes are in
//! [`exit`].

#![deny(missing_docs)]

mod allocator;
mod args;
mod command;
mod error;
pub mod exit;
mod habits;
mod hint;
mod hub;
mod interrupt;
mod limits;
mod names;
mod progress;
mod registry;
mod table;
mod trace;
mod ui;
mod units;
mod width;

use std::borrow::Cow;
use std::ffi::OsString;

use clap::error::ErrorKind as UsageKind;

use args::{Cli, Command};
use error::Failure;
use ui::Ui;

/// Runs one command line as a whole process: handles signals, keeps freed memory, and raises the limit of open files.
/// Returns its exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    allocator::keep();
    interrupt::watch(is_json(&args));
    limits::raise();
    let code = run(args);
    interrupt::speak();
    code
}

/// Runs one command line and returns its exit code: one of [`exit`]. Handles no signals: see [`main`].
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    let (mut cli, matches) = match args::parse(&without_json(&args)) {
        Ok(parsed) => parsed,
        Err(error) if is_json(&args) => {
            return match error.kind() {
                UsageKind::DisplayVersion => command::about::version_json(),
                UsageKind::DisplayHelp => command::about::help_json(&args),
                _ => {
                    ui::usage_json(&habits::explain(error, &args).to_string());
                    exit::USAGE
                }
            };
        }
        Err(error) if error.use_stderr() => {
            ui::usage(&habits::explain(error, &args).render().ansi().to_string());
            return exit::USAGE;
        }
        Err(error) => {
            let _ = error.print();
            return exit::OK;
        }
    };
    let ui = Ui::new(&cli.common);
    match args::check(&matches, &cli.command).and_then(|()| between(&mut cli, &ui)) {
        Ok(()) => exit::OK,
        Err(failure) => {
            interrupt::speak();
            ui.failure(&failure, Some(&cli.command));
            failure.exit_code()
        }
    }
}

/// Runs a command whose inputs and output may be names of the hub and of the registry.
fn between(cli: &mut Cli, ui: &Ui) -> Result<(), Failure> {
    ui.notes(&registry::resolve(&mut cli.command.inputs(), ui)?);
    ui.notes(&hub::resolve(cli.command.inputs()));
    cli.common.no_mmap |= registry::is_read();
    let Some(mut destination) = registry::redirect(&mut cli.command)? else { return dispatch(cli, ui) };
    match dispatch(cli, ui) {
        // What kind of file it becomes is known when it is planned, and nothing was done yet.
        Err(Failure::Lorakit(error)) if destination.name(error.hint(), &mut cli.command) => {
            dispatch(cli, ui)?
        }
        other => other?,
    }
    destination.publish(ui)
}

/// Whether a command line that may be wrong asks for one JSON object.
fn is_json(args: &[OsString]) -> bool {
    args.iter().any(|a| a == "--json")
}

/// What clap parses. Its own command `help` takes nothing but names of commands.
fn without_json(args: &[OsString]) -> Cow<'_, [OsString]> {
    let verb = args.iter().skip(1).find(|arg| !arg.to_string_lossy().starts_with('-'));
    if verb.is_some_and(|verb| verb == "help") {
        args.iter().filter(|arg| *arg != "--json").cloned().collect()
    } else {
        args.into()
    }
}

fn dispatch(cli: &mut Cli, ui: &Ui) -> Result<(), Failure> {
    // Checked before hours of work: an existing output is not replaced.
    if let Some(output) = cli.command.new_output() {
        command::refuse_existing(output)?;
    }
    if cli.common.threads > 0 && !matches!(cli.command, Command::Train(_)) {
        // What is done on all cores beside a run, such as digests. Without it they would be too many, not wrong.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(cli.common.threads).build_global();
    }
    if !matches!(cli.command, Command::Train(_)) {
        let below = matches!(&cli.command, Command::Inspect(args) if args.recursive);
        hub::verify(ui, below)?;
    }
    match &cli.command {
        Command::Inspect(args) => command::inspect::run(args, &cli.common, ui),
        Command::Convert(args) => command::convert::run(args, &cli.common, ui),
        Command::Quantize(args) => command::quantize::run(args, &cli.common, ui),
        Command::Merge(args) => command::merge::run(args, &cli.common, ui),
        Command::Reduce(args) => command::reduce::run(args, &cli.common, ui),
        Command::Combine(args) => command::combine::run(args, &cli.common, ui),
        Command::Edit(args) => command::edit::run(args, &cli.common, ui),
        Command::Extract(args) => command::extract::run(args, &cli.common, ui),
        Command::Verify(args) => command::verify::run(args, &cli.common, ui),
        Command::Diff(args) => command::diff::run(args, &cli.common, ui),
        Command::Train(args) => command::train::run(args, &cli.common, ui),
        Command::Eval(args) => command::eval::run(args, &cli.common, ui),
        Command::Generate(args) => command::generate::run(args, &cli.common, ui),
        Command::Trace { action: args::TraceAction::Push(args) } => command::trace::push(args, ui),
        Command::Registry(args) => command::registry::run(args, ui),
        Command::Env => command::env::run(&cli.common, ui),
        Command::Completions { shell } => command::about::completions(*shell, ui),
        Command::Man { verb, dir } => command::man::run(verb.as_deref(), dir.as_deref(), ui),
        Command::Version => command::about::version(ui),
    }
}
