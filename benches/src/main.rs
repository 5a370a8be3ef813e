//! Benchmarks of whole commands on realistic shapes.
//!
//! ```text
//! cargo build --release
//! cargo run --release -p lorakit-benches -- merge
//! ```
//!
//! Times are ratios to what the machine does at best at that moment, since absolute ones say little elsewhere.

mod generate;
mod measure;
mod merge;
mod shape;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Benchmarks of whole commands on realistic shapes
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    Merge(Merge),
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
    /// Where to work: room for twice the model is needed, in memory if disks should not count
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
    /// The program to measure [default: `lorakit` beside this program]
    #[arg(long)]
    bin: Option<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// More options for `lorakit merge`, after `--`
    #[arg(last = true)]
    options: Vec<String>,
}

fn main() -> std::io::Result<()> {
    match Args::parse().bench {
        Bench::Merge(args) => merge::run(&args),
    }
}
