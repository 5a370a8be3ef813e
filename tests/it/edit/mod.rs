//! `lorakit edit`: what changes, and that nothing else does.

mod alpha;
mod bytes;
mod formats;
mod prefix;
mod refusals;
mod reports;

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Sandbox, peft, read_json};

/// The tensor file of PEFT's folders.
const FILE: &str = "adapter_model.safetensors";

/// The base of each case of PEFT's golden data.
fn bases() -> Vec<(String, String)> {
    let index = read_json(&peft("peft.json"));
    let cases = index["cases"].as_object().unwrap().iter();
    cases.map(|(name, case)| (name.clone(), case["base"].as_str().unwrap().to_string())).collect()
}

/// The report of an edit.
#[track_caller]
fn report(sandbox: &Sandbox, line: &str) -> Value {
    let run = sandbox.run(&format!("edit {line} --json"), &[]).ok();
    serde_json::from_str(&run.stdout).unwrap()
}

/// The header of a safetensors file without metadata, and its data.
fn parts(path: &Path) -> (Value, Vec<u8>) {
    let bytes = fs::read(path).unwrap();
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..end]).unwrap();
    header.as_object_mut().unwrap().shift_remove("__metadata__");
    (header, bytes[end..].to_vec())
}

/// Lines of two texts that differ.
fn different(before: &str, after: &str) -> Vec<(String, String)> {
    assert_eq!(before.lines().count(), after.lines().count(), "{after}");
    let lines = before.lines().zip(after.lines()).filter(|(x, y)| x != y);
    lines.map(|(x, y)| (x.trim().to_string(), y.trim().to_string())).collect()
}
