//! `--html`: the evaluation as a page.

use serde_json::Value;

use crate::command::page::Kind;

/// Tables, curves, and answers side by side.
pub(in crate::command) const EVALUATION: Kind = Kind { script: include_str!("page.js"), title };

fn title(object: &Value) -> String {
    let candidates = object["candidates"].as_array().into_iter().flatten();
    let mut names: Vec<&str> =
        candidates.skip(1).filter_map(|candidate| candidate["name"].as_str()).collect();
    names.dedup();
    names.push("lorakit eval");
    names.join(" - ")
}
