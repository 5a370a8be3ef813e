//! `lorakit inspect`: what a report says, what an audit finds, and the same as JSON.

mod findings;
mod html;
mod json;
mod misfits;
mod models;
mod planted;
mod policy;
mod recursive;
mod reports;
mod runtimes;
mod spectrum;
mod width;

use std::path::Path;

use serde_json::Value;

use crate::support::{Run, Sandbox, edit_json, fixtures, peft};
use crate::weights::{Weights, edit_file};

/// Copies of an adapter and a base, called `adapter` and `base`: reports wrap text, and paths are part of it.
struct Case {
    sandbox: Sandbox,
}

impl Case {
    /// One of PEFT's golden adapters.
    fn new(adapter: &str) -> Self {
        Self::of(&peft(&format!("adapters/{adapter}")))
    }

    /// The adapter of the fixtures that was really trained.
    fn trained() -> Self {
        Self::of(&fixtures().join("tiny-json-lora"))
    }

    fn of(adapter: &Path) -> Self {
        let sandbox = Sandbox::new();
        sandbox.copy(adapter, "adapter");
        Case { sandbox }
    }

    fn with_base(self, base: &str) -> Self {
        self.sandbox.copy(&peft(&format!("bases/{base}")), "base");
        self
    }

    fn edit(&self, edit: impl FnOnce(&mut Weights)) {
        edit_file(&self.sandbox.path("adapter/adapter_model.safetensors"), edit);
    }

    fn config(&self, edit: impl FnOnce(&mut Value)) {
        edit_json(&self.sandbox.path("adapter/adapter_config.json"), edit);
    }

    fn run(&self, options: &str) -> Run {
        let before = self.sandbox.entries();
        let run = self.sandbox.run(&format!("inspect adapter {options}"), &[]);
        assert_eq!(self.sandbox.entries(), before, "nothing is written");
        run
    }

    /// The report on an adapter without errors.
    #[track_caller]
    fn report(&self, options: &str) -> String {
        let run = self.run(options).ok();
        assert_eq!(run.stderr, "");
        run.stdout
    }

    /// The findings as they are printed. The exit code is 1 if, and only if, one is an error.
    #[track_caller]
    fn findings(&self, options: &str) -> String {
        let run = self.run(options);
        let (_, findings) = run.stdout.split_once("\nfindings: ").unwrap();
        let faulty = findings.lines().any(|line| line.starts_with("  error "));
        let verdict = "error: this adapter cannot be used as is; see the findings above\n";
        assert_eq!((run.code, run.stderr.as_str()), if faulty { (Some(1), verdict) } else { (Some(0), "") });
        findings.to_string()
    }

    /// The report as JSON, whatever the exit code.
    fn json(&self, options: &str) -> Value {
        let run = self.run(&format!("--json {options}"));
        let object: Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(object["schema"], "lorakit.inspect/1");
        assert_eq!(object["reports"].as_array().unwrap().len(), 1);
        object["reports"][0].clone()
    }
}
