//! `--policy` and `--fail-on`: what keeps an adapter from being used.

use std::fs;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{Run, Sandbox, edit_json, peft};

/// An adapter `zoo/lora` with a card, beside its base `zoo/base`.
fn zoo() -> Sandbox {
    let sandbox = Sandbox::new();
    let lora = sandbox.copy(&peft("adapters/patterns"), "zoo/lora");
    fs::write(lora.join("README.md"), "---\nlicense: apache-2.0\n---\n").unwrap();
    edit_json(&lora.join("adapter_config.json"), |config| {
        config["base_model_name_or_path"] = json!("meta-llama/Llama-3.2-1B");
        config["use_rslora"] = json!(true);
    });
    let base = sandbox.copy(&peft("bases/llama-bf16"), "zoo/base");
    fs::write(base.join("README.md"), "---\nlicense: mit\n---\n").unwrap();
    sandbox
}

fn judged(sandbox: &Sandbox, policy: &str, options: &str) -> Run {
    fs::write(sandbox.path("policy.toml"), policy).unwrap();
    sandbox.run(&format!("inspect --policy policy.toml {options}"), &[])
}

const KEPT: &str = "
bases = ['META-LLAMA/*']
formats = ['peft', 'safetensors']
licenses = ['apache-2.0', 'mit']
max-size = '1MB'
[rank]
min = 2
max = 32
[findings]
forbid = ['warning']
";

#[test]
fn a_policy_that_is_kept() {
    let sandbox = zoo();
    let run = judged(&sandbox, KEPT, "-r zoo").ok();
    assert_eq!(run.stderr, "");
    judged(&sandbox, KEPT, "zoo/lora").ok();
    judged(&sandbox, "", "-r zoo").ok();
}

