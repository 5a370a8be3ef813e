//! Outputs and command lines that are refused.

use std::fs;
use std::path::Path;

use super::Case;
use crate::support::{Sandbox, fixtures, peft};

#[test]
fn an_output_that_is_the_current_folder() {
    let sandbox = Sandbox::new();
    let fixture = |name: &str| fixtures().join(name).display().to_string();
    let line = format!("merge {} {} -o .", fixture("tiny-orders"), fixture("tiny-json-lora"));
    let run = sandbox.run(&line, &[]);
    assert_eq!(run.code, Some(2));
    insta::assert_snapshot!(run.stderr, @"
    error: `.`: is in use, and an output needs a name of its own

    hint: `-o ./merged` is a new folder in it
    ");
    assert_eq!(sandbox.entries(), [""; 0]);
}

#[test]
fn force_spares_what_a_merge_did_not_write() {
    let mut case = Case::new();
    let out = case.sandbox.copy(&case.base, "out");
    fs::write(out.join("notes.txt"), "a week of work").unwrap();
    fs::create_dir(out.join("evals")).unwrap();
    case.arguments = "merge base adapter -o out --force".into();
    let run = case.sandbox.run(&case.arguments, &[]);
    assert_eq!(run.code, Some(2));
    insta::assert_snapshot!(run.stderr, @"
    error: `out`: also holds `evals`, `notes.txt`, which replacing it would delete

    hint: choose another output, or move away what is there
    ");
    assert!(out.join("notes.txt").is_file() && out.join("evals").is_dir());
}

#[test]
fn an_output_that_exists() {
    let case = Case::new();
    let out = case.sandbox.copy(&case.base, "out");
    insta::assert_snapshot!(case.misused(), @"
    error: `out`: exists

    hint: `--force` replaces it (the old one is kept until the new one is complete)
    ");
    assert_eq!(fs::read(out.join("model.safetensors")).unwrap(), fs::read(case.model()).unwrap());
}

#[test]
fn a_forced_output_that_is_no_model() {
    let mut case = Case::new();
    fs::create_dir(case.sandbox.path("out")).unwrap();
    fs::write(case.sandbox.path("out/thesis.txt"), "the only copy").unwrap();
    case.arguments = "merge base adapter -o out --force".into();
    insta::assert_snapshot!(case.misused(), @"
    error: `out`: also holds `thesis.txt`, which replacing it would delete

    hint: choose another output, or move away what is there
    ");
    assert!(case.sandbox.path("out/thesis.txt").exists());
}

#[test]
fn an_output_that_is_an_input() {
    let mut case = Case::new();
    let before = (fs::read(case.model()).unwrap(), fs::read(case.weights()).unwrap());
    case.arguments = "merge base adapter -o base --force".into();
    insta::assert_snapshot!(case.misused(), @"
    error: `base`: is both the output and the input `base`

    hint: choose an output that is not an input
    ");
    for out in ["adapter", "base/../base", "base/model.safetensors", "adapter/adapter_model.safetensors"] {
        case.arguments = format!("merge base adapter -o {out} --force");
        let message = case.misused();
        assert!(message.contains("the input"), "{out}: {message}");
    }
    std::os::unix::fs::symlink("base", case.sandbox.path("link")).unwrap();
    case.arguments = "merge base adapter -o link --force".into();
    case.misused();
    assert_eq!((fs::read(case.model()).unwrap(), fs::read(case.weights()).unwrap()), before);
}

#[test]
fn a_weight_that_is_no_number() {
    let mut case = Case::new();
    case.arguments = "merge base adapter=half -o out".into();
    insta::assert_snapshot!(case.misused(), @"
    error: invalid value 'adapter=half' for '<ADAPTER[=WEIGHT]>...': `half` is not a number

    For more information, try '--help'.
    ");
    case.arguments = "merge base adapter=inf -o out".into();
    assert!(case.misused().contains("weight inf is not finite"));
}

#[test]
fn standard_output_is_no_output() {
    let sandbox = Sandbox::new();
    for line in [
        "merge base adapter -o -",
        "convert adapter --to gguf -o -",
        "quantize model --type nf4 --output -",
        "reduce adapter --rank 2 -o-",
        "combine one two --method linear -o -",
        "extract base tuned --auto -o -",
        "inspect adapter --html -",
    ] {
        let message = sandbox.refused(line);
        assert!(message.starts_with("exit 2\n"), "{line}: {message}");
        let needed = "output goes to a file or folder, not to standard output";
        assert!(message.contains(needed), "{line}: {message}");
    }
    insta::assert_snapshot!(sandbox.refused("merge base adapter -o -"), @"
    exit 2
    error: invalid value '-' for '--output <OUT>': output goes to a file or folder, not to standard output

    For more information, try '--help'.
    ");
}

/// A hint follows from what is wrong, whatever words the path holds.
#[test]
fn hints_do_not_read_paths() {
    let sandbox = Sandbox::new();
    let hint = |line: &str, more: &[&Path]| {
        let stderr = sandbox.run(line, more).stderr;
        stderr.lines().find_map(|line| line.strip_prefix("hint: ")).unwrap_or_default().to_string()
    };
    let (base, adapter) = (peft("bases/llama-bf16"), peft("adapters/plain"));
    for name in ["out.bin", "already-merged.bin", "my.gguf.bin", "shards.bin"] {
        let found = hint(&format!("merge -o {name}"), &[&base, &adapter]);
        assert_eq!(found, "name a folder as the output: `-o OUT/`", "{name}");
    }
    for name in ["nowhere", "needle", "metadata key"] {
        assert_eq!(hint("inspect", &[Path::new(name)]), "check the path; nothing is downloaded", "{name}");
    }
}
