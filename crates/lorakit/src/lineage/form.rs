//! The form in which a base was trained on, and whether a model has another.

use std::collections::BTreeMap;

use super::{Ancestry, Parent, Record, Role};
use crate::Model;
use crate::arch::names::{is_embedding, is_head, module_of};
use crate::model::natural_dtype;

/// How the layers of a model are stored, as one word: the type of most of the values in its matrices, without those of
/// embeddings and head. `bf16`, `q4_k`, `nf4`.
pub fn form_of(model: &Model) -> String {
    let mut values: BTreeMap<String, u64> = BTreeMap::new();
    for (index, info) in model.tensors().iter().enumerate() {
        let module = module_of(&info.name);
        if info.shape.len() < 2 || is_embedding(module) || is_head(module) {
            continue;
        }
        let packed = model.packing.as_ref().and_then(|packing| packing.scheme_of(index));
        let form = match packed {
            Some(scheme) => scheme.name().to_string(),
            None => info.dtype.name().to_lowercase(),
        };
        *values.entry(form).or_default() += info.elements();
    }
    let most = values.into_iter().max_by_key(|(_, count)| *count);
    most.map_or_else(|| natural_dtype(model.tensors()).name().to_lowercase(), |(form, _)| form)
}

/// The base of the training that is the latest in a record: the record's own step, or that of its only adapter.
pub(super) fn trained_on(ancestry: &Ancestry) -> Option<Parent> {
    let Record { parents, .. } = ancestry.record()?;
    if let Some(base) = parents.iter().find(|parent| parent.trained_as.is_some()) {
        return Some(base.clone());
    }
    let mut adapters = parents.iter().filter(|parent| parent.role == Role::Adapter);
    let (only, none) = (adapters.next()?, adapters.next());
    if none.is_none() { trained_on(only.lineage.as_ref()?) } else { None }
}
