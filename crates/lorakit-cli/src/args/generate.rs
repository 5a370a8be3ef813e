//! `lorakit generate`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use lorakit_train::base::Quant;
use lorakit_train::generate::Sampling;
use lorakit_train::kernel::Compute;
use serde_json::Value;

use super::trace::Reported;
use super::values::weighted;

#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("asked").args(["prompt", "messages", "data", "chat"]).required(true)),
    after_help = "Examples:
  lorakit generate --model base/ --prompt 'Why is the sky blue?'
  lorakit generate --model base.gguf --adapter adapter/ --chat
  lorakit generate --model base/ --adapter style/=0.7 --adapter facts/ --messages messages.json
  lorakit generate --model base/ --adapter adapter/ --data rows.jsonl > answers.jsonl
  lorakit generate --model base/ --raw --prompt 'Once upon a time' --temperature 0.8 --top-p 0.95 --seed 7"
)]
pub(crate) struct Generate {
    /// The base: a folder or a GGUF file
    #[arg(long, value_name = "BASE")]
    pub(crate) model: PathBuf,
    /// An adapter of any format, with an optional weight (ADAPTER=0.7; 1 if none); may be repeated
    #[arg(long = "adapter", value_name = "ADAPTER[=W]", value_parser = weighted())]
    pub(crate) adapters: Vec<(PathBuf, f64)>,

    /// Ask this
    #[arg(long, value_name = "TEXT", help_heading = "What is asked")]
    pub(crate) prompt: Option<String>,
    /// Ask with the messages of a JSON file: a list, or an object with `messages` and `tools`; `-` is standard input
    #[arg(long, value_name = "FILE", help_heading = "What is asked")]
    pub(crate) messages: Option<PathBuf>,
    /// Ask each row of a file, or each line of a `.txt` file, and print a line of JSON for each
    #[arg(long, value_name = "FILE", help_heading = "What is asked")]
    pub(crate) data: Option<PathBuf>,
    /// Talk: each line of standard input is asked, after all that was said before
    #[arg(long, help_heading = "What is asked")]
    pub(crate) chat: bool,
    /// Begin the conversation with this message of the system
    #[arg(long, value_name = "TEXT", help_heading = "What is asked", conflicts_with_all = ["messages", "data", "raw"])]
    pub(crate) system: Option<String>,
    /// Go on with the text of `--prompt` as it is, without the chat template
    #[arg(long, help_heading = "What is asked", requires = "prompt")]
    pub(crate) raw: bool,
    /// A chat template instead of the model's and the adapter's
    #[arg(long, value_name = "FILE", help_heading = "What is asked")]
    pub(crate) chat_template: Option<PathBuf>,
    /// A variable of the chat template, in JSON (`enable_thinking=false`); may be repeated. Those with which an adapter was trained are set already
    #[arg(long = "template-kwargs", value_name = "NAME=VALUE", value_parser = variable, help_heading = "What is asked")]
    pub(crate) template_kwargs: Vec<(String, Value)>,

    /// The most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 256, help_heading = "How tokens are chosen")]
    pub(crate) max_tokens: usize,
    /// Draw from the probabilities, flattened by this; 0 takes the likeliest token
    #[arg(long, value_name = "X", default_value_t = 0.0, help_heading = "How tokens are chosen")]
    pub(crate) temperature: f64,
    /// Draw only from so many of the likeliest tokens; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "How tokens are chosen")]
    pub(crate) top_k: usize,
    /// Draw only from the likeliest tokens that together have this probability
    #[arg(long, value_name = "X", default_value_t = 1.0, help_heading = "How tokens are chosen")]
    pub(crate) top_p: f64,
    /// Draw only from tokens that have this share of the likeliest one's probability
    #[arg(long, value_name = "X", default_value_t = 0.0, help_heading = "How tokens are chosen")]
    pub(crate) min_p: f64,
    /// Make tokens that were there less likely, above 1
    #[arg(long, value_name = "X", default_value_t = 1.0, help_heading = "How tokens are chosen")]
    pub(crate) repetition_penalty: f64,
    /// Decides what is drawn
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "How tokens are chosen")]
    pub(crate) seed: u64,
    /// End an answer before this text; may be repeated
    #[arg(long, value_name = "TEXT", help_heading = "How tokens are chosen")]
    pub(crate) stop: Vec<String>,

    /// How the linears of the base are held in memory
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Held::Keep, ignore_case = true, help_heading = "Arithmetic")]
    pub(crate) quant: Held,
    /// The operands of products while a prompt is read; tokens after it are always computed in f32
    #[arg(long, value_name = "TYPE", value_enum, default_value_t = Operands::F32, ignore_case = true, help_heading = "Arithmetic")]
    pub(crate) compute: Operands,
    #[command(flatten)]
    pub(crate) reported: Reported,
}

impl Generate {
    pub(crate) fn sampling(&self) -> Sampling {
        Sampling {
            max_tokens: self.max_tokens,
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
            stop: self.stop.clone(),
        }
    }
}

/// How the linears of a base are held in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Held {
    /// As in its file
    Keep,
    /// 4 bits, as training on a 16-bit base does
    Nf4,
    /// 32 bits
    F32,
    /// 16 bits, IEEE
    F16,
    /// 16 bits, Google's
    Bf16,
}

impl Held {
    pub(crate) fn quant(self) -> Quant {
        match self {
            Held::Keep => Quant::Keep,
            Held::Nf4 => Quant::Nf4 { double: true },
            Held::F32 => Quant::F32,
            Held::F16 => Quant::F16,
            Held::Bf16 => Quant::Bf16,
        }
    }
}

/// The operands of products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Operands {
    F32,
    Bf16,
}

impl Operands {
    pub(crate) fn compute(self) -> Compute {
        match self {
            Operands::F32 => Compute::F32,
            Operands::Bf16 => Compute::Bf16,
        }
    }
}

/// `NAME=VALUE`; what is not JSON is a text.
fn variable(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((name.to_string(), value))
}
