//! The command line, a file for each verb. Nothing outside this folder, `habits/` and `command/` knows clap.

mod combine;
mod convert;
mod diff;
mod edit;
mod effect;
mod eval;
mod extract;
mod formats;
mod generate;
mod inspect;
mod listed;
mod merge;
mod output;
mod quantize;
mod reduce;
mod registry;
mod strength;
mod trace;
mod train;
mod values;
mod verify;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

pub(crate) use combine::Combine;
pub(crate) use convert::Convert;
pub(crate) use diff::Diff;
pub(crate) use edit::Edit;
pub(crate) use effect::check;
pub(crate) use eval::{Eval, FailOnOutcome};
pub(crate) use extract::Extract;
pub(crate) use formats::Format;
pub(crate) use generate::Generate;
pub(crate) use inspect::Inspect;
pub(crate) use merge::{Merge, MergeFormat, MergeQuantize};
use output::output_path;
pub(crate) use quantize::{Mixing, Quantize, is_type};
pub(crate) use reduce::Reduce;
pub(crate) use registry::{
    Action, Add, EvalAction, EvalAdd, Export, Import, List, Moved, Registry, Sign, Sweep,
    Verify as RegistryVerify,
};
pub(crate) use trace::{Push, TraceAction};
pub(crate) use train::Train;
pub(crate) use values::{Stored, is_gguf_file};
use values::{level, switch, threads};
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
          hide_default_value = true, env = "LORAKIT_THREADS", hide_env_values = true)]
    pub(crate) threads: usize,
    /// Only print results (no notes, no progress bar); twice: only errors
    #[arg(short, long, global = true, action = ArgAction::Count, value_parser = level, env = "LORAKIT_QUIET",
          hide_env_values = true)]
    pub(crate) quiet: u8,
    /// Print the decision for each tensor
    #[arg(short, long, global = true, action = ArgAction::Count, value_parser = level, env = "LORAKIT_VERBOSE",
          hide_env_values = true)]
    pub(crate) verbose: u8,
    /// Show no progress bar
    #[arg(long, global = true, value_parser = switch, env = "LORAKIT_NO_PROGRESS", hide_env_values = true)]
    pub(crate) no_progress: bool,
    /// When to use colour
    #[arg(
        long,
        alias = "colour",
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        ignore_case = true,
        env = "LORAKIT_COLOR",
        hide_env_values = true
    )]
    pub(crate) color: Color,
    /// Read inputs by position instead of mapping them (network file systems)
    #[arg(long, global = true, value_parser = switch, env = "LORAKIT_NO_MMAP", hide_env_values = true)]
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
    #[command(alias = "fuse")]
    Merge(Merge),
    /// Show what an adapter or a model contains
    #[command(aliases = ["info", "show", "ls"])]
    Inspect(Inspect),
    /// Convert an adapter or a model to another format
    #[command(alias = "export")]
    Convert(Convert),
    /// Store a model in fewer bits: GGUF mixes, NF4, FP4, INT8, FP8, MXFP8, MXFP4
    #[command(aliases = ["quantise", "quant"])]
    Quantize(Quantize),
    /// Lower the rank of an adapter with the least possible loss
    #[command(alias = "resize")]
    Reduce(Reduce),
    /// Combine adapters into one
    Combine(Combine),
    /// Extract an adapter from a fine-tuned model: the difference from its base
    Extract(Extract),
    /// Edit an adapter without computing: base, licence, tags, alpha, dtype, prefixes of paths
    Edit(Edit),
    /// Check that a model is a base plus adapters, and report what differs
    Verify(Verify),
    /// Compare two adapters, or two models: what changed, by how much, in which direction
    #[command(alias = "compare")]
    Diff(Diff),
    /// Fine-tune an adapter on a CPU, on a base that stays in four bits
    #[command(aliases = ["finetune", "fine-tune", "sft"])]
    Train(Train),
    /// Judge whether a fine-tune helped: losses, answers and forgetting, with intervals
    #[command(alias = "evaluate")]
    Eval(Eval),
    /// Answer prompts with a base and adapters, on a CPU
    #[command(aliases = ["gen", "chat"])]
    Generate(Generate),
    /// Traces of runs: send those that wait in files
    Trace {
        #[command(subcommand)]
        action: TraceAction,
    },
    /// Keep adapters and models: names, versions, lineage, evaluations
    Registry(Registry),
    /// Print what a bug report needs: version, processor, limits, variables
    Env,
    /// Print a completion script for a shell
    #[command(
        alias = "completion",
        after_help = "Examples:
  lorakit completions bash > ~/.local/share/bash-completion/completions/lorakit
  lorakit completions zsh > ~/.zfunc/_lorakit        # a folder of $fpath
  lorakit completions fish > ~/.config/fish/completions/lorakit.fish

