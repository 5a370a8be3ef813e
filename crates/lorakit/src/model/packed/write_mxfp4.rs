//! gpt-oss with its experts as MXFP4: which tensors are packed, and the entry in `config.json`.

use std::collections::BTreeSet;

use lorakit_tensor::{DType, TensorSource};
use serde_json::{Value, json};

use super::Problem;
use super::result::PackedModel;
use crate::arch::names::{STACKS, is_experts};
use crate::plan::{Chosen, Compute, OutputTensor, Packer, Recipe, seen_as};
use crate::{Error, Model, Result};

/// Number of values in a group.
const GROUP: usize = 32;

/// Packs the stacked experts `(experts, in, out)` among `tensors`, and nothing else; with `promote`, without layers
/// whose experts adapters change. Unchanged experts that are stored as MXFP4 are copied.
///
/// # Errors
/// `Unsupported` for any family but gpt-oss, the only one whose experts transformers reads this way; for experts
/// whose columns do not divide into groups.
pub(super) fn experts(
    model: &Model,
    tensors: Vec<OutputTensor>,
    packing: Packer,
    dtype: DType,
    promote: bool,
) -> Result<PackedModel> {
    let place = |problem: Problem| Error::from(problem).at(&model.path);
    let family = model.config.as_ref().and_then(|c| c.model_type()).unwrap_or("unknown");
    if family != "gpt_oss" {
        return Err(place(Problem::Mxfp4Family { family: family.to_string() }));
    }
    let promoted: BTreeSet<String> = tensors
        .iter()
        .filter(|tensor| promote && tensor.edited())
        .filter_map(|tensor| experts_of(&tensor.info.name).map(str::to_string))
        .collect();
    let stored = |name: String| model.checkpoint().find(&name).map(|index| model.stored_tensor(index));
    let (mut written, mut chosen) = (Vec::new(), Vec::new());
    for tensor in tensors {
        let from = tensor.source_dtype().unwrap_or(tensor.info.dtype).name();
        let name = tensor.info.name.clone();
        let kept = match experts_of(&name) {
            None => Some("kept: MXFP4 is for experts"),
            Some(experts) if promoted.contains(experts) => Some("kept: changed by the adapter: promoted"),
            Some(_) => None,
        };
        let mut choose = |to, why: &str| {
            chosen.push(Chosen { name: name.clone(), from, to, why: why.to_string(), fallback: false });
        };
        if let Some(why) = kept {
            choose(tensor.stored_as(), why);
            written.push(tensor);
            continue;
        }
        let copied = [stored(format!("{name}_blocks")), stored(format!("{name}_scales"))];
        if let ([Some(blocks), Some(scales)], false) = (copied, tensor.edited()) {
            choose(Packer::Mxfp4.name(), "experts: as they were");
            // The scales are exponents, one of which means NaN; every code is a number.
            let info = scales.info().clone();
            let scales = Recipe::Copy(scales.retyped(DType::F8_E8M0));
            written.extend([OutputTensor::copy(blocks), OutputTensor { info, recipe: scales }]);
            continue;
        }
        let compute = match tensor.recipe {
            Recipe::Compute(compute) => *compute,
            Recipe::Copy(source) => Compute::cast(source),
            Recipe::Bytes(_) | Recipe::Part { .. } => {
                return Err(place(Problem::Bytes).tensor(&name));
            }
        };
        let [experts, inputs, outputs] = tensor.info.shape[..] else {
            return Err(place(Problem::ExpertShape { shape: tensor.info.shape }).tensor(&name));
        };
        if !inputs.is_multiple_of(GROUP) {
            return Err(place(Problem::Groups { values: inputs, group: GROUP }).tensor(&name));
        }
        let compute = seen_as(compute, experts * inputs, outputs).map_err(|e| e.tensor(&name))?;
        choose(Packer::Mxfp4.name(), "experts");
        written.extend(OutputTensor::packed(tensor.info, compute, Packer::Mxfp4, dtype));
    }
    if chosen.iter().all(|tensor| experts_of(&tensor.name).is_none()) {
        return Err(place(Problem::NoExperts { stack: STACKS[0].name }));
    }
    let skipped = promoted.into_iter().collect();
    Ok(PackedModel { tensors: written, chosen, skipped, unpacked: Vec::new(), dtype, packing })
}

/// The experts module to which a stack belongs.
fn experts_of(name: &str) -> Option<&str> {
    let (module, leaf) = name.rsplit_once('.')?;
    (STACKS.iter().any(|stack| stack.name == leaf) && is_experts(module)).then_some(module)
}

/// The entry in gpt-oss's `config.json`, with the other modules that are not packed.
pub(super) fn quantization_config(model: &PackedModel) -> Value {
    const NEVER: [&str; 4] =
        ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"];
    let unconverted: Vec<&str> = NEVER.into_iter().chain(model.skipped.iter().map(String::as_str)).collect();
    json!({ "quant_method": "mxfp4", "modules_to_not_convert": unconverted })
}
