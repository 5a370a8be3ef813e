//! `lorakit convert`: GGUF models as Hugging Face folders, merges straight into them, and folders as GGUF files.

mod adapter;
mod companions;
mod experts;
mod gguf;
mod merged;
mod refusals;
mod split;
mod to_gguf;
mod unheld;
mod unknown_tokenizer;
mod weights;

use gguf::Gguf;

use crate::support::{Run, Sandbox};

/// A sandbox with `model.gguf`.
fn sandbox(gguf: &Gguf) -> Sandbox {
    let sandbox = Sandbox::new();
    gguf.write(&sandbox.path("model.gguf"));
    sandbox
}

/// `lorakit convert model.gguf -o out`.
fn convert(sandbox: &Sandbox, options: &str) -> Run {
    sandbox.run(&format!("convert model.gguf -o out --to hf {options}"), &[])
}
