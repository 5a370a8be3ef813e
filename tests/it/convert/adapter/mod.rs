//! `lorakit convert` on adapters.

mod errors;
mod gguf;
mod reports;

use crate::support::{Run, Sandbox, peft, read_json};

/// Copies a golden adapter and its base.
fn copy(sandbox: &Sandbox, case: &str) {
    let base = read_json(&peft("peft.json"))["cases"][case]["base"].as_str().unwrap().to_string();
    sandbox.copy(&peft(&format!("bases/{base}")), "base");
    sandbox.copy(&peft(&format!("adapters/{case}")), "adapter");
}

/// Runs a command that must fail and leave nothing behind.
fn refused(sandbox: &Sandbox, line: &str) -> String {
    let before = sandbox.entries();
    let Run { code, stdout, stderr } = sandbox.run(line, &[]);
    assert_eq!(sandbox.entries(), before, "nothing is written");
    assert_eq!(stdout, "");
    format!("exit {}\n{stderr}", code.unwrap())
}
