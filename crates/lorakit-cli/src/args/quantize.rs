//! `lorakit quantize`, and the options that choose types wherever something is quantised.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use lorakit::ops::quantize::QuantType;
use lorakit_quant::mix::{FileType, TypeOverride, Unwritten, writable};
use lorakit_tensor::DType;

use super::listed::Offered;
use super::output::Output;
use crate::units;

#[derive(Debug, Args)]
#[command(
    mut_arg("output", |output| output
        .required(false)
        .required_unless_present("list")
        .help("Where to write: a file for GGUF types, a folder for the others")),
    override_usage = "lorakit quantize [OPTIONS] --type <TYPE> --output <OUT> <MODEL>
       lorakit quantize --list",
    after_help = "Examples:
  lorakit quantize --list
  lorakit quantize model/ -o model.gguf --type Q4_K_M
  lorakit quantize model.gguf -o small.gguf --type IQ4_XS --imatrix imatrix.gguf
  lorakit quantize model/ -o model-nf4/ --type nf4 --double-quant
  lorakit quantize model/ -o model.gguf --type Q4_K_M --tensor-type 'ffn_down=Q8_0' --dry-run"
)]
pub(crate) struct Quantize {
    /// The model: a Hugging Face folder, or a GGUF file
    #[arg(required_unless_present = "list")]
    pub(crate) model: Option<PathBuf>,
    /// There is none beside `--list`.
    #[command(flatten)]
    pub(crate) output: Option<Output>,
    /// The type: see `--list`
    #[arg(long = "type", value_name = "TYPE", value_parser = quant_types(), required_unless_present = "list",
          hide_possible_values = true)]
    pub(crate) kind: Option<QuantType>,
    /// List the types and their bits per weight
    #[arg(long, conflicts_with_all = ["model", "Output", "kind"])]
    pub(crate) list: bool,
    /// Accept a model that is already quantised
    #[arg(long)]
    pub(crate) requantize: bool,
    /// Maximum size of a shard
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = units::parse_size)]
    pub(crate) max_shard_size: u64,
    #[command(flatten)]
    pub(crate) mixing: Mixing,
}

/// How types are chosen, wherever something is quantised.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of quantisation")]
pub(crate) struct Mixing {
    /// GGUF: importance matrix, a file made by llama.cpp's `llama-imatrix`
    #[arg(long, value_name = "FILE")]
    pub(crate) imatrix: Option<PathBuf>,
    /// GGUF: type for tensors whose name matches; the first match counts
    #[arg(long, value_name = "REGEX=TYPE", value_parser = type_override)]
    pub(crate) tensor_type: Vec<TypeOverride>,
    /// GGUF: type of the output matrix
    #[arg(long, value_name = "TYPE", value_parser = gguf_types(), hide_possible_values = true)]
    pub(crate) output_tensor_type: Option<DType>,
    /// GGUF: type of the token embedding
    #[arg(long, value_name = "TYPE", value_parser = gguf_types(), hide_possible_values = true)]
    pub(crate) token_embedding_type: Option<DType>,
    /// GGUF: one type for all tensors, without the rules of the mix
    #[arg(long)]
    pub(crate) pure: bool,
    /// GGUF: refuse tensors whose rows do not divide into blocks, instead of using another type
    #[arg(long)]
    pub(crate) no_fallback: bool,
    /// GGUF: name of the pre-tokenizer, if it cannot be identified
    #[arg(long, value_name = "NAME")]
    pub(crate) pre: Option<String>,
    /// nf4, fp4: quantise the scales too
    #[arg(long)]
    pub(crate) double_quant: bool,
    /// nf4, fp4: number of values that share a scale; transformers loads only 64
    #[arg(long, value_name = "N", default_value = "64", value_parser = block_size)]
    pub(crate) block_size: usize,
}

/// Whether `--type` takes it.
pub(crate) fn is_type(text: &str) -> bool {
    QuantType::from_name(text).is_some()
}

/// A type for `--type`. Only the names that are written are offered.
fn quant_types() -> impl TypedValueParser<Value = QuantType> {
    Offered::new(StringValueParser::new().try_map(|text| quant_type(&text)), type_names())
}

/// The types that models can have.
pub(super) fn type_names() -> Vec<PossibleValue> {
    let mixes = FileType::ALL.iter().map(|mix| PossibleValue::new(mix.name()).help(mix.about()));
    let packed = QuantType::PACKED.iter().map(|packed| PossibleValue::new(packed.name).help(packed.about));
    mixes.chain(packed).collect()
}

/// A type that tensors of a GGUF file can have.
pub(super) fn gguf_types() -> impl TypedValueParser<Value = DType> {
    let names = lorakit_quant::ENCODERS.iter().map(|encoder| encoder.dtype().name());
    let names = names.filter(|name| writable(name).is_ok()).map(PossibleValue::new).collect();
    Offered::new(StringValueParser::new().try_map(|text| gguf_type(&text)), names)
}

pub(super) fn quant_type(text: &str) -> Result<QuantType, String> {
    QuantType::from_name(text).ok_or_else(|| {
        if let Some(known) = Unwritten::from_name(text) {
            let [first, second] = known.nearest();
            return format!(
                "it can be read, but not written yet; the nearest writable types are {first} and {second}"
            );
        }
        if let Ok(dtype) = writable(text) {
            return format!("no mix of it exists; single tensors can have it: `--tensor-type REGEX={dtype}`");
        }
        let packed = QuantType::PACKED.iter().map(|packed| packed.name);
        let names: Vec<&str> = FileType::ALL.iter().map(|mix| mix.name()).chain(packed).collect();
        let close = |name: &&&str| strsim::jaro_winkler(&name.to_lowercase(), &text.to_lowercase());
        let nearest = names.iter().max_by(|a, b| close(a).total_cmp(&close(b)));
        let nearest = nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
        format!("unknown type{nearest} `lorakit quantize --list` shows all types")
    })
}

fn gguf_type(text: &str) -> Result<DType, String> {
    writable(text).map_err(|e| e.to_string())
}

pub(super) fn type_override(text: &str) -> Result<TypeOverride, String> {
    TypeOverride::parse(text).map_err(|e| e.to_string())
}

pub(super) fn block_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ (32 | 64 | 128 | 256 | 512 | 1024 | 2048 | 4096)) => Ok(n),
        _ => Err("must be a power of two from 32 to 4096".into()),
    }
}
