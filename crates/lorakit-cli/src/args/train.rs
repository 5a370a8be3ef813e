//! `lorakit train`: an option for each key of a run, made of the table of keys.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Args, Command, FromArgMatches};
use lorakit_train::settings::{KEYS, Key, Kind};

use super::output::output_path;

/// Keys that are options of every command.
const COMMON: &[&str] = &["threads"];

/// What is typed for a run.
#[derive(Debug)]
pub(crate) struct Train {
    pub(crate) fixed: Fixed,
    /// The keys that options set, in the order of the table.
    pub(crate) keys: Vec<(&'static str, String)>,
}

/// What is no key.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("instead").args(["print_config", "check_data", "estimate", "import"])),
    after_help = "Examples:
  lorakit train --model base/ --data rows.jsonl -o adapter/
  lorakit train -c run.yaml                         # keys as a file
  lorakit train -c run.yaml lora.r=32 --lr 1e-4     # what is typed wins
  lorakit train -c run.yaml --check-data            # what is trained, in colour
  lorakit train -c run.yaml --estimate              # tokens a second, time, memory
  lorakit train -c run.yaml --resume                # go on at the latest checkpoint
  lorakit train -c run.yaml --html run.html         # curves and samples as a page
  lorakit train --import axolotl.yml > run.yaml     # from axolotl or LLaMA-Factory
  lorakit train --model base/ --adapter adapter/ --data more.jsonl -o refined/"
)]
pub(crate) struct Fixed {
    /// A YAML file with keys: the options below, with `_` for `-`, and groups such as `lora:`
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Keys with values, as in `lora.r=32`
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) pairs: Vec<String>,
    /// Print all keys with their values as YAML, and end
    #[arg(long)]
    pub(crate) print_config: bool,
    /// Print the settings that do the same as this configuration of axolotl or LLaMA-Factory, with what is typed besides,
    /// as YAML, and end; what has no equivalent is named, or refused if it decides the adapter
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    pub(crate) import: Option<PathBuf>,
    /// Read the rows, print what would be trained, and end
    #[arg(long)]
    pub(crate) check_data: bool,
    /// Print speed, time and memory that the run will take, and end
    #[arg(short = 'n', long, visible_alias = "dry-run")]
    pub(crate) estimate: bool,
    /// Write curves, samples and settings as one self-contained HTML page when the run ends, also if it is interrupted;
    /// a run that goes on replaces it
    #[arg(long, value_name = "FILE", value_parser = output_path(), conflicts_with = "instead")]
    pub(crate) html: Option<PathBuf>,
    /// Replace an existing page
    #[arg(long, requires = "html")]
    pub(crate) force: bool,
}

impl Args for Train {
    fn augment_args(command: Command) -> Command {
        let command = Fixed::augment_args(command);
        options().fold(command, |command, key| command.arg(option(key)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Train {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let typed = |key: &'static Key| {
            let values: Vec<&String> = matches.get_many(&id(key))?.collect();
            let text = match values.as_slice() {
                [one] => (*one).clone(),
                // A list in one line; strings are written in YAML as in JSON.
                several => serde_json::json!(several).to_string(),
            };
            Some((key.name, text))
        };
        Ok(Train { fixed: Fixed::from_arg_matches(matches)?, keys: options().filter_map(typed).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The keys that are options here.
fn options() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(|key| !COMMON.contains(&key.name))
}

fn id(key: &Key) -> String {
    key.name.replace('.', "_")
}

/// The option of a key.
fn option(key: &'static Key) -> Arg {
    let default = match key.default {
        "null" | "{}" | "[]" => String::new(),
        default => format!(" [default: {default}]"),
    };
    let option = Arg::new(id(key))
        .long(key.name.replace(['.', '_'], "-"))
        .help(format!("{}{default}", key.help))
        .help_heading(key.section.title())
        .value_name(placeholder(key.kind))
        .action(if is_list(key.kind) { ArgAction::Append } else { ArgAction::Set });
    match key.name {
        "output" => option.short('o'),
        "resume" => option.num_args(0..=1).default_missing_value("auto"),
        _ if key.kind == Kind::Switch => option.num_args(0..=1).default_missing_value("true"),
        _ => option,
    }
}

/// Whether an option may be repeated.
fn is_list(kind: Kind) -> bool {
    matches!(kind, Kind::Texts | Kind::Sources | Kind::Held | Kind::Choices(_))
}

fn placeholder(kind: Kind) -> String {
    match kind {
        Kind::Path | Kind::Sources => "PATH".into(),
        Kind::Held => "PATH|SHARE".into(),
        Kind::Text | Kind::Texts => "NAME".into(),
        Kind::Count => "N".into(),
        Kind::Number => "X".into(),
        Kind::Pair => "[X, Y]".into(),
        Kind::Switch => "true|false".into(),
        Kind::Choice(names) | Kind::Choices(names) => names.join("|"),
        Kind::Size => "SIZE".into(),
        Kind::Layers => "LAYERS".into(),
        Kind::Map => "MAP".into(),
        Kind::Day => "DAY".into(),
        _ => "VALUE".into(),
    }
}