Shells complete whole words, so the types in `--tensor-type REGEX=TYPE` are not offered."
    )]
    Completions {
        /// bash, zsh, fish, elvish or powershell
        #[arg(ignore_case = true)]
        shell: clap_complete::Shell,
    },
    /// Print the manual page of the command, or of one of its commands
    #[command(after_help = "Examples:
  lorakit man | man -l -
  lorakit man merge
  lorakit man --dir /usr/local/share/man/man1")]
    Man {
        /// The command that the page is about
        #[arg(value_name = "COMMAND")]
        verb: Option<String>,
        /// Write every page to this folder: `lorakit.1`, `lorakit-merge.1`, ...
        #[arg(long, value_name = "DIR", conflicts_with = "verb", value_parser = output_path())]
        dir: Option<PathBuf>,
    },
    /// Print the version
    Version,
}

/// The whole command line: what is declared, and what follows from that.
pub(crate) fn command() -> clap::Command {
    let declared = Cli::command();
    let verb = |verb: &clap::Command| {
        let aliases: Vec<String> = verb.get_all_aliases().map(str::to_string).collect();
        PossibleValue::new(verb.get_name().to_string()).aliases(aliases)
    };
    let verbs: Vec<PossibleValue> = declared.get_subcommands().map(verb).collect();
    let verbs = PossibleValuesParser::new(verbs);
    declared
        .mut_subcommand("man", |man| {
            man.mut_arg("verb", |arg| arg.value_parser(verbs).hide_possible_values(true).ignore_case(true))
        })
        .mut_args(unless_empty)
        .mut_subcommands(|verb| verb.mut_args(unless_empty))
}

