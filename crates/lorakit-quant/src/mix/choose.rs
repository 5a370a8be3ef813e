//! From a mix and the wishes of the user to the type of each tensor.

use lorakit_tensor::{DType, TensorInfo};

use super::error::MixError;
use super::facts::Facts;
use super::fallback::fallback;
use super::file_type::FileType;
use super::kept::kept;
use super::override_type::TypeOverride;
use super::reason::{Kept, Reason};
use super::role::{PER_LAYER_EMBEDDING, Role};
use super::rules::Rules;

/// What the user wants instead of the rules of the mix.
#[derive(Debug, Clone, Default)]
pub struct MixOptions {
    /// Types by name; the first match counts. No effect on mixes of plain floats.
    pub overrides: Vec<TypeOverride>,
    /// The type of the output matrix, and of a token embedding that serves as one.
    pub output: Option<DType>,
    /// The type of the token embedding.
    pub token_embedding: Option<DType>,
    /// The type of the mix for everything, without its rules.
    pub pure: bool,
    /// Leave the output matrix as it is.
    pub leave_output: bool,
    /// Refuse rather than fall back to another type.
    pub no_fallback: bool,
    /// There is an importance matrix.
    pub importance: bool,
}

/// The type of a tensor, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The type; the tensor's own if it stays as it is.
    pub dtype: DType,
    /// Why.
    pub reason: Reason,
}

/// Chooses the type of each of `tensors`, in their order.
///
/// Some rules count tensors, so the order matters. llama-quantize visits them in [`file_order`](super::file_order), or
/// in the order of the files if it keeps splits.
///
/// # Errors
/// [`MixError::Fallback`] if rows do not divide into blocks and there is no type to fall back to, if that is not
/// allowed, or if the user gave the type with [`MixOptions::output`] or [`MixOptions::token_embedding`];
/// [`MixError::Layer`] for a model of experts with odd names.
pub fn choose(
    mix: FileType,
    facts: &Facts,
    options: &MixOptions,
    tensors: &[TensorInfo],
) -> Result<Vec<Choice>, MixError> {
    let mut rules = Rules::new(mix, facts, options.importance, tensors);
    tensors.iter().map(|tensor| one(mix, facts, options, &mut rules, tensor)).collect()
}

fn one(
    mix: FileType,
    facts: &Facts,
    options: &MixOptions,
    rules: &mut Rules<'_>,
    tensor: &TensorInfo,
) -> Result<Choice, MixError> {
    let role = Role::of(&tensor.name);
    let asked = (options.leave_output && role == Role::Output).then_some(Kept::Asked);
    if let Some(why) = asked.or_else(|| kept(&facts.architecture, tensor)) {
        return Ok(Choice { dtype: tensor.dtype, reason: Reason::Kept(why) });
    }

    let named = options.overrides.iter().find(|o| o.matches(&tensor.name));
    let given = match role {
        // This one table can have its own override: it is large, and not the embedding that the option means.
        Role::TokenEmbedding if named.is_some() && tensor.name == PER_LAYER_EMBEDDING => None,
        Role::TokenEmbedding => options.token_embedding.map(|dtype| (dtype, Reason::TokenEmbeddingOption)),
        Role::Output => options.output.map(|dtype| (dtype, Reason::OutputOption)),
        _ => None,
    };
    if let Some((dtype, reason)) = given {
        let fits = fallback(dtype, columns(tensor));
        return match fits {
            Some(fitting) if fitting == dtype => Ok(Choice { dtype, reason }),
            _ => Err(misfit(tensor, dtype, fits, true)),
        };
    }

    let (wanted, reason) = match named {
        _ if mix.dtype().block().elements == 1 => (mix.dtype(), Reason::Mix),
        Some(by) => (by.dtype(), Reason::Override(by.to_string())),
        None if options.pure => (mix.dtype(), Reason::Mix),
        None => rules.apply(tensor, role, options.output)?,
    };
    match fallback(wanted, columns(tensor)) {
        Some(dtype) if dtype == wanted => Ok(Choice { dtype, reason }),
        Some(dtype) if !options.no_fallback => {
            Ok(Choice { dtype, reason: Reason::Fallback { columns: columns(tensor), wanted } })
        }
        fitting => Err(misfit(tensor, wanted, fitting, false)),
    }
}

fn columns(tensor: &TensorInfo) -> usize {
    tensor.shape.last().copied().unwrap_or(1)
}

fn misfit(tensor: &TensorInfo, wanted: DType, fallback: Option<DType>, given: bool) -> MixError {
    MixError::Fallback { tensor: tensor.name.clone(), columns: columns(tensor), wanted, fallback, given }
}
