//! Whole runs of a tiny model.

mod resume;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use insta::assert_snapshot;
use tempfile::TempDir;

use super::testing::{Tiny, adapter, model, saved, settings};
use super::*;
use crate::error::Result;
use crate::kernel;
use crate::settings::Settings;

/// Stops after so many steps, or as soon as a validation is due.
#[derive(Default)]
struct Until {
    step: Option<u64>,
    validation: Option<usize>,
    steps: u64,
    evaluated: Vec<(u64, f64, bool)>,
    losses: Vec<f64>,
    saved: Vec<PathBuf>,
    estimate: Option<Estimate>,
}

impl Observer for Until {
    fn begins(&mut self, _: &Settings, estimate: &Estimate) -> Result<()> {
        self.estimate = Some(estimate.clone());
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        self.steps = step.step;
        self.losses.push(step.loss);
        Ok(())
    }

    fn evaluated(&mut self, evaluated: &Evaluated) -> Result<()> {
        self.evaluated.push((evaluated.step, evaluated.loss, evaluated.best));
        Ok(())
    }

    fn saved(&mut self, path: &Path) -> Result<()> {
        self.saved.push(path.to_path_buf());
        Ok(())
    }

    fn stops(&self) -> bool {
        let in_step = self.step.is_some_and(|step| self.steps >= step);
        in_step || self.validation.is_some_and(|count| self.evaluated.len() >= count && self.steps > 0)
    }
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    (folder, output)
}

/// The adapter of a run with these settings.
fn trained(tiny: &Tiny, yaml: &str) -> Vec<u8> {
    let (_folder, output) = folder();
    let summary = tiny.run(&settings(&output, yaml), &mut Nobody).unwrap();
    assert_ne!(summary.outcome, Outcome::Interrupted);
    saved(&output)
}

#[test]
fn rows_are_learned_by_heart() {
    let (_folder, output) = folder();
    let tiny = Tiny::new();
    let mut watched = Until::default();
    let yaml = "packing: false\nbatch_size: 16\nmax_steps: 150\nlr: 2e-2\nschedule: linear\nsave_every: 60\n";
    let summary = tiny.run(&settings(&output, yaml), &mut watched).unwrap();
    assert_eq!((summary.outcome, summary.steps), (Outcome::Finished, 150));
    assert!(watched.losses[0] > 3.0, "{:?}", watched.losses);
    assert!(summary.loss.unwrap() < 0.1, "{:?}", watched.losses);
    let estimate = watched.estimate.unwrap();
    assert_eq!((estimate.rows, estimate.steps, estimate.resumed), (16, 150, None));
    assert!(estimate.tok_s > 0.0 && estimate.seconds > 0.0);
    assert_eq!(estimate.tokens, tiny.rows.iter().map(|row| row.tokens.len() as u64).sum::<u64>());
    let names = names(&output);
    assert_eq!(
        names,
        [
            "adapter_config.json",
            "adapter_model.safetensors",
            "checkpoint-120",
            "checkpoint-150",
            "metrics.jsonl",
            "run.yaml"
        ]
    );
    assert_eq!(Settings::open(&output.join("run.yaml")).unwrap().max_steps, Some(150));
    assert_eq!(summary.saved.as_deref(), Some(&*output));
}

