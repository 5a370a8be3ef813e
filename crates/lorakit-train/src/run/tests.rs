use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use insta::assert_snapshot;
use serde_json::Value;
use tempfile::TempDir;

use super::testing::{Tiny, saved, settings};
use super::*;
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
    fn begins(&mut self, estimate: &Estimate) {
        self.estimate = Some(estimate.clone());
    }

    fn step(&mut self, step: &Step) {
        self.steps = step.step;
        self.losses.push(step.loss);
    }

    fn evaluated(&mut self, evaluated: &Evaluated) {
        self.evaluated.push((evaluated.step, evaluated.loss, evaluated.best));
    }

    fn saved(&mut self, path: &Path) {
        self.saved.push(path.to_path_buf());
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

/// The steps of `metrics.jsonl` in order: of steps, then of validations.
fn metrics(output: &Path) -> (Vec<u64>, Vec<u64>) {
    let text = fs::read_to_string(output.join("metrics.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps = |key: &str| {
        lines.iter().filter(|line| !line[key].is_null()).map(|line| line["step"].as_u64().unwrap()).collect()
    };
    (steps("loss"), steps("eval_loss"))
}

const RESUMED: &str = "packing: false\nbatch_size: 3\nepochs: 3\nlora: {dropout: 0.1, layers: last:2}\nsave_every: 4\nlog_every: 1\n\
                       eval_every: 3\n";

#[test]
fn a_run_goes_on_as_if_nothing_had_happened() {
    let tiny = Tiny::with_validation();
    let (_folder, output) = folder();
    let mut whole = Until::default();
    let summary = tiny.run(&settings(&output, RESUMED), &mut whole).unwrap();
    let (expected, best) = (saved(&output), saved(&output.join("best")));
    assert_eq!(summary.steps, 18);
    let stops = [
        (Some(1), None),
        (Some(4), None),
        (Some(7), None),
        (None, Some(2)),
        (None, Some(4)),
        (Some(17), None),
    ];
    for (step, validation) in stops {
        let (_folder, output) = folder();
        let mut first = Until { step, validation, ..Until::default() };
        let summary = tiny.run(&settings(&output, RESUMED), &mut first).unwrap();
        assert_eq!(summary.outcome, Outcome::Interrupted);
        assert!(!output.join("adapter_config.json").exists());
        let mut second = Until::default();
        let again = settings(&output, &format!("{RESUMED}resume: auto\nthreads: 2\n"));
        let summary = tiny.run(&again, &mut second).unwrap();
        let at = format!("stopped after {} steps, {validation:?}", first.steps);
        assert_eq!((summary.outcome, summary.steps), (Outcome::Finished, 18), "{at}");
        assert_eq!(second.estimate.unwrap().resumed, Some(first.steps), "{at}");
        assert!(saved(&output) == expected && saved(&output.join("best")) == best, "{at}");
        assert_eq!(metrics(&output), ((1..=18).collect(), vec![0, 3, 6, 9, 12, 15, 18]), "{at}");
        let losses: Vec<f64> = first.losses.iter().chain(&second.losses).copied().collect();
        assert_eq!(losses, whole.losses, "{at}");
    }
}

#[test]
fn a_checkpoint_can_be_named() {
    let tiny = Tiny::new();
    let (place, output) = folder();
    let yaml = format!("{RESUMED}keep: 9\n");
    tiny.run(&settings(&output, &yaml), &mut Nobody).unwrap();
    let from = |name: &str| format!("{yaml}resume: {:?}\n", output.join(name).display());
    let other = place.path().join("other");
    tiny.run(&settings(&other, &from("checkpoint-8")), &mut Nobody).unwrap();
    assert!(saved(&other) == saved(&output));
    let expected = saved(&output);
    tiny.run(&settings(&output, &from("checkpoint-12")), &mut Nobody).unwrap();
    assert!(saved(&output) == expected);
}

/// Trains until it is killed, with a pause after each step: see `a_killed_run_goes_on`.
#[test]
#[ignore = "runs only as the child of another test"]
fn child() {
    struct Slow;
    impl Observer for Slow {
        fn step(&mut self, _: &Step) {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
    let output = PathBuf::from(std::env::var_os("LORAKIT_TEST_OUTPUT").unwrap());
    Tiny::with_validation().run(&settings(&output, RESUMED), &mut Slow).unwrap();
}

#[test]
fn a_killed_run_goes_on() {
    let tiny = Tiny::with_validation();
    let expected = trained(&tiny, RESUMED);
    for checkpoint in ["checkpoint-4", "checkpoint-8"] {
        let (_folder, output) = folder();
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["run::tests::child", "--exact", "--ignored"])
            .env("LORAKIT_TEST_OUTPUT", &output)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while !output.join(checkpoint).exists() {
            assert!(child.try_wait().unwrap().is_none(), "the child has ended by itself");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let mut second = Until::default();
        tiny.run(&settings(&output, &format!("{RESUMED}resume: auto\n")), &mut second).unwrap();
        assert!(second.estimate.unwrap().resumed >= Some(4));
        assert!(saved(&output) == expected, "{checkpoint}");
        assert_eq!(metrics(&output).0, (1..=18).collect::<Vec<_>>());
    }
}

#[test]
fn what_has_changed_is_named() {
    let (_folder, output) = folder();
    let tiny = Tiny::with_validation();
    tiny.run(&settings(&output, RESUMED), &mut Until { step: Some(5), ..Until::default() }).unwrap();
    let again = |tiny: &Tiny, from: &str, to: &str| {
        let yaml = format!("{RESUMED}resume: auto\n").replace(from, to);
        let error = tiny.run(&settings(&output, &yaml), &mut Nobody).unwrap_err();
        error.to_string().replace(&*output.to_string_lossy(), "out")
    };
    let mut found = vec![
        again(&tiny, "epochs: 3", "epochs: 4"),
        again(&tiny, "batch_size: 3", "batch_size: 4\nlr_end: 0"),
        again(&tiny, "resume: auto", "resume: auto\nrecompute: mlp"),
    ];
    let (mut rows, mut held) = (Tiny::with_validation(), Tiny::with_validation());
    rows.rows[3].tokens[2] ^= 1;
    held.held[1].weights[3] = 0.25;
    found.extend([rows, held].map(|tiny| again(&tiny, "", "")));
    let mut bf16 = settings(&output, &format!("{RESUMED}resume: auto\n"));
    bf16.compute = crate::settings::ComputeChoice::Bf16;
    let error = tiny.run(&bf16, &mut Nobody).unwrap_err().to_string();
    found.push(error.replace(&*output.to_string_lossy(), "out"));
    assert_snapshot!(found.join("\n"), @"
    `out/checkpoint-5`: the run in this checkpoint was begun with something else: `epochs` was 3 and is 4; give it back, or begin anew in another output
    `out/checkpoint-5`: the run in this checkpoint was begun with something else: `batch_size` was 3 and is 4; `lr_end` was 0.1 and is 0; give it back, or begin anew in another output
    `out/checkpoint-5`: the run in this checkpoint was begun with something else: `recompute` was nothing or layers and is halves or mlp; give it back, or begin anew in another output
    `out/checkpoint-5`: the run in this checkpoint was begun with something else: the data has changed; give it back, or begin anew in another output
    `out/checkpoint-5`: the run in this checkpoint was begun with something else: the validation data has changed; give it back, or begin anew in another output
    `out/checkpoint-5`: the run in this checkpoint was begun with something else: `compute` was f32 and is bf16; give it back, or begin anew in another output
    ");
    // What does not decide bytes may change.
    let free = format!("{RESUMED}resume: auto\nthreads: 3\nkeep: 1\nlog_every: 5\nrecompute: layers\n")
        .replace("save_every: 4", "save_every: 6")
        .replace("log_every: 1\n", "");
    tiny.run(&settings(&output, &free), &mut Nobody).unwrap();
    assert!(saved(&output) == trained(&tiny, RESUMED));
    assert_eq!(names(&output).iter().filter(|name| name.starts_with("checkpoint-")).count(), 1);
}

#[test]
fn outputs_and_checkpoints_that_do_not_serve_are_refused() {
    let (_folder, output) = folder();
    let tiny = Tiny::new();
    let yaml = "packing: false\nbatch_size: 8\nepochs: 1\n";
    let refused = |more: &str| {
        let error = tiny.run(&settings(&output, &format!("{yaml}{more}")), &mut Nobody).unwrap_err();
        error.to_string().replace(&*output.to_string_lossy(), "out")
    };
    fs::create_dir(&output).unwrap();
    fs::write(output.join("notes.txt"), "mine").unwrap();
    let mut found =
        vec![refused(""), refused("resume: auto\n"), refused(&format!("resume: {:?}\n", output.display()))];
    fs::remove_file(output.join("notes.txt")).unwrap();
    tiny.run(&settings(&output, yaml), &mut Nobody).unwrap();
    found.extend([refused(""), refused("resume: auto\n")]);
    let elsewhere = format!("{yaml}resume: {:?}\n", output.join("checkpoint-2").display());
    let (_other, other) = folder();
    fs::create_dir(&other).unwrap();
    fs::write(other.join("notes.txt"), "mine").unwrap();
    let error = tiny.run(&settings(&other, &elsewhere), &mut Nobody).unwrap_err();
    found.push(error.to_string().replace(&*other.to_string_lossy(), "other"));
    let expected = saved(&output);
    fs::remove_file(output.join("adapter_config.json")).unwrap();
    tiny.run(&settings(&output, &format!("{yaml}resume: auto\n")), &mut Nobody).unwrap();
    assert!(saved(&output) == expected, "a run that was killed while it wrote its adapter");
    let state = output.join("checkpoint-2/trainer_state.json");
    let text = fs::read_to_string(&state).unwrap();
    for (from, to) in [("\"format\": 1", "\"format\": 2"), ("\"step\": 2", "\"step\": -2"), ("{", "")] {
        fs::write(&state, text.replacen(from, to, 1)).unwrap();
        found.push(refused("resume: auto\n"));
    }
    let unfinished = text.replacen("\"unevaluated\": false", "\"unevaluated\": true", 1);
    fs::write(&state, unfinished).unwrap();
    let optimiser = output.join("checkpoint-2/optimizer.safetensors");
    let bytes = fs::read(&optimiser).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let zeros = [&bytes[..header], &vec![0; bytes.len() - header]].concat();
    fs::write(&optimiser, zeros).unwrap();
    found.push(refused("resume: auto\n"));
    let json =
        std::str::from_utf8(&bytes[8..header]).unwrap().replacen("0.query.a.first", "0.query.a.sirst", 1);
    fs::write(&optimiser, [&bytes[..8], json.as_bytes(), &bytes[header..]].concat()).unwrap();
    found.push(refused("resume: auto\n"));
    let lock = fs::OpenOptions::new().append(true).open(output.join("metrics.jsonl")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    fs::write(&optimiser, &bytes).unwrap();
    found.push(refused("resume: auto\n"));
    assert_snapshot!(found.join("\n"), @"
    `out`: holds `notes.txt`, and no checkpoint of a run; name an empty folder
    `out`: holds `notes.txt`, and no checkpoint of a run; name an empty folder
    `out`: is not a checkpoint: it has no `trainer_state.json`; name a folder `checkpoint-N` of a run
    `out`: holds a run that got as far as `checkpoint-2`; set `resume: auto` to go on with it, or name an empty folder
    `out/checkpoint-2`: all 2 steps of this run are done; to train on, begin anew with `adapter` set to its output
    `other`: holds `notes.txt`, and no checkpoint of a run; name an empty folder
    `out/checkpoint-2/trainer_state.json`: is not the state of a run: its `format` is 2, and 1 is read
    `out/checkpoint-2/trainer_state.json`: is not the state of a run: `step` is -2; it must be a whole number
    `out/checkpoint-2/trainer_state.json`: is not valid JSON: trailing characters at line 2 column 11
    `out/checkpoint-2/optimizer.safetensors`: all moments of the optimiser are zero after 2 steps: they were not saved, and going on would start anew
    `out/checkpoint-2/optimizer.safetensors`: has no tensor `0.query.a.first`
    `out`: another run is writing to it; wait until it has ended, or name another output
    ");
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

/// `tests/kernels.rs` compares with what other machines found.
#[test]
fn every_kernel_trains_the_same_adapter() {
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
