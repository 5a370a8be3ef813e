//! A whole training: `tiny-orders` learns to answer orders as JSON.

use std::path::{Path, PathBuf};

use lorakit::plan::Silent;
use lorakit_train::adapter;
use lorakit_train::base::{Base, Quant};
use lorakit_train::kernel::{Compute, Products};
use lorakit_train::model::Adapter;
use lorakit_train::run::{self, Nobody, Outcome};
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

/// The digest is the test; the count is what it means. It is the same on every machine.
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
    assert_eq!(blake3::hash(&bytes).to_hex().as_str(), "");
}
