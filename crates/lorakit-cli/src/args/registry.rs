//! `lorakit registry`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Args, Subcommand};
use lorakit_registry::export::Server;
use lorakit_registry::{Kind, Reference, Tag};

use super::output::output_path;
use super::values::one_of;

/// The registry, and what is done with it.
#[derive(Debug, Args)]
pub(crate) struct Registry {
    /// The registry: a folder, which is an OCI image layout [default: `store` in LORAKIT_HOME, or in the data folder]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) action: Action,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Add an adapter or a model
    Add(Add),
    /// List what there is
    #[command(alias = "ls")]
    List(List),
    /// Show one artifact: facts, files, findings, evaluations
    Show {
        /// `NAME:TAG`, `NAME@DIGEST`, or `NAME:TAG@{1}` for what the tag pointed to before
        #[arg(value_name = "NAME", value_parser = reference)]
        name: Reference,
    },
    /// Give an artifact another tag
    Tag {
        /// The artifact
        #[arg(value_name = "NAME", value_parser = reference)]
        name: Reference,
        /// The tag, `NAME:TAG`
        #[arg(value_name = "NEW", value_parser = tag)]
        new: Tag,
        #[command(flatten)]
        moved: Moved,
    },
    /// Remove a tag; the artifact stays until it is swept
    Untag {
        /// The tag, `NAME:TAG`
        #[arg(value_name = "TAG", value_parser = tag)]
        tag: Tag,
        /// Only if it points to this digest
        #[arg(long, value_name = "DIGEST", value_parser = digest)]
        expect: Option<lorakit_registry::Digest>,
    },
    /// Remove all tags of an artifact, and those of its evaluations and signatures
    #[command(alias = "remove")]
    Rm {
        /// The artifact
        #[arg(value_name = "NAME", value_parser = reference)]
        name: Reference,
    },
    /// Show how tags moved, the latest first
    Log {
        /// Only this tag
        #[arg(value_name = "TAG", value_parser = tag)]
        tag: Option<Tag>,
    },
    /// Show what was made from what
    Lineage {
        /// Only what it was made from, and what was made from it
        #[arg(value_name = "NAME", value_parser = reference)]
        name: Option<Reference>,
    },
    /// Compare two artifacts by what is known of them, and say whether a server can exchange them while it runs
    Diff {
        /// The first
        #[arg(value_name = "A", value_parser = reference)]
        a: Reference,
        /// The second
        #[arg(value_name = "B", value_parser = reference)]
        b: Reference,
    },
    /// List tags whose weights are the same
    Dup,
    /// Say how much is stored, and how much sharing saves
    Stats,
    /// Read artifacts and compare every byte with its digest; with keys or a policy, check signatures
    Verify(Verify),
    /// Sign an artifact or a folder, as OpenSSF Model Signing says
    Sign(Sign),
    /// Make a pair of keys to sign with
    Keygen {
        /// The file of the private key; the public key goes to FILE.pub
        #[arg(short, long, value_name = "FILE", value_parser = output_path())]
        output: PathBuf,
    },
    /// Look for damage in the registry
    Fsck {
        /// Read every byte, too
        #[arg(long)]
        read_data: bool,
    },
    /// Mend what can be mended, and say what is lost
    Repair,
    /// Find what nothing needs; remove it with --apply
    Gc(Sweep),
    /// Put an artifact into a folder
    Export(Export),
    /// Copy an artifact from another OCI image layout
    Import(Import),
    /// Evaluations of artifacts
    Eval {
        #[command(subcommand)]
        action: EvalAction,
    },
}

