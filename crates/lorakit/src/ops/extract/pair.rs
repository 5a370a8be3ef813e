//! The tensors of two models, side by side, and what each difference becomes in an adapter.

use std::ops::Range;

use lorakit_tensor::TensorInfo;

use super::Problem;
use super::{Embeddings, ExtractOptions};
use crate::adapter::{Experts, ModuleKind, format};
use crate::arch::names::{self, is_buffer, is_embedding, is_other_embedding, module_of};
use crate::fit::{self, Resolver};
use crate::{Error, Model, Result, TensorRef};

/// A tensor of the tuned model, and what it started from.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    /// Its name in the base; for a new tensor, its name in the tuned model.
    pub(super) name: String,
    /// The base's tensor; `None` if it has none.
    pub(super) base: Option<TensorRef>,
    /// The tuned one.
    pub(super) tuned: TensorRef,
    /// Whether it is decoded from a packed weight, such as NF4.
    pub(super) packed: bool,
    /// What its difference becomes.
    pub(super) role: Role,
}

/// What the difference of a tensor becomes.
#[derive(Debug, Clone)]
pub(super) enum Role {
    /// Low-rank modules.
    Factors(Vec<Part>),
    /// A parameter that is saved whole.
    Whole,
    /// Nothing: the user does not want it.
    LeftOut,
}

/// Rows of a tensor that are a module of their own.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) path: String,
    pub(super) kind: ModuleKind,
    /// Whether the stored weight is `(in, out)`.
    pub(super) transposed: bool,
    pub(super) rows: Range<usize>,
    /// Width of a row.
    pub(super) cols: usize,
    /// The parameter, and the expert of it, for a stack that PEFT packs.
    pub(super) stack: Option<(String, Experts)>,
}

impl Part {
    /// Number of its values.
    pub(super) fn values(&self) -> u64 {
        (self.rows.len() * self.cols) as u64
    }
}

/// Pairs the tensors of both models by name, in the order of the base.
///
/// # Errors
/// [`ErrorKind::Unmatched`](crate::ErrorKind::Unmatched) if the tuned model lacks tensors,
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) if they have other shapes, each with a line for each tensor.
pub(super) fn pairs(base: &Model, tuned: &Model, options: &ExtractOptions) -> Result<Vec<Pair>> {
    let view = Resolver::new(base.tensors(), base.config.as_ref());
    let tuned_view = Resolver::new(tuned.tensors(), tuned.config.as_ref());
    let [own, others] = [base, tuned].map(|model| model.tensors().iter().map(|t| t.name.as_str()).collect());
    let (own, others): (Vec<&str>, Vec<&str>) = (own, others);
    let paired = names::pairs(&own, &others);
    let (known, new) = paired.split_at(own.len());
    let is_packed = |index| tuned.packing.as_ref().is_some_and(|packing| packing.contains(index));
    let (mut pairs, mut missing, mut reshaped) = (Vec::new(), Vec::new(), Vec::new());
    for (index, (info, (_, found))) in base.tensors().iter().zip(known).enumerate() {
        let name = &info.name;
        let Some(found) = found.or_else(|| tuned_view.in_place_of(name)) else {
            if !is_buffer(name) && !options.skips(name) {
                missing.push(name.clone());
            }
            continue;
        };
        let (old, new, packed) = (base.tensor(index), tuned.tensor(found), is_packed(found));
        let grown = grown(&view, info, new.info());
        if info.shape != new.info().shape && !grown && !options.skips(name) {
            reshaped.push(format!("{name}  base {:?}, tuned {:?}", info.shape, new.info().shape));
            continue;
        }
        let role = if grown { role_of_whole(name, options) } else { role(&view, info, options) };
        pairs.push(Pair { name: name.clone(), base: Some(old), tuned: new, packed, role });
    }
    for index in new.iter().filter_map(|(_, index)| *index) {
        let info = &tuned.tensors()[index];
        if is_buffer(&info.name) {
            continue;
        }
        let tied = view.in_place_of(&info.name);
        // A copy of the embedding; the configuration says that the two are one tensor.
        if tied.is_some() && tuned_view.tied() && is_copy(&tuned_view, tuned, index)? {
            continue;
        }
        let start = tied.filter(|&index| base.tensors()[index].shape == info.shape);
        let role = match start {
            Some(_) => role(&view, info, options),
            None => role_of_whole(&info.name, options),
        };
        let base = start.map(|index| base.tensor(index));
        let (tuned, packed) = (tuned.tensor(index), is_packed(index));
        pairs.push(Pair { name: info.name.clone(), base, tuned, packed, role });
    }
    refuse(missing, reshaped).map_err(|e| e.at(&tuned.path))?;
    Ok(pairs)
}

