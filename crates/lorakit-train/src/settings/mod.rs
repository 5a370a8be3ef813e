//! What a run is told: keys with their values, from a file and from flags.
//!
//! ```text
//!   keys      the table of all keys;   foreign    what others call them, and what is not there yet
//!   field     types of settings;       choice     those that are one of a few words
//!   value     values as they are written
//!   yaml      a file as values with their lines
//!   import    configurations of other trainers as settings
//! ```
//!
//! Everything that knows keys is made of [`KEYS`]: the file, flags, the printed configuration, the reference.
//!
//! ```
//! use lorakit_train::settings::Settings;
//! # fn main() -> lorakit_train::Result<()> {
//! let mut settings = Settings::from_yaml("model: base/\ndata: rows.jsonl\noutput: out/\nlora:\n  r: 8\nlr: 1e-4\n")?;
//! settings.set("lora.alpha", "32")?;
//! settings.finish()?;
//! assert_eq!((settings.lora.r, settings.lr), (8, 1e-4));
//! # Ok(())
//! # }
//! ```

mod choice;
mod field;
mod foreign;
mod import;
mod keys;
mod problem;
#[cfg(test)]
mod tests;
mod value;
mod yaml;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

pub use choice::{ComputeChoice, Course, Quant, RecomputeChoice, Report, Stored};
pub use field::{Bytes, Held, Kind, Resume, Variables};
pub use import::{Imported, Note, Noted, import};
pub use keys::{KEYS, Key, Section, key};
pub use value::Value;

use self::foreign::{FOREIGN, NOT_NOW};
use self::problem::{Problem, nearest};
use self::yaml::{Member, Tree};
use crate::adapter::Layers;
use crate::data::{Day, Format, Source, TooLong, TrainOn};
use crate::{Error, Result};

/// The settings of a run. What each means stands in [`KEYS`], under the same name.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "the table of keys says what they are")]
pub struct Settings {
    pub model: PathBuf,
    pub data: Vec<Source>,
    pub output: PathBuf,
    pub val: Option<Held>,
    pub adapter: Option<PathBuf>,
    pub resume: Option<Resume>,
    pub dtype: Stored,
    pub format: Option<Format>,
    pub seq_len: usize,
    pub too_long: TooLong,
    pub packing: bool,
    pub train_on: TrainOn,
    pub chat_template: Option<PathBuf>,
    pub template_kwargs: Variables,
    pub template_day: Option<Day>,
    pub allow_unmasked_eot: bool,
    pub lora: LoraSettings,
    pub batch_size: usize,
    pub grad_accum: usize,
    pub epochs: f64,
    pub max_steps: Option<u64>,
    pub lr: f64,
    pub schedule: Course,
    pub lr_end: f64,
    pub warmup_ratio: f64,
    pub warmup_steps: Option<u64>,
    pub weight_decay: f64,
    pub betas: (f64, f64),
    pub eps: f64,
    pub max_grad_norm: Option<f64>,
    pub seed: u64,
    pub eval_every: Option<u64>,
    pub save_every: Option<u64>,
    pub log_every: u64,
    pub report: Vec<Report>,
    pub sample_prompts: Option<PathBuf>,
    pub sample_every: Option<u64>,
    pub sample_tokens: usize,
    pub keep: usize,
    pub early_stop: Option<u64>,
    pub best: bool,
    pub quant: Quant,
    pub double_quant: bool,
    pub compute: ComputeChoice,
    pub recompute: RecomputeChoice,
    pub memory_limit: Option<Bytes>,
    pub cache_frozen: bool,
    pub threads: Option<usize>,
}

/// The keys that begin with `lora.`.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs, reason = "the table of keys says what they are")]
pub struct LoraSettings {
    pub r: usize,
    pub alpha: Option<f64>,
    pub dropout: f64,
    pub target: Vec<String>,
    pub layers: Layers,
    pub rslora: bool,
    pub plus_ratio: f64,
}

impl Settings {
    /// The values that keys have if nobody sets them.
    pub fn new() -> Self {
        let mut settings = Self::default();
        for key in KEYS {
            let value = yaml::value(key.default).unwrap_or_default();
            (key.set)(&mut settings, &value);
        }
        settings
    }

    /// The settings of a file. A key may stand in its group or have its whole name.
    ///
    /// # Errors
    /// `Usage`; beside the path of the file, the error tells the line: not YAML, a key that is not known, is repeated, or has a value that it cannot have.
    pub fn from_yaml(yaml: &str) -> Result<Self> {
        let mut settings = Self::new();
        let mut lines: Vec<(String, u64)> = Vec::new();
        for member in flattened(yaml::read(yaml)?)? {
            if let Some((_, first)) = lines.iter().find(|(key, _)| *key == member.key) {
                let problem = Problem::Twice { key: member.key, first: *first };
                return Err(Error::from(problem).line(member.line));
            }
            settings.put(&member.key, &member.value.into()).map_err(|error| error.line(member.line))?;
            lines.push((member.key, member.line));
        }
        Ok(settings)
    }

    /// The settings of the file at `path`.
    ///
    /// # Errors
    /// If it cannot be read, and as [`Self::from_yaml`], with the path.
    pub fn open(path: &Path) -> Result<Self> {
        let text =
            crate::files::read_to_string(path).map_err(|e| lorakit_tensor::Error::io("read", path, e))?;
        Self::from_yaml(&text).map_err(|error| error.at(path))
    }

