//! The command line, a file for each verb. Nothing outside this folder and `command/` knows clap.

mod combine;
mod convert;
mod diff;
mod effect;
mod extract;
mod formats;
mod inspect;
mod merge;
mod output;
mod quantize;
mod reduce;
mod strength;
mod values;
mod verify;

use std::path::Path;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use combine::Combine;
pub(crate) use convert::Convert;
pub(crate) use diff::Diff;
pub(crate) use effect::check;
pub(crate) use extract::Extract;
pub(crate) use formats::Format;
pub(crate) use inspect::Inspect;
pub(crate) use merge::{Merge, MergeFormat, MergeQuantize};
pub(crate) use quantize::{Mixing, Quantize};
pub(crate) use reduce::Reduce;
use values::threads;
pub(crate) use verify::Verify;

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  invalid input, or a check failed
  2  invalid command line
  3  a file could not be read or written, or changed while it was read
  129, 130, 143  stopped by SIGHUP, Ctrl-C (SIGINT), SIGTERM";

/// The workbench for LoRA adapters: merge, inspect, convert, quantise, reduce, combine. No Python, no GPU, memory that does not grow with the model.
#[derive(Debug, Parser)]
#[command(name = "lorakit", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Common {
    /// Print one JSON object instead of text; on failure, one on stderr
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Threads to use [default: one for each core]
    #[arg(short, long, global = true, value_name = "N", value_parser = threads, default_value = "0",
          hide_default_value = true)]
    pub(crate) threads: usize,
    /// Only print results (no notes, no progress bar)
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Print the decision for each tensor
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Show no progress bar
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
    /// Read inputs by position instead of mapping them (network file systems)
    #[arg(long, global = true)]
    pub(crate) no_mmap: bool,
}

