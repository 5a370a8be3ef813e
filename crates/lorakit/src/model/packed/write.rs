//! Hugging Face folders with packed weights: which modules are packed, and what `config.json` says of it.

use lorakit_tensor::DType;
use serde_json::{Value, json};

use super::{Problem, write_mxfp4 as mxfp4};
use crate::arch::names::{HEAD, is_embedding, is_head, is_stored_transposed};
use crate::model::torch_name;
use crate::plan::{Chosen, Compute, Fp8, OutputTensor, Packer, Recipe};
use crate::{Error, Model, Result};

/// What became of the tensors of a model.
pub(crate) struct PackedModel {
    pub(crate) tensors: Vec<OutputTensor>,
    pub(crate) chosen: Vec<Chosen>,
    /// Modules that loaders would expect to be packed and that are not.
    pub(in crate::model) skipped: Vec<String>,
    /// All linear modules that are not packed, the output and what routes experts among them.
    pub(in crate::model) unpacked: Vec<String>,
    pub(in crate::model) dtype: DType,
    pub(in crate::model) packing: Packer,
}

/// Packs the linear layers among `tensors`; with `promote`, not those that adapters change. Readers get values of
/// `dtype`.
///
/// Embeddings, the output, norms, routers and stacked experts stay as they are, as transformers leaves them.
///
/// # Errors
/// `Unsupported` for a model whose layers are not stored as `(out, in)`, and as [`mxfp4::apply`].
pub(crate) fn apply(
    model: &Model,
    tensors: Vec<OutputTensor>,
    packing: Packer,
    dtype: DType,
    promote: bool,
) -> Result<PackedModel> {
    if packing == Packer::Mxfp4 {
        return mxfp4::apply(model, tensors, dtype, promote);
    }
    let family = model.config.as_ref().and_then(|c| c.model_type()).unwrap_or_default();
    let transposed = |module: Option<&str>| module.is_some_and(|module| is_stored_transposed(family, module));
    if tensors.iter().any(|tensor| transposed(tensor.info.name.strip_suffix(".weight"))) {
        return Err(Error::from(Problem::Transposed { packing: packing.name() }).at(&model.path));
    }
    let (mut written, mut chosen) = (Vec::new(), Vec::new());
    let (mut skipped, mut unpacked) = (Vec::new(), Vec::new());
    for tensor in tensors {
        let from = tensor.source_dtype().unwrap_or(tensor.info.dtype).name();
        let module = tensor.info.name.strip_suffix(".weight").map(str::to_string);
        let why = match reason_to_keep(&tensor, module.as_deref(), packing) {
            Some(Kept { why, linear }) => {
                unpacked.extend(module.filter(|_| linear));
                Some(why)
            }
            None if promote && tensor.edited() => {
                unpacked.extend(module.clone());
                skipped.extend(module);
                Some("changed by the adapter: promoted")
            }
            None => None,
        };
        let name = tensor.info.name.clone();
        let to = if why.is_some() { tensor.stored_as() } else { packing.name() };
        let why_text = why.map_or_else(|| "linear layer".to_string(), |why| format!("kept: {why}"));
        chosen.push(Chosen { name, from, to, why: why_text, fallback: false });
        if why.is_some() {
            written.push(tensor);
            continue;
        }
        let compute = match tensor.recipe {
            Recipe::Compute(compute) => *compute,
            Recipe::Copy(source) => Compute::cast(source),
            Recipe::Bytes(_) | Recipe::Part { .. } => {
                written.push(tensor);
                continue;
            }
        };
        written.extend(OutputTensor::packed(tensor.info, compute, packing, dtype));
    }
    Ok(PackedModel { tensors: written, chosen, skipped, unpacked, dtype, packing })
}

/// Why a tensor is not packed, and whether it belongs to a linear module.
struct Kept {
    why: &'static str,
    linear: bool,
}

