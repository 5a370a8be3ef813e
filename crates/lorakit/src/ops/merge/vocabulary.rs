//! A vocabulary that grew: an adapter brings an embedding with more rows than the base has.

use std::collections::HashMap;

use super::Problem;
use crate::arch::names::{is_embedding, is_head, module_of};
use crate::fit::Resolver;
use crate::plan::OutputTensor;
use crate::{Error, Model, Result};

/// An embedding that has more rows than in the base.
pub(super) struct Growth<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// The number of its rows.
    pub(super) rows: usize,
    /// The number of rows in the base.
    before: usize,
}

impl<'a> Growth<'a> {
    /// The first such embedding.
    pub(super) fn of(base: &Model, tensors: &'a [OutputTensor]) -> Option<Self> {
        let old: HashMap<&str, &[usize]> =
            base.tensors().iter().map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
        let vocabulary = base.config.as_ref().and_then(|c| c.number("vocab_size"));
        tensors.iter().find_map(|t| match (*old.get(t.info.name.as_str())?, t.info.shape.as_slice()) {
            ([v, d], [w, e]) if w > v && d == e && vocabulary.is_none_or(|n| n as usize == *v) => {
                Some(Growth { name: &t.info.name, rows: *w, before: *v })
            }
            _ => None,
        })
    }
}

/// Refuses a vocabulary that grew at one end only. Where embeddings are two tensors, the new rows of the other are what
/// resizing made up before training, which no file holds; a model with ends of two sizes does not load.
pub(super) fn both_ends(view: &Resolver<'_>, base: &Model, tensors: &[OutputTensor]) -> Result<()> {
    let Some(growth) = Growth::of(base, tensors) else { return Ok(()) };
    let head = view.head_name();
    let head = module_of(&head);
    let is_end = |name: &str| {
        let path = module_of(name);
        // Layers that predict further tokens have copies of their own, which transformers does not load.
        path == head || (is_embedding(path) || is_head(path)) && !path.contains("layers.")
    };
    if !is_end(growth.name) {
        return Ok(());
    }
    let short = |t: &&OutputTensor| is_end(&t.info.name) && t.info.shape.first() == Some(&growth.before);
    match tensors.iter().find(short) {
        Some(short) => {
            let Growth { name, rows, before } = growth;
            let problem = Problem::HalfGrown { rows: before, grown: name.to_string(), wanted: rows };
            Err(Error::from(problem).tensor(&short.info.name))
        }
        None => Ok(()),
    }
}
