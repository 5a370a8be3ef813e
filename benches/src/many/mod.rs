//! Every verb on models of very many small tensors: the work for each tensor must not take longer the more of them
//! there are.
//!
//! Each verb is timed at half the number of tensors and at the whole: the ratio of a linear one is 2, in processor
//! time, which other programs disturb less. With `--stop` each also runs once for every moment in [`MOMENTS`], at which
//! it is told to stop.

mod cases;
mod models;

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::Many;
use crate::measure::{self, Cost};
use crate::merge::program;
use cases::Case;

/// Shares of a verb's time after which it is told to stop.
const MOMENTS: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];

/// The measurements of one case.
struct Row {
    name: &'static str,
    half: Option<Cost>,
    whole: Cost,
    /// Seconds from the signal to the end, at worst, if that was asked for.
    stop: Option<f64>,
}

/// Runs every case that is asked for, and those whose outputs it needs, at both sizes.
pub(crate) fn run(args: &Many) -> io::Result<()> {
    let bin = args.whole.bin.clone().map_or_else(program, Ok)?;
    let cases = cases::wanted(&args.only);
    let sizes = if args.once { vec![1] } else { vec![2, 1] };
    let mut halves: Vec<Option<Cost>> = vec![None; cases.len()];
    let mut rows = Vec::with_capacity(cases.len());
    for part in sizes {
        let work = tempfile::Builder::new().prefix("lorakit-bench-").tempdir_in(&args.whole.dir)?;
        models::generate(work.path(), args.tensors / part, args.modules / part, &cases)?;
        for (case, half) in cases.iter().zip(&mut halves) {
            let command = || command(&bin, case, work.path());
            let cost = measure::run_to(&mut command(), case.code)?;
            let stop = if args.stop && part == 1 {
                Some(stops(&command, case, work.path(), cost.wall)?)
            } else {
                None
            };
            if args.verbose {
                let stop = stop.map_or(String::new(), |stop| format!(", stops in {stop:.2} s"));
                let _ = writeln!(std::io::stderr(), "{:32}{:>9.2} s{stop}", case.name, cost.wall);
            }
            if part == 2 {
                *half = Some(cost);
                continue;
            }
            rows.push(Row { name: case.name, half: *half, whole: cost, stop });
        }
    }
    report(args, &rows)
}

fn command(bin: &Path, case: &Case, work: &Path) -> Command {
    let mut command = Command::new(bin);
    command.current_dir(work).args(case.line.split_whitespace()).arg("--no-progress");
    command
}

/// The longest time that the command takes to stop when told so at several moments. Its earlier output is put aside.
fn stops(command: &dyn Fn() -> Command, case: &Case, work: &Path, wall: f64) -> io::Result<f64> {
    let aside = work.join("aside");
    // A refused command has no output.
    let output = case.output().filter(|output| work.join(output).exists());
    if let Some(output) = output {
        fs::rename(work.join(output), &aside)?;
    }
    let mut worst = 0f64;
    for moment in MOMENTS {
        worst = worst.max(measure::stop(&mut command(), moment * wall)?);
        if let Some(output) = case.output() {
            let _ = fs::remove_dir_all(work.join(output)).or_else(|_| fs::remove_file(work.join(output)));
        }
    }
    if let Some(output) = output {
        fs::rename(&aside, work.join(output))?;
    }
    Ok(worst)
}

fn report(args: &Many, rows: &[Row]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if args.whole.json {
        let cases = rows.iter().map(|row| {
            json!({
                "case": row.name, "half_cpu_s": row.half.map(|cost| cost.cpu), "cpu_s": row.whole.cpu,
                "wall_s": row.whole.wall, "peak_anonymous_bytes": row.whole.anonymous, "stop_s": row.stop,
            })
        });
        let object = json!({
            "schema": "lorakit.bench.many/1", "tensors": args.tensors, "modules": args.modules,
            "cases": cases.collect::<Vec<Value>>(),
        });
        return writeln!(out, "{object}");
    }
    let (tensors, modules) = (args.tensors, args.modules);
    writeln!(
        out,
        "{tensors} tensors, {modules} modules; seconds at these and, of processor time, at half of them"
    )?;
    write!(out, "{:32}{:>9}{:>9}{:>7}{:>9}{:>9}", "", "cpu/half", "cpu", "ratio", "wall", "MiB")?;
    writeln!(out, "{}", if args.stop { "     stop" } else { "" })?;
    for Row { name, half, whole, stop } in rows {
        let half = half.map(|half| half.cpu);
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2}"));
        let ratio = number(half.map(|half| whole.cpu / half));
        let mib = whole.anonymous as f64 / f64::from(1 << 20);
        write!(out, "{name:32}{:>9}{:>9.2}{ratio:>7}{:>9.2}{mib:>9.0}", number(half), whole.cpu, whole.wall)?;
        writeln!(out, "{}", stop.map_or(String::new(), |stop| format!("{stop:>9.2}")))?;
    }
    match rows.iter().any(|row| row.whole.wall > args.limit || row.stop.is_some_and(|stop| stop > 1.0)) {
        true => Err(io::Error::other(format!(
            "a case took more than {} s, or did not stop within 1 s",
            args.limit
        ))),
        false => Ok(()),
    }
}
