//! What is printed.

use crate::support::{Sandbox, TIMES, peft, read_json};

fn run(line: &str, names: &[&str]) -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    let paths: Vec<_> = names.iter().map(|name| peft("adapters").join(name)).collect();
    let paths: Vec<&std::path::Path> = paths.iter().map(|path| path.as_path()).collect();
    let run = sandbox.run(&format!("combine -o out {line}"), &paths).ok();
    (sandbox, run.stdout + &run.stderr)
}

#[test]
fn of_two_adapters() {
    insta::with_settings!({ filters => TIMES.to_vec() }, {
        insta::assert_snapshot!(run("--rank 6", &["plain", "rslora"]).1);
    });
}

#[test]
fn a_dry_run_writes_nothing() {
    let (sandbox, text) = run("--method cat -n", &["plain", "attn-r4", "layers-subset"]);
    assert!(sandbox.entries().is_empty());
    insta::with_settings!({ filters => TIMES.to_vec() }, { insta::assert_snapshot!(text) });
}

#[test]
fn as_json() {
    let (sandbox, text) = run("--json --method ties_svd --density 0.4", &["plain", "all-r8-second"]);
    let object: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&object["schema"], &object["error_of"]), (&"lorakit.combine/1".into(), &"mixture".into()));
    let interference = object["interference"].as_array().unwrap();
    assert_eq!(interference.len(), object["modules"].as_array().unwrap().len());
    for one in interference {
        assert_eq!(one["pair"], serde_json::json!([0, 1]));
        assert_eq!(one["output_angles"].as_array().unwrap().len(), 8);
        assert!((0.0..=1.0).contains(&one["sign_conflict"].as_f64().unwrap()));
    }
    let config = read_json(&sandbox.path("out/adapter_config.json"));
    assert_eq!((&config["r"], &config["lora_alpha"]), (&8.into(), &8.into()));
}

/// With one adapter, no other could lack its modules.
#[test]
fn of_one_adapter() {
    assert!(!run("", &["plain=0.5"]).1.contains("no other adapter"));
    assert!(run("", &["plain", "attn-r4"]).1.contains("of its 14 modules are in no other adapter"));
}

/// An adapter minus itself is nothing, and the report says so.
#[test]
fn a_sum_that_cancels() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("adapters/plain"), "a");
    let run = sandbox.run("combine a a=-1 -o out", &[]).ok();
    assert!(run.stderr.contains("the weighted deltas cancel each other"), "{}", run.stderr);
}
