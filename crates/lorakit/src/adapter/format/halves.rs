//! The tensors of an adapter file, grouped into modules.

use std::collections::BTreeMap;

use lorakit_tensor::{TensorInfo, TensorSource};

use crate::adapter::Files;
use crate::{Finding, Severity, TensorRef};

/// The role of a tensor in its module.
#[derive(Debug, Clone, Copy)]
pub(super) enum Half {
    A,
    B,
    Magnitude,
}

/// The tensors of one module, laid out as in the file.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) path: String,
    pub(super) a: TensorRef,
    pub(super) b: TensorRef,
    pub(super) magnitude: Option<TensorRef>,
}

impl Pair {
    /// The fault of factors whose shapes do not fit together; `needed` describes shapes that would.
    pub(super) fn misshapen(&self, needed: &str) -> Finding {
        let (a, b) = (&self.a.info().shape, &self.b.info().shape);
        let message = format!("has factors of shapes {a:?} and {b:?}; they must be {needed}");
        Finding::new(Severity::Error, "shape", &self.path, message)
    }

    /// The shapes of both factors, if they are matrices.
    pub(super) fn matrices(&self) -> Option<([usize; 2], [usize; 2])> {
        let shape = |tensor: &TensorRef| <[usize; 2]>::try_from(tensor.info().shape.as_slice()).ok();
        shape(&self.a).zip(shape(&self.b))
    }
}

/// The modules of `files`. `parse` returns a tensor's module and its role there, or `None` if the tensor is not part
/// of a low-rank module. Modules that lack a factor are left out; faults are listed.
pub(super) fn pairs(
    files: &Files,
    parse: impl Fn(&TensorInfo) -> Option<(String, Half)>,
) -> (Vec<Pair>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut modules: BTreeMap<String, ([Option<usize>; 3], bool)> = BTreeMap::new();
    for (index, info) in files.source.tensors().iter().enumerate() {
        let mut fault = |code, message: String| {
            findings.push(Finding::new(Severity::Error, code, &info.name, message));
        };
        let Some((path, half)) = parse(info) else {
            fault("foreign-tensor", "is not part of a low-rank module".into());
            continue;
        };
        let (slots, has_empty) = modules.entry(path.clone()).or_default();
        if info.elements() == 0 {
            let message =
                format!("has no values (shape {:?}): it was saved without gathering its shards", info.shape);
            fault("zero-size-tensor", message);
            *has_empty = true;
        } else if slots[half as usize].replace(index).is_some() {
            fault("repeated-key", format!("is a second tensor for the same part of `{path}`"));
        }
    }
    let mut pairs = Vec::new();
    for (path, (slots, has_empty)) in modules {
        match slots {
            [Some(a), Some(b), magnitude] => pairs.push(Pair {
                path,
                a: files.tensor(a),
                b: files.tensor(b),
                magnitude: magnitude.map(|index| files.tensor(index)),
            }),
            _ if has_empty => {}
            [a, b, _] => {
                let message = match (a, b) {
                    (Some(_), _) => "has a factor A, but B is missing",
                    (_, Some(_)) => "has a factor B, but A is missing",
                    _ => "has a magnitude, but no factors",
                };
                findings.push(Finding::new(Severity::Error, "missing-half", &path, message));
            }
        }
    }
    (pairs, findings)
}
