//! Recipes that turn Hugging Face tensors into GGUF tensors.

use std::collections::{BTreeMap, HashMap};

use lorakit_tensor::{DType, TensorInfo};

use super::experts::Found;
use crate::arch::{Match, RowPermutation};
use crate::model::Params;
use crate::model::gguf::Problem;
use crate::plan::{OutputTensor, Recipe};
use crate::tensor::RowOrder;
use crate::{Error, ModelConfig, Result};

/// The tensors of a GGUF file, from those of a Hugging Face checkpoint, plain or edited: names translated, rows of
/// q and k in ggml's order, experts stacked, 1 added to the norms of families that store them so.
///
/// They are in the order of llama.cpp's converter: first tensors that follow from the configuration, then file by
/// file, by Hugging Face name; a stack takes the place of its last expert. Dtypes stay the same, except for tensors
/// that llama.cpp uses as F32 (see `is_f32`).
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for an unknown class or tensor, and for edits that cannot
/// be moved along; [`ErrorKind::File`](crate::ErrorKind::File) if a tensor is missing, or if shapes contradict
/// `config.json`.
pub fn gguf_tensors(config: &ModelConfig, mut tensors: Vec<OutputTensor>) -> Result<Vec<OutputTensor>> {
    let params = Params::new(config)?;
    let layers = params.required_integer("num_hidden_layers")? as usize;
    tensors.retain(|tensor| !params.architecture.skips(&tensor.info.name));
    let mut found = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        found.extend(find(&params, layers, tensor)?);
    }
    found.sort_by(|a, b| (origin(&a.tensor), &a.name).cmp(&(origin(&b.tensor), &b.name)));

    let mut orders = HashMap::new();
    let mut output = super::rope::factors(&params)?;
    let mut stacks = Stacks::new(&params, &found)?;
    for Found { name, found, tensor } in found {
        if let Some(expert) = found.expert {
            output.extend(stacks.add(found, expert, tensor)?);
            continue;
        }
        let rows = tensor.info.shape.first().copied().unwrap_or(1);
        let permutation = found.rule.permutation(rows, params.heads()?);
        let mut tensor = match permutation.map_err(|e| e.tensor(&name))? {
            Some(permutation) => {
                let order = orders.entry((rows, permutation)).or_insert_with(|| order_of(rows, permutation));
                tensor.gather_rows(rows, order, &[rows])?
            }
            None => tensor,
        };
        if found.rule.plus != 0.0 {
            tensor = tensor.plus(found.rule.plus)?;
        }
        output.push(tensor.named(&found.gguf_name()));
    }
    let present: Vec<&str> = output.iter().map(|tensor| tensor.info.name.as_str()).collect();
    super::super::read::tensors::require_all(
        params.architecture,
        params.class.experts,
        layers as u64,
        &present,
    )?;
    let dtype =
        |tensor: OutputTensor| if is_f32(&tensor.info) { tensor.with_dtype(DType::F32) } else { tensor };
    Ok(output.into_iter().map(dtype).collect())
}

/// The rule of a tensor, or the rules of its parts.
fn find(params: &Params<'_>, layers: usize, tensor: OutputTensor) -> Result<Vec<Found>> {
    let name = tensor.info.name.clone();
    let within = |found: &Match<'_>| match found.layer {
        Some(layer) if layer >= layers => {
            Err(Error::from(Problem::Layer { layers: layers as u64 }).tensor(&name))
        }
        _ => Ok(()),
    };
    if let Some(found) = params.architecture.match_hf(&name) {
        within(&found)?;
        let name = found.hf_name().unwrap_or_else(|| name.clone());
        return Ok(vec![Found { name, found, tensor }]);
    }
    let parts = params.architecture.match_packed(&name);
    let Some(first) = parts.first() else {
        return Err(Error::from(Problem::NoPlace { family: params.architecture.gguf() }).tensor(&name));
    };
    within(first)?;
    super::experts::unpack(params, parts, tensor)
}

