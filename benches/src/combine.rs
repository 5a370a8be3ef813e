//! `lorakit combine` of two large adapters.

use std::fs;
use std::io::{self, Write};
use std::process::Command;

use serde_json::json;

use crate::Combine;
use crate::measure::{self, median};
use crate::merge::program;
use crate::reduce::{self, RANK};

/// Generates the adapters, combines them a few times with each method and prints the medians.
pub(crate) fn run(args: &Combine) -> io::Result<()> {
    let bin = args.whole.bin.clone().map_or_else(program, Ok)?;
    let work = tempfile::Builder::new().prefix("lorakit-bench-").tempdir_in(&args.whole.dir)?;
    let [one, two, both] = ["one", "two", "both"].map(|name| work.path().join(name));
    reduce::write(&one, args.layers, 0)?;
    reduce::write(&two, args.layers, 1)?;
    let mut out = io::stdout().lock();
    if !args.whole.json {
        let (layers, runs) = (args.layers, args.runs);
        writeln!(out, "two of r={RANK} on Llama-3-8B shape, {layers} layers, bf16; medians of {runs} runs")?;
        writeln!(out, "{:18}{:>10}{:>10}{:>18}", "", "wall (s)", "cpu (s)", "anonymous (MiB)")?;
    }
    for method in &args.method {
        let mut costs = Vec::with_capacity(args.runs);
        for _ in 0..args.runs {
            let mut command = Command::new(&bin);
            command.arg("combine").args([&one, &two]).arg("-o").arg(&both).args(["--method", method]);
            costs.push(measure::run(command.arg("--no-progress").args(&args.options))?);
            fs::remove_dir_all(&both)?;
        }
        let (wall, cpu) = (median(costs.iter().map(|c| c.wall)), median(costs.iter().map(|c| c.cpu)));
        let anonymous = costs.iter().map(|c| c.anonymous).max().unwrap_or(0);
        if args.whole.json {
            let object = json!({
                "schema": "lorakit.bench.combine/1", "layers": args.layers, "method": method,
                "options": args.options, "runs": costs.len(), "wall_s": wall, "cpu_s": cpu,
                "peak_anonymous_bytes": anonymous,
            });
            writeln!(out, "{object}")?;
        } else {
            let mib = anonymous as f64 / f64::from(1 << 20);
            writeln!(out, "{method:18}{wall:>10.2}{cpu:>10.2}{mib:>18.1}")?;
        }
    }
    Ok(())
}
