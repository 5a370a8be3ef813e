//! A whole training: `tiny-orders` learns to answer orders as JSON.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it took"
)]

use std::path::{Path, PathBuf};

use lorakit::plan::Silent;
use lorakit_train::adapter;
use lorakit_train::base::{Base, Quant};
use lorakit_train::kernel::{Compute, Products};
use lorakit_train::model::Adapter;
use lorakit_train::run::{self, Nobody, Observer, Outcome, Step};
use lorakit_train::settings::Settings;
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

fn settings(output: &Path, more: &str) -> Settings {
    let yaml = format!(
        "model: {:?}\ndata: {:?}\noutput: {:?}\nquant: nf4\ncompute: f32\npacking: false\nbatch_size: 16\nmax_steps: 800\n\
         lr: 5e-3\nschedule: linear\nlr_end: 0.1\nwarmup_steps: 10\nsave_every: 400\nlora: {{r: 16, alpha: 32}}\n{more}",
        fixture("tiny-orders"),
        fixture("tiny-json/train.jsonl"),
        output,
    );
    let mut settings = Settings::from_yaml(&yaml).unwrap();
    settings.finish().unwrap();
    settings
}

/// How many of the held-out orders are answered exactly.
fn answered(settings: &Settings, base: &Base, adapter: &Adapter<f32>) -> usize {
    let products = Products { compute: Compute::F32, threads: 2 };
    let text = run::text(settings, base.opened()).unwrap();
    let rows = std::fs::read_to_string(fixture("tiny-json/heldout.jsonl")).unwrap();
    let right = |row: &&str| {
        let row: Value = serde_json::from_str(row).unwrap();
        let messages = row["messages"].as_array().unwrap();
        let prompt = text.prompt(&messages[..1], None).unwrap();
        let answer = base.model.greedy(adapter, &prompt, &text.ends, 80, products);
        text.tokenizer.decode(&answer, true).unwrap() == messages[1]["content"].as_str().unwrap()
    };
    rows.lines().filter(right).count()
}

/// Of all factors after the last step; it is the same on every machine.
const DIGEST: &str = "04f6afcfebdfb793160647cbc02b5829edead6ded1aca5a2d23e4391be3fb718";

/// The digest is the test; the count is what it means.
#[test]
fn orders_are_answered_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let settings = settings(&output, "");
    let base = Base::open(&fixture("tiny-orders"), Quant::Nf4 { double: true }, 2, &Silent).unwrap();
    assert_eq!(answered(&settings, &base, &Adapter::none(&base.model.shape)), 0);
    let begin = std::time::Instant::now();
    let summary = run::train(&settings, &mut Nobody).unwrap();
    println!("{:.0} s, {} tokens: {summary:?}", begin.elapsed().as_secs_f64(), summary.tokens);
    assert_eq!((summary.outcome, summary.steps), (Outcome::Finished, 800));
    let (_, trained) = adapter::read(&output, &base).unwrap();
    let right = answered(&settings, &base, &trained);
    println!("{right} of 60 are answered");
    let bytes: Vec<u8> = trained.factors().flatten().flat_map(|value| value.to_le_bytes()).collect();
    assert!(right >= 50, "{right} of 60 are answered");
    assert_eq!(blake3::hash(&bytes).to_hex().as_str(), DIGEST);
}

/// Stops a run after so many steps.
struct Until(u64, u64);

impl Observer for Until {
    fn step(&mut self, step: &Step) -> lorakit_train::Result<()> {
        self.1 = step.step;
        Ok(())
    }

    fn stops(&self) -> bool {
        self.1 >= self.0
    }
}

#[test]
fn a_run_goes_on_and_its_adapter_is_refined() {
    let folder = tempfile::tempdir().unwrap();
    let short = |output: &str, more: &str| {
        let yaml = format!(
            "model: {:?}\ndata: {:?}\noutput: {:?}\ncompute: f32\nbatch_size: 2\nseq_len: 128\nmax_steps: 6\nlr: 5e-3\nval: 0.02\n\
             eval_every: 2\nsave_every: 2\nlora: {{dropout: 0.1, layers: last:2}}\n{more}",
            fixture("tiny-orders"),
            fixture("tiny-json/train.jsonl"),
            folder.path().join(output),
        );
        let mut settings = Settings::from_yaml(&yaml).unwrap();
        settings.finish().unwrap();
        settings
    };
    let file = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let estimate = run::estimate(&short("whole", ""), &Silent).unwrap();
    assert!(!folder.path().join("whole").exists(), "an estimate writes nothing");
    assert_eq!((estimate.steps, estimate.held), (6, 8));
    assert!(estimate.tok_s > 0.0 && estimate.trained > 0);
    let checked = run::check_data(&short("whole", "")).unwrap();
    assert_eq!(
        checked.training.documents + checked.validation.as_ref().map_or(0, |report| report.documents),
        400
    );
    checked.verdict().unwrap();

    let whole = run::train(&short("whole", ""), &mut Nobody).unwrap();
    assert_eq!((whole.outcome, whole.steps), (Outcome::Finished, 6));
    let stopped = run::train(&short("stopped", ""), &mut Until(3, 0)).unwrap();
    assert_eq!(
        (stopped.outcome, stopped.saved),
        (Outcome::Interrupted, Some(folder.path().join("stopped/checkpoint-3")))
    );
    let resumed = run::train(&short("stopped", "resume: auto\n"), &mut Nobody).unwrap();
    assert_eq!((resumed.outcome, resumed.best), (Outcome::Finished, whole.best));
    for name in
        ["adapter_model.safetensors", "best/adapter_model.safetensors", "checkpoint-6/optimizer.safetensors"]
    {
        assert!(file(&format!("whole/{name}")) == file(&format!("stopped/{name}")), "{name}");
    }
    for name in ["tokenizer.json", "chat_template.jinja"] {
        let expected = std::fs::read(fixture("tiny-orders").join(name)).unwrap();
        assert!(
            file(&format!("whole/{name}")) == expected && file(&format!("whole/best/{name}")) == expected,
            "{name}"
        );
    }

    let more = format!("adapter: {:?}\ndtype: bf16\n", folder.path().join("whole"));
    let refined = run::train(&short("refined", &more), &mut Nobody).unwrap();
    assert_eq!(refined.before, whole.best.map(|(_, loss)| loss).filter(|_| whole.best.unwrap().0 == 6));
    assert!(refined.best.unwrap().1 < whole.best.unwrap().1, "{refined:?} after {whole:?}");
}
