//! The keys: what YAML, flags, the printed configuration and the reference are made of.

use super::field::Field;
use super::{Settings, Value};
use crate::settings::field::Kind;

/// What a key is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// What is trained, and where it goes.
    Files,
    /// Rows and tokens.
    Data,
    /// The factors.
    Adapter,
    /// Batches, learning rates, the optimiser.
    Steps,
    /// Validation, checkpoints, progress.
    Checks,
    /// Arithmetic, memory, threads.
    Machine,
}

impl Section {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 6] =
        [Self::Files, Self::Data, Self::Adapter, Self::Steps, Self::Checks, Self::Machine];

    /// Its heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Files => "Files",
            Self::Data => "Data",
            Self::Adapter => "Adapter",
            Self::Steps => "Steps",
            Self::Checks => "Validation and checkpoints",
            Self::Machine => "Machine",
        }
    }
}

/// A key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name, with a point between a group and a key of it.
    pub name: &'static str,
    /// What it is about.
    pub section: Section,
    /// What it takes.
    pub kind: Kind,
    /// The value that it has if nobody sets it, as it would be written.
    pub default: &'static str,
    /// What it does, in one line.
    pub help: &'static str,
    /// Whether a run that goes on must have the value with which it began. (What files hold is compared by itself.)
    pub fixed: bool,
    /// What its value must be, where that is more than its kind.
    pub(super) expected: Option<&'static str>,
    /// Sets it; false if the value is not one.
    pub(super) set: fn(&mut Settings, &Value) -> bool,
    /// Its value.
    pub(super) get: fn(&Settings) -> Value,
}

impl Key {
    /// What its value must be, as the end of a sentence.
    pub(super) fn expected(&self) -> String {
        self.expected.map_or_else(|| self.kind.expected(), str::to_string)
    }
}

