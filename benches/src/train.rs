//! Training: products, steps and the decoding of a token, beside what the machine can do at best.
#![allow(clippy::print_stdout, reason = "what it is for")]

mod decode;
mod measure;
mod peaks;
mod products;
mod step;

use std::io;

use lorakit_train::kernel::{Compute, kernels};
use lorakit_train::model::Recompute;

/// Products with frozen weights beside the peaks of instructions, and training steps beside their products
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Layers of the model
    #[arg(long, default_value_t = 30)]
    layers: usize,
    /// Steps of each kind, of which the fastest counts
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Only these types of operands: f32, bf16
    #[arg(long, value_delimiter = ',', value_parser = compute, default_values = ["f32", "bf16"])]
    compute: Vec<Compute>,
    /// Only these levels of recomputation: a to d
    #[arg(long, value_delimiter = ',', value_parser = level, default_values = ["d", "c", "b", "a"])]
    level: Vec<Recompute>,
    /// Steps with so many threads each
    #[arg(long, value_delimiter = ',', default_values = ["1"])]
    threads: Vec<usize>,
    /// Measure only the decoding of a token
    #[arg(long)]
    decode: bool,
    /// Measure products of these kernels too
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    kernel: Vec<String>,
}

fn compute(name: &str) -> Result<Compute, String> {
    match name {
        "f32" => Ok(Compute::F32),
        "bf16" => Ok(Compute::Bf16),
        _ => Err("f32 or bf16".to_owned()),
    }
}

fn level(name: &str) -> Result<Recompute, String> {
    match name {
        "a" => Ok(Recompute::Nothing),
        "b" => Ok(Recompute::Halves),
        "c" => Ok(Recompute::Mlp),
        "d" => Ok(Recompute::Layers),
        _ => Err("a, b, c or d".to_owned()),
    }
}

pub(crate) fn run(args: &Args) -> io::Result<()> {
    let threads = args.threads.iter().copied().max().unwrap_or(1);
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .use_current_thread()
        .build_global()
        .map_err(io::Error::other)?;
    if args.decode {
        decode::run(&step::model(args.layers));
        return Ok(());
    }
    for compute in &args.compute {
        for (at, kernel) in kernels(*compute).into_iter().enumerate() {
            let named = args.kernel.iter().any(|name| name == kernel.name);
            if at == 0 || named {
                let peak = peaks::peak(kernel);
                println!("{} {compute:?}: peak {peak:.0} GFLOP/s", kernel.name);
                if named {
                    products::run(kernel, peak);
                }
            }
        }
    }
    let model = step::model(args.layers);
    decode::run(&model);
    step::run(&model, args)
}
