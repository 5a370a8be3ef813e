//! Hugging Face models as GGUF files: what llama.cpp's `convert_hf_to_gguf.py` does.

mod bpe;
mod card;
mod chat;
mod hyperparameters;
mod metadata;
mod name;
mod pre;
mod rope;
mod sentencepiece;
mod side;
mod special;
mod tensors;
mod tokenizer;

use lorakit_tensor::format::gguf::{Array, Metadata, Value};
use lorakit_tensor::{DType, Format, TensorInfo};

use self::tensors::gguf_tensors;
use super::keys::Keys;
use super::tensors::heads;
use crate::adapter::Finding;
use crate::arch::{self, Architecture, Heads};
use crate::plan::{OutputTensor, Recipe};
use crate::{Error, ErrorKind, Model, Result};

/// The metadata of the GGUF file that holds `model`, and its tensors: `tensors`, which are named as in Hugging Face
/// files, in the names and row order of GGUF. `pre` names the pre-tokenizer where it cannot be found out.
///
/// A model that was read from a GGUF file keeps its metadata.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for a family, tensor or tokenizer that is not known; [`ErrorKind::Shape`] for
/// embeddings that the vocabulary does not fit.
pub(crate) fn model(
    model: &Model,
    tensors: Vec<OutputTensor>,
    pre: Option<&str>,
    notes: &mut Vec<Finding>,
) -> Result<(Metadata, Vec<OutputTensor>)> {
    match model.checkpoint().format() {
        Format::Gguf => back(model, tensors),
        _ => forth(model, tensors, pre, notes),
    }
}

/// `tensor` as `dtype`, if it is a matrix of weights: vectors and norms stay F32. Rows that are not whole blocks
/// become F16.
pub(super) fn in_dtype(tensor: OutputTensor, dtype: DType) -> OutputTensor {
    let columns = tensor.info.shape.last().copied().unwrap_or(1);
    let float = lorakit_quant::codec(tensor.info.dtype).is_some();
    let fixed = matches!(tensor.recipe, Recipe::Bytes(_)) || tensor.info.shape.len() < 2 || !float;
    match columns.is_multiple_of(dtype.block().elements) {
        _ if fixed => tensor,
        true => tensor.stored_in(dtype),
        false => tensor.stored_in(DType::F16),
    }
}

/// A model that came from a GGUF file.
fn back(model: &Model, tensors: Vec<OutputTensor>) -> Result<(Metadata, Vec<OutputTensor>)> {
    let place = |e: lorakit_tensor::Error| Error::from(e.at(&model.path));
    let metadata = model.checkpoint().gguf().cloned().unwrap_or_default();
    let keys = Keys::new(&metadata).map_err(place)?;
    let layers = keys.required_integer("block_count").map_err(place)? as usize;
    let heads = heads(keys).map_err(place)?;
    let mut written =
        gguf_tensors(keys.architecture, layers, heads, tensors).map_err(|e| e.at(&model.path))?;
    // What Hugging Face files do not hold.
    for tensor in model.stored() {
        let dropped =
            keys.architecture.match_gguf(&tensor.info().name).is_some_and(|f| f.hf_name().is_none());
        if dropped {
            written.push(OutputTensor::copy(tensor));
        }
    }
    let rows = written.iter().find(|t| t.info.name == "token_embd.weight").map(|t| t.info.shape[0]);
    let tokens = metadata.get("tokenizer.ggml.tokens").and_then(|v| match v {
        Value::Array(array @ Array::String(_)) => Some(array.len()),
        _ => None,
    });
    if let (Some(rows), Some(tokens)) = (rows, tokens)
        && rows != tokens
    {
        let message = format!(
            "has a vocabulary of {tokens} tokens, and the merged embedding has {rows} rows: write a folder, and \
             convert that"
        );
        return Err(Error::new(ErrorKind::Shape, message).at(&model.path));
    }
    Ok((metadata, written))
}

/// A model from a Hugging Face folder.
fn forth(
    model: &Model,
    tensors: Vec<OutputTensor>,
    pre: Option<&str>,
    notes: &mut Vec<Finding>,
) -> Result<(Metadata, Vec<OutputTensor>)> {
    let architecture = family(model)?;
    let (layers, heads) = dimensions(model)?;
    let tensors = gguf_tensors(architecture, layers, heads, tensors).map_err(|e| e.at(&model.path))?;
    let metadata = metadata::of(model, architecture, pre, notes)?;
    let rope = model.config.as_ref().map(rope::factors).transpose()?.flatten();
    Ok((metadata, rope.map(rope_tensor).into_iter().chain(tensors).collect()))
}

/// What every frequency of the rotary embedding is divided by, one for each pair of a head.
fn rope_tensor(factors: Vec<f32>) -> OutputTensor {
    let info = TensorInfo { name: "rope_freqs.weight".into(), dtype: DType::F32, shape: vec![factors.len()] };
    let bytes: Vec<u8> = factors.iter().flat_map(|factor| factor.to_le_bytes()).collect();
    OutputTensor { info, recipe: Recipe::Bytes(bytes.into()) }
}

fn family(model: &Model) -> Result<&'static Architecture> {
    let fail = |message: String| Err(Error::new(ErrorKind::Unsupported, message).at(&model.path));
    let Some(config) = &model.config else {
        return fail("has no `config.json`, which says what family of models it is".into());
    };
    let Some(name) = config.model_type() else {
        return fail("has a `config.json` without `model_type`".into());
    };
    arch::by_model_type(name).map_or_else(
        || {
            let known: Vec<&str> = arch::architectures()
                .iter()
                .flat_map(|a| a.hf_classes().iter().map(|class| class.model_type.as_str()))
                .collect();
            fail(format!("is of the family `{}`; known are {}", name.escape_debug(), known.join(", ")))
        },
        Ok,
    )
}

/// Number of layers, and of heads.
fn dimensions(model: &Model) -> Result<(usize, Heads)> {
    let number = |name: &str| model.config.as_ref().and_then(|c| c.number(name)).map(|n| n as usize);
    let required = |name: &str| {
        let message = format!("has a `config.json` without `{name}`");
        number(name).ok_or_else(|| Error::new(ErrorKind::Config, message).at(&model.path))
    };
    let query = required("num_attention_heads")?;
    let key_value = number("num_key_value_heads").unwrap_or(query);
    Ok((required("num_hidden_layers")?, Heads { query, key_value }))
}
