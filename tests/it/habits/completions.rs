//! Completion scripts offer what an option takes.

use std::fs;
use std::process::Command;

use crate::support::{Sandbox, skipped};

fn script(shell: &str) -> String {
    Sandbox::new().run(&format!("completions {shell}"), &[]).ok().stdout
}

/// Values that only the tables of the library know.
const OFFERED: &[&str] =
    &["Q4_K_M", "nf4", "mxfp4", "dare_ties", "torchtune", "llama.cpp", "mergekit", "bf16", "untie", "always"];

#[test]
fn every_shell_offers_values() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = script(shell);
        // elvish and powershell complete only names of options and commands.
        let values =
            if matches!(shell, "elvish" | "powershell") { &["--quantize", "--method"] } else { OFFERED };
        for value in values {
            assert!(script.contains(value), "{shell}: {value}");
        }
    }
}

#[test]
fn a_script_as_json() {
    let run = Sandbox::new().run("completions bash --json", &[]).ok();
    let object: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&object["schema"], &object["shell"]), (&"lorakit.completions/1".into(), &"bash".into()));
    assert_eq!(object["script"], script("bash"));
}

/// What bash offers for the last word of a line.
fn offered(line: &str) -> Vec<String> {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("lorakit.bash"), script("bash")).unwrap();
    let words: Vec<String> = line.split(' ').map(|word| format!("'{word}'")).collect();
    let last = words.len() - 1;
    let program = format!(
        "set -e; source ./lorakit.bash; COMP_WORDS=({}); COMP_CWORD={last}; \
         _lorakit lorakit {} {} || true; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.join(" "),
        words[last],
        words[last - 1]
    );
    let output =
        Command::new("bash").args(["--norc", "-c", &program]).current_dir(sandbox.root()).output().unwrap();
    assert!(output.stderr.is_empty(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_string)
        .collect()
}

#[test]
fn bash_offers_what_fits() {
    if Command::new("bash").arg("--version").output().is_err() {
        skipped("no bash here");
        return;
    }
    for (line, expected) in [
        ("lorakit quan", "quantize"),
        ("lorakit quantize --type Q4_K", "Q4_K_S Q4_K_M"),
        ("lorakit merge base --quantize nf", "nf4"),
        ("lorakit merge base --tied s", "share"),
        ("lorakit combine --method dare_t", "dare_ties dare_ties_svd"),
        ("lorakit inspect --for v", "vllm"),
        ("lorakit convert --to torch", "torchtune"),
        ("lorakit quantize --output-tensor-type Q8", "Q8_0"),
        ("lorakit merge --promote Q6", "Q6_K"),
        ("lorakit merge --lineage n", "never"),
        ("lorakit man dif", "diff"),
        ("lorakit completions z", "zsh"),
    ] {
        let mut found = offered(line);
        let mut expected: Vec<&str> = expected.split(' ').collect();
        found.sort();
        expected.sort_unstable();
        assert_eq!(found, expected, "{line}");
    }
}
