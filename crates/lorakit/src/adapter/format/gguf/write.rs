//! Writing a GGUF adapter.

use std::collections::{BTreeMap, HashMap};

use lorakit_tensor::DType;

use super::super::{Can, Draft, DraftOptions, Mapped, most_common};
use super::names::Facts;
use super::stack::Group;
use super::{Problem, header};
use crate::adapter::Adapter;
use crate::plan::{Container, OutputTensor};
use crate::{Error, Result};

pub(super) fn draft(adapter: &Adapter, options: &DraftOptions<'_>) -> Result<Draft> {
    Can { embeddings: true, ..Can::default() }.hold(adapter, "a GGUF adapter")?;
    let base = options.base.ok_or_else(|| {
        let id = adapter.config.public_base_model().map(str::to_string);
        Error::from(Problem::NoBase { id }).at(&adapter.path)
    })?;
    let facts = Facts::of(base)?;
    let groups = Group::of(facts.place(adapter)?);
    let alpha = alpha(&groups);
    let mut tensors = Vec::new();
    let mut done: HashMap<&str, Mapped> = HashMap::new();
    for group in &groups {
        let times = group.times(alpha);
        let factors = group.factors(&facts, &times).map_err(|e| e.at(&adapter.path))?;
        let (outputs, notes) = factors.outputs(&group.name, options.dtype);
        tensors.extend(outputs);
        for (member, times) in group.members.iter().zip(&times) {
            let rule = member.found.rule;
            let steps = [
                member.found.expert.map(|expert| format!("place {expert} of a stack")),
                rule.is_permuted().then(|| "rows of B reordered".into()),
                (rule.role == crate::arch::Role::Embed).then(|| "A transposed".into()),
                (*times != 1.0).then(|| format!("B times {times}")),
            ];
            let how = steps.into_iter().flatten().chain(notes.iter().cloned()).collect();
            let module = member.module.path.clone();
            done.insert(&member.module.path, Mapped { module, name: group.name.clone(), how });
        }
    }
    let dtype = options.dtype.unwrap_or_else(|| common_dtype(&tensors));
    let metadata = header::metadata(adapter, facts.family.gguf(), alpha, dtype);
    Ok(Draft {
        stem: None,
        container: Container::Gguf(metadata),
        tensors,
        side_files: Vec::new(),
        mapped: adapter.modules.iter().filter_map(|m| done.remove(m.path.as_str())).collect(),
    })
}

/// The alpha that most modules have; never 0, which would mean a scale of 1.
fn alpha(groups: &[Group<'_>]) -> f32 {
    let usable = |alpha: &f32| alpha.is_finite() && *alpha != 0.0;
    let alphas = groups.iter().flat_map(Group::alphas).map(|alpha| alpha as f32).filter(usable);
    most_common(alphas.map(f64::from)).map_or(1.0, |alpha| alpha as f32)
}

/// The dtype of most values.
fn common_dtype(tensors: &[OutputTensor]) -> DType {
    let mut values: BTreeMap<DType, u64> = BTreeMap::new();
    for info in tensors.iter().map(|tensor| &tensor.info) {
        *values.entry(info.dtype).or_default() += info.elements();
    }
    values.into_iter().max_by_key(|(_, n)| *n).map_or(DType::F32, |(dtype, _)| dtype)
}
