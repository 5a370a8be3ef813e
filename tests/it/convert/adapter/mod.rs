//! `lorakit convert` on adapters.

mod errors;
mod gguf;
mod mlx;
mod quantised;
mod reports;
mod scales;
mod torchtune;

use std::path::Path;

use crate::support::{Run, Sandbox, peft, read_json};
use crate::weights::read_folder;

/// Copies a golden adapter and its base.
fn copy(sandbox: &Sandbox, case: &str) {
    let base = read_json(&peft("peft.json"))["cases"][case]["base"].as_str().unwrap().to_string();
    sandbox.copy(&peft(&format!("bases/{base}")), "base");
    sandbox.copy(&peft(&format!("adapters/{case}")), "adapter");
}

/// `lorakit convert ADAPTER -o OUT --to FORMAT [--base BASE]`, with PEFT's golden data.
fn golden(sandbox: &Sandbox, adapter: &str, out: &str, format: &str, base: Option<&str>) -> Run {
    convert(sandbox, &peft(&format!("adapters/{adapter}")), out, format, base)
}

fn convert(sandbox: &Sandbox, from: &Path, out: &str, format: &str, base: Option<&str>) -> Run {
    let line = format!("convert -o {out} --to {format}");
    match base {
        None => sandbox.run(&line, &[from]),
        Some(base) => sandbox.run(&line, &[from, Path::new("--base"), &peft(&format!("bases/{base}"))]),
    }
}

/// The result of reading the output again.
fn proof(run: &Run) -> String {
    let line = run.stdout.lines().find(|line| line.starts_with("read again"));
    line.unwrap_or_default().to_string()
}

/// The message, without the hint; nothing is written.
#[track_caller]
fn refusal(sandbox: &Sandbox, run: &Run) -> String {
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{}", run.stderr);
    assert!(sandbox.entries().is_empty(), "nothing is written");
    run.stderr.split("\n\nhint: ").next().unwrap_or_default().to_string()
}

/// Whether the tensors of two models are the same.
#[track_caller]
fn same_weights(one: &Path, other: &Path) {
    assert!(read_folder(one) == read_folder(other), "{} and {} differ", one.display(), other.display());
}