/// Whether llama.cpp needs the tensor in F32: vectors, norms, the routers of experts, rotary factors.
fn is_f32(info: &TensorInfo) -> bool {
    let name = info.name.as_str();
    info.shape.len() < 2
        || name.ends_with("_norm.weight")
        || name.ends_with(".ffn_gate_inp.weight")
        || !name.ends_with(".weight")
}

/// The tensors, with all that need not be F32 converted to `dtype`, or to F16 if their rows are not whole blocks of it.
pub fn with_dtype(tensors: Vec<OutputTensor>, dtype: DType) -> Vec<OutputTensor> {
    let cast = |tensor: OutputTensor| {
        let row = tensor.info.shape.last().copied().unwrap_or(1);
        if is_f32(&tensor.info) {
            tensor
        } else if row.is_multiple_of(dtype.block().elements) {
            tensor.with_dtype(dtype)
        } else {
            tensor.with_dtype(DType::F16)
        }
    };
    tensors.into_iter().map(cast).collect()
}

fn order_of(rows: usize, permutation: RowPermutation) -> RowOrder {
    RowOrder::of_rows((0..rows).map(|row| permutation.hf_row(row)))
}

/// The file that holds the tensor, or the tensor of which it is an edit.
fn origin(tensor: &OutputTensor) -> &std::path::Path {
    match &tensor.recipe {
        Recipe::Copy(tensor) => tensor.path(),
        Recipe::Compute(compute) => compute.base.path(),
        Recipe::Bytes(_) | Recipe::Part { .. } => std::path::Path::new(""),
    }
}

/// Experts that wait for the other experts of their layer.
struct Stacks {
    experts: usize,
    /// The number of tensors still to come, by layer.
    left: BTreeMap<Option<usize>, usize>,
    /// The experts that are present, by layer and Hugging Face template.
    waiting: BTreeMap<(Option<usize>, String), Stack>,
}

/// The experts of one layer and kind.
struct Stack {
    name: String,
    parts: BTreeMap<usize, OutputTensor>,
}

impl Stacks {
    fn new(params: &Params<'_>, tensors: &[Found]) -> Result<Self> {
        let mut left = BTreeMap::new();
        for Found { found, .. } in tensors.iter().filter(|tensor| tensor.found.expert.is_some()) {
            *left.entry(found.layer).or_default() += 1;
        }
        Ok(Stacks { experts: params.experts()?, left, waiting: BTreeMap::new() })
    }

    /// Adds an expert. Returns the stacks of its layer, by Hugging Face name, once the last expert is present.
    fn add(&mut self, found: Match<'_>, expert: usize, tensor: OutputTensor) -> Result<Vec<OutputTensor>> {
        if expert >= self.experts {
            let problem = Problem::Expert { expert, experts: self.experts };
            return Err(Error::from(problem).tensor(&tensor.info.name));
        }
        let template = found.rule.hf_template().unwrap_or_default().to_string();
        let stack = self.waiting.entry((found.layer, template));
        let stack = stack.or_insert_with(|| Stack { name: found.gguf_name(), parts: BTreeMap::new() });
        stack.parts.insert(expert, tensor);
        let left = self.left.entry(found.layer).or_default();
        *left -= 1;
        if *left > 0 {
            return Ok(Vec::new());
        }
        let from_layer = self.waiting.range((found.layer, String::new())..).map(|(key, _)| key);
        let of_layer: Vec<_> = from_layer.take_while(|(layer, _)| *layer == found.layer).cloned().collect();
        let of_layer = of_layer.iter().filter_map(|key| self.waiting.remove(key));
        let stacked = |Stack { name, parts }: Stack| {
            if parts.len() != self.experts {
                let problem = Problem::FewExperts { count: parts.len(), experts: self.experts };
                return Err(Error::from(problem).tensor(&name));
            }
            OutputTensor::stack(&name, parts.into_values().collect())
        };
        of_layer.map(stacked).collect()
    }
}
