//! Bad input: each kind has its own message, exit code 1, and leaves nothing behind.

mod adapter;
mod files;
mod fit;
mod output;

use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Run, Sandbox, edit_json, peft};
use crate::weights::{Tensor, Weights, edit_file};

/// A base and an adapter to spoil.
struct Case {
    sandbox: Sandbox,
    base: PathBuf,
    adapter: PathBuf,
    arguments: String,
}

const Q_A: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
const Q_B: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";

impl Case {
    /// A pair that merges.
    fn new() -> Self {
        Self::of("llama-bf16", "plain")
    }

    fn of(base: &str, adapter: &str) -> Self {
        let sandbox = Sandbox::new();
        let base = sandbox.copy(&peft(&format!("bases/{base}")), "base");
        let adapter = sandbox.copy(&peft(&format!("adapters/{adapter}")), "adapter");
        Case { sandbox, base, adapter, arguments: "merge base adapter -o out".into() }
    }

    fn model(&self) -> PathBuf {
        self.base.join("model.safetensors")
    }

    fn weights(&self) -> PathBuf {
        self.adapter.join("adapter_model.safetensors")
    }

    fn config(&self, edit: impl FnOnce(&mut Value)) {
        edit_json(&self.adapter.join("adapter_config.json"), edit);
    }

    fn edit(&self, edit: impl FnOnce(&mut Weights)) {
        edit_file(&self.weights(), edit);
    }

    fn run(&self) -> Run {
        let before = self.sandbox.entries();
        let run = self.sandbox.run(&self.arguments, &[]);
        assert_eq!(self.sandbox.entries(), before, "nothing is written");
        assert_eq!(run.stdout, "");
        run
    }

    /// The message; the exit code is 1.
    #[track_caller]
    fn refused(&self) -> String {
        let run = self.run();
        assert_eq!(run.code, Some(1), "{}", run.stderr);
        run.stderr
    }

    /// The message; the exit code is 2.
    #[track_caller]
    fn misused(&self) -> String {
        let run = self.run();
        assert_eq!(run.code, Some(2), "{}", run.stderr);
        run.stderr
    }
}

fn replace(weights: &mut Weights, name: &str, edit: impl FnOnce(&mut Vec<f64>)) {
    let old = &weights[name];
    let mut values = old.values();
    edit(&mut values);
    let new = Tensor::new(old.dtype, &old.shape, &values);
    weights.insert(name.into(), new);
}
