//! How the rows of torchtune's layers map to those of Hugging Face.

use super::Problem;
use crate::arch::{Heads, RowPermutation, Torchtune};
use crate::tensor::{Factor, RowOrder};
use crate::{Base, Error, Result, TensorRef};

/// The facts about the base that decide the rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    /// Heads, if the rows of q and k are in Meta's order.
    interleaved: Option<Heads>,
    /// Heights of the parts, if the model has fused layers.
    pub(super) fused: Option<Fused>,
}

/// Numbers of rows in the parts of fused layers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fused {
    query: usize,
    key_value: usize,
    intermediate: usize,
}

impl Fused {
    /// Each fused layer with its parts and their rows.
    pub(super) fn layers(self) -> [(&'static str, Vec<(&'static str, usize)>); 2] {
        let (q, kv) = (self.query, self.key_value);
        let attention = vec![("self_attn.q_proj", q), ("self_attn.k_proj", kv), ("self_attn.v_proj", kv)];
        let mlp = vec![("mlp.gate_proj", self.intermediate), ("mlp.up_proj", self.intermediate)];
        [("self_attn.qkv_proj", attention), ("mlp.gate_up_proj", mlp)]
    }
}

impl Rows {
    /// Rows in the order of the file, for a base of which nothing is known.
    pub(super) fn as_they_lie() -> Self {
        Rows { interleaved: None, fused: None }
    }

    /// The rows for the modules at `paths`. The base is needed if any of them has another layout in some torchtune
    /// model.
    ///
    /// # Errors
    /// `ErrorKind::NeedsBase`; `ErrorKind::Unsupported` for a family that torchtune does not support.
    pub(super) fn of<'a>(base: Option<&Base>, mut paths: impl Iterator<Item = &'a str>) -> Result<Self> {
        let Some(base) = base else {
            let depends = |path: &str| {
                head_count(path).is_some() || path.ends_with("qkv_proj") || path.ends_with("gate_up_proj")
            };
            return match paths.find(|path| depends(path)) {
                None => Ok(Self::as_they_lie()),
                Some(path) => Err(Error::from(Problem::RowOrder).tensor(path)),
            };
        };
        let (_, class) = base.family()?;
        match class.torchtune {
            None => Err(Error::from(Problem::Class { class: class.architecture.clone() }).at(&base.path)),
            Some(Torchtune::Same) => Ok(Rows { interleaved: None, fused: None }),
            Some(Torchtune::Interleaved) => Ok(Rows { interleaved: Some(base.heads()?), fused: None }),
            Some(Torchtune::Split) => {
                let (params, heads) = (base.params()?, base.heads()?);
                let hidden = params.required_integer("hidden_size")? as usize;
                let head = params.integer("head_dim")?.map(|n| n as usize);
                let head = head.unwrap_or(hidden / heads.query.max(1));
                let fused = Fused {
                    query: heads.query * head,
                    key_value: heads.key_value * head,
                    intermediate: params.required_integer("intermediate_size")? as usize,
                };
                Ok(Rows { interleaved: None, fused: Some(fused) })
            }
        }
    }

    /// The rows of torchtune's `B` in Hugging Face's order.
    pub(super) fn to_hf(self, path: &str, rows: usize) -> Result<RowOrder> {
        self.order(path, rows, RowPermutation::gguf_row)
    }

    /// The rows of Hugging Face's `B` in torchtune's order.
    pub(super) fn to_own(self, path: &str, rows: usize) -> Result<RowOrder> {
        self.order(path, rows, RowPermutation::hf_row)
    }

    fn order(self, path: &str, rows: usize, of: fn(RowPermutation, usize) -> usize) -> Result<RowOrder> {
        match self.interleaved.zip(head_count(path)) {
            None => Ok(RowOrder::of_ranges(std::iter::once(0..rows))),
            Some((heads, count)) => {
                let permutation = RowPermutation::new(rows, count(heads))?;
                Ok(RowOrder::of_rows((0..rows).map(|row| of(permutation, row))))
            }
        }
    }
}

/// Which number of heads the rows of the module form, if rotary embeddings apply to them.
fn head_count(path: &str) -> Option<fn(Heads) -> usize> {
    match path.rsplit('.').next()? {
        "q_proj" => Some(|heads| heads.query),
        "k_proj" => Some(|heads| heads.key_value),
        _ => None,
    }
}

/// `model.layers.0` of `model.layers.0.mlp.up_proj`.
pub(super) fn layer(path: &str) -> Option<String> {
    let number = path.strip_prefix("model.layers.")?.split('.').next()?;
    Some(format!("model.layers.{number}"))
}

/// The tensor with its rows in that order.
pub(super) fn gathered(tensor: &TensorRef, order: &RowOrder) -> Result<TensorRef> {
    let shape = tensor.info().shape.clone();
    let rows = shape.first().copied().unwrap_or(1);
    let cols = tensor.info().elements() as usize / rows.max(1);
    Factor::matrix(tensor.clone(), rows, cols).gather_rows(order).to_tensor(shape)
}