impl Common {
    pub(crate) fn read_mode(&self) -> lorakit_tensor::ReadMode {
        if self.no_mmap { lorakit_tensor::ReadMode::Positioned } else { lorakit_tensor::ReadMode::Mapped }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add adapters to a base model
    Merge(Merge),
    /// Show what an adapter or a model contains
    Inspect(Inspect),
    /// Convert an adapter or a model to another format
    Convert(Convert),
    /// Store a model in fewer bits: GGUF mixes, NF4, FP4, INT8, FP8, MXFP8, MXFP4
    Quantize(Quantize),
    /// Lower the rank of an adapter with the least possible loss
    Reduce(Reduce),
    /// Combine adapters into one
    Combine(Combine),
    /// Extract an adapter from a fine-tuned model: the difference from its base
    Extract(Extract),
    /// Check that a model is a base plus adapters, and report what differs
    Verify(Verify),
    /// Compare two adapters, or two models: what changed, by how much, in which direction
    Diff(Diff),
    /// Print a completion script for a shell
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

impl Command {
    /// Where the command writes, if the path must be free.
    pub(crate) fn new_output(&self) -> Option<&Path> {
        let output = match self {
            Command::Merge(args) => &args.output,
            Command::Convert(args) => &args.output,
            Command::Reduce(args) => &args.output,
            Command::Combine(args) => &args.output,
            Command::Extract(args) => &args.output,
            Command::Quantize(args) => args.output.as_ref()?,
            Command::Inspect(_)
            | Command::Verify(_)
            | Command::Diff(_)
            | Command::Completions { .. }
            | Command::Man => return None,
        };
        (!output.dry_run && !output.force).then_some(&output.output)
    }
}

#[cfg(test)]
mod tests {
    use std::any::TypeId;

    use std::path::PathBuf;

    use clap::CommandFactory;
    use lorakit::Choice;
    use lorakit::ops::combine::{MajoritySign, Method, Style};
    use lorakit::ops::convert::adapter::formats;
    use lorakit::ops::extract::Embeddings;
    use lorakit::ops::inspect::Runtime;
    use lorakit::ops::merge::{MergeRounding, MoeLayout, Tied};
    use lorakit::ops::reduce::KohyaEdition;

    use super::*;

    /// An option that names a path must also be added to the tests of inputs and outputs.
    #[test]
    fn every_option_that_names_a_path_is_known() {
        let mut found = Vec::new();
        for verb in Cli::command().get_subcommands() {
            for option in verb.get_arguments() {
                let parsed = option.get_value_parser().type_id();
                if parsed == TypeId::of::<PathBuf>() || parsed == TypeId::of::<(PathBuf, f64)>() {
                    found.push(format!("{} {}", verb.get_name(), option.get_id()));
                }
            }
        }
        insta::assert_snapshot!(found.join("\n"), @"
        merge base
        merge adapters
        merge output
        merge imatrix
        inspect paths
        inspect html
        inspect base
        convert source
        convert output
        convert base
        quantize model
        quantize imatrix
        quantize output
        reduce adapter
        reduce output
        reduce base
        combine adapters
        combine output
        combine base
        extract base
        extract tuned
        extract output
        verify merged
        verify base
        verify adapters
        diff a
        diff b
        diff base
        ");
    }

    /// The possible values of an option.
    fn values(verb: &str, option: &str) -> Vec<String> {
        let cli = Cli::command();
        let verb = cli.find_subcommand(verb).unwrap();
        let option = verb.get_arguments().find(|known| known.get_id() == option).unwrap();
        option.get_possible_values().iter().map(|value| value.get_name().to_string()).collect()
    }

    fn names<T: Choice>() -> Vec<String> {
        T::all().iter().map(|choice| choice.name().to_string()).collect()
    }

    #[test]
    fn choices_are_those_of_the_library() {
        let formats: Vec<String> = formats().iter().map(|format| format.name.to_string()).collect();
        let mut any = vec!["hf".to_string()];
        any.extend(formats.clone());
        for (verb, option, expected) in [
            ("merge", "tied", names::<Tied>()),
            ("merge", "rounding", names::<MergeRounding>()),
            ("merge", "moe_b_layout", names::<MoeLayout>()),
            ("verify", "moe_b_layout", names::<MoeLayout>()),
            ("inspect", "runtime", names::<Runtime>()),
            ("convert", "to", any),
            ("reduce", "to", formats.clone()),
            ("reduce", "kohya_edition", names::<KohyaEdition>()),
            ("combine", "to", formats.clone()),
            ("combine", "method", names::<Method>()),
            ("combine", "style", names::<Style>()),
            ("combine", "majority_sign", names::<MajoritySign>()),
            ("extract", "to", formats),
            ("extract", "embeddings", names::<Embeddings>()),
        ] {
            assert_eq!(values(verb, option), expected, "{verb} {option}");
        }
    }

    #[test]
    fn of_a_misspelt_value_the_nearest_is_told() {
        for (line, nearest) in [
            ("merge a b -o c --tied untied", "untie"),
            ("merge a b -o c --dtype bf166", "bf16"),
            ("inspect a --for vlm", "vllm"),
            ("convert a -o b --to torchtun", "torchtune"),
            ("convert a -o b --to gguf --dtype q8_1", "q8_0"),
            ("combine a b -o c --method dare_tie", "dare_ties"),
            ("combine a b -o c --style mergkit", "mergekit"),
            ("extract a b -o c --auto --embeddings factor", "factors"),
            ("reduce a -o b --kohya sv_fro=0.9 --kohya-edition legcy", "legacy"),
        ] {
            let error = Cli::try_parse_from(["lorakit"].into_iter().chain(line.split(' '))).unwrap_err();
            let error = error.to_string();
            assert!(error.contains("similar value") && error.contains(&format!("'{nearest}'")), "{error}");
        }
    }

    /// A `_svd` method may be listed without that ending.
    #[test]
    fn every_method_and_format_is_in_its_how_to() {
        let combine = include_str!("../../../../docs/how-to/combine.md");
        for method in Method::all() {
            let name = method.name();
            let told = |name: &str| combine.contains(&format!("`{name}`"));
            assert!(told(name) || name.strip_suffix("_svd").is_some_and(told), "{name}");
        }
        let convert = include_str!("../../../../docs/how-to/convert-adapters.md");
        for format in formats() {
            assert!(convert.contains(&format!("`{}`", format.name)), "{}", format.name);
        }
    }

    #[test]
    fn a_list_of_types_needs_nothing_else() {
        let parse = |line: &str| Cli::try_parse_from(["lorakit"].into_iter().chain(line.split(' ')));
        let Command::Quantize(quantize) = parse("quantize --list").unwrap().command else { panic!() };
        assert!(quantize.list && quantize.output.is_none());
        let line = "quantize model -o out -n --type nf4";
        let Command::Quantize(quantize) = parse(line).unwrap().command else { panic!() };
        assert!(quantize.output.is_some_and(|output| output.dry_run && output.output == Path::new("out")));
        for line in ["quantize model --type nf4", "quantize -n --type nf4 model", "quantize --list -o out"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