/// Whether a tag may move.
#[derive(Debug, Args)]
pub(crate) struct Moved {
    /// Move the tag if it points to something else
    #[arg(long, conflicts_with = "expect")]
    pub(crate) force: bool,
    /// Move the tag if it points to this digest
    #[arg(long, value_name = "DIGEST", value_parser = digest)]
    pub(crate) expect: Option<lorakit_registry::Digest>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lorakit registry add adapter/ sql:v1
  lorakit registry add adapter/ sql:v2 --base model/        # refused if it was trained on other weights
  lorakit registry add acme/sql-lora team/sql:2026-11       # from the hub cache
  lorakit merge model/ sql:v2 -o merged/                    # every command takes these names")]
pub(crate) struct Add {
    /// The adapter or model: a folder, a file, or an id of the hub
    pub(crate) path: PathBuf,
    /// What it is called: `NAME:TAG`
    #[arg(value_name = "NAME", value_parser = tag)]
    pub(crate) name: Tag,
    /// The base, to check that the adapter was trained on it
    #[arg(long, value_name = "BASE")]
    pub(crate) base: Option<PathBuf>,
    /// Take a base of other weights than the adapter's record names
    #[arg(long, requires = "base")]
    pub(crate) allow_base_mismatch: bool,
    /// Take values that are NaN or infinite
    #[arg(long)]
    pub(crate) allow_non_finite: bool,
    #[command(flatten)]
    pub(crate) moved: Moved,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lorakit registry list
  lorakit registry list 'team/*'
  lorakit registry list --base SmolLM2 --rank 8..32 --target q_proj
  lorakit registry list --metric exact=0.9 --sort exact     # at least 0.9, the best first")]
pub(crate) struct List {
    /// Only names like this, with `*` for any text
    #[arg(value_name = "PATTERN")]
    pub(crate) pattern: Option<String>,
    /// Only those of a base whose name contains this, or whose digest begins so
    #[arg(long, value_name = "TEXT")]
    pub(crate) base: Option<String>,
    /// Only those of this rank, or of ranks within a range: `16`, `8..32`
    #[arg(long, value_name = "RANK", value_parser = range)]
    pub(crate) rank: Option<(f64, f64)>,
    /// Only those that change this kind of module, e.g. q_proj
    #[arg(long, value_name = "MODULE")]
    pub(crate) target: Vec<String>,
    /// Only those whose evaluations have at least this figure: `NAME=VALUE`
    #[arg(long, value_name = "NAME=VALUE", value_parser = metric)]
    pub(crate) metric: Vec<(String, f64)>,
    /// Only adapters, or only models
    #[arg(long, value_name = "KIND", value_parser = kind())]
    pub(crate) kind: Option<Kind>,
    /// Sort by name, base, rank, size, added, or the figure of an evaluation; figures and times the largest first
    #[arg(long, value_name = "KEY", default_value = "name")]
    pub(crate) sort: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lorakit registry verify                                   # every byte of everything
  lorakit registry verify sql:v1 --key acme.pub             # and who signed it
  lorakit registry verify sql:v1 --trust trust.toml
  lorakit registry verify model/ --signature model.sig --key acme.pub   # a folder, with its signature beside it")]
pub(crate) struct Verify {
    /// Artifacts, or a folder [default: all artifacts]
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<PathBuf>,
    /// A public key, in PEM, that must have signed it; several for one of several
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Vec<PathBuf>,
    /// A policy: which names must be signed by which keys
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    pub(crate) trust: Option<PathBuf>,
    /// The signature of a folder
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) signature: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lorakit registry keygen -o acme.key                       # acme.key, acme.key.pub
  lorakit registry sign sql:v1 --key acme.key               # attached to it: sql:v1-sig-1
  lorakit registry sign model/ --key acme.key -o model.sig  # a folder that is not in the registry

Python's model-signing verifies it: `model_signing verify key model/ --signature model.sig --public_key acme.key.pub`.")]
pub(crate) struct Sign {
    /// The artifact, or a folder
    #[arg(value_name = "NAME")]
    pub(crate) name: PathBuf,
    /// The private key, in PEM: P-256
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// Write the signature here; of an artifact it is attached, too
    #[arg(short, long, value_name = "FILE", value_parser = output_path())]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Sweep {
    /// Remove it
    #[arg(long)]
    pub(crate) apply: bool,
    /// Spare what is younger than this
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration)]
    pub(crate) grace: Duration,
    /// Spare what tags pointed to within this time
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = duration)]
    pub(crate) history: Duration,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lorakit registry export sql:v2 adapter/
  lorakit registry export sql:v2 serving/ --for vllm --served-as smol    # serving/sql/v2/
  lorakit registry export sql:v2 serving/ --for peft

