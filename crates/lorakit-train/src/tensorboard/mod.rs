//! Runs in TensorBoard: event files beside the adapter, in the format of TensorFlow's summaries.
//!
//! ```text
//!   event    the messages of a file, as Protocol Buffers encode them
//!   record   the frame in which each stands in the file
//! ```
//!
//! The files lie in `runs/` of the output, where those of transformers lie, and the tags are those of transformers and TRL,
//! so that runs of both can be compared in one window. All files of a run are in that folder itself: transformers begins a
//! folder for each time that a run goes on, and its curves are then several.

mod event;
mod record;
#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use self::event::Event;
use crate::error::Result;
use crate::run::{Estimate, Evaluated, Observer, RUNS, Sampled, Step};
use crate::settings::Settings;

/// What names of event files begin with, and what TensorBoard knows them by.
const PREFIX: &str = "events.out.tfevents.";

/// Writes the events of a run.
#[derive(Debug, Default)]
pub struct TensorBoard {
    /// None before the run begins.
    file: Option<(PathBuf, File)>,
}

impl TensorBoard {
    /// Begins a file after those of the run's folder, which TensorBoard reads in the order of their names.
    fn open(&mut self, settings: &Settings) -> Result<()> {
        let folder = settings.output.join(RUNS);
        fs::create_dir_all(&folder).map_err(|e| lorakit_tensor::Error::io("create", &folder, e))?;
        let entries = fs::read_dir(&folder).map_err(|e| lorakit_tensor::Error::io("read", &folder, e))?;
        let second = |name: &str| name.strip_prefix(PREFIX)?.get(..10)?.parse::<u64>().ok();
        let last = entries.flatten().filter_map(|entry| second(&entry.file_name().to_string_lossy())).max();
        let at = last.map_or(0, |last| last + 1).max(now() as u64);
        let path = folder.join(format!("{PREFIX}{at:010}.lorakit"));
        let file = OpenOptions::new().append(true).create_new(true).open(&path);
        self.file = Some((path.clone(), file.map_err(|e| lorakit_tensor::Error::io("create", &path, e))?));
        Ok(())
    }

    /// A record is written at once, so that a run that is killed can be read up to its last step.
    fn write(&mut self, step: u64, event: &Event) -> Result<()> {
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        let record = record::framed(&event.encoded(now(), step));
        Ok(file.write_all(&record).map_err(|e| lorakit_tensor::Error::io("write", path, e))?)
    }
}

/// A text as it is, in Markdown: whatever stands in it, nothing ends a block of indented lines.
fn block(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

impl Observer for TensorBoard {
    fn begins(&mut self, settings: &Settings, estimate: &Estimate) -> Result<()> {
        self.open(settings)?;
        self.write(0, &Event::Version)?;
        // What an earlier file has from this step on comes again.
        let first = estimate.resumed.map_or(0, |step| step + 1);
        self.write(first, &Event::Start)?;
        if first == 0 {
            let text = block(&settings.print());
            self.write(0, &Event::Text { tag: "args/text_summary".into(), text })?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        let mut values = vec![
            ("train/loss", step.loss),
            ("train/learning_rate", step.lr),
            ("train/grad_norm", step.grad_norm),
            ("train/epoch", step.epoch),
            ("train/num_tokens", step.tokens as f64),
            ("train/tokens_per_second", step.tok_s),
        ];
        values.extend(step.rss.map(|bytes| ("train/memory_mb", bytes as f64 / 1e6)));
        self.write(step.step, &Event::Scalars(values))
    }

    fn evaluated(&mut self, evaluated: &Evaluated) -> Result<()> {
        self.write(evaluated.step, &Event::Scalars(vec![("eval/loss", evaluated.loss)]))
    }

    fn sampled(&mut self, sampled: &Sampled) -> Result<()> {
        for (at, sample) in (1..).zip(&sampled.samples) {
            let text = format!("{}\n\n---\n\n{}", block(&sample.prompt), block(&sample.answer));
            self.write(sampled.step, &Event::Text { tag: format!("samples/{at}"), text })?;
        }
        Ok(())
    }
}
