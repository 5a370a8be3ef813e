//! `lorakit inspect --recursive` on very many adapters, beside reading their headers.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use lorakit_tensor::format::safetensors;
use serde_json::json;

use crate::measure::{self, median};
use crate::merge::program;
use crate::{Audit, shape};

/// Generates the adapters, lists them a few times and prints the medians.
pub(crate) fn run(args: &Audit) -> io::Result<()> {
    let bin = args.whole.bin.clone().map_or_else(program, Ok)?;
    let work = tempfile::Builder::new().prefix("lorakit-bench-").tempdir_in(&args.whole.dir)?;
    let (files, header) = generate(work.path(), args.adapters, args.layers)?;
    let (mut read, mut costs) = (Vec::new(), Vec::new());
    for _ in 0..args.runs {
        let start = Instant::now();
        for file in &files {
            File::open(file)?.read_exact(&mut vec![0; header])?;
        }
        read.push(start.elapsed().as_secs_f64());
        let mut command = Command::new(&bin);
        command.args(["inspect", "--recursive"]).arg(work.path()).args(["--json", "--no-progress"]);
        costs.push(measure::run(command.args(&args.options))?);
    }
    let (wall, cpu) = (median(costs.iter().map(|c| c.wall)), median(costs.iter().map(|c| c.cpu)));
    let (read, n) = (median(read.into_iter()), costs.len());
    let mut out = io::stdout().lock();
    if args.whole.json {
        let object = json!({
            "schema": "lorakit.bench.audit/1", "adapters": args.adapters, "header_bytes": header, "runs": n,
            "read_s": read, "wall_s": wall, "cpu_s": cpu,
        });
        return writeln!(out, "{object}");
    }
    writeln!(out, "{} adapters with headers of {header} bytes; medians of {n} runs", args.adapters)?;
    writeln!(out, "{:24}{read:>8.3}", "reading headers (s)")?;
    writeln!(out, "{:24}{wall:>8.3}", "wall (s)")?;
    writeln!(out, "{:24}{cpu:>8.3}", "cpu (s)")
}

/// Writes adapters whose values are holes in their files. Returns the tensor files, and the size of each header.
fn generate(folder: &Path, adapters: usize, layers: usize) -> io::Result<(Vec<PathBuf>, usize)> {
    let layout = safetensors::layout(&[("format".into(), "pt".into())].into(), &shape::adapter(layers))
        .map_err(|e| io::Error::other(e.to_string()))?;
    let config = shape::adapter_config().to_string();
    let mut files = Vec::with_capacity(adapters);
    for i in 0..adapters {
        let adapter = folder.join(format!("team-{}/adapter-{i}", i / 100));
        fs::create_dir_all(&adapter)?;
        fs::write(adapter.join("adapter_config.json"), &config)?;
        let path = adapter.join("adapter_model.safetensors");
        let mut file = File::create(&path)?;
        file.write_all(&layout.header)?;
        file.set_len(layout.len)?;
        files.push(path);
    }
    Ok((files, layout.header.len()))
}
