//! `lorakit verify`: merges of PEFT and of our own, and planted faults, each found and named.

mod faults;
mod hidden;
mod numbers;
mod planted;
mod roundings;
mod spoiled;
mod stored;
mod tiny;
mod unusual;

use std::path::Path;

use serde_json::Value;

use crate::support::{Sandbox, fixtures, peft, read_json};

/// The report on `merged`, which must agree with the exit code.
#[track_caller]
fn verify(sandbox: &Sandbox, merged: &Path, base: &Path, adapter: &str) -> Value {
    let line = format!("verify --json --adapter {adapter} --base");
    let run = sandbox.run(&line, &[base, merged]);
    let report: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{}", run.stderr));
    assert_eq!(run.code, Some(i32::from(report["holds"] == false)), "{report}");
    assert_eq!(report["schema"], "lorakit.verify/1");
    report
}

/// Merges by PEFT are recognised, and so is the rounding they were merged with.
#[test]
fn merges_of_peft() {
    let sandbox = Sandbox::new();
    let cases = read_json(&fixtures().join("golden/peft/peft.json"));
    let verdict = |merged: &str, name: &str| {
        let base = peft(&format!("bases/{}", cases["cases"][name]["base"].as_str().unwrap()));
        let adapter = peft(&format!("adapters/{name}"));
        let report =
            verify(&sandbox, &peft(&format!("{merged}/{name}")), &base, &adapter.display().to_string());
        report["verdict"].as_str().unwrap().to_string()
    };
    let mut found = String::new();
    for merged in ["merged", "merged-safe"] {
        for name in crate::support::entries(&peft(merged)) {
            found += &format!("{merged}/{name}: {}\n", verdict(merged, &name));
        }
    }
    insta::assert_snapshot!(found);
}

/// In another dtype, in one file, with a weight, and with two adapters.
#[test]
fn merges_of_our_own() {
    let sandbox = Sandbox::new();
    let (base, plain, second) =
        (peft("bases/llama-bf16"), peft("adapters/plain"), peft("adapters/all-r8-second"));
    let both = [format!("{}=0.7", plain.display()), format!("{}=-0.5", second.display())];
    for (out, options) in
        [("f32", "--dtype f32"), ("f16.safetensors", "--dtype f16"), ("shards", "--max-shard-size 100kB")]
    {
        let line = format!("merge {} {} {} -o {out} {options}", base.display(), both[0], both[1]);
        sandbox.run(&line, &[]).ok();
        let report =
            verify(&sandbox, &sandbox.path(out), &base, &format!("{} --adapter {}", both[0], both[1]));
        assert_eq!(report["verdict"], "exact_once", "{out}");
        let report = verify(&sandbox, &sandbox.path(out), &base, &both[0]);
        assert_eq!(report["holds"], false, "{out}");
    }
}

#[test]
fn the_report_of_a_merge_that_holds() {
    let sandbox = Sandbox::new();
    sandbox.merge(&peft("bases/llama-bf16"), &peft("adapters/attn-r4"), "merged", "");
    sandbox.copy(&peft("bases/llama-bf16"), "base");
    sandbox.copy(&peft("adapters/attn-r4"), "adapter");
    insta::assert_snapshot!(sandbox.run("verify merged --base base --adapter adapter", &[]).ok().stdout);
}

/// An adapter that adds nothing is in its base and in nothing else; a merge holds it at another weight.
#[test]
fn a_weight_of_zero() {
    let sandbox = Sandbox::new();
    let (base, merged) = (peft("bases/llama-bf16"), peft("merged/plain"));
    let adapter = format!("{}=0", peft("adapters/plain").display());
    assert_eq!(verify(&sandbox, &base, &base, &adapter)["verdict"], "exact_once");
    assert_eq!(verify(&sandbox, &merged, &base, &adapter)["verdict"], "wrong_weights");
}

/// A GGUF file, quantised or not, and a GGUF base.
#[test]
fn gguf_files() {
    let sandbox = Sandbox::new();
    let (base, adapter) = (fixtures().join("tiny-orders"), fixtures().join("tiny-upper-lora"));
    let name = adapter.display().to_string();
    let from = sandbox.path("base.gguf");
    sandbox.run("convert --to gguf -o base.gguf", &[&base]).ok();
    let cases = [
        ("float.gguf", "", "exact_once"),
        ("q8_0.gguf", "--quantize Q8_0", "exact_once"),
        ("q4_k_m.gguf", "--quantize Q4_K_M", "exact_once"),
        ("iq4_nl.gguf", "--quantize IQ4_NL", "exact_once"),
    ];
    for (out, options, verdict) in cases {
        let merged = sandbox.merge(&base, &adapter, out, options);
        assert_eq!(verify(&sandbox, &merged, &base, &name)["verdict"], verdict);
        assert_eq!(verify(&sandbox, &merged, &from, &name)["verdict"], verdict);
    }
    assert_eq!(verify(&sandbox, &from, &base, &name)["verdict"], "adapter_missing");
}
