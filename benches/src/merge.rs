//! `lorakit merge` next to `cp -r`: how far a merge is from merely moving the bytes.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::measure::{self, Cost, median};
use crate::{Merge, generate};

/// Generates, runs both commands in turn and prints the medians.
pub(crate) fn run(args: &Merge) -> io::Result<()> {
    let program = args.whole.bin.clone().map_or_else(program, Ok)?;
    let work = tempfile::Builder::new().prefix("lorakit-bench-").tempdir_in(&args.whole.dir)?;
    let [base, adapter, copy, merged] =
        ["base", "adapter", "copy", "merged"].map(|name| work.path().join(name));
    generate::base(&base, args.layers)?;
    generate::adapter(&adapter, args.layers)?;
    let bytes = fs::metadata(base.join("model.safetensors"))?.len();

    let mut pairs = Vec::with_capacity(args.runs);
    for _ in 0..args.runs {
        let cp = measure::run(Command::new("cp").arg("-r").args([&base, &copy]))?;
        fs::remove_dir_all(&copy)?;
        let mut command = Command::new(&program);
        command.arg("merge").args([&base, &adapter]).arg("-o").arg(&merged).args(["-q", "--no-progress"]);
        pairs.push((cp, measure::run(command.args(&args.options))?));
        fs::remove_dir_all(&merged)?;
    }
    report(args, bytes, &pairs)
}

fn report(args: &Merge, bytes: u64, pairs: &[(Cost, Cost)]) -> io::Result<()> {
    let of = |value: fn(&(Cost, Cost)) -> f64| median(pairs.iter().map(value));
    let (cp_wall, merge_wall) = (of(|p| p.0.wall), of(|p| p.1.wall));
    let (cp_cpu, merge_cpu) = (of(|p| p.0.cpu), of(|p| p.1.cpu));
    // Taken pair by pair, so that a machine that slows down meanwhile slows both sides.
    let (wall_ratio, cpu_ratio) = (of(|p| p.1.wall / p.0.wall), of(|p| p.1.cpu / p.0.cpu));
    let anonymous = pairs.iter().map(|p| p.1.anonymous).max().unwrap_or(0);
    let mut out = io::stdout().lock();
    if args.whole.json {
        let object = json!({
            "schema": "lorakit.bench.merge/1",
            "layers": args.layers,
            "base_bytes": bytes,
            "runs": pairs.len(),
            "cp": { "wall_s": cp_wall, "cpu_s": cp_cpu },
            "merge": { "wall_s": merge_wall, "cpu_s": merge_cpu, "peak_anonymous_bytes": anonymous },
            "wall_ratio": wall_ratio,
            "cpu_ratio": cpu_ratio,
        });
        return writeln!(out, "{object}");
    }
    let (gb, n) = (bytes as f64 / 1e9, pairs.len());
    writeln!(out, "Llama-3.2-1B shape, {} layers, {gb:.2} GB bf16; medians of {n} pairs", args.layers)?;
    writeln!(out, "{:18}{:>8}{:>10}{:>8}", "", "cp -r", "merge", "ratio")?;
    writeln!(out, "{:18}{cp_wall:>8.2}{merge_wall:>10.2}{wall_ratio:>8.2}", "wall (s)")?;
    writeln!(out, "{:18}{cp_cpu:>8.2}{merge_cpu:>10.2}{cpu_ratio:>8.2}", "cpu (s)")?;
    writeln!(out, "{:18}{:>8.2}{:>10.2}", "speed (GB/s)", gb / cp_wall, gb / merge_wall)?;
    writeln!(out, "{:18}{:>8}{:>10.1}", "anonymous (MiB)", "", anonymous as f64 / f64::from(1 << 20))
}

/// The `lorakit` that was built next to this program.
pub(crate) fn program() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.parent().unwrap_or(Path::new(".")).join("lorakit");
    if path.is_file() {
        return Ok(path);
    }
    let message =
        format!("there is no `{}`: build it (cargo build --release) or name one (--bin)", path.display());
    Err(io::Error::new(io::ErrorKind::NotFound, message))
}
