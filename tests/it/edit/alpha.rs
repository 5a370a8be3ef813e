//! The scale in the factors, and out of them.

use std::fs;

use serde_json::json;

use super::{FILE, bases, report};
use crate::support::{Sandbox, edit_json, entries, peft, read_json};
use crate::weights::{read_file, read_folder};

/// Whether the scales of a case are powers of two, so that nothing is rounded.
fn is_exact(report: &serde_json::Value) -> bool {
    report["rounding"].is_null() || report["rounding"]["changed"] == 0
}

/// In f32, a factor may be multiplied before the product or after it if it is a power of two.
#[test]
fn merges_stay_the_same() {
    let mut exact = 0;
    for (case, base) in bases() {
        let sandbox = Sandbox::new();
        sandbox.copy(&peft("adapters").join(&case), "adapter");
        let report = report(&sandbox, "adapter -o folded --fold-alpha");
        let base = peft("bases").join(base);
        let before = read_folder(&sandbox.merge(&base, &sandbox.path("adapter"), "before", "--dtype f32"));
        let after = read_folder(&sandbox.merge(&base, &sandbox.path("folded"), "after", "--dtype f32"));
        assert!(before.keys().eq(after.keys()), "{case}");
        if is_exact(&report) {
            assert!(before == after, "{case}");
            exact += 1;
            continue;
        }
        // Half a step of the stored dtype, relative to the delta.
        let relative = report["rounding"]["max_relative_error"].as_f64().unwrap();
        assert!(relative <= 2f64.powi(-24), "{case}: {relative}");
        let max = report["max_error"].as_f64().unwrap();
        assert!(max > 0.0 && max <= relative, "{case}: {max}");
    }
    assert!(exact > 12, "{exact}");
}

#[test]
fn every_scale_is_one() {
    for name in entries(&peft("adapters")) {
        let sandbox = Sandbox::new();
        sandbox.copy(&peft("adapters").join(&name), "adapter");
        sandbox.run("edit adapter -o folded --fold-alpha", &[]).ok();
        let config = read_json(&sandbox.path("folded/adapter_config.json"));
        assert_eq!(config["lora_alpha"], config["r"], "{name}");
        assert_eq!(config["alpha_pattern"], config["rank_pattern"], "{name}");
        assert_eq!(config["use_rslora"], false, "{name}");
        // What is not multiplied keeps its bytes.
        if !sandbox.path("adapter").join(FILE).exists() {
            continue;
        }
        let read = |folder: &str| read_file(&sandbox.path(folder).join(FILE));
        let (before, after) = (read("adapter"), read("folded"));
        for (tensor, before) in before.iter().filter(|(tensor, _)| !tensor.contains("_B")) {
            assert!(*before == after[tensor], "{name}: {tensor}");
        }
    }
}

#[test]
fn there_and_back_gives_the_same_bytes() {
    let sandbox = Sandbox::new();
    let adapter = sandbox.copy(&peft("adapters/plain"), "adapter");
    let folded = report(&sandbox, "adapter -o folded --fold-alpha --lineage never");
    assert_eq!(folded["rounding"]["changed"], 0);
    assert_eq!((&folded["rounding"]["tensors"], &folded["copied_tensors"]), (&json!(14), &json!(14)));
    let read = |folder: &str, name: &str| fs::read(sandbox.path(folder).join(name)).unwrap();
    assert!(read("folded", FILE) != read("adapter", FILE));
    let alpha = read_json(&adapter.join("adapter_config.json"))["lora_alpha"].clone();
    sandbox.run(&format!("edit folded -o back --alpha {alpha} --lineage never"), &[]).ok();
    assert!(read("back", FILE) == read("adapter", FILE));
    assert!(read("back", "adapter_config.json") == read("adapter", "adapter_config.json"));
    let same = report(&sandbox, "folded -o again --fold-alpha");
    let code = |report: &serde_json::Value| report["findings"][0]["code"].clone();
    assert_eq!((code(&same), &same["changes"]), ("scale".into(), &json!([])));
}

/// One rounding, of a product in f64: the reference is computed here, value by value.
#[test]
fn a_scale_that_is_no_power_of_two_is_rounded_once() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("adapters/plain"), "wide");
    let adapter = sandbox.path("adapter");
    sandbox.run("edit wide -o adapter --dtype bf16", &[]).ok();
    edit_json(&adapter.join("adapter_config.json"), |config| config["lora_alpha"] = 11.into());
    let report = report(&sandbox, "adapter -o folded --fold-alpha");
    let error = report["max_error"].as_f64().unwrap();
    assert!(error > 2f64.powi(-12) && error < 2f64.powi(-8), "{error}");
    let (before, after) = (read_file(&adapter.join(FILE)), read_file(&sandbox.path("folded").join(FILE)));
    let (mut changed, mut values, mut worst) = (0, 0, 0f64);
    for (name, b) in before.iter().filter(|(name, _)| name.contains("lora_B")) {
        for (value, stored) in b.values().iter().zip(after[name].values()) {
            let exact = value * (11.0 / 8.0);
            let error = (stored - exact).abs();
            assert!(error <= b.ulp(exact) / 2.0, "{name}: {value} became {stored}");
            values += 1;
            changed += usize::from(error != 0.0);
            worst = worst.max(if error == 0.0 { 0.0 } else { error / exact.abs() });
        }
    }
    let rounding = &report["rounding"];
    assert_eq!((&rounding["values"], &rounding["changed"]), (&json!(values), &json!(changed)));
    assert!(changed > 0 && (rounding["max_relative_error"].as_f64().unwrap() - worst).abs() < 1e-12);
}

#[test]
fn factors_get_another_dtype() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("adapters/modules-to-save"), "wide");
    let narrow = report(&sandbox, "wide -o narrow --dtype bf16 --lineage never");
    let relative = narrow["rounding"]["max_relative_error"].as_f64().unwrap();
    assert!(relative > 2f64.powi(-10) && relative <= 2f64.powi(-8), "{narrow}");
    let again = report(&sandbox, "narrow -o again --dtype f32 --lineage never");
    assert_eq!((&again["rounding"]["changed"], &again["max_error"]), (&json!(0), &json!(0.0)), "{again}");
    sandbox.run("edit again -o back --dtype bf16 --lineage never", &[]).ok();
    let read = |folder: &str| read_file(&sandbox.path(folder).join(FILE));
    let (wide, narrow) = (read("wide"), read("narrow"));
    assert!(narrow == read("back"));
    for (name, tensor) in &narrow {
        let factor = name.contains("lora_");
        assert_eq!(tensor.dtype == wide[name].dtype, !factor, "{name}");
        for (value, stored) in wide[name].values().iter().zip(tensor.values()) {
            assert!((value - stored).abs() <= value.abs() * 2f64.powi(-8), "{name}");
        }
    }
}
