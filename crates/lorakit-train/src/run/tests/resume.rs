//! Runs that were interrupted, and what keeps them from going on.

use std::fs;
use std::path::{Path, PathBuf};

use insta::assert_snapshot;
use serde_json::Value;

use super::{Until, folder, names, trained};
use crate::run::testing::{Tiny, saved, settings};
use crate::run::{Nobody, Observer, Outcome, Step};

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
        fn step(&mut self, _: &Step) -> crate::error::Result<()> {
            std::thread::sleep(std::time::Duration::from_millis(20));
            Ok(())
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
            .args(["run::tests::resume::child", "--exact", "--ignored"])
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
