//! Answers that are sampled while a run goes on.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{contradicted, folder, trained};
use crate::error::Result;
use crate::generate::Stop;
use crate::kernel::Products;
use crate::model::Adapter;
use crate::run::sample::Answers;
use crate::run::testing::{Tiny, bytes, saved, settings};
use crate::run::{Nobody, Outcome, Sample, Summary};

/// Says which adapter it was asked with; the run is told to end while it is asked for the nth time.
#[derive(Default)]
struct Echo {
    asked: AtomicUsize,
    ends: Option<usize>,
}

impl Answers for Echo {
    fn answers(
        &self,
        adapter: &Adapter<f32>,
        _: Products,
        _: usize,
        _: &dyn Fn() -> bool,
    ) -> Result<Option<Vec<Sample>>> {
        if Some(self.asked.fetch_add(1, Ordering::Relaxed)) == self.ends {
            return Ok(None);
        }
        let answer = blake3::hash(&bytes(adapter)).to_hex().to_string();
        let sample = |prompt: &str| Sample {
            prompt: prompt.into(),
            expected: None,
            answer: answer.clone(),
            tokens: 1,
            stop: Stop::End(0),
        };
        Ok(Some(vec![sample("a"), sample("b")]))
    }
}

fn asked(ends: Option<usize>) -> Tiny {
    with_answers(Tiny::with_validation(), ends)
}

fn with_answers(tiny: Tiny, ends: Option<usize>) -> Tiny {
    Tiny { answers: Some(Box::new(Echo { ends, ..Echo::default() })), ..tiny }
}

const RUN: &str = "packing: false\nbatch_size: 4\nmax_steps: 9\nsave_every: 3\neval_every: 2\n";

/// The steps of the file of samples, and the file.
fn sampled(output: &Path) -> (Vec<u64>, String) {
    let text = fs::read_to_string(output.join("samples.jsonl")).unwrap();
    let step = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["step"].as_u64().unwrap()
    };
    (text.lines().map(step).collect(), text)
}

#[test]
fn samples_change_nothing() {
    let expected = trained(&Tiny::with_validation(), RUN);
    for (every, steps) in [
        ("sample_every: 4\n", vec![0, 0, 4, 4, 8, 8, 9, 9]),
        // An epoch has four steps.
        ("", vec![0, 0, 4, 4, 8, 8, 9, 9]),
        ("sample_every: 100\n", vec![0, 0, 9, 9]),
    ] {
        let (_folder, output) = folder();
        let yaml = format!("{RUN}sample_prompts: p\n{every}");
        tiny_run(&asked(None), &output, &yaml);
        assert!(saved(&output) == expected);
        assert_eq!(sampled(&output).0, steps, "{every}");
    }
    let (_folder, output) = folder();
    tiny_run(&Tiny::with_validation(), &output, RUN);
    assert!(!output.join("samples.jsonl").exists());
}

fn tiny_run(tiny: &Tiny, output: &Path, yaml: &str) -> Summary {
    tiny.run(&settings(output, yaml), &mut Nobody).unwrap()
}

/// A run that is interrupted while it samples takes those samples when it goes on, and each once.
#[test]
fn samples_go_on_too() {
    let yaml = format!("{RUN}sample_prompts: p\nsample_every: 2\n");
    let (_folder, whole) = folder();
    tiny_run(&asked(None), &whole, &yaml);
    let expected = sampled(&whole);
    for ends in 0..expected.0.len() / 2 {
        let (_folder, output) = folder();
        assert_eq!(tiny_run(&asked(Some(ends)), &output, &yaml).outcome, Outcome::Interrupted);
        assert_eq!(sampled(&output).0.len(), 2 * ends);
        tiny_run(&asked(None), &output, &format!("{yaml}resume: auto\n"));
        assert!(saved(&output) == saved(&whole));
        assert!(sampled(&output) == expected, "{ends}: {:?}", sampled(&output).0);
    }
    // At an earlier checkpoint: later samples come again, and so they do if none are asked for any more.
    fs::remove_file(whole.join("adapter_config.json")).unwrap();
    let from = format!("resume: {:?}\n", whole.join("checkpoint-6").display());
    tiny_run(&asked(None), &whole, &format!("{yaml}{from}"));
    assert!(sampled(&whole) == expected);
    fs::remove_file(whole.join("adapter_config.json")).unwrap();
    tiny_run(&Tiny::with_validation(), &whole, &format!("{RUN}{from}"));
    assert_eq!(sampled(&whole).0.last(), Some(&6));
}

/// A run that ends early has answers of its end.
#[test]
fn the_last_answers_of_a_run_that_gets_worse() {
    let (_folder, output) = folder();
    let yaml = "packing: false\nbatch_size: 8\nepochs: 50\neval_every: 2\nearly_stop: 3\nval: v\nlr: 2e-2\nschedule: constant\n\
                sample_prompts: p\nsample_every: 1000\n";
    let summary = tiny_run(&with_answers(contradicted(), None), &output, yaml);
    assert_eq!(summary.outcome, Outcome::StoppedEarly);
    assert_eq!(sampled(&output).0.last(), Some(&summary.steps));
}
