//! Counts how many rows of a file a model with an adapter answers exactly, by greedy decoding.
//!
//! ```sh
//! cargo run --release -p lorakit-train --example exact -- MODEL HELDOUT.jsonl [ADAPTER]
//! ```
//!
//! A row is `{"messages": [{"role": "user", ...}, {"role": "assistant", ...}]}`; the base is held as training holds it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, thread};

use lorakit::plan::Silent;
use lorakit_train::adapter;
use lorakit_train::base::{Base, Quant};
use lorakit_train::kernel::{Compute, Products};
use lorakit_train::model::Adapter;
use lorakit_train::run;
use lorakit_train::settings::Settings;
use serde_json::Value;

/// The most tokens of an answer.
const MOST: usize = 96;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let (model, rows, adapter) = match args.as_slice() {
        [model, rows] => (model, rows, None),
        [model, rows, adapter] => (model, rows, Some(adapter)),
        _ => {
            eprintln!("usage: exact MODEL HELDOUT.jsonl [ADAPTER]");
            return ExitCode::from(2);
        }
    };
    match count(Path::new(model), Path::new(rows), adapter.map(Path::new)) {
        Ok((right, of)) => {
            println!("{right} of {of} are answered exactly");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn count(
    model: &Path,
    rows: &Path,
    adapter: Option<&Path>,
) -> Result<(usize, usize), Box<dyn std::error::Error>> {
    let threads = thread::available_parallelism()?.get();
    let files = Base::files(model)?;
    let text = run::text(&Settings::new(), &files)?;
    let quant = Quant::usual(&files);
    let base = Base::of(files, quant, threads, &Silent)?;
    let adapter = match adapter {
        Some(path) => adapter::read(path, &base)?.1,
        None => Adapter::none(&base.model.shape),
    };
    let products = Products { compute: Compute::F32, threads };
    let (mut right, mut of) = (0, 0);
    for row in fs::read_to_string(rows)?.lines() {
        let row: Value = serde_json::from_str(row)?;
        let messages = row["messages"].as_array().ok_or("a row has no `messages`")?;
        let [prompt @ .., answer] = messages.as_slice() else { return Err("a row has no messages".into()) };
        let prompt = text.prompt(prompt, None)?;
        let tokens = base.model.greedy(&adapter, &prompt, &text.ends, MOST, products);
        let found = text.tokenizer.decode(&tokens, true).map_err(|error| error.to_string())?;
        let expected = answer["content"].as_str().unwrap_or_default();
        of += 1;
        if found == expected {
            right += 1;
        } else {
            println!("expected {expected}\n   found {found}");
        }
    }
    Ok((right, of))
}
