//! Parameters that are saved whole: which of their copies in a file counts.
//!
//! PEFT has written a saved layer `X` as `X.weight`, as `X.modules_to_save.weight` (with the untrained
//! `X.original_module.weight` beside it), as `X.modules_to_save.default.weight` in dumps of a whole model, and since a
//! vocabulary that grew is saved too, as all of the first three in one file. It reads `X.weight`; the others count only
//! without it.

use std::collections::{HashMap, HashSet};

use lorakit_tensor::TensorInfo;

use crate::adapter::format::assemble::Fault;
use crate::adapter::key::{self, Part};
use crate::adapter::{AdapterConfig, Saved};
use crate::arch::names::{ends_in, is_head};
use crate::{Finding, Severity, TensorRef};

/// The name in PEFT's files of an adapter that was not given one.
const DEFAULT: &str = ".default";

/// The whole parameters of a file.
pub(super) struct Wholes<'t> {
    tensors: &'t [TensorInfo],
    /// The name in the model of each tensor that counts, by its place in the file.
    names: HashMap<usize, String>,
    repeated: HashSet<usize>,
    /// What was taken so far.
    saved: Vec<Saved>,
    heads: Vec<&'t str>,
}

impl<'t> Wholes<'t> {
    /// `listed` is `modules_to_save`.
    pub(super) fn new(tensors: &'t [TensorInfo], listed: &[String]) -> Self {
        let parsed = |info: &TensorInfo| {
            let (module, part) = key::parse(&info.name);
            match part {
                // In the layer's own name, an adapter's name may have been left.
                Part::Saved(param) => {
                    let path = module.strip_suffix(DEFAULT);
                    match path.filter(|path| listed.iter().any(|name| ends_in(path, name))) {
                        Some(path) => (path.to_string(), Part::Trained(param)),
                        None => (module, Part::Saved(param)),
                    }
                }
                part => (module, part),
            }
        };
        let (mut own, mut untrained) = (HashMap::new(), HashSet::new());
        let mut trained = Vec::new();
        for (index, info) in tensors.iter().enumerate().filter(|(_, info)| info.elements() > 0) {
            match parsed(info) {
                (module, Part::Saved(param)) => drop(own.insert(index, join(&module, &param))),
                (module, Part::BaseLayer(param)) if param != "weight" => {
                    own.insert(index, join(&module.replace(".base_layer", ""), &param));
                }
                (module, Part::Trained(param)) => trained.push((index, module, param)),
                (module, Part::Original(param)) => drop(untrained.insert(join(&module, &param))),
                _ => {}
            }
        }
        let mut taken: HashSet<String> = own.values().cloned().collect();
        let by_own_name = taken.clone();
        let (repeated, saved, heads) = (HashSet::new(), Vec::new(), Vec::new());
        let mut wholes = Wholes { tensors, names: own, repeated, saved, heads };
        for (index, module, param) in trained {
            let bare = key::without_adapter_name(&tensors[index].name).map(|module| join(&module, &param));
            let name = bare.filter(|name| untrained.contains(name)).unwrap_or_else(|| join(&module, &param));
            if by_own_name.contains(&name) {
                continue;
            }
            if taken.insert(name.clone()) {
                wholes.names.insert(index, name);
            } else {
                wholes.repeated.insert(index);
            }
        }
        wholes
    }

