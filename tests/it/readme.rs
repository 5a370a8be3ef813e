//! The README's "Sixty seconds", typed in order, and its promises about commands.

use std::path::Path;
use std::process::Command;

use crate::support::Sandbox;

const README: &str = include_str!("../../README.md");

/// The lines of the code block under a heading.
fn block(heading: &str) -> Vec<&'static str> {
    let (_, section) = README.split_once(heading).unwrap();
    let (_, code) = section.split_once("```sh\n").unwrap();
    let (code, _) = code.split_once("```").unwrap();
    code.lines().filter(|line| !line.is_empty()).collect()
}

#[test]
fn sixty_seconds_run_when_typed_in_order() {
    let lines = block("## Sixty seconds");
    assert!(lines.iter().filter(|line| line.starts_with("lorakit ")).count() > 15, "{lines:?}");

    let sandbox = Sandbox::new();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    std::os::unix::fs::symlink(repository.join("fixtures"), sandbox.path("fixtures")).unwrap();
    let command = Path::new(env!("CARGO_BIN_EXE_lorakit")).parent().unwrap();
    let path = format!("{}:{}", command.display(), std::env::var("PATH").unwrap());

    let script: String = lines.iter().map(|line| format!("echo '> {line}'\n{line}\n")).collect();
    let mut shell = Command::new("sh");
    shell.args(["-eu", "-c", &script]).current_dir(sandbox.root()).env_clear().env("PATH", path);
    let output = shell.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let last = printed.lines().rfind(|line| line.starts_with('>')).unwrap_or_default();
    assert!(output.status.success(), "{last}\n{}", String::from_utf8_lossy(&output.stderr));
}
