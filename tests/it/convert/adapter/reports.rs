//! What is printed: the proof, the mapping, how well deltas were approximated.

use insta::assert_snapshot;

use super::copy;
use crate::support::{Sandbox, TIMES};

/// Asserts what is printed, except for times and rates.
fn assert_printed(name: &str, text: String) {
    insta::with_settings!({ filters => TIMES.to_vec() }, { assert_snapshot!(name, text) });
}

fn converted(case: &str, options: &str) -> String {
    let sandbox = Sandbox::new();
    copy(&sandbox, case);
    let run = sandbox.run(&format!("convert adapter {options}"), &[]).ok();
    run.stderr + &run.stdout
}

#[test]
fn a_conversion_that_keeps_every_bit() {
    assert_printed("a_conversion_that_keeps_every_bit", converted("plain", "-o out --to mlx"));
}

#[test]
fn a_conversion_that_bakes_scales() {
    assert_printed(
        "a_conversion_that_bakes_scales",
        converted("patterns", "-o out.gguf --to gguf --base base"),
    );
}

#[test]
fn a_dry_run_shows_the_mapping() {
    assert_printed(
        "a_dry_run_shows_the_mapping",
        converted("attn-r4", "-o out.gguf --to gguf --base base --dry-run"),
    );
}

#[test]
fn dora_as_the_nearest_lora() {
    assert_printed(
        "dora_as_the_nearest_lora",
        converted("dora", "-o out.gguf --to gguf --base base --dora-to-lora --rank 16"),
    );
}

#[test]
fn json_has_the_error_of_every_module() {
    let sandbox = Sandbox::new();
    copy(&sandbox, "patterns");
    let run = sandbox.run("convert adapter -o out.gguf --to gguf --base base --json", &[]).ok();
    let mut object: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(object["errors"].as_array().unwrap().len(), 14);
    assert!(object["max_error"].as_f64().unwrap() <= 1e-6);
    for changing in ["errors", "modules", "seconds", "gb_per_second", "max_error"] {
        object[changing] = "...".into();
    }
    assert_snapshot!(serde_json::to_string_pretty(&object).unwrap());
}
