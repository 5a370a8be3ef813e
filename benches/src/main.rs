//! Benchmarks of whole commands on realistic shapes, and of encoders.
//!
//! ```text
//! cargo build --release
//! cargo run --release -p lorakit-benches -- merge
//! cargo run --release -p lorakit-benches -- encode
//! cargo run --release -p lorakit-benches -- reduce
//! cargo run --release -p lorakit-benches -- combine
//! cargo run --release -p lorakit-benches -- many
//! cargo run --release -p lorakit-benches -- audit
//! cargo run --release -p lorakit-benches -- train
//! ```
//!
//! Times are ratios to what the machine can do at best at that moment, since absolute times mean little elsewhere.

mod audit;
mod combine;
mod encode;
mod generate;
mod many;
mod measure;
mod merge;
mod reduce;
mod shape;
mod train;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use lorakit_tensor::DType;

/// Benchmarks of whole commands on realistic shapes
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    Audit(Audit),
    Combine(Combine),
    Encode(Encode),
    Many(Many),
    Merge(Merge),
    Reduce(Reduce),
    Train(train::Args),
}

/// Encode bell-shaped values as every quantised type, on one core
#[derive(Debug, clap::Args)]
struct Encode {
    /// Only this type
    #[arg(long = "type", value_name = "TYPE", value_parser = dtype)]
    dtype: Option<DType>,
    /// Values, in whole rows of 4096
    #[arg(long, default_value_t = 1 << 22)]
    values: usize,
    /// Runs of each encoder
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
}

/// Options shared by benchmarks of whole commands.
#[derive(Debug, clap::Args)]
struct WholeCommand {
    /// Where to work: room for twice the files is needed, in memory if disks should not count
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
    /// The program to measure [default: `lorakit` beside this program]
    #[arg(long)]
    bin: Option<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// List adapters of the shape of Llama-3.2-1B with `inspect --recursive`, beside reading their headers
#[derive(Debug, clap::Args)]
struct Audit {
    /// Adapters
    #[arg(long, default_value_t = 1000)]
    adapters: usize,
    /// Layers of the model
    #[arg(long, default_value_t = 16)]
    layers: usize,
    /// Runs
    #[arg(long, default_value_t = 5)]
    runs: usize,
    #[command(flatten)]
    whole: WholeCommand,
    /// More options for `lorakit inspect`, after `--`
    #[arg(last = true)]
    options: Vec<String>,
}

/// Merge an r=16 adapter on all linear layers into a Llama-3.2-1B-shaped model, beside `cp -r`
#[derive(Debug, clap::Args)]
struct Merge {
    /// Layers of the model; 16 make 2.47 GB
    #[arg(long, default_value_t = 16)]
    layers: usize,
    /// Pairs of runs
    #[arg(long, default_value_t = 5)]
    runs: usize,
    #[command(flatten)]
    whole: WholeCommand,
    /// More options for `lorakit merge`, after `--`
    #[arg(last = true)]
    options: Vec<String>,
}

/// Reduce an r=64 adapter on all linear layers of a Llama-3-8B-shaped model (bf16) to r=16
#[derive(Debug, clap::Args)]
struct Reduce {
    /// Layers of the model; 32 make an adapter of 336 MB
    #[arg(long, default_value_t = 32)]
    layers: usize,
    /// Runs
    #[arg(long, default_value_t = 3)]
    runs: usize,
    #[command(flatten)]
    whole: WholeCommand,
    /// Options for `lorakit reduce`, after `--`, instead of `--rank 16`
    #[arg(last = true)]
    options: Vec<String>,
}

/// Combine two r=64 adapters on all linear layers of a Llama-3-8B-shaped model (bf16)
#[derive(Debug, clap::Args)]
struct Combine {
    /// Layers of the model; 32 make adapters of 336 MB
    #[arg(long, default_value_t = 32)]
    layers: usize,
    /// Methods
    #[arg(long, value_delimiter = ',', default_values = ["cat", "linear", "svd"])]
    method: Vec<String>,
    /// Runs of each
    #[arg(long, default_value_t = 3)]
    runs: usize,
    #[command(flatten)]
    whole: WholeCommand,
    /// More options for `lorakit combine`, after `--`
    #[arg(last = true)]
    options: Vec<String>,
}

/// Time every verb on models of very many small tensors, at half of them and at all: what is linear takes twice as long
#[derive(Debug, clap::Args)]
struct Many {
    /// Tensors of each model
    #[arg(long, default_value_t = 200_000)]
    tensors: usize,
    /// Modules of each adapter
    #[arg(long, default_value_t = 50_000)]
    modules: usize,
    /// Only cases with one of these in their names, and those whose outputs they need
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<String>,
    /// Only at the whole number
    #[arg(long)]
    once: bool,
    /// Also tell each case to stop, at several moments, and print how long that takes at worst
    #[arg(long)]
    stop: bool,
    /// Seconds that a case may take
    #[arg(long, default_value_t = 30.0)]
    limit: f64,
    /// Print each time on stderr as soon as it is known
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    whole: WholeCommand,
}

fn dtype(name: &str) -> Result<DType, String> {
    DType::from_name(name).ok_or_else(|| "there is no such type".to_string())
}

fn main() -> std::io::Result<()> {
    match Args::parse().bench {
        Bench::Audit(args) => audit::run(&args),
        Bench::Combine(args) => combine::run(&args),
        Bench::Encode(args) => encode::run(&args),
        Bench::Many(args) => many::run(&args),
        Bench::Merge(args) => merge::run(&args),
        Bench::Reduce(args) => reduce::run(&args),
        Bench::Train(args) => train::run(&args),
    }
}