/// Whether a model of this class ties the tensor, and its values are those of what it is tied to.
fn is_copy(view: &Resolver<'_>, model: &Model, index: usize) -> Result<bool> {
    for other in view.may_copy(index) {
        if model.tensor(other).same_values(&model.tensor(index))? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn refuse(missing: Vec<String>, reshaped: Vec<String>) -> Result<()> {
    if !missing.is_empty() {
        return Err(Error::from(Problem::Lacking { tensors: missing.len() }).details(missing));
    }
    if !reshaped.is_empty() {
        return Err(Error::from(Problem::Reshaped { tensors: reshaped.len() }).details(reshaped));
    }
    Ok(())
}

/// Whether a vocabulary has more rows than before.
fn grown(view: &Resolver<'_>, base: &TensorInfo, tuned: &TensorInfo) -> bool {
    view.is_end(&base.name)
        && base.shape.get(1..) == tuned.shape.get(1..)
        && base.shape.first() < tuned.shape.first()
}

/// Whether a parameter of that name and shape is the weight of a layer that can have factors.
pub(super) fn is_layer(name: &str, shape: &[usize]) -> bool {
    shape.len() >= 2 && name.ends_with(".weight")
}

/// The role of a parameter that has no factors.
fn role_of_whole(name: &str, options: &ExtractOptions) -> Role {
    let embedding = is_embedding(module_of(name)) && options.embeddings == Embeddings::Skip;
    if options.skips(name) || embedding { Role::LeftOut } else { Role::Whole }
}

fn role(view: &Resolver<'_>, info: &TensorInfo, options: &ExtractOptions) -> Role {
    let (name, path) = (&info.name, module_of(&info.name));
    if options.skips(name) {
        return Role::LeftOut;
    }
    let packs = format::by_name(&options.to).is_some_and(|format| format.packs_experts());
    if let Some(parts) = if packs { packed(view, info) } else { experts(view, info) } {
        return Role::Factors(parts);
    }
    if !is_layer(name, &info.shape) {
        return Role::Whole;
    }
    let embedding = info.shape.len() == 2 && (is_embedding(path) || is_other_embedding(path));
    let kind = match (embedding, options.embeddings) {
        (false, _) => ModuleKind::Linear,
        (true, Embeddings::Factors) => ModuleKind::Embedding,
        (true, Embeddings::Whole) => return Role::Whole,
        (true, Embeddings::Skip) => return Role::LeftOut,
    };
    let transposed = embedding || view.stored_transposed(path).unwrap_or(false);
    let (rows, cols) = info.rows_cols();
    Role::Factors(vec![Part { path: path.into(), kind, transposed, rows: 0..rows, cols, stack: None }])
}

/// The experts of a stacked weight, a module for each expert of the parameter, as transformers 5 names it.
fn packed(view: &Resolver<'_>, info: &TensorInfo) -> Option<Vec<Part>> {
    let &[of, rows, cols] = info.shape.as_slice() else { return None };
    let own = info.name.strip_suffix(".weight").and_then(names::as_parameter);
    let path = own.as_deref().unwrap_or(&info.name);
    let (layer, parameter) = path.rsplit_once('.')?;
    names::stack_in(layer, parameter)?;
    let part = |expert: usize| Part {
        path: format!("{path}.{expert}"),
        kind: ModuleKind::Linear,
        transposed: view.transposed_in_peft(),
        rows: expert * rows..(expert + 1) * rows,
        cols,
        stack: Some((parameter.to_string(), Experts::One { expert, of })),
    };
    Some((0..of).map(part).collect())
}

/// The experts of a stacked weight `[E, 2I, H]` or `[E, H, I]`, a module for each projection.
fn experts(view: &Resolver<'_>, info: &TensorInfo) -> Option<Vec<Part>> {
    let name = info.name.trim_end_matches(".weight");
    let (path, leaf) = name.rsplit_once('.')?;
    if !names::is_experts(path) || view.stacks_transposed() {
        return None;
    }
    let cols = info.shape.last().copied()?;
    let part =
        |(path, rows)| Part { path, kind: ModuleKind::Linear, transposed: false, rows, cols, stack: None };
    Some(fit::modules_of_stack(path, leaf, &info.shape)?.into_iter().map(part).collect())
}

#[cfg(test)]
mod tests {
    use lorakit_tensor::DType;

    use super::*;

    fn paths(name: &str, shape: &[usize], embeddings: Embeddings) -> Option<Vec<String>> {
        of_options(name, shape, ExtractOptions { embeddings, ..ExtractOptions::new("b", "t", "o") })
    }

    fn of_options(name: &str, shape: &[usize], options: ExtractOptions) -> Option<Vec<String>> {
        let info = TensorInfo { name: name.into(), dtype: DType::F32, shape: shape.to_vec() };
        let view = Resolver::new(&[], None);
        match role(&view, &info, &options) {
            Role::Factors(parts) => {
                Some(parts.into_iter().map(|p| format!("{} {:?}", p.path, p.rows)).collect())
            }
            _ => None,
        }
    }

    #[test]
    fn layers_have_factors_and_vectors_have_none() {
        let whole = |name, shape| paths(name, shape, Embeddings::Whole);
        assert_eq!(whole("m.0.q_proj.weight", &[4, 6]).unwrap(), ["m.0.q_proj 0..4"]);
        assert_eq!(whole("conv.weight", &[4, 6, 3, 3]).unwrap(), ["conv 0..4"]);
        assert_eq!(whole("lm_head.weight", &[9, 4]).unwrap(), ["lm_head 0..9"]);
        assert_eq!(whole("m.0.norm.weight", &[4]), None);
        assert_eq!(whole("m.0.q_proj.bias", &[4]), None);
        assert_eq!(whole("model.embed_tokens.weight", &[9, 4]), None);
        assert_eq!(paths("wpe.weight", &[9, 4], Embeddings::Factors).unwrap(), ["wpe 0..9"]);
    }

    #[test]
    fn stacked_experts_are_modules_of_their_own() {
        let to = |to: &str| ExtractOptions { to: to.into(), ..ExtractOptions::new("b", "t", "o") };
        let found = of_options("m.experts.gate_up_proj", &[2, 6, 4], to("gguf")).unwrap();
        let names = ["0.gate_proj 0..3", "0.up_proj 3..6", "1.gate_proj 6..9", "1.up_proj 9..12"];
        assert_eq!(found, names.map(|name| format!("m.experts.{name}")));
        assert_eq!(of_options("m.experts.down_proj", &[2, 4, 3], to("gguf")).unwrap().len(), 2);
        // PEFT has them in one module for each parameter, as transformers 5 names it.
        for name in ["m.experts.gate_up_proj", "m.input_linear.weight"] {
            let found = of_options(name, &[2, 6, 4], to("peft")).unwrap();
            assert_eq!(found, ["m.experts.gate_up_proj.0 0..6", "m.experts.gate_up_proj.1 6..12"]);
        }
    }
}