    /// Sets a key as a flag does: `text` is a word, or a list or map as YAML has them in one line. The key may be one of
    /// a map, as in `template_kwargs.enable_thinking`.
    ///
    /// # Errors
    /// `Usage` if there is no such key, or it cannot have such a value.
    pub fn set(&mut self, name: &str, text: &str) -> Result<()> {
        let value = match text.trim_start().starts_with(['[', '{']) {
            true => yaml::value(text)?,
            false => Value::scalar(text.to_string(), true),
        };
        if let Some(variable) = name.strip_prefix("template_kwargs.") {
            let variables = &mut self.template_kwargs.0;
            match variables.iter_mut().find(|(name, _)| name == variable) {
                Some((_, old)) => *old = value,
                None => variables.push((variable.to_string(), value)),
            }
            return Ok(());
        }
        self.put(name, &value)
    }

    /// Sets a key as in `lora.r=32`.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn set_pair(&mut self, pair: &str) -> Result<()> {
        let (name, text) = pair.split_once('=').ok_or_else(|| Problem::NoPair { text: pair.to_string() })?;
        self.set(name.trim(), text)
    }

    fn put(&mut self, name: &str, value: &Value) -> Result<()> {
        let Some(key) = key(name) else { return Err(unknown(name).into()) };
        if !(key.set)(self, value) {
            let (key, found, expected) = (name.to_string(), value.flow(), key.expected());
            return Err(Problem::Value { key, found, expected }.into());
        }
        Ok(())
    }

    /// Completes the settings when all are read: what follows from others is filled in.
    ///
    /// # Errors
    /// `Usage` if a key is missing, or two contradict each other.
    pub fn finish(&mut self) -> Result<()> {
        let missing = [
            ("model", "base/", self.model.as_os_str().is_empty()),
            ("data", "rows.jsonl", self.data.is_empty()),
            ("output", "adapter/", self.output.as_os_str().is_empty()),
        ];
        if let Some((key, example, _)) = missing.into_iter().find(|(_, _, missing)| *missing) {
            return Err(Problem::Missing { key, example }.into());
        }
        if self.early_stop.is_some() && self.val.is_none() {
            return Err(Problem::Needs { key: "early_stop", needed: "val" }.into());
        }
        if self.sample_every.is_some() && self.sample_prompts.is_none() {
            return Err(Problem::Needs { key: "sample_every", needed: "sample_prompts" }.into());
        }
        self.lora.alpha.get_or_insert(2.0 * self.lora.r as f64);
        Ok(())
    }

    /// The value of a key in one line, as YAML.
    pub fn value(&self, key: &Key) -> String {
        (key.get)(self).flow()
    }

    /// Every key by its whole name, as JSON.
    pub fn json(&self) -> serde_json::Map<String, serde_json::Value> {
        KEYS.iter().map(|key| (key.name.to_string(), (key.get)(self).json())).collect()
    }

    /// All settings as YAML, which reads back as the same settings.
    pub fn print(&self) -> String {
        let (mut yaml, mut group) = (String::new(), "");
        for section in Section::ALL {
            let _ = writeln!(yaml, "{}# {}", if yaml.is_empty() { "" } else { "\n" }, section.title());
            for key in KEYS.iter().filter(|key| key.section == section) {
                let value = self.value(key);
                let Some((of, name)) = key.name.split_once('.') else {
                    let _ = writeln!(yaml, "{}: {value}", key.name);
                    continue;
                };
                if group != of {
                    let _ = writeln!(yaml, "{of}:");
                    group = of;
                }
                let _ = writeln!(yaml, "  {name}: {value}");
            }
        }
        yaml
    }
}

/// The members of groups with their whole names.
fn flattened(members: Vec<Member>) -> Result<Vec<Member>> {
    let mut flat = Vec::new();
    for member in members {
        let Some(example) = KEYS.iter().find(|key| in_group(key, &member.key)) else {
            flat.push(member);
            continue;
        };
        let Tree::Map(inner) = member.value else {
            let example = format!("{}: {}", example.name, example.default);
            return Err(Error::from(Problem::Group { key: member.key, example }).line(member.line));
        };
        let whole = |inner: Member| Member { key: format!("{}.{}", member.key, inner.key), ..inner };
        flat.extend(inner.into_iter().map(whole));
    }
    Ok(flat)
}

fn in_group(key: &Key, group: &str) -> bool {
    key.name.split_once('.').is_some_and(|(of, _)| of == group)
}

/// What is wrong with a key that is not in the table.
fn unknown(name: &str) -> Problem {
    if let Some(example) = KEYS.iter().find(|key| in_group(key, name)) {
        let example = format!("{}={}", example.name, example.default);
        return Problem::Group { key: name.to_string(), example };
    }
    let find = |table: &[(&str, &'static str)]| {
        table.iter().find(|(known, _)| *known == name).map(|(_, about)| about.to_string())
    };
    let key = name.to_string();
    if let Some(ours) = find(FOREIGN) {
        return Problem::Foreign { key, ours };
    }
    if let Some(why) = find(NOT_NOW) {
        return Problem::NotNow { key, why };
    }
    let known = KEYS.iter().map(|key| (key.name, key.name)).chain(FOREIGN.iter().copied());
    Problem::Unknown { nearest: nearest(name, known).map(str::to_string), key }
}