With --for, two versions lie side by side, and the line that loads this one is printed.")]
pub(crate) struct Export {
    /// The artifact
    #[arg(value_name = "NAME", value_parser = reference)]
    pub(crate) name: Reference,
    /// The folder
    #[arg(value_name = "DIR", value_parser = output_path())]
    pub(crate) folder: PathBuf,
    /// Lay it out for a server, and print the line that loads it
    #[arg(long = "for", value_name = "SERVER", value_parser = server())]
    pub(crate) server: Option<Server>,
    /// What the server calls the base; the exported configuration then says so
    #[arg(long, value_name = "NAME")]
    pub(crate) served_as: Option<String>,
    /// Replace an export that is there
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  skopeo copy docker://registry.example/team/sql:v1 oci:layout:sql:v1
  lorakit registry import layout sql:v1")]
pub(crate) struct Import {
    /// The OCI image layout: a folder
    #[arg(value_name = "LAYOUT")]
    pub(crate) layout: PathBuf,
    /// The tag in it
    #[arg(value_name = "TAG")]
    pub(crate) tag: String,
    /// What it is called here [default: the same]
    #[arg(value_name = "NAME", value_parser = tag)]
    pub(crate) name: Option<Tag>,
    #[command(flatten)]
    pub(crate) moved: Moved,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EvalAction {
    /// Attach figures to an artifact
    Add(EvalAdd),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lorakit registry eval add sql:v2 --metric exact=0.95 --metric bleu=31.2
  lorakit eval --model base/ --adapter sql:v2 --data heldout.jsonl --json > eval.json
  lorakit registry eval add sql:v2 --report eval.json")]
pub(crate) struct EvalAdd {
    /// The artifact
    #[arg(value_name = "NAME", value_parser = reference)]
    pub(crate) name: Reference,
    /// A figure: `NAME=VALUE`
    #[arg(long, value_name = "NAME=VALUE", value_parser = metric, required_unless_present = "report")]
    pub(crate) metric: Vec<(String, f64)>,
    /// A report in JSON, such as that of `lorakit eval --json`; its numbers become figures
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
}

fn reference(text: &str) -> Result<Reference, String> {
    Reference::parse(text).map_err(|error| error.to_string())
}

fn tag(text: &str) -> Result<Tag, String> {
    match Reference::parse(text) {
        Ok(Reference::Tag(tag)) => Ok(tag),
        Ok(_) => Err("must be a tag, such as `NAME:TAG`".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn digest(text: &str) -> Result<lorakit_registry::Digest, String> {
    text.parse().map_err(|error: lorakit_registry::NotADigest| error.to_string())
}

fn metric(text: &str) -> Result<(String, f64), String> {
    lorakit_registry::Evaluation::metric(text).map_err(|error| error.to_string())
}

fn range(text: &str) -> Result<(f64, f64), String> {
    let (least, most) = text.split_once("..").unwrap_or((text, text));
    match (least.parse::<f64>(), most.parse::<f64>()) {
        (Ok(least), Ok(most)) if least <= most => Ok((least, most)),
        _ => Err("must be a number or a range, such as `16` or `8..32`".into()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => 0,
    };
    let seconds = digits.parse::<u64>().ok().filter(|_| unit > 0).and_then(|count| count.checked_mul(unit));
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| "must be a time, such as `30d`, `24h`, `10m` or `0s`".into())
}

fn kind() -> impl TypedValueParser<Value = Kind> {
    one_of(vec![
        (PossibleValue::new("adapter"), Kind::Adapter),
        (
            PossibleValue::new("merged").alias("model").help("a model: merged, quantised or any other"),
            Kind::Merged,
        ),
    ])
}

fn server() -> impl TypedValueParser<Value = Server> {
    one_of(vec![
        (PossibleValue::new("vllm"), Server::Vllm),
        (PossibleValue::new("sglang"), Server::Sglang),
        (PossibleValue::new("llama.cpp").alias("llama-server"), Server::LlamaCpp),
        (PossibleValue::new("peft").alias("transformers"), Server::Peft),
    ])
}