fn reason_to_keep(tensor: &OutputTensor, module: Option<&str>, packing: Packer) -> Option<Kept> {
    let shape = tensor.info.shape.as_slice();
    let kept = |why| Some(Kept { why, linear: false });
    let linear = |why| Some(Kept { why, linear: true });
    let Some(module) = module else { return kept("not a weight") };
    let last = module.rsplit('.').next().unwrap_or_default();
    match shape {
        _ if is_embedding(module) => kept("an embedding"),
        _ if is_head(module) => linear("the output"),
        [_, _] if module.contains("norm") => kept("a norm"),
        [_, _] if matches!(last, "gate" | "router" | "shared_expert_gate") => linear("routes experts"),
        [_, cols] if !cols.is_multiple_of(packing.cols_together()) => {
            linear("rows do not divide into groups of 32")
        }
        [_, _] => None,
        [_] => kept("a vector"),
        _ => kept("not a matrix"),
    }
}

impl PackedModel {
    /// `quantization_config` of `config.json`: what transformers writes, with its defaults.
    pub(crate) fn quantization_config(&self) -> Value {
        // With a list of its own, transformers no longer spares the output by itself.
        let skipped = match self.skipped.is_empty() {
            true => Value::Null,
            false => self.skipped.iter().cloned().chain([HEAD.to_string()]).collect(),
        };
        let compute = torch_name(self.dtype).unwrap_or("float32");
        let bitsandbytes = |four: bool, kind: &str, nested: bool, compute: &str| {
            json!({
                "quant_method": "bitsandbytes",
                "_load_in_8bit": !four,
                "_load_in_4bit": four,
                "llm_int8_threshold": 6.0,
                "llm_int8_skip_modules": skipped,
                "llm_int8_enable_fp32_cpu_offload": false,
                "llm_int8_has_fp16_weight": false,
                "bnb_4bit_quant_type": kind,
                "bnb_4bit_use_double_quant": nested,
                "bnb_4bit_compute_dtype": compute,
                "bnb_4bit_quant_storage": "uint8",
                "load_in_4bit": four,
                "load_in_8bit": !four,
            })
        };
        match self.packing {
            Packer::Mxfp4 => mxfp4::quantization_config(&self.skipped),
            Packer::FourBit { kind, nested, .. } => bitsandbytes(true, kind.name(), nested, compute),
            Packer::Int8 => bitsandbytes(false, "fp4", false, "float32"),
            Packer::Fp8(Fp8::Tile) => json!({
                "quant_method": "fp8",
                "activation_scheme": "dynamic",
                "weight_block_size": [128, 128],
                "modules_to_not_convert": skipped,
            }),
            Packer::Fp8(Fp8::Row) => {
                self.compressed_tensors("float-quantized", &args("channel"), &args("token"))
            }
            Packer::Fp8(Fp8::Tensor) => {
                self.compressed_tensors("float-quantized", &args("tensor"), &args("token"))
            }
            Packer::Fp8(Fp8::Group) => {
                let mut group = args("group");
                group["group_size"] = 32.into();
                group["scale_dtype"] = "torch.uint8".into();
                group["zp_dtype"] = "torch.uint8".into();
                self.compressed_tensors("mxfp8-quantized", &group, &group)
            }
        }
    }

    /// The configuration of compressed-tensors, for weights and activations whose scales are those of `weights` and
    /// `activations`. Activations are quantised as they come.
    fn compressed_tensors(&self, format: &str, weights: &Value, activations: &Value) -> Value {
        let args = |args: &Value, dynamic: bool| {
            let mut args = args.clone();
            args["dynamic"] = dynamic.into();
            args
        };
        let mut ignore = self.unpacked.clone();
        if !ignore.iter().any(|module| is_head(module)) {
            ignore.push(HEAD.to_string());
        }
        json!({
            "quant_method": "compressed-tensors",
            "format": format,
            "quantization_status": "compressed",
            "config_groups": {
                "group_0": {
                    "targets": ["Linear"],
                    "weights": args(weights, false),
                    "input_activations": args(activations, true),
                    "output_activations": null,
                },
            },
            "ignore": ignore,
            "kv_cache_scheme": null,
            "global_compression_ratio": null,
        })
    }
}

/// The `QuantizationArgs` of 8-bit floats.
fn args(strategy: &str) -> Value {
    json!({ "num_bits": 8, "type": "float", "strategy": strategy, "symmetric": true })
}
