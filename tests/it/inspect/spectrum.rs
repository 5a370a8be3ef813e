//! `--spectrum`: singular values, and what the report says about them.

use insta::assert_snapshot;

use super::Case;
use crate::support::{Sandbox, fixtures, peft};
use crate::weights::{Matrix, read_folder};

/// The largest singular value, by power iteration.
fn strongest(matrix: &Matrix) -> f64 {
    let transposed = matrix.transposed();
    let mut x = vec![1.0; matrix.cols];
    let mut norm = 0.0;
    for _ in 0..2000 {
        x = transposed.apply(&matrix.apply(&x));
        norm = x.iter().map(|v| v * v).sum::<f64>().sqrt();
        x.iter_mut().for_each(|v| *v /= norm);
    }
    norm.sqrt()
}

#[test]
fn singular_values_are_those_of_the_product() {
    let case = Case::new("plain");
    let report = case.json("--spectrum");
    let weights = read_folder(&crate::support::peft("adapters/plain"));
    let modules = report["modules"].as_array().unwrap();
    assert_eq!(modules.len(), 14);
    for module in modules {
        let path = module["module"].as_str().unwrap();
        let half = |half: &str| weights[&format!("base_model.model.{path}.lora_{half}.weight")].matrix();
        let delta = half("B").times(&half("A"));
        let scale = module["scale"].as_f64().unwrap();
        let values: Vec<f64> =
            module["spectrum"]["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        assert_eq!(values.len(), 8);
        assert!(values.is_sorted_by(|a, b| a >= b), "{path}");
        let first = scale * strongest(&delta);
        assert!((values[0] / first - 1.0).abs() < 1e-6, "{path}: {} for {first}", values[0]);
        let norm = values.iter().map(|v| v * v).sum::<f64>().sqrt();
        assert!((norm / module["norm"].as_f64().unwrap() - 1.0).abs() < 1e-6, "{path}");
    }
}

#[test]
fn a_trained_adapter_uses_part_of_its_rank() {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("smollm2-orders-lora"), "adapter");
    let run = sandbox.run("inspect adapter --spectrum", &[]).ok();
    assert!(run.stdout.lines().all(|line| line.chars().count() <= 100), "{}", run.stdout);
    assert_snapshot!(run.stdout);
}

/// The rank in the table is the median, and first values are in one column.
#[test]
fn ranks_that_differ() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("adapters/patterns"), "adapter");
    let run = sandbox.run("inspect adapter --spectrum -v", &[]).ok();
    let (_, table) = run.stdout.split_once("\nspectra").unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.contains('█')).collect();
    let first = |row: &str| row.chars().position(|c| c == '█').unwrap();
    assert!(rows.len() == 14 && rows.iter().all(|row| first(row) == first(rows[0])), "{table}");
    let widths = rows.iter().map(|row| row.chars().count()).collect::<std::collections::BTreeSet<_>>();
    assert!(widths.len() > 1, "{table}");
    // In `down_proj`, layer 0 has rank 8 and layer 1 rank 12; the median of two is the higher.
    let run = sandbox.run("inspect adapter --spectrum", &[]).ok();
    let (_, table) = run.stdout.split_once("\nspectra").unwrap();
    let row = table.lines().find(|line| line.contains("down_proj")).unwrap();
    assert_eq!(row.split_whitespace().nth(1), Some("12"), "{table}");
}

#[test]
fn a_model_has_no_factors() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("bases/llama-bf16"), "model");
    let run = sandbox.run("inspect model --spectrum", &[]).ok();
    assert_snapshot!(run.stderr);
    assert_eq!(sandbox.run("inspect model", &[]).ok().stderr, "");
}
