//! A selection of PEFT's test suite: `fixtures/golden/peft-matrix`, written by `tests/peers/peft_matrix/golden.py`.

use std::path::{Path, PathBuf};

use safetensors::tensor::Dtype;
use serde_json::Value;

use crate::support::{Sandbox, entries, fixtures, read_json};
use crate::weights::{Tensor, Weights, read_folder, write_file};

fn folder() -> PathBuf {
    fixtures().join("golden/peft-matrix")
}

/// A case of the index: what is merged into what.
struct Case {
    entry: Value,
}

impl Case {
    fn text(&self, key: &str) -> &str {
        self.entry[key].as_str().unwrap()
    }

    fn folder(&self) -> PathBuf {
        folder().join(self.text("folder"))
    }

    fn base(&self) -> PathBuf {
        folder().join("bases").join(self.text("base"))
    }

    /// The arguments of the merge: the base, then the adapters in PEFT's order.
    fn inputs(&self) -> Vec<PathBuf> {
        let adapters = self.entry["adapters"].as_u64().unwrap();
        let adapters = (0..adapters).map(|i| self.folder().join(format!("adapter{i}")));
        std::iter::once(self.base()).chain(adapters).collect()
    }
}

fn cases() -> Vec<Case> {
    let index = read_json(&folder().join("matrix.json"));
    index.as_array().unwrap().iter().map(|entry| Case { entry: entry.clone() }).collect()
}

/// Asserts that `found` is the truth rounded once. The sum over the rank is made in f32: where the terms cancel, its
/// error is a part of the tensor's usual values, not of the one that is left. In eight of these cases it is more than
/// `assert_near` allows, up to five times.
fn assert_rounded_once(case: &str, base: &Weights, found: &Weights, wanted: &Weights) {
    assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>(), "{case}");
    for (name, want) in wanted {
        let got = &found[name];
        assert_eq!((got.dtype, &got.shape), (want.dtype, &want.shape), "{case}: {name}");
        let (got, values) = (got.values(), want.values());
        let usual = values.iter().map(|v| v.abs()).sum::<f64>() / values.len() as f64;
        let before = base.get(name).filter(|b| b.shape == want.shape).map(Tensor::values);
        for (i, (g, w)) in got.iter().zip(&values).enumerate() {
            let larger = w.abs().max(before.as_ref().map_or(0.0, |b| b[i].abs()));
            let step = if want.dtype == Dtype::F32 { 1e-6 * larger } else { want.ulp(larger) };
            let allowed = step + 2e-6 * usual;
            assert!((g - w).abs() <= allowed, "{case}: {name}[{i}] is {g}, wanted {w} (+- {allowed:e})");
        }
    }
}

#[test]
fn merges_of_the_matrix_are_pefts_or_the_truth() {
    let (mut equal, mut near) = (0, 0);
    for case in cases().iter().filter(|case| case.entry.get("refused").is_none()) {
        let name = case.text("name");
        let sandbox = Sandbox::new();
        let inputs = case.inputs();
        let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
        let run = sandbox.run("merge -o out", &inputs);
        assert_eq!(run.code, Some(0), "{name}: {}", run.stderr);

        let base = read_folder(&case.base());
        let mut wanted = base.clone();
        wanted.extend(read_folder(&case.folder()));
        for dropped in case.entry["dropped"].as_array().unwrap() {
            wanted.remove(dropped.as_str().unwrap()).unwrap();
        }
        let found = read_folder(&sandbox.path("out"));
        if case.entry["equal"].as_bool().unwrap() {
            let differing: Vec<_> =
                wanted.iter().filter(|(key, tensor)| found.get(*key) != Some(tensor)).collect();
            assert!(differing.is_empty() && found.len() == wanted.len(), "{name}: {:?}", differing.first());
            equal += 1;
        } else {
            assert_rounded_once(name, &base, &found, &wanted);
            near += 1;
        }
    }
    assert!(equal >= 7 && near >= 29, "{equal} equal to PEFT bit for bit, {near} others");
}

#[test]
fn refusals_of_the_matrix_keep_their_kind() {
    let mut refused = 0;
    for case in cases() {
        let Some(kind) = case.entry.get("refused") else { continue };
        let sandbox = Sandbox::new();
        let inputs = case.inputs();
        let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
        let run = sandbox.run("merge -o out --json", &inputs);
        assert_eq!(run.code, Some(1), "{}: {}", case.text("name"), run.stderr);
        let last = run.stderr.lines().last().unwrap();
        let error: Value = serde_json::from_str(last).unwrap();
        assert_eq!(error["error"]["kind"], *kind, "{}: {last}", case.text("name"));
        assert!(sandbox.entries().is_empty(), "{}: nothing is written", case.text("name"));
        refused += 1;
    }
    assert!(refused >= 4, "{refused} refused");
}

/// No merge of the matrix is accused: PEFT's where ours are equal to them, else the truth rounded once.
#[test]
fn verify_knows_the_merges_of_the_matrix() {
    let mut held = 0;
    for case in cases().iter().filter(|case| case.entry.get("refused").is_none()) {
        let name = case.text("name");
        let sandbox = Sandbox::new();
        let mut merged = read_folder(&case.base());
        merged.extend(read_folder(&case.folder()));
        for dropped in case.entry["dropped"].as_array().unwrap() {
            merged.remove(dropped.as_str().unwrap()).unwrap();
        }
        let folder = sandbox.copy(&case.base(), "merged");
        for file in entries(&folder).iter().filter(|file| !file.ends_with(".json")) {
            std::fs::remove_file(folder.join(file)).unwrap();
        }
        write_file(&folder.join("model.safetensors"), &merged);
        let inputs = case.inputs();
        let adapters: String =
            inputs[1..].iter().map(|adapter| format!(" --adapter {}", adapter.display())).collect();
        let line = format!("verify --json merged{adapters} --base");
        let run = sandbox.run(&line, &[&inputs[0]]);
        let report: Value =
            serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{name}: {}", run.stderr));
        assert_eq!(report["holds"], true, "{name}: {report}");
        held += 1;
    }
    assert!(held >= 36, "{held} merges");
}