#[test]
fn each_rule_broken_once() {
    let sandbox = zoo();
    let mut told = String::new();
    for policy in [
        "bases = ['Qwen/*', 'meta-llama/Llama-2-*']",
        "formats = ['gguf', 'safetensors']",
        "licenses = ['mit']",
        "max-size = '10KB'",
        "rank.min = 5",
        "rank.max = 8",
        "findings.forbid = ['note']",
        "findings.forbid = ['embeddings', 'rslora']",
    ] {
        let run = judged(&sandbox, policy, "-r zoo");
        assert_eq!(run.code, Some(1), "{policy}");
        told += &format!("{policy}\n{}\n", run.stderr);
    }
    assert_snapshot!(told, @"
    bases = ['Qwen/*', 'meta-llama/Llama-2-*']
    error: 1 of 2 adapters and models must not be used
      zoo/lora: bases: found `meta-llama/Llama-3.2-1B`, allowed `Qwen/*`, `meta-llama/Llama-2-*`

    formats = ['gguf', 'safetensors']
    error: 1 of 2 adapters and models must not be used
      zoo/lora: formats: found `peft`, allowed `gguf`, `safetensors`

    licenses = ['mit']
    error: 1 of 2 adapters and models must not be used
      zoo/lora: licenses: found `apache-2.0`, allowed `mit`

    max-size = '10KB'
    error: 2 of 2 adapters and models must not be used
      zoo/base: max-size: found 659 kB, allowed at most 10.0 kB
      zoo/lora: max-size: found 124 kB, allowed at most 10.0 kB

    rank.min = 5
    error: 1 of 2 adapters and models must not be used
      zoo/lora: rank.min: found 4, allowed at least 5

    rank.max = 8
    error: 1 of 2 adapters and models must not be used
      zoo/lora: rank.max: found 12, allowed at most 8

    findings.forbid = ['note']
    error: 1 of 2 adapters and models must not be used
      zoo/lora: findings: found `rslora` (note), allowed no findings

    findings.forbid = ['embeddings', 'rslora']
    error: 1 of 2 adapters and models must not be used
      zoo/lora: findings: found `rslora` (note), allowed anything but `rslora`
    ");
}

#[test]
fn everything_broken_at_once() {
    let sandbox = zoo();
    edit_json(&sandbox.path("zoo/lora/adapter_config.json"), |config| {
        config["base_model_name_or_path"] = json!("/home/ann/llama");
        config["init_lora_weights"] = json!("pissa");
    });
    fs::remove_file(sandbox.path("zoo/lora/README.md")).unwrap();
    fs::create_dir(sandbox.path("zoo/none")).unwrap();
    fs::write(sandbox.path("zoo/none/adapter_config.json"), "{}").unwrap();
    let policy = KEPT.replace("32", "3").replace("1MB", "100KB").replace("'peft', ", "");
    let run = judged(&sandbox, &policy, "-r zoo");
    assert_eq!(run.code, Some(1));
    assert_snapshot!(run.stderr, @"
    error: 3 of 3 adapters and models must not be used
      zoo/base: max-size: found 659 kB, allowed at most 100 kB
      zoo/lora: bases: found `/home/ann/llama`, allowed `META-LLAMA/*`
      zoo/lora: formats: found `peft`, allowed `safetensors`
      zoo/lora: licenses: found none stated, allowed `apache-2.0`, `mit`
      zoo/lora: max-size: found 124 kB, allowed at most 100 kB
      zoo/lora: rank.max: found 12, allowed at most 3
      zoo/lora: findings: found `mutated-base` (error), allowed notes
      zoo/lora: findings: found `local-path` (warning), allowed notes
      zoo/none: findings: found `unreadable` (error): `zoo/none`: has no `adapter_model.safetensors` and no `adapter_model.bin`, allowed notes
    ");
    // The same for one path, and what a policy allows by name.
    let run = judged(&sandbox, "findings.forbid = ['warning']", "zoo/lora");
    assert_snapshot!(run.stderr, @"
    error: 1 of 1 adapters and models must not be used
      zoo/lora: findings: found `mutated-base` (error), allowed notes
      zoo/lora: findings: found `local-path` (warning), allowed notes
    ");
    let allowed = "findings.forbid = ['warning']\nfindings.allow = ['local-path', 'mutated-base']";
    judged(&sandbox, allowed, "zoo/lora").ok();
}

#[test]
fn broken_rules_as_json() {
    let sandbox = zoo();
    let run = judged(&sandbox, "rank.max = 8", "zoo/lora --json");
    assert_eq!(run.code, Some(1));
    let object: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(
        object["violations"],
        json!([{ "root": "", "path": "zoo/lora", "rule": "rank.max", "found": "12", "allowed": "at most 8" }])
    );
    let run = judged(&sandbox, "rank.max = 8", "-r zoo --json");
    let object: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(
        object["violations"],
        json!([{ "root": "zoo", "path": "lora", "rule": "rank.max", "found": "12", "allowed": "at most 8" }])
    );
    assert_eq!(object["counts"]["in_violation"], 1);
}

#[test]
fn findings_of_a_severity() {
    let sandbox = zoo();
    edit_json(&sandbox.path("zoo/lora/adapter_config.json"), |config| {
        config["base_model_name_or_path"] = json!("/home/ann/llama");
        config.as_object_mut().unwrap().remove("lora_alpha");
    });
    for (options, code) in [
        ("zoo/lora", 0),
        ("zoo/lora --fail-on error", 0),
        ("zoo/lora --fail-on warning", 1),
        ("zoo/base --fail-on warning", 0),
        ("-r zoo", 0),
        ("-r zoo --fail-on error", 0),
        ("-r zoo --fail-on warning", 1),
        ("-r zoo --fail-on warning --filter kind=model", 0),
    ] {
        assert_eq!(sandbox.run(&format!("inspect {options}"), &[]).code, Some(code), "{options}");
    }
    assert_snapshot!(sandbox.run("inspect -r zoo --fail-on warning", &[]).stderr, @"
    error: 1 of 2 adapters and models must not be used
      zoo/lora: fail-on: found `alpha-missing` (warning), allowed notes
      zoo/lora: fail-on: found `local-path` (warning), allowed notes
    ");
    assert_snapshot!(sandbox.run("inspect zoo/lora --fail-on warning", &[]).stderr, @"
    error: 1 of 1 adapters and models must not be used
      zoo/lora: fail-on: found `alpha-missing` (warning), allowed notes
      zoo/lora: fail-on: found `local-path` (warning), allowed notes
    ");
}

/// A gate that cannot be understood is not open.
#[test]
fn a_policy_that_is_none() {
    let sandbox = zoo();
    let mut told = String::new();
    for policy in ["licences = ['mit']\nrnak.max = 3", "bases = [", "[findings]\nforbid = ['localpath']"] {
        let run = judged(&sandbox, policy, "-r zoo");
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""));
        told += &run.stderr;
    }
    assert_snapshot!(told, @"
    error: `policy.toml`: line 2: `rnak` is not a rule; the nearest is `rank`
    error: `policy.toml`: line 1: is not TOML: unclosed array, expected `]`
    error: `policy.toml`: line 2: `findings.forbid` holds `localpath`, which is neither a severity nor the name of a finding; the nearest is `local-path`
    ");
    assert_snapshot!(sandbox.refused("inspect -r zoo --policy nowhere.toml"), @"
    exit 1
    error: `nowhere.toml`: does not exist

    hint: check the path; nothing is downloaded
    ");
}

#[test]
fn options_that_do_not_go_together() {
    let sandbox = zoo();
    for line in ["inspect zoo --sort size", "inspect zoo --filter rank=4", "inspect zoo --hidden"] {
        assert!(sandbox.refused(line).contains("--recursive"), "{line}");
    }
    assert!(sandbox.refused("inspect -r zoo --base zoo/base").contains("cannot be used with"));
    assert_snapshot!(sandbox.refused("inspect -r zoo --filter colour=red"), @"
    exit 2
    error: invalid value 'colour=red' for '--filter <KEY=VALUE>': `colour` is not a key; the keys are path, kind, format, base, license, rank, size, findings

    For more information, try '--help'.
    ");
    assert_snapshot!(sandbox.refused("inspect -r zoo --sort sise"), @"
    exit 2
    error: invalid value 'sise' for '--sort <BY>'
      [possible values: path, size, rank, findings]

      tip: a similar value exists: 'size'

    For more information, try '--help'.
    ");
}
