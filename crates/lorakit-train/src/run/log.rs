//! `metrics.jsonl`, with a line for each step and each validation, and `samples.jsonl`, with a line for each answer.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::observe::{Evaluated, Sampled, Step};
use crate::error::Result;

/// A file with an object a line, each with its `step`.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens the file at `path` with its lines up to the step after which the run goes on, and tells the last that has one.
    /// Later ones are of a run that was interrupted after its last checkpoint, and will come again; so will all if the run
    /// begins.
    pub(crate) fn open(path: &Path, resumed: Option<u64>) -> Result<(Self, Option<u64>)> {
        let failed = |doing| move |e| lorakit_tensor::Error::io(doing, path, e);
        let mut file = OpenOptions::new().append(true).create(true).open(path).map_err(failed("create"))?;
        let text = fs::read_to_string(path).map_err(failed("read"))?;
        let of = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            line["step"].as_u64().filter(|of| resumed.is_some_and(|step| *of <= step))
        };
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let kept: Vec<(&str, u64)> = lines.filter_map(|line| Some((line, of(line)?))).collect();
        let latest = kept.iter().map(|(_, step)| *step).max();
        let kept: String = kept.into_iter().map(|(line, _)| line).collect();
        // The same file, because it is locked; lines stay where they are, in case that this is killed.
        if text.starts_with(&kept) {
            file.set_len(kept.len() as u64).map_err(failed("write"))?;
        } else {
            file.set_len(0).map_err(failed("write"))?;
            file.write_all(kept.as_bytes()).map_err(failed("write"))?;
        }
        Ok((Self { path: path.to_path_buf(), file }, latest))
    }

    pub(crate) fn step(&mut self, step: &Step) -> Result<()> {
        self.line(json!({
            "step": step.step,
            "epoch": step.epoch,
            "loss": step.loss,
            "eval_loss": null,
            "ppl": null,
            "lr": step.lr,
            "grad_norm": step.grad_norm,
            "tokens": step.tokens,
            "supervised_tokens": step.supervised_tokens,
            "tok_s": step.tok_s,
            "rss_mb": step.rss.map(|bytes| bytes as f64 / 1e6),
            "wall_s": step.wall_s,
        }))
    }

    pub(crate) fn evaluated(&mut self, evaluated: &Evaluated, epoch: f64, wall_s: f64) -> Result<()> {
        self.line(json!({
            "step": evaluated.step,
            "epoch": epoch,
            "loss": null,
            "eval_loss": evaluated.loss,
            "ppl": evaluated.loss.exp(),
            "wall_s": wall_s,
        }))
    }

    /// All lines in one piece: the samples of a step are there, or are not.
    pub(crate) fn sampled(&mut self, sampled: &Sampled) -> Result<()> {
        let line = |(at, sample): (usize, &super::observe::Sample)| {
            let line = json!({
                "step": sampled.step,
                "sample": at + 1,
                "prompt": sample.prompt,
                "expected": sample.expected,
                "answer": sample.answer,
                "tokens": sample.tokens,
                "stop": sample.stop.name(),
            });
            format!("{line}\n")
        };
        let lines: String = sampled.samples.iter().enumerate().map(line).collect();
        self.write(&lines)
    }

    fn line(&mut self, line: Value) -> Result<()> {
        self.write(&format!("{line}\n"))
    }

    fn write(&mut self, lines: &str) -> Result<()> {
        let failed = |e| lorakit_tensor::Error::io("write", &self.path, e);
        Ok(self.file.write_all(lines.as_bytes()).map_err(failed)?)
    }
}