#[test]
fn b_moves_as_much_faster_as_it_is_told() {
    // A power of two, so that the products are exact; in the first step B is zero, and so is the gradient of A.
    let factors = |steps: u64, ratio: u64| -> Vec<Vec<f32>> {
        let yaml = format!(
            "packing: false\nbatch_size: 8\nmax_steps: {steps}\nschedule: constant\nlora: {{plus_ratio: {ratio}}}\n"
        );
        let bytes = trained(&Tiny::new(), &yaml);
        let mut values = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let lengths = adapter(&model()).factors().map(Vec::len).collect::<Vec<_>>();
        lengths.into_iter().map(|length| values.by_ref().take(length).collect()).collect()
    };
    for (at, (one, fast)) in factors(1, 1).into_iter().zip(factors(1, 16)).enumerate() {
        let times = if at % 2 == 0 { 1.0 } else { 16.0 };
        assert!(one.iter().any(|value| *value != 0.0), "factor {at}");
        assert!(one.iter().zip(&fast).all(|(one, fast)| one * times == *fast), "factor {at}");
    }
    assert_ne!(factors(2, 1)[0], factors(2, 16)[0], "the gradient of A depends on B");
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn bytes_do_not_depend_on_how_a_step_is_done() {
    let yaml = "packing: false\nmax_steps: 6\nlora: {dropout: 0.1}\n";
    let expected = trained(&Tiny::new(), &format!("{yaml}batch_size: 8\n"));
    for other in ["batch_size: 4\ngrad_accum: 2\n", "batch_size: 1\ngrad_accum: 8\n"] {
        assert!(trained(&Tiny::new(), &format!("{yaml}{other}")) == expected, "{other}");
    }
    for pass in [1, 20, 1000] {
        let tiny = Tiny { pass: Some(pass), ..Tiny::new() };
        assert!(trained(&tiny, &format!("{yaml}batch_size: 8\n")) == expected, "passes of {pass} tokens");
    }
    for other in
        ["threads: 1\n", "threads: 2\n", "threads: 5\n", "recompute: nothing\n", "recompute: layers\n"]
    {
        let yaml = format!("{yaml}batch_size: 8\n{other}");
        assert!(trained(&Tiny::new(), &yaml) == expected, "{other}");
    }
    let halves = trained(&Tiny::new(), &format!("{yaml}batch_size: 8\nrecompute: halves\n"));
    assert!(trained(&Tiny::new(), &format!("{yaml}batch_size: 8\nrecompute: mlp\n")) == halves);
    assert!(
        trained(&Tiny::new(), &format!("{yaml}batch_size: 8\nseed: 43\n")) != expected,
        "dropout has a seed"
    );
}

#[test]
fn packed_rows_are_trained_as_unpacked_ones() {
    // A step that holds all rows: packing changes their order alone, and so the order of sums.
    let yaml = "max_steps: 3\nbatch_size: 16\nseq_len: 16\n";
    let (_folder, output) = folder();
    let mut packed = Until::default();
    Tiny::new().run(&settings(&output, yaml), &mut packed).unwrap();
    let (_folder, output) = folder();
    let mut unpacked = Until::default();
    Tiny::new().run(&settings(&output, &format!("{yaml}packing: false\n")), &mut unpacked).unwrap();
    for (packed, unpacked) in packed.losses.iter().zip(&unpacked.losses) {
        assert!((packed - unpacked).abs() < 1e-5, "{packed}, {unpacked}");
    }
    assert_eq!(packed.losses.len(), unpacked.losses.len());
}

#[test]
fn states_of_the_frozen_prefix_change_nothing() {
    let yaml = "packing: false\nbatch_size: 6\nepochs: 3\nlora: {layers: last:1, dropout: 0.1}\n";
    let (_folder, output) = folder();
    let mut watched = Until::default();
    Tiny::new().run(&settings(&output, yaml), &mut watched).unwrap();
    assert!(watched.estimate.unwrap().cached);
    let without = trained(&Tiny::new(), &format!("{yaml}cache_frozen: false\n"));
    assert!(saved(&output) == without);
    let small = Tiny { pass: Some(20), ..Tiny::new() };
    assert!(trained(&small, yaml) == without, "rows join other passes in later epochs");
    assert!(names(&output).iter().all(|name| !name.starts_with('.')), "{:?}", names(&output));
}

#[test]
fn a_run_ends_at_what_is_not_finite() {
    let refused = |tiny: &Tiny, yaml: &str| {
        let (_folder, output) = folder();
        let error = tiny.run(&settings(&output, yaml), &mut Nobody).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::NonFinite);
        assert!(!output.join("adapter_config.json").exists());
        let text = error.to_string().replace(&*output.to_string_lossy(), "out");
        (text, names(&output))
    };
    let mut nan = Tiny::new();
    nan.model.norm.weight[3] = f32::NAN;
    let (at_once, _) = refused(&nan, "epochs: 1\n");
    let (later, names) = refused(
        &Tiny::new(),
        "packing: false\nbatch_size: 4\nepochs: 3\nlr: 1e30\nwarmup_steps: 1\nsave_every: 1\n",
    );
    assert!(names.contains(&"checkpoint-1".to_string()), "{names:?}");
    nan.held = nan.rows.clone();
    let (validation, _) = refused(&nan, "epochs: 1\n");
    let mut wrong = Tiny::new();
    wrong.rows[5].tokens[1] = 40;
    let (_folder, output) = folder();
    let token = wrong.run(&settings(&output, ""), &mut Nobody).unwrap_err().to_string();
    assert!(!output.exists());
    assert_snapshot!([at_once, later, validation, token].join("\n"), @"
    the loss of step 1 is not a finite number, so the run has ended; there is no checkpoint yet; lower `lr`, or look for bad rows
    the loss of step 3 is not a finite number, so the run has ended; the last checkpoint is `out/checkpoint-2`; lower `lr` and begin anew
    the validation loss after step 0 is not a finite number, so the run has ended; there is no checkpoint yet; lower `lr`, or look for bad rows
    line 6 has the token 40, and the base has 40; the tokenizer is of another model
    ");
}

#[test]
fn the_best_adapter_is_kept_and_a_run_that_gets_worse_ends() {
    let (_folder, output) = folder();
    let mut tiny = Tiny::with_validation();
    // Rows that contradict the data: learning one side makes the other worse.
    tiny.held = tiny.rows[..4].to_vec();
    for row in &mut tiny.held {
        row.tokens.iter_mut().skip(1).for_each(|token| *token = (*token + 11) % 40);
    }
    let yaml = "packing: false\nbatch_size: 8\nepochs: 50\neval_every: 2\nearly_stop: 3\nval: v\nlr: 2e-2\nschedule: constant\n";
    let mut watched = Until::default();
    let summary = tiny.run(&settings(&output, yaml), &mut watched).unwrap();
    assert_eq!(summary.outcome, Outcome::StoppedEarly);
    let (best, loss) = summary.best.unwrap();
    let after = watched.evaluated.iter().filter(|(step, ..)| *step > best).count();
    assert_eq!(after, 3, "{:?}", watched.evaluated);
    assert_eq!(summary.steps, best + 6);
    assert!(watched.evaluated.iter().skip(1).all(|(_, other, _)| *other >= loss));
    assert_eq!(watched.evaluated[0].0, 0);
    assert_eq!(summary.before, Some(watched.evaluated[0].1));
    assert_eq!(summary.best_at, Some(output.join("best")));
    let yaml = format!("packing: false\nbatch_size: 8\nmax_steps: {best}\nlr: 2e-2\nschedule: constant\n");
    assert!(saved(&output.join("best")) == trained(&Tiny::new(), &yaml));
}

/// In a process of its own: a kernel is forced on all passes, those of other tests among them.
#[test]
fn every_kernel_trains_the_same_adapter() {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["run::tests::on_every_kernel", "--exact", "--ignored"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && told.contains("1 passed"), "{told}");
}

/// `tests/kernels.rs` compares with what other machines found.
#[test]
#[ignore = "runs only as the child of another test"]
fn on_every_kernel() {
    for compute in ["f32", "bf16"] {
        let trained = || {
            let (_folder, output) = folder();
            let mut settings = settings(&output, "packing: false\nbatch_size: 8\nepochs: 1\n");
            settings.set("compute", compute).unwrap();
            Tiny::new().run(&settings, &mut Nobody).unwrap();
            saved(&output)
        };
        let expected = trained();
        for name in kernel::NAMES {
            if kernel::force(Some(name)) {
                let found = trained();
                kernel::force(None);
                assert!(found == expected, "{compute} on {name}");
            }
        }
    }
}