/// A variable that is set to nothing is not set.
fn unless_empty(arg: clap::Arg) -> clap::Arg {
    let is_empty = |arg: &clap::Arg| std::env::var_os(arg.get_env()?).map(|value| value.is_empty());
    if is_empty(&arg) == Some(true) { arg.env(None::<&'static str>) } else { arg }
}

/// The command line, parsed, and which of its options were typed.
pub(crate) fn parse(args: &[OsString]) -> Result<(Cli, ArgMatches), clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(args)?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    Ok((cli, matches))
}

impl Command {
    /// Where the command writes, if the path must be free.
    pub(crate) fn new_output(&mut self) -> Option<&Path> {
        let output = self.output()?;
        (!output.dry_run && !output.force).then_some(&*output.output)
    }

    /// Where the command writes an adapter or a model.
    pub(crate) fn output(&mut self) -> Option<&mut output::Output> {
        match self {
            Command::Merge(args) => Some(&mut args.output),
            Command::Convert(args) => Some(&mut args.output),
            Command::Reduce(args) => Some(&mut args.output),
            Command::Combine(args) => Some(&mut args.output),
            Command::Extract(args) => Some(&mut args.output),
            Command::Edit(args) => Some(&mut args.output),
            Command::Quantize(args) => args.output.as_mut(),
            Command::Inspect(_)
            | Command::Verify(_)
            | Command::Diff(_)
            | Command::Train(_)
            | Command::Eval(_)
            | Command::Generate(_)
            | Command::Trace { .. }
            | Command::Registry(_)
            | Command::Env
            | Command::Completions { .. }
            | Command::Man { .. }
            | Command::Version => None,
        }
    }

    /// The adapters and models that the command reads.
    pub(crate) fn inputs(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Command::Merge(args) => {
                [&mut args.base].into_iter().chain(args.adapters.iter_mut().map(|(path, _)| path)).collect()
            }
            Command::Inspect(args) => args.paths.iter_mut().chain(&mut args.base).collect(),
            Command::Convert(args) => [&mut args.source].into_iter().chain(&mut args.base).collect(),
            Command::Quantize(args) => args.model.iter_mut().collect(),
            Command::Reduce(args) => [&mut args.adapter].into_iter().chain(&mut args.format.base).collect(),
            Command::Edit(args) => [&mut args.adapter].into_iter().chain(&mut args.base).collect(),
            Command::Combine(args) => {
                let bases = args.written.format.base.iter_mut().chain(&mut args.tuning.model);
                args.adapters.iter_mut().map(|(path, _)| path).chain(bases).collect()
            }
            Command::Extract(args) => vec![&mut args.base, &mut args.tuned],
            Command::Verify(args) => [&mut args.merged, &mut args.base]
                .into_iter()
                .chain(args.adapters.iter_mut().map(|(path, _)| path))
                .collect(),
            Command::Diff(args) => [&mut args.a, &mut args.b].into_iter().chain(&mut args.base).collect(),
            Command::Eval(args) => {
                let adapters = args.adapters.iter_mut().chain(&mut args.against).map(|(path, _)| path);
                args.models.iter_mut().chain(adapters).collect()
            }
            Command::Generate(args) => {
                [&mut args.model].into_iter().chain(args.adapters.iter_mut().map(|(path, _)| path)).collect()
            }
            Command::Registry(Registry { action: Action::Add(args), .. }) => {
                [&mut args.path].into_iter().chain(&mut args.base).collect()
            }
            // A run names its inputs in a file as well.
            Command::Train(_)
            | Command::Trace { .. }
            | Command::Registry(_)
            | Command::Env
            | Command::Completions { .. }
            | Command::Man { .. }
            | Command::Version => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::any::TypeId;

    use std::path::PathBuf;

    use clap::CommandFactory;
    use lorakit::Choice;
    use lorakit::ops::audit::{FailOn, Sort};
    use lorakit::ops::combine::{MajoritySign, Method, Style};
    use lorakit::ops::convert::adapter::formats;
    use lorakit::ops::extract::Embeddings;
    use lorakit::ops::inspect::Runtime;
    use lorakit::ops::merge::{MergeRounding, MoeLayout, Tied};
    use lorakit::ops::reduce::KohyaEdition;

    use super::*;

    /// What a line means where no variable is set.
    fn parse(line: &str) -> Result<Cli, clap::Error> {
        let unset = |arg: clap::Arg| arg.env(None::<&'static str>);
        let command = command().mut_args(unset).mut_subcommands(|verb| verb.mut_args(unset));
        let matches = command.try_get_matches_from(["lorakit"].into_iter().chain(line.split(' ')))?;
        Ok(Cli::from_arg_matches(&matches).unwrap())
    }

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
        inspect policy
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
        combine tune
        combine model
        combine chat_template
        extract base
        extract tuned
        extract output
        edit adapter
        edit output
        edit base
        verify merged
        verify base
        verify adapters
        diff a
        diff b
        diff base
        train config
        train import
        train html
        eval models
        eval adapters
        eval against
        eval data
        eval chat_template
        eval schema
        eval regression
        eval html
        generate model
        generate adapters
        generate messages
        generate data
        generate chat_template
        registry store
        man dir
        ");
    }

    /// Every option that names a path may name an adapter or a model by its id, except for these.
    #[test]
    fn every_input_is_known() {
        let lines = [
            "merge o/base o/adapters -o out",
            "inspect o/paths --base o/base",
            "convert o/source -o out --to gguf --base o/base",
            "quantize o/model -o out --type nf4",
            "reduce o/adapter -o out --base o/base",
            "combine o/adapters -o out --base o/base --model o/model --tune rows",
            "extract o/base o/tuned -o out --auto",
            "verify o/merged --base o/base --adapter o/adapters",
            "diff o/a o/b --base o/base",
            "edit o/adapter -o out --fold-alpha --base o/base",
            "eval --model o/models --adapter o/adapters --against o/against --data rows",
            "generate --model o/model --adapter o/adapters --chat",
        ];
        let no_inputs = [
            "output",
            "html",
            "imatrix",
            "dir",
            "policy",
            "config",
            "messages",
            "data",
            "regression",
            "schema",
            "chat_template",
            "tune",
            "import",
            "store",
        ];
        for verb in Cli::command().get_subcommands() {
            let paths = verb.get_arguments().filter(|option| {
                let parsed = option.get_value_parser().type_id();
                parsed == TypeId::of::<PathBuf>() || parsed == TypeId::of::<(PathBuf, f64)>()
            });
            let ids = paths.map(|option| option.get_id().to_string());
            let mut expected: Vec<String> =
                ids.filter(|id| !no_inputs.contains(&id.as_str())).map(|id| format!("o/{id}")).collect();
            let line = lines.iter().find(|line| line.split(' ').next() == Some(verb.get_name()));
            let mut found: Vec<String> = line.map_or_else(Vec::new, |line| {
                let mut cli = parse(line).unwrap();
                cli.command.inputs().iter().map(|path| path.display().to_string()).collect()
            });
            expected.sort();
            found.sort();
            assert_eq!(found, expected, "{}", verb.get_name());
        }
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
            ("inspect", "sort", names::<Sort>()),
            ("inspect", "fail_on", names::<FailOn>()),
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
            ("inspect -r a --sort finding", "findings"),
            ("inspect a --fail-on warnings", "warning"),
            ("convert a -o b --to torchtun", "torchtune"),
            ("convert a -o b --to gguf --dtype q8_1", "q8_0"),
            ("combine a b -o c --method dare_tie", "dare_ties"),
            ("combine a b -o c --style mergkit", "mergekit"),
            ("extract a b -o c --auto --embeddings factor", "factors"),
            ("reduce a -o b --kohya sv_fro=0.9 --kohya-edition legcy", "legacy"),
            ("combine a b -o c --method TIEZ", "ties"),
            ("merge a b -o c --lineage ALLWAYS", "always"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains("similar value") && error.contains(&format!("'{nearest}'")), "{error}");
        }
    }

    #[test]
    fn values_are_taken_in_any_case() {
        for line in [
            "combine a b -o c --method TIES --style MergeKit --majority-sign Total",
            "merge a b -o c --lineage ALWAYS --dtype BF16 --tied Share --format GGUF --color Never",
            "merge a b -o c.gguf --quantize q4_k_m --promote q6_k",
            "inspect a --for vLLM",
            "convert a -o b --to PEFT --dtype Q8_0",
            "completions Bash",
            "man Merge",
            "man quantise",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn a_switch_may_be_repeated() {
        let Cli { common, .. } = parse("inspect a -vvv -q -q").unwrap();
        assert_eq!((common.verbose, common.quiet), (3, 2));
        assert_eq!(parse("-v inspect a").unwrap().common.verbose, 1);
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
