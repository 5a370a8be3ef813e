//! `lorakit diff`: adapters in any formats, models, and what two models add to a base.

mod adapters;
mod models;

use std::path::Path;

use serde_json::Value;

use crate::support::{Run, Sandbox, fixtures, peft};

/// The report on A and B, which must agree with the exit code.
#[track_caller]
fn diff(sandbox: &Sandbox, a: &Path, b: &Path, options: &str) -> Value {
    let run = sandbox.run(&format!("diff --json --exit-code {options}"), &[a, b]);
    let report: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{}", run.stderr));
    assert_eq!(run.code, Some(i32::from(report["differs"] == true)), "{report}");
    assert_eq!(report["schema"], "lorakit.diff/1");
    report
}

/// How many entries of a list are in each state, e.g. `different 14, same 7`.
fn states(list: &Value) -> String {
    let mut states: Vec<&str> =
        list.as_array().unwrap().iter().map(|m| m["state"].as_str().unwrap()).collect();
    states.sort_unstable();
    let groups = states.chunk_by(|a, b| a == b).map(|group| format!("{} {}", group[0], group.len()));
    groups.collect::<Vec<_>>().join(", ")
}

#[track_caller]
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value}"))
}

/// The printed text.
fn text(run: &Run) -> String {
    format!("{}{}", run.stdout, run.stderr)
}

#[test]
fn an_adapter_and_a_model() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("bases/llama-bf16"), "model");
    sandbox.copy(&peft("adapters/plain"), "adapter");
    insta::assert_snapshot!(sandbox.refused("diff model adapter"));
    assert_eq!(sandbox.refused("diff adapter model"), sandbox.refused("diff model adapter"));
}

#[test]
fn the_exit_code_is_asked_for() {
    let sandbox = Sandbox::new();
    let (one, two) = (peft("adapters/plain"), peft("adapters/all-r8-second"));
    assert_eq!(sandbox.run("diff", &[&one, &two]).code, Some(0));
    assert_eq!(sandbox.run("diff --exit-code", &[&one, &one]).code, Some(0));
    let run = sandbox.run("diff --exit-code --quiet", &[&one, &two]);
    assert_eq!((run.code, run.stdout.lines().count()), (Some(1), 1));
    insta::assert_snapshot!(text(&run));
}

#[test]
fn one_of_them_is_not_there() {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), "model");
    insta::assert_snapshot!(sandbox.refused("diff model nothing"));
}