    /// Takes the tensor at `index`, which is `part` of `module`. Returns whether it is a whole parameter, or a copy of
    /// one, and no part of a method.
    ///
    /// # Errors
    /// The fault of a second trained copy.
    pub(super) fn take(
        &mut self,
        index: usize,
        (module, part): (&str, &Part),
        tensor: impl FnOnce() -> TensorRef,
    ) -> std::result::Result<bool, Fault> {
        match part {
            Part::Saved(_) | Part::Trained(_) | Part::BaseLayer(_) => {
                let name = match part {
                    Part::BaseLayer(param) if param == "weight" => Some(join(module, param)),
                    _ => self.names.get(&index).cloned(),
                };
                match name {
                    Some(name) => self.saved.push(Saved { name, tensor: tensor() }),
                    None if self.repeated.contains(&index) => return Err(repeated()),
                    None => {}
                }
            }
            Part::Original(_) => {}
            Part::ValueHead => self.heads.push(&self.tensors[index].name),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What was taken, and what there is to say of it.
    pub(super) fn finish(self) -> (Vec<Saved>, Option<Finding>) {
        (self.saved, value_head(&self.heads))
    }
}

fn join(module: &str, param: &str) -> String {
    if module.is_empty() { param.to_string() } else { format!("{module}.{param}") }
}

/// The fault of a second trained copy.
fn repeated() -> Fault {
    let message = "is a second trained copy of the same parameter: the file holds several adapters, which PEFT saves in a \
                   folder each";
    ("repeated-key", message.into())
}

/// Warns of a value head, which PEFT does not read either.
fn value_head(tensors: &[&str]) -> Option<Finding> {
    let first = tensors.first()?;
    let message = format!(
        "holds a value head, `{}` ({} {}): it is no part of the model that is adapted, and is not read",
        first.split('.').next().unwrap_or_default(),
        tensors.len(),
        if tensors.len() == 1 { "tensor" } else { "tensors" }
    );
    Some(Finding::new(Severity::Warning, "value-head", "", message))
}

/// The rows that the configuration lists for the embedding at `path`. If input and output embedding are tied, PEFT lists
/// one of them and, once the vocabulary has grown, saves both.
pub(super) fn token_indices<'c>(config: &'c AdapterConfig, path: &str) -> &'c [usize] {
    let indices = &config.token_indices;
    let named = indices.iter().find(|(suffix, _)| !suffix.is_empty() && ends_in(path, suffix));
    let any = || indices.iter().find(|(suffix, _)| suffix.is_empty());
    let tied = || if is_head(path) && indices.len() == 1 { indices.first() } else { None };
    named.or_else(any).or_else(tied).map_or(&[], |(_, rows)| rows)
}

#[cfg(test)]
mod tests {
    use lorakit_tensor::DType;

    use super::*;

    fn names(tensors: &[&str], listed: &[&str]) -> Vec<Option<String>> {
        let info = |name: &&str| TensorInfo { name: name.to_string(), dtype: DType::F32, shape: vec![2, 2] };
        let tensors: Vec<TensorInfo> = tensors.iter().map(info).collect();
        let listed: Vec<String> = listed.iter().map(|name| name.to_string()).collect();
        let wholes = Wholes::new(&tensors, &listed);
        let name = |index| match wholes.repeated.contains(&index) {
            true => Some("repeated".to_string()),
            false => wholes.names.get(&index).cloned(),
        };
        (0..tensors.len()).map(name).collect()
    }

    #[test]
    fn one_copy_counts() {
        let some = |name: &str| Some(name.to_string());
        for (tensors, listed, wanted) in [
            (
                &["head.weight", "head.modules_to_save.weight", "head.original_module.weight"][..],
                &["head"][..],
                &[some("head.weight"), None, None][..],
            ),
            (
                &["head.original_module.bias", "head.modules_to_save.bias"],
                &["head"],
                &[None, some("head.bias")],
            ),
            (&["head.modules_to_save.default.weight"], &[], &[some("head.weight")]),
            (&["head.default.weight"], &["head"], &[some("head.weight")]),
            (&["x.head.default.weight", "x.head.weight"], &["head"], &[None, some("x.head.weight")]),
            (&["behead.default.weight"], &["head"], &[some("behead.default.weight")]),
            (
                &[
                    "c.modules_to_save.a.bias",
                    "c.modules_to_save.b.bias",
                    "c.original_module.a.bias",
                    "c.original_module.b.bias",
                ],
                &["c"],
                &[some("c.a.bias"), some("c.b.bias"), None, None],
            ),
            (
                &["h.modules_to_save.one.weight", "h.modules_to_save.two.weight"],
                &["h"],
                &[some("h.weight"), some("repeated")],
            ),
            (&["h.base_layer.bias", "h.base_layer.weight"], &[], &[some("h.bias"), None]),
        ] {
            assert_eq!(names(tensors, listed), wanted, "{tensors:?}");
        }
    }

    #[test]
    fn rows_are_found_by_whole_names() {
        let config = |indices: &[(&str, usize)]| AdapterConfig {
            token_indices: indices.iter().map(|(name, row)| (name.to_string(), vec![*row])).collect(),
            ..AdapterConfig::default()
        };
        let two = config(&[("embed", 1), ("model.my_embed", 2)]);
        assert_eq!(token_indices(&two, "model.embed"), [1]);
        assert_eq!(token_indices(&two, "model.my_embed"), [2]);
        assert!(token_indices(&two, "lm_head").is_empty());
        assert_eq!(token_indices(&config(&[("embed_tokens", 3)]), "lm_head"), [3]);
        assert_eq!(token_indices(&config(&[("", 4)]), "anything"), [4]);
    }
}
