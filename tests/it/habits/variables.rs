//! `LORAKIT_*`: what the environment says, unless the command line says otherwise.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Run, Sandbox, peft};

fn run(sandbox: &Sandbox, variables: &[(&str, &str)], line: &str) -> Run {
    let mut command = sandbox.command();
    command.args(line.split(' ')).envs(variables.iter().copied());
    Run::new(sandbox, &command.output().unwrap())
}

fn desk() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("bases/llama-bf16"), "base");
    sandbox.copy(&peft("adapters/plain"), "adapter");
    sandbox
}

fn environment(variables: &[(&str, &str)], line: &str) -> Value {
    let sandbox = Sandbox::new();
    serde_json::from_str(&run(&sandbox, variables, line).ok().stdout).unwrap()
}

#[test]
fn a_variable_is_an_option() {
    assert_eq!(environment(&[("LORAKIT_THREADS", "3")], "env --json")["threads"], 3);
    assert_eq!(environment(&[("LORAKIT_NO_MMAP", "yes")], "env --json")["reads"], "positioned");
    assert_eq!(environment(&[("LORAKIT_NO_MMAP", "0")], "env --json")["reads"], "mapped");
    let sandbox = desk();
    let quiet = run(&sandbox, &[("LORAKIT_QUIET", "1")], "merge base adapter -o quiet").ok();
    assert_eq!(quiet.stdout.lines().count(), 1, "{}", quiet.stdout);
    let silent = run(&sandbox, &[("LORAKIT_QUIET", "2")], "merge base adapter -o silent").ok();
    assert_eq!(silent.stdout, "");
    let verbose = run(&sandbox, &[("LORAKIT_VERBOSE", "true")], "merge base adapter -o verbose").ok();
    assert!(verbose.stdout.contains("q_proj.weight"), "{}", verbose.stdout);
    run(&sandbox, &[("LORAKIT_LINEAGE", "Never")], "merge base adapter -o plain").ok();
    assert!(!sandbox.path("plain/lorakit.json").exists() && sandbox.path("quiet/lorakit.json").exists());
}

#[test]
fn the_command_line_goes_first() {
    let three = [("LORAKIT_THREADS", "3")];
    assert_eq!(environment(&three, "env --json -t 2")["threads"], 2);
    assert_eq!(environment(&three, "-t 2 env --json")["threads"], 2);
    let sandbox = desk();
    run(&sandbox, &[("LORAKIT_LINEAGE", "never")], "merge base adapter -o out --lineage always").ok();
    assert!(sandbox.path("out/lorakit.json").exists());
}

#[test]
fn nothing_is_no_value() {
    let all = ["THREADS", "QUIET", "VERBOSE", "NO_PROGRESS", "COLOR", "NO_MMAP", "LINEAGE"];
    let names: Vec<String> = all.iter().map(|name| format!("LORAKIT_{name}")).collect();
    let empty: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    run(&desk(), &empty, "merge base adapter -o out").ok();
}

#[test]
fn a_wrong_value_names_its_variable() {
    let sandbox = desk();
    for (name, value, says) in [
        ("LORAKIT_THREADS", "many", "must be a number from 1 to 1024"),
        ("LORAKIT_QUIET", "perhaps", "must be 1 or 0"),
        ("LORAKIT_VERBOSE", "-1", "must be 1 or 0"),
        ("LORAKIT_NO_PROGRESS", "maybe", "must be 1 or 0"),
        ("LORAKIT_COLOR", "red", "possible values: auto, always, never"),
        ("LORAKIT_NO_MMAP", "2", "must be 1 or 0"),
        ("LORAKIT_LINEAGE", "alwys", "a similar value exists: 'always'"),
    ] {
        let run = run(&sandbox, &[(name, value)], "merge base adapter -o out");
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{name}");
        let start = format!("error: invalid value '{value}' for '{name} (the variable of --");
        assert!(run.stderr.starts_with(&start) && run.stderr.contains(says), "{}", run.stderr);
        assert!(run.stderr.contains(&format!("tip: `unset {name}`, or correct its value")), "{}", run.stderr);
    }
}

/// A wrong value on the command line is not blamed on a variable.
#[test]
fn a_wrong_value_of_the_command_line() {
    let run = run(&Sandbox::new(), &[("LORAKIT_THREADS", "3")], "inspect x --threads many");
    assert!(run.code == Some(2) && !run.stderr.contains("LORAKIT_THREADS"), "{}", run.stderr);
}

/// The variables of help pages and of the reference are the same.
#[test]
fn the_reference_of_variables_is_complete() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/environment.md");
    let page = fs::read_to_string(page).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `LORAKIT_"));
    let documented: BTreeSet<(String, String)> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split('`').collect();
            (format!("LORAKIT_{}", cells[0]), cells[2].to_string())
        })
        // The others are read when the command is built.
        .filter(|(_, option)| option.starts_with("--"))
        .collect();
    let sandbox = Sandbox::new();
    let help = |line: &str| -> Value { serde_json::from_str(&sandbox.run(line, &[]).ok().stdout).unwrap() };
    let mut found = BTreeSet::new();
    let commands = help("--help --json")["commands"].as_array().unwrap().clone();
    for verb in commands.iter().map(|verb| verb["name"].as_str().unwrap()).filter(|name| *name != "help") {
        for option in help(&format!("{verb} --help --json"))["options"].as_array().unwrap() {
            if let Some(variable) = option["variable"].as_str() {
                found.insert((variable.to_string(), option["name"].as_str().unwrap().to_string()));
            }
        }
    }
    assert_eq!(found, documented);
}

/// Colour is where it is asked for, whoever asks.
#[test]
fn colours() {
    let sandbox = desk();
    let is_coloured =
        |variables: &[(&str, &str)], line: &str| run(&sandbox, variables, line).stderr.contains("\x1b[");
    let line = "inspect nothing";
    assert!(!is_coloured(&[], line), "in a pipe");
    assert!(is_coloured(&[("CLICOLOR_FORCE", "1")], line));
    assert!(is_coloured(&[("LORAKIT_COLOR", "always")], line));
    assert!(is_coloured(&[("LORAKIT_COLOR", "never")], "inspect nothing --color always"));
    assert!(!is_coloured(&[("LORAKIT_COLOR", "always")], "inspect nothing --color never"));
    assert!(!is_coloured(&[("CLICOLOR_FORCE", "1"), ("LORAKIT_COLOR", "never")], line));
    assert!(!is_coloured(&[("NO_COLOR", "1")], line));
}
