//! `--html`: a run as a page, from what its folder holds, so that it covers the steps before the run went on too.

use std::path::Path;
use std::{fs, io};

use lorakit_train::settings::{KEYS, Section, Settings};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Report, SCHEMA};
use crate::command::page::{Kind, write};
use crate::error::Failure;
use crate::ui;

/// Curves, samples and settings.
pub(in crate::command) const RUN: Kind = Kind { script: include_str!("page.js"), title };
/// The most points of a curve.
const POINTS: usize = 2000;

fn title(object: &Value) -> String {
    format!("{} - lorakit train", object["folder"].as_str().unwrap_or_default())
}

/// What the page holds.
#[derive(Serialize)]
struct Page<'r> {
    #[serde(flatten)]
    report: Report<'r>,
    folder: &'r Path,
    model: &'r Path,
    curves: Curves,
    validations: Vec<Value>,
    samples: Vec<Value>,
    settings: Vec<Value>,
}

/// Columns of `metrics.jsonl`; a point of each stands for so many steps.
#[derive(Default, Serialize)]
struct Curves {
    each: usize,
    step: Vec<u64>,
    epoch: Vec<f64>,
    loss: Vec<f64>,
    lr: Vec<f64>,
    grad_norm: Vec<f64>,
    tok_s: Vec<f64>,
    /// In bytes.
    memory: Vec<Option<f64>>,
}

impl Curves {
    /// Of the lines of steps. Where several are one point, losses and speeds are means, and norms and memory the largest.
    fn of(steps: &[Value]) -> Self {
        let each = steps.len().div_ceil(POINTS).max(1);
        let mut curves = Curves { each, ..Curves::default() };
        for steps in steps.chunks(each) {
            let values = |name: &'static str| steps.iter().filter_map(move |step| step[name].as_f64());
            let mean = |name| values(name).sum::<f64>() / steps.len() as f64;
            let most = |name| values(name).reduce(f64::max);
            let last = &steps[steps.len() - 1];
            curves.step.push(last["step"].as_u64().unwrap_or_default());
            curves.epoch.push(last["epoch"].as_f64().unwrap_or_default());
            curves.loss.push(mean("loss"));
            curves.lr.push(mean("lr"));
            curves.grad_norm.push(most("grad_norm").unwrap_or_default());
            curves.tok_s.push(mean("tok_s"));
            curves.memory.push(most("rss_mb").map(|megabytes| megabytes * 1e6));
        }
        curves
    }
}

/// Writes the page of the run in `folder`, and returns its size in bytes.
pub(super) fn run(page: &Path, replace: bool, folder: &Path, report: Report<'_>) -> Result<u64, Failure> {
    let settings = Settings::open(&folder.join("run.yaml"))?;
    let (validations, steps): (Vec<Value>, Vec<Value>) =
        lines(&folder.join("metrics.jsonl"))?.into_iter().partition(|line| line["loss"].is_null());
    let validations =
        validations.iter().map(|line| json!({ "step": line["step"], "loss": line["eval_loss"] })).collect();
    let page_of = Page {
        report,
        folder,
        model: &settings.model,
        curves: Curves::of(&steps),
        validations,
        samples: lines(&folder.join("samples.jsonl"))?,
        settings: Section::ALL.iter().map(|section| group(*section, &settings)).collect(),
    };
    write(page, replace, &RUN, &ui::enveloped(SCHEMA, page_of))
}

/// The keys of a section, with their values and the usual ones.
fn group(section: Section, settings: &Settings) -> Value {
    let keys = KEYS.iter().filter(|key| key.section == section);
    let keys: Vec<Value> = keys
        .map(|key| json!({ "name": key.name, "value": settings.value(key), "usual": key.default }))
        .collect();
    json!({ "title": section.title(), "keys": keys })
}

/// The objects of a file; none if there is none.
fn lines(path: &Path) -> Result<Vec<Value>, Failure> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(lorakit::Error::from(lorakit_tensor::Error::io("read", path, error)).into()),
    };
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_stands_for_steps_of_which_there_are_many() {
        let line = |step: usize| json!({ "step": step, "loss": step as f64, "grad_norm": step as f64, "rss_mb": 1.5 });
        let few: Vec<Value> = (1..=POINTS).map(line).collect();
        let curves = Curves::of(&few);
        assert_eq!((curves.each, curves.step.len(), curves.loss[POINTS - 1]), (1, POINTS, POINTS as f64));
        let many: Vec<Value> = (1..=2 * POINTS + 1).map(line).collect();
        let curves = Curves::of(&many);
        assert_eq!((curves.each, curves.step[0], curves.loss[0], curves.grad_norm[0]), (3, 3, 2.0, 3.0));
        assert_eq!((curves.memory[0], curves.step.last()), (Some(1.5e6), Some(&(2 * POINTS as u64 + 1))));
        assert!(Curves::of(&[]).step.is_empty());
    }
}
