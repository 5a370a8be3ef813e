//! Lists, plans and summaries.

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{Sandbox, TIMES, fixtures};

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), "model");
    sandbox
}

#[test]
fn the_list_of_types() {
    let run = Sandbox::new().run("quantize --list", &[]).ok();
    assert!(run.stdout.lines().all(|line| line.chars().count() <= 100));
    assert_snapshot!(run.stdout);
    let json: Value =
        serde_json::from_str(&Sandbox::new().run("quantize --list --json", &[]).ok().stdout).unwrap();
    assert_eq!(json["schema"], "lorakit.quantize.list/1");
    assert!(json["types"].as_array().unwrap().iter().any(|t| t["name"] == "Q4_K_M" && t["format"] == "gguf"));
}

#[test]
fn the_plan_of_a_mix() {
    let sandbox = sandbox();
    let run =
        sandbox.run("quantize model -o out.gguf --type Q4_K_M --tensor-type 0.ffn_down=q8_0 -n", &[]).ok();
    assert!(run.stdout.lines().all(|line| line.chars().count() <= 100));
    assert_snapshot!(format!("{}{}", run.stdout, run.stderr));
    assert_eq!(sandbox.entries(), ["model"]);
}

#[test]
fn the_plan_says_the_exact_size() {
    let sandbox = sandbox();
    for line in ["quantize model -o out --type nf4", "quantize model -o out.gguf --type Q5_1"] {
        let json = |options: &str| -> Value {
            serde_json::from_str(&sandbox.run(&format!("{line} --json {options}"), &[]).ok().stdout).unwrap()
        };
        let planned = json("-n")["plan"]["output_bytes"].clone();
        assert_eq!(json("")["bytes"], planned, "{line}");
    }
}

#[test]
fn what_was_done() {
    let sandbox = sandbox();
    insta::with_settings!({ filters => TIMES.to_vec() }, {
        for line in [
            "quantize model -o out.gguf --type IQ4_XS",
            "quantize model -o nf4 --type nf4 --double-quant",
            "quantize model -o int8 --type int8",
            "quantize model -o fp8 --type fp8",
            "quantize model -o fp8-tensor --type fp8-tensor",
            "quantize model -o mxfp8 --type mxfp8",
            "convert model -o f16.gguf --to gguf --dtype f16",
            "convert model -o q8.gguf --to gguf --dtype q8_0",
        ] {
            let run = sandbox.run(line, &[]).ok();
            assert_snapshot!(line.replace(' ', "_"), format!("{}{}", run.stdout, run.stderr));
        }
    });
}
