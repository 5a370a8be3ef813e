//! What `--help` says, and what packagers need.

use crate::support::Sandbox;

fn help(arguments: &str) -> String {
    Sandbox::new().run(arguments, &[]).ok().stdout
}

#[test]
fn help_of_the_command() {
    insta::assert_snapshot!(help("--help"));
}

#[test]
fn help_of_merge() {
    insta::assert_snapshot!(help("merge --help"));
}

#[test]
fn help_of_convert() {
    insta::assert_snapshot!(help("convert --help"));
}

#[test]
fn help_of_inspect() {
    insta::assert_snapshot!(help("inspect --help"));
}

#[test]
fn help_of_reduce() {
    insta::assert_snapshot!(help("reduce --help"));
}

#[test]
fn help_of_combine() {
    insta::assert_snapshot!(help("combine --help"));
}

#[test]
fn help_of_extract() {
    insta::assert_snapshot!(help("extract --help"));
}

#[test]
fn help_of_verify() {
    insta::assert_snapshot!(help("verify --help"));
}

#[test]
fn help_of_diff() {
    insta::assert_snapshot!(help("diff --help"));
}

#[test]
fn help_of_registry() {
    let verbs = ["", "add ", "list ", "export ", "sign ", "verify ", "gc ", "eval add "];
    insta::assert_snapshot!(verbs.map(|verb| help(&format!("registry {verb}--help"))).join("\n---\n"));
}

#[test]
fn help_of_train() {
    insta::assert_snapshot!(help("train --help"));
}

#[test]
fn help_of_eval() {
    insta::assert_snapshot!(help("eval --help"));
}

#[test]
fn help_of_generate() {
    insta::assert_snapshot!(help("generate --help"));
}

#[test]
fn version() {
    assert_eq!(help("--version"), format!("lorakit {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn no_command_at_all() {
    let run = Sandbox::new().run("", &[]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""));
    assert!(run.stderr.contains("Usage: lorakit"), "{}", run.stderr);
}

#[test]
fn a_misspelt_option() {
    let run = Sandbox::new().run("merge base adapter --outptu out", &[]);
    assert_eq!(run.code, Some(2));
    insta::assert_snapshot!(run.stderr, @"
    error: unexpected argument '--outptu' found

      tip: a similar argument exists: '--output'

    Usage: lorakit merge --output <OUT> <BASE> <ADAPTER[=WEIGHT]>...

    For more information, try '--help'.
    ");
}

#[test]
fn completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = help(&format!("completions {shell}"));
        assert!(script.contains("lorakit") && script.contains("merge"), "{shell}");
    }
}

#[test]
fn the_manual_page() {
    let page = help("man");
    assert!(page.contains(".TH lorakit 1") && page.contains("merge"), "{page}");
}