/// The key of a name.
pub fn key(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

macro_rules! keys {
    ($($section:ident { $(
        $name:literal = $default:literal, $($field:ident).+: $type:ty, $fixed:ident
            $(, where $expected:literal if $valid:expr)?, $help:literal;
    )* })*) => {
        /// All keys, in the order in which they are shown.
        pub const KEYS: &[Key] = &[ $($( Key {
            name: $name,
            section: Section::$section,
            kind: <$type as Field>::KIND,
            default: $default,
            help: $help,
            fixed: keys!(@fixed $fixed),
            expected: keys!(@expected $($expected)?),
            set: |settings, value| match <$type as Field>::read(value) {
                Some(value) $(if { let valid: fn(&$type) -> bool = $valid; valid(&value) })? => {
                    settings.$($field).+ = value;
                    true
                }
                _ => false,
            },
            get: |settings| Field::write(&settings.$($field).+),
        }, )*)* ];
    };
    (@fixed fixed) => { true };
    (@fixed free) => { false };
    (@expected) => { None };
    (@expected $expected:literal) => { Some($expected) };
}

use std::path::PathBuf;

use super::choice::*;
use super::field::*;
use crate::adapter::Layers;
use crate::data::{Day, Format, Source, TooLong, TrainOn};

keys! {
    Files {
        "model" = "null", model: PathBuf, free,
            "The base: a folder of Hugging Face, or a GGUF file";
        "data" = "null", data: Vec<Source>, free,
            "Rows: a file, a list of files, or a list of {path, weight, format}; a weight of 0.25 takes a quarter of the rows in each epoch";
        "output" = "null", output: PathBuf, free,
            "The folder for the adapter, its checkpoints and metrics.jsonl";
        "val" = "null", val: Option<Held>, free,
            "Rows for validation: files, or a share of the data, as in 0.05";
        "adapter" = "null", adapter: Option<PathBuf>, free,
            "An adapter to start from, instead of fresh factors";
        "resume" = "null", resume: Option<Resume>, free,
            "Go on at a checkpoint: `auto` takes the latest of the output";
        "dtype" = "f32", dtype: Stored, free,
            "How the factors are written";
    }
    Data {
        "format" = "auto", format: Option<Format>, free,
            "What rows mean; auto finds it out from their fields";
        "seq_len" = "1024", seq_len: usize, fixed, where "a whole number above 1" if |tokens| *tokens > 1,
            "The most tokens of a row, and of a bin when rows are packed";
        "too_long" = "truncate", too_long: TooLong, fixed,
            "What becomes of longer rows";
        "packing" = "true", packing: bool, fixed,
            "Count a batch in bins of up to seq_len tokens instead of rows; rows never see each other, and nothing is padded";
        "train_on" = "auto", train_on: TrainOn, fixed,
            "Which tokens are trained: answers (auto), all, or the last answer";
        "chat_template" = "null", chat_template: Option<PathBuf>, free,
            "A file with a chat template, instead of the model's own";
        "template_kwargs" = "{}", template_kwargs: Variables, fixed,
            "Variables of the chat template, as in {enable_thinking: false}; stored with the adapter";
        "template_day" = "null", template_day: Option<Day>, fixed,
            "The day that a chat template believes it is, as in 2026-11-30; that on which the run began if it is not set";
        "allow_unmasked_eot" = "false", allow_unmasked_eot: bool, free,
            "Train even if the end of a turn is not trained, so that the model may never stop";
    }
    Adapter {
        "lora.r" = "16", lora.r: usize, fixed, where "a whole number above 0" if |r| *r > 0,
            "Rank of the factors";
        "lora.alpha" = "null", lora.alpha: Option<f64>, fixed, where "a number above 0" if |alpha| alpha.is_none_or(|alpha| alpha > 0.0),
            "The scale is alpha / r; 2 r if it is not set";
        "lora.dropout" = "0", lora.dropout: f64, fixed, where "a number from 0 to below 1" if |rate| (0.0..1.0).contains(rate),
            "The share of the factors' inputs that is left out in each step";
        "lora.target" = "all-linear", lora.target: Vec<String>, fixed,
            "Which linears get factors: all-linear, or names such as q_proj";
        "lora.layers" = "all", lora.layers: Layers, fixed,
            "Which layers get factors: all, last:8, 4-11, or a list";
        "lora.rslora" = "false", lora.rslora: bool, fixed,
            "Let the scale be alpha / sqrt(r)";
        "lora.plus_ratio" = "1", lora.plus_ratio: f64, fixed, where "a number above 0" if |ratio| *ratio > 0.0,
            "The learning rate of B over that of A (LoRA+)";
    }
    Steps {
        "batch_size" = "8", batch_size: usize, fixed, where "a whole number above 0" if |size| *size > 0,
            "Rows of a batch; with packing, bins";
        "grad_accum" = "1", grad_accum: usize, fixed, where "a whole number above 0" if |count| *count > 0,
            "Batches of a step";
        "epochs" = "3", epochs: f64, fixed, where "a number above 0" if |epochs| *epochs > 0.0,
            "How often the data are seen";
        "max_steps" = "null", max_steps: Option<u64>, fixed, where "a whole number above 0" if |steps| *steps != Some(0),
            "So many steps in all, instead of epochs";
        "lr" = "2.0e-4", lr: f64, fixed, where "a number above 0" if |rate| *rate > 0.0,
            "The highest learning rate";
        "schedule" = "cosine", schedule: Course, fixed,
            "How the learning rate moves";
        "lr_end" = "0.1", lr_end: f64, fixed, where "a number from 0 to 1" if |end| (0.0..=1.0).contains(end),
            "Where cosine and linear end, as a share of lr";
        "warmup_ratio" = "0.03", warmup_ratio: f64, fixed, where "a number from 0 to 1" if |ratio| (0.0..=1.0).contains(ratio),
            "The share of the steps in which the learning rate rises from 0";
        "warmup_steps" = "null", warmup_steps: Option<u64>, fixed,
            "So many steps, instead of warmup_ratio";
        "weight_decay" = "0", weight_decay: f64, fixed, where "a number from 0" if |decay| *decay >= 0.0,
            "Of AdamW";
        "betas" = "[0.9, 0.999]", betas: (f64, f64), fixed, where "two numbers from 0 to below 1, as in `[0.9, 0.999]`" if |betas| (0.0..1.0).contains(&betas.0) && (0.0..1.0).contains(&betas.1),
            "Of AdamW";
        "eps" = "1.0e-8", eps: f64, fixed, where "a number above 0" if |eps| *eps > 0.0,
            "Of AdamW";
        "max_grad_norm" = "1", max_grad_norm: Option<f64>, fixed, where "a number above 0, or null" if |norm| norm.is_none_or(|norm| norm > 0.0),
            "Longer gradients are made as long as this; null for no limit";
        "seed" = "42", seed: u64, fixed,
            "Decides the fresh factors, the order of rows and dropout";
    }
    Checks {
        "eval_every" = "null", eval_every: Option<u64>, fixed, where "a whole number above 0" if |steps| *steps != Some(0),
            "Steps between validations; an epoch if it is not set";
        "save_every" = "null", save_every: Option<u64>, free, where "a whole number above 0" if |steps| *steps != Some(0),
            "Steps between checkpoints; an epoch if it is not set";
        "log_every" = "10", log_every: u64, free, where "a whole number above 0" if |steps| *steps > 0,
            "Steps between lines of progress; metrics.jsonl has every step";
        "report" = "[]", report: Vec<Report>, free,
            "Who else is told of each step: tensorboard, otlp, or both";
        "keep" = "2", keep: usize, free, where "a whole number above 0" if |count| *count > 0,
            "How many checkpoints stay";
        "early_stop" = "null", early_stop: Option<u64>, fixed, where "a whole number above 0" if |count| *count != Some(0),
            "Stop after so many validations without a better loss";
        "best" = "true", best: bool, fixed,
            "Keep the adapter with the best validation loss in best/";
    }
    Machine {
        "quant" = "auto", quant: Quant, free,
            "How the base is held: auto is nf4 for 16-bit folders, and keep for GGUF and packed folders";
        "double_quant" = "true", double_quant: bool, free,
            "Quantise the scales of nf4 too";
        "compute" = "auto", compute: ComputeChoice, free,
            "Operands of products with the base: auto is bf16 on processors where that is faster, else f32";
        "recompute" = "auto", recompute: RecomputeChoice, free,
            "What the backward pass computes again; auto is as little as the memory allows";
        "memory_limit" = "null", memory_limit: Option<Bytes>, free,
            "The most memory, as in 300M; 80 % of what is available if it is not set";
        "cache_frozen" = "true", cache_frozen: bool, free,
            "Keep what enters the lowest trained layer on disk, so that later epochs skip the layers below";
        "threads" = "null", threads: Option<usize>, free, where "a whole number above 0" if |count| *count != Some(0),
            "As many as this process may use if it is not set; the adapter is the same";
    }
}
