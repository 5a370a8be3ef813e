//! `metrics.jsonl`: one object a line for each step and each validation.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::observe::{Evaluated, Step};
use super::output::METRICS;
use crate::error::Result;

/// The file.
pub(crate) struct Metrics {
    path: PathBuf,
    file: File,
}

impl Metrics {
    /// Opens the file in `folder`, with its lines of the first `step` steps. Later ones are of a run that was interrupted
    /// after its last checkpoint, and will come again.
    pub(crate) fn open(folder: &Path, step: u64) -> Result<Self> {
        let path = folder.join(METRICS);
        let text = fs::read_to_string(&path).map_err(|e| lorakit_tensor::Error::io("read", &path, e))?;
        let kept: String = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .filter(|line| {
                let line: Value = serde_json::from_str(line).unwrap_or_default();
                // The validation before the first step has no step of its own to come again.
                line["step"].as_u64().is_some_and(|of| of <= step)
            })
            .collect();
        let failed = |e| lorakit_tensor::Error::io("write", &path, e);
        let mut file = OpenOptions::new().append(true).open(&path).map_err(failed)?;
        if kept != text {
            // The same file, because it is locked.
            file.set_len(0).map_err(failed)?;
            file.write_all(kept.as_bytes()).map_err(failed)?;
        }
        Ok(Self { path, file })
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

    fn line(&mut self, line: Value) -> Result<()> {
        let line = format!("{line}\n");
        Ok(self
            .file
            .write_all(line.as_bytes())
            .map_err(|e| lorakit_tensor::Error::io("write", &self.path, e))?)
    }
}
