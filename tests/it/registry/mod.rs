//! `lorakit registry`, names in it as inputs and outputs, and what a store outlives.

mod damage;
mod disk;
mod exchange;
mod index;
mod inputs;
mod kills;
mod lineage;
mod outputs;
mod refusals;
mod sweep;
mod verbs;
mod writers;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lorakit::plan::Silent;
use lorakit_registry::{Digest, Reference, Store};
use serde_json::Value;

use crate::support::{Run, Sandbox, peft, unset};

/// What differs from run to run, or from one set of fixtures to another.
const MASKS: &[(&str, &str)] = &[
    (r"\b[0-9a-f]{64}\b", "[DIGEST]"),
    (r"\b[0-9a-f]{12}\b", "[SHORT]"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d", "[TIME]"),
];

/// Asserts a snapshot of a text in which digests and times are masked.
macro_rules! assert_told {
    ($text:expr, @$expected:literal) => {
        insta::with_settings!({ filters => super::MASKS.to_vec() }, { insta::assert_snapshot!($text, @$expected) })
    };
}
use assert_told;

/// A desk with a base, the adapters `style` and `facts` of rank 8 on it, `attn` of rank 4, and no registry yet.
fn desk() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("bases/llama-bf16"), "base");
    for (from, name) in [("plain", "style"), ("all-r8-second", "facts"), ("attn-r4", "attn")] {
        sandbox.copy(&peft(&format!("adapters/{from}")), name);
    }
    sandbox
}

/// The same, with `style` as `sql:v1` and `facts` as `sql:v2`.
fn stocked() -> Sandbox {
    let sandbox = desk();
    registry(&sandbox, "add style sql:v1").ok();
    registry(&sandbox, "add facts sql:v2").ok();
    sandbox
}

/// The command, with the registry in the sandbox.
fn command(sandbox: &Sandbox, line: &str) -> Command {
    let mut command = sandbox.command();
    command.env("LORAKIT_HOME", sandbox.path("home")).args(line.split_whitespace());
    command
}

fn run(sandbox: &Sandbox, line: &str) -> Run {
    Run::new(sandbox, &command(sandbox, line).output().unwrap())
}

/// `lorakit registry`.
fn registry(sandbox: &Sandbox, line: &str) -> Run {
    run(sandbox, &format!("registry {line}"))
}

fn start(sandbox: &Sandbox, line: &str) -> Child {
    command(sandbox, line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What `lorakit registry --json` answers.
#[track_caller]
fn json(sandbox: &Sandbox, line: &str) -> Value {
    let run = registry(sandbox, &format!("--json {line}")).ok();
    let answer: Value = serde_json::from_str(&run.stdout).unwrap();
    let schema = answer["schema"].as_str().unwrap();
    assert!(schema.starts_with("lorakit.registry."), "{line}: {schema}");
    answer
}

/// The exit code, the kind and the message of a command that is refused, and that leaves every tag and blob as it is.
#[track_caller]
fn refused(sandbox: &Sandbox, line: &str) -> (i32, String, String) {
    let before = state(sandbox);
    let run = run(sandbox, &format!("{line} --json"));
    assert_eq!(run.stdout, "", "{line}");
    let answer: Value =
        serde_json::from_str(&run.stderr).unwrap_or_else(|_| panic!("{line}: {}", run.stderr));
    assert_eq!(state(sandbox), before, "{line}: no tag moves");
    let text = |name: &str| answer["error"][name].as_str().unwrap_or_default().to_string();
    assert_eq!(answer["error"]["exit_code"], run.code.unwrap());
    (run.code.unwrap(), text("kind"), text("message"))
}

fn root(sandbox: &Sandbox) -> PathBuf {
    sandbox.path("home/store")
}

fn store(sandbox: &Sandbox) -> Store {
    Store::open(&root(sandbox)).unwrap()
}

/// Every tag and what it points to; nothing if there is no registry or it cannot be read.
fn state(sandbox: &Sandbox) -> BTreeMap<String, Digest> {
    Store::open(&root(sandbox)).and_then(|store| store.refs()).unwrap_or_default()
}

/// Asserts that nothing is damaged, reading every byte.
#[track_caller]
fn whole(sandbox: &Sandbox) {
    let fsck = store(sandbox).fsck(true, &Silent).unwrap();
    assert_eq!(fsck.faults, [], "{:?}", state(sandbox));
}

/// Where the blob of a file of an artifact is.
fn blob(sandbox: &Sandbox, name: &str, file: &str) -> PathBuf {
    let artifact = store(sandbox).find(&Reference::parse(name).unwrap()).unwrap();
    blob_of(sandbox, artifact.file(file).unwrap().digest)
}

fn blob_of(sandbox: &Sandbox, digest: Digest) -> PathBuf {
    root(sandbox).join("blobs/sha256").join(digest.hex())
}

/// Writes over a blob, which is read-only.
fn overwrite(path: &Path, content: impl AsRef<[u8]>) {
    fs::remove_file(path).unwrap();
    fs::write(path, content).unwrap();
}

/// The command under strace with these options; `None` where there is none.
fn traced(sandbox: &Sandbox, options: &[&str], line: &str) -> Option<Run> {
    let program = env!("CARGO_BIN_EXE_lorakit");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq"]).args(options).arg(program);
    strace.args(line.split_whitespace()).current_dir(sandbox.root());
    unset(&mut strace).env("LORAKIT_HOME", sandbox.path("home"));
    match strace.output() {
        Ok(output) => Some(Run::new(sandbox, &output)),
        Err(_) => {
            crate::support::skipped("no strace here");
            None
        }
    }
}
