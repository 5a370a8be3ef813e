//! Merges by PEFT that are rounded otherwise than ours: after each of several adapters, and in another order of
//! summands. The goldens come from `fixtures/generate/peft_roundings.py`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::verify;
use crate::support::{Sandbox, fixtures};
use crate::weights::{Tensor, edit_file};

fn golden(name: &str) -> PathBuf {
    fixtures().join("golden/peft-roundings").join(name)
}

/// The report on a merge of `case` against `adapters` of the same case, each with a weight.
fn report(sandbox: &Sandbox, merged: &Path, case: &str, adapters: &[(&str, f64)]) -> Value {
    let list: Vec<String> =
        adapters.iter().map(|(name, w)| format!("{}={w}", golden(case).join(name).display())).collect();
    verify(sandbox, merged, &golden(case).join("base"), &list.join(" --adapter "))
}

/// Every merge of several adapters holds: exactly in the order in which PEFT added them, else within the roundings.
#[test]
fn several_adapters_are_rounded_after_each() {
    let sandbox = Sandbox::new();
    for case in ["several-bf16", "several-f16", "small-bf16"] {
        for (merged, order) in [
            ("one-two", &["one", "two"][..]),
            ("two-one", &["two", "one"]),
            ("all", &["one", "two", "three"]),
            ("all-safe", &["one", "two", "three"]),
        ] {
            let merged = golden(case).join(format!("{merged}.safetensors"));
            let mut adapters: Vec<(&str, f64)> = order.iter().map(|name| (*name, 1.0)).collect();
            let found = report(&sandbox, &merged, case, &adapters);
            assert_eq!(found["verdict"], "exact_in_turn", "{case} {order:?} {found}");
            adapters.reverse();
            let found = report(&sandbox, &merged, case, &adapters);
            assert_eq!(found["verdict"], "within_rounding", "{case} {order:?} {found}");
            // One too few, or with another weight, is another thing.
            let few = report(&sandbox, &merged, case, &adapters[1..]);
            assert_eq!(few["holds"], false, "{case} {order:?} {few}");
            for weight in [0.8, 1.25, -1.0] {
                let other: Vec<(&str, f64)> = adapters.iter().map(|(name, _)| (*name, weight)).collect();
                let found = report(&sandbox, &merged, case, &other);
                let scale = found["scale"].as_f64().unwrap();
                assert_eq!(found["holds"], false, "{case} {order:?} {weight} {found}");
                // Where rounding swallows most of the deltas, what is left has another scale.
                let near = (scale * weight - 1.0).abs() < 0.05;
                assert!(near || case == "small-bf16", "{case} {order:?} {weight} {found}");
            }
        }
    }
}

/// What nearly cancels in f32 depends on the order of the summands.
#[test]
fn products_that_nearly_cancel() {
    let sandbox = Sandbox::new();
    for case in ["cancel", "cancel-less"] {
        let merged = golden(case).join("one.safetensors");
        let found = report(&sandbox, &merged, case, &[("one", 1.0)]);
        assert_eq!(found["verdict"], "within_rounding", "{case} {found}");
        for weight in [0.5, 0.9, 1.1, -1.0] {
            let found = report(&sandbox, &merged, case, &[("one", weight)]);
            assert_eq!(found["holds"], false, "{case} {weight} {found}");
        }
    }
}

/// No room for rounding lets a fault through: a value, or a row of one adapter, that is something else.
#[test]
fn faults_beside_the_roundings() {
    let sandbox = Sandbox::new();
    let spoiled = |case: &str, merged: &str, spoil: &dyn Fn(usize, &mut f64)| {
        let path = sandbox.path("spoiled.safetensors");
        std::fs::copy(golden(case).join(merged), &path).unwrap();
        edit_file(&path, |weights| {
            let tensor = weights.get_mut("layer0.weight").unwrap();
            let mut values = tensor.values();
            values.iter_mut().enumerate().for_each(|(i, value)| spoil(i, value));
            *tensor = Tensor::new(tensor.dtype, &tensor.shape.clone(), &values);
        });
        path
    };
    let three = [("one", 1.0), ("two", 1.0), ("three", 1.0)];
    for case in ["several-bf16", "several-f16"] {
        let one_value = spoiled(case, "all.safetensors", &|i: usize, value: &mut f64| {
            *value += f64::from(u8::from(i == 77))
        });
        assert_eq!(report(&sandbox, &one_value, case, &three)["verdict"], "partly", "{case}");
        let row = spoiled(case, "all.safetensors", &|i: usize, value: &mut f64| {
            *value *= if i < 24 { 1.02 } else { 1.0 }
        });
        assert_eq!(report(&sandbox, &row, case, &three)["verdict"], "partly", "{case}");
    }
    let one_value = spoiled("cancel-less", "one.safetensors", &|i: usize, value: &mut f64| {
        *value += f64::from(u8::from(i == 7))
    });
    assert_eq!(report(&sandbox, &one_value, "cancel-less", &[("one", 1.0)])["holds"], false);
}
