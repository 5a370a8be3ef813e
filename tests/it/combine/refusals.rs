//! What cannot be combined, and what to do about it.

use crate::support::{Sandbox, edit_json, peft};
use crate::weights::edit_file;

fn refused(line: &str, names: &[&str]) -> String {
    let sandbox = Sandbox::new();
    let paths: Vec<_> = names.iter().map(|name| peft("adapters").join(name)).collect();
    let paths: Vec<&std::path::Path> = paths.iter().map(|path| path.as_path()).collect();
    let run = sandbox.run(&format!("combine -o out {line}"), &paths);
    assert!(run.code == Some(1) || run.code == Some(2), "{}{}", run.stdout, run.stderr);
    assert!(sandbox.entries().is_empty(), "{:?}", sandbox.entries());
    run.stderr
}

#[test]
fn dora_with_another() {
    insta::assert_snapshot!(refused("", &["plain", "dora"]));
}

#[test]
fn ranks_that_differ() {
    insta::assert_snapshot!(refused("--method ties --density 0.5", &["plain", "rslora"]));
}

/// The weight is to blame, not a file.
#[test]
fn weights_that_no_value_can_be_multiplied_by() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("bases/llama-bf16"), "base");
    sandbox.copy(&peft("adapters/plain"), "a");
    sandbox.copy(&peft("adapters/all-r8-second"), "b");
    for line in [
        "combine a=1e300 b -o out",
        "combine a=1e300 -o out",
        "combine b a=-1e39 -o out --method linear",
        "merge base a=1e300 -o out",
        "verify base --base base --adapter a=1e300",
    ] {
        let said = sandbox.refused(line);
        let weight = if line.contains("1e39") { "-1e39" } else { "1e300" };
        let message = format!(
            "exit 2\nerror: `a` has the weight {weight}; a weight must be finite, and at most 3.4028235e38"
        );
        assert!(said.starts_with(&message), "{line}: {said}");
    }
    // One that is within the range, but too large for the deltas.
    insta::assert_snapshot!(sandbox.refused("merge base a=3e38 -o out --dtype f32"), @"
    exit 1
    error: `base/model.safetensors`: `model.layers.0.mlp.down_proj.weight`: comes to -inf at row 0, column 0 when the deltas are added, which are too large for it

    hint: lower the weights of the adapters (`ADAPTER=0.5`); if they are not large, training diverged: `lorakit inspect --norms` shows where
    ");
}

#[test]
fn modules_of_other_shapes() {
    insta::assert_snapshot!(refused("", &["plain", "qwen2"]));
}

#[test]
fn a_missing_density() {
    insta::assert_snapshot!(refused("--method dare_ties", &["plain", "all-r8-second"]));
}

#[test]
fn options_without_effect() {
    insta::assert_snapshot!(refused("--method cat --rank 4", &["plain", "rslora"]));
    insta::assert_snapshot!(refused("--density 0.5", &["plain", "rslora"]));
    for line in ["", "--method cat", "--method linear", "--method ties --density 0.5"] {
        let said = refused(&format!("{line} --seed 7"), &["plain", "plain"]);
        assert!(said.contains("draws no random numbers, so it has no seed"), "{said}");
    }
    insta::assert_snapshot!(refused("--method magnitude_prune --density 0.5 --seed 7", &["plain", "plain"]));
}

/// Text shows the first lines and how many there are; JSON has them all.
#[test]
fn long_lists() {
    let lines: Vec<String> = refused("", &["plain", "qwen2"]).lines().map(str::to_string).collect();
    let object: serde_json::Value = serde_json::from_str(&refused("--json", &["plain", "qwen2"])).unwrap();
    let details = object["error"]["details"].as_array().unwrap();
    assert_eq!((details.len(), lines[1].trim()), (14, details[0].as_str().unwrap()));
    assert_eq!(lines[11], "  ... 4 more (all with `--json`)");
}

#[test]
fn a_model_among_adapters() {
    let sandbox = Sandbox::new();
    let run = sandbox.run("combine -o out", &[&peft("adapters/plain"), &peft("bases/llama-f32")]);
    assert_eq!(run.code, Some(1));
    insta::assert_snapshot!(run.stderr);
}

#[test]
fn saved_tensors_that_differ() {
    let sandbox = Sandbox::new();
    let one = peft("adapters/modules-to-save");
    let two = sandbox.copy(&one, "two");
    edit_file(&two.join("adapter_model.safetensors"), |weights| {
        let saved = weights.iter_mut().find(|(name, _)| !name.contains("lora_")).unwrap();
        saved.1.bytes[0] ^= 1;
    });
    let run = sandbox.run("combine -o out", &[&one, &two]);
    assert_eq!(run.code, Some(1));
    insta::assert_snapshot!(run.stderr);
    sandbox.run("combine -o out", &[&one, &one]).ok();
}

#[test]
fn factors_on_a_changed_base() {
    let sandbox = Sandbox::new();
    let one = sandbox.copy(&peft("adapters/plain"), "one");
    edit_json(&one.join("adapter_config.json"), |config| config["init_lora_weights"] = "pissa".into());
    let run = sandbox.run("combine -o out", &[&one, &peft("adapters/plain")]);
    assert_eq!(run.code, Some(1));
    insta::assert_snapshot!(run.stderr);
}
