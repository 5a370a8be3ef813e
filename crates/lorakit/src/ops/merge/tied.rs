//! Models in which several parameters are one tensor: the embedding, the output, and copies for encoder and decoder.
//!
//! An adapter on some of them makes them differ. Keeping one tensor would change the others as well, so the default writes
//! each and says so in the configuration: the merged model then computes what base and adapter computed.

use super::Problem;
use super::group::{Group, Groups};
use crate::adapter::{Adapter, Module, ModuleKind, Strength};
use crate::arch::names::{is_embedding, is_head, is_other_embedding, is_tied_on_request, module_of};
use crate::fit::{Resolver, TiedSet};
use crate::tensor::Factor;
use crate::{Error, Finding, Model, Result, Severity, TensorRef};

/// What to do if an adapter changes one side of a tied pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tied {
    /// Write two tensors.
    #[default]
    Untie,
    /// Keep one tensor with the changes of both sides, as PEFT does.
    Share,
}

crate::choice::choices! { Tied {
    Untie = "untie", "write two tensors";
    Share = "share", "keep one tensor with the changes of both sides, as PEFT does";
} }

/// The outcome.
#[derive(Debug, Default)]
pub(super) struct Untied {
    /// Whether the output's configuration must say that the embeddings are two tensors.
    pub untied: bool,
    /// What to tell the user.
    pub notes: Vec<Finding>,
}

/// The adapters, with what becomes of their modules.
type Parts<'a> = (&'a [(Adapter, f64)], &'a [Strength]);

pub(super) fn resolve(
    view: &Resolver<'_>,
    base: &Model,
    parts: Parts<'_>,
    groups: &mut Groups,
    tied: Tied,
) -> Result<Untied> {
    let mut untied = Untied::default();
    refuse_unknown(view, groups)?;
    let keeps_config = !view.tied() || view.config.is_some_and(crate::model::ModelConfig::ties_always);
    let (weights, biases): (Vec<&TiedSet>, Vec<&TiedSet>) =
        view.tied_sets().iter().partition(|set| set.is_of_weights());
    for set in weights {
        let set = Set { set, view, base, keeps_config };
        untied.notes.extend(set.separate(parts, groups, tied, &mut untied.untied)?);
    }
    for set in biases {
        follow(set, groups, untied.untied);
    }
    Ok(untied)
}

/// Refuses to change what may be tied in a model whose class is not known.
fn refuse_unknown(view: &Resolver<'_>, groups: &Groups) -> Result<()> {
    if !view.ties_unknown() {
        return Ok(());
    }
    let vocabulary = view.config.and_then(|config| config.number("vocab_size"));
    let is_end = |name: &str, group: &Group| {
        let path = module_of(name);
        let named = is_embedding(path) || is_head(path);
        let rows = group.base.map(|index| view.tensors[index].rows_cols().0 as u64);
        named
            || if rows.is_some() && vocabulary.is_some() {
                rows == vocabulary
            } else {
                is_other_embedding(path)
            }
    };
    match groups.iter().find(|(name, group)| is_end(name, group)) {
        Some((name, _)) => Err(Error::from(Problem::TiedUnknown).tensor(name)),
        None => Ok(()),
    }
}

/// A set of weights, while a merge decides what becomes of it.
struct Set<'a> {
    set: &'a TiedSet,
    view: &'a Resolver<'a>,
    base: &'a Model,
    /// Whether the configuration has no say in what is tied.
    keeps_config: bool,
}

impl Set<'_> {
    fn separate(
        &self,
        (adapters, strengths): Parts<'_>,
        groups: &mut Groups,
        tied: Tied,
        untied: &mut bool,
    ) -> Result<Option<Finding>> {
        let members = &self.set.members;
        let changes: Vec<Option<Group>> = members.iter().map(|m| groups.get(&m.name).cloned()).collect();
        if changes.iter().all(Option::is_none) {
            return Ok(None);
        }
        let initial =
            |change: &Option<Group>| change.as_ref().is_some_and(|change| !change.initial.is_empty());
        if let Some(changed) = changes.iter().position(initial) {
            let others = members.iter().enumerate().filter(|(place, _)| *place != changed);
            let others = others.map(|(_, member)| member.name.clone()).collect();
            return Err(Error::from(Problem::InitialOfTied { others }).tensor(&members[changed].name));
        }
        let anchor = self.set.anchor();
        let one = members.iter().filter(|member| member.stored.is_some()).count() == 1;
        if one {
            if tied == Tied::Share {
                let message =
                    "input and output embedding stay one tensor: a change meant for one reaches both";
                return Ok(Some(self.keep(groups, join(changes), message)));
            }
            // Whoever leaves the output side out wants it as it is in the base.
            let left_out =
                strengths.iter().flat_map(|strength| &strength.left_out).any(|path| self.is_output(path));
            if let Some(group) = self.trained_as_one(adapters, left_out, &changes)? {
                let message = "input and output embedding were trained as one tensor and stay one";
                return Ok(Some(self.keep(groups, group, message)));
            }
            self.refuse_rows_below(&changes)?;
            // If all others change, each is written by itself, and what this one holds is of no effect.
            let others = |idle: usize| changes.iter().enumerate().all(|(i, c)| i == idle || c.is_some());
            if let Some(idle) = self.set.idle().filter(|&idle| changes[idle].is_some() && !others(idle)) {
                let others = members.iter().skip(1).map(|member| module_of(&member.name).to_string());
                let problem = Problem::Idle { others: others.collect() };
                return Err(Error::from(problem).tensor(&members[idle].name));
            }
        }
        // The others keep the values that the tensor had, or has in the copy that an adapter brings: PEFT loads that into
        // the one tensor before any delta is added to a side.
        let copy = changes.iter().flatten().find_map(Group::adapted_copy);
        let moved =
            members.iter().zip(&changes).any(|(m, change)| m.stored == Some(anchor) && change.is_some());
        for (member, _) in members.iter().zip(&changes).filter(|(_, change)| change.is_none()) {
            if copy.is_some() || member.stored.is_none() && (moved || !self.keeps_config) {
                let base = member.stored.or(Some(anchor));
                groups.insert(&member.name, Group { base, replace: copy.clone(), ..Group::default() });
            }
        }
        *untied |= !self.keeps_config;
        Ok(self.note(&changes))
    }

    /// Refuses trained rows of the embedding beside another change of the output. PEFT keeps the output's rows in step
    /// and adds its delta to them, but can neither save that model nor load what it saves of a replaced output.
    fn refuse_rows_below(&self, changes: &[Option<Group>]) -> Result<()> {
        let members = || self.set.members.iter().zip(changes);
        let trained = members().find(|(member, change)| {
            !member.output && change.as_ref().is_some_and(|change| !change.rows.is_empty())
        });
        let otherwise = members().find(|(member, change)| {
            member.output && change.as_ref().is_some_and(|change| change.rows.is_empty())
        });
        match (trained, otherwise) {
            (Some((embedding, _)), Some((output, _))) => {
                let problem = Problem::RowsBelow { embedding: module_of(&embedding.name).to_string() };
                Err(Error::from(problem).tensor(&output.name))
            }
            _ => Ok(()),
        }
    }

    /// Leaves one tensor, with these changes.
    fn keep(&self, groups: &mut Groups, group: Group, message: &str) -> Finding {
        let anchor = self.set.anchor();
        self.set.members.iter().for_each(|member| drop(groups.take(&member.name)));
        let name = self.view.tensors[anchor].name.as_str();
        groups.insert(name, Group { base: Some(anchor), ..group });
        Finding::new(Severity::Note, "tied-shared", name, message)
    }

    fn note(&self, changes: &[Option<Group>]) -> Option<Finding> {
        let members = || self.set.members.iter().zip(changes);
        if self.keeps_config && members().all(|(member, change)| change.is_none() || member.stored.is_some())
        {
            return None;
        }
        let changed = |output: bool| members().any(|(m, change)| m.output == output && change.is_some());
        let side = match (changed(true), changed(false)) {
            (true, false) => "the output side",
            (false, _) => "the input side",
            _ => "each side differently",
        };
        let written = |(member, change): &(&crate::fit::Member, &Option<Group>)| {
            member.stored.is_some() || change.is_some() || !self.keeps_config
        };
        let written: Vec<String> = members().filter(written).map(|(m, _)| format!("`{}`", m.name)).collect();
        let number = if written.len() == 2 { "two".into() } else { written.len().to_string() };
        let settled = if self.keeps_config {
            "transformers 5 loads tensors that differ as they are; before 5, it would tie them again"
        } else {
            "tie_word_embeddings is now false"
        };
        let message = format!(
            "input and output embedding were one tensor and the adapter changes {side}: written as {number} ({}), {settled}",
            written.join(", ")
        );
        let severity = if self.keeps_config { Severity::Warning } else { Severity::Note };
        let head = self.view.head_name();
        let subject = if self.set.output().is_some() { &head } else { &self.set.members[0].name };
        Some(Finding::new(severity, "untied", subject, message))
    }

    /// Whether the module at `path` is the output.
    fn is_output(&self, path: &str) -> bool {
        self.set.find(&format!("{path}.weight")).is_some_and(|member| member.output)
    }

    /// The one change, if the adapters trained all sides as one tensor.
    fn trained_as_one(
        &self,
        adapters: &[(Adapter, f64)],
        without_head: bool,
        changes: &[Option<Group>],
    ) -> Result<Option<Group>> {
        let changed: Vec<&Group> = changes.iter().flatten().collect();
        let Some(first) = changed.first() else { return Ok(None) };
        let idle = self.set.idle();
        let by_idle = idle.is_some_and(|idle| changes[idle].is_some());
        let embeddings = self.set.members.iter().zip(changes).enumerate();
        let mut embeddings = embeddings.filter(|(place, (member, _))| !member.output && Some(*place) != idle);
        let all_embeddings = by_idle || embeddings.all(|(_, (_, change))| change.is_some());
        if !all_embeddings || !self.alike(adapters, &changed)? {
            return Ok(None);
        }
        let head_changed =
            self.set.members.iter().zip(changes).any(|(member, change)| member.output && change.is_some());
        if head_changed {
            return Ok(Some((*first).clone()));
        }
        // PEFT keeps the output side of trained token rows in step; a grown vocabulary needs both sides.
        let only_rows = first.terms.is_empty()
            && first.dora.is_none()
            && first.multiplied.is_none()
            && first.replace.is_none();
        let grown = match (&first.replace, first.base) {
            (Some(new), Some(old)) => {
                first.adapted_copy().is_none() && new.info().shape != self.base.tensor(old).info().shape
            }
            _ => false,
        };
        let heeded = self
            .set
            .members
            .iter()
            .zip(changes)
            .any(|(member, change)| change.is_some() && is_tied_on_request(module_of(&member.name)));
        let declared = heeded && adapters.iter().all(|(a, _)| a.config.ensure_weight_tying);
        Ok((grown || !without_head && (only_rows || declared)).then(|| (*first).clone()))
    }

    /// Whether these changes are the same one.
    fn alike(&self, adapters: &[(Adapter, f64)], changes: &[&Group]) -> Result<bool> {
        let Some((first, others)) = changes.split_first() else { return Ok(false) };
        let rows = |g: &Group| g.rows.iter().map(|r| r.rows.clone()).collect::<Vec<_>>();
        let scales = |g: &Group| g.terms.iter().map(|term| term.scale).collect::<Vec<_>>();
        for other in others {
            let same_replacement = match (&first.replace, &other.replace) {
                (None, None) => true,
                (Some(a), Some(b)) => a.same_values(b)?,
                _ => false,
            };
            let by_weight = |group: &Group| group.dora.is_some() || group.multiplied.is_some();
            let dependent = by_weight(first) || by_weight(other);
            if !same_replacement || dependent || rows(first) != rows(other) || scales(first) != scales(other)
            {
                return Ok(false);
            }
            for (a, b) in first.rows.iter().zip(&other.rows) {
                if !a.tensor.same_values(&b.tensor)? {
                    return Ok(false);
                }
            }
        }
        Ok(others.is_empty() || first.terms.is_empty() || self.mirrored(adapters)?)
    }

    /// Whether every adapter's factors on these parameters are the same, those of the output transposed, as PEFT stores
    /// what it trained as one.
    fn mirrored(&self, adapters: &[(Adapter, f64)]) -> Result<bool> {
        for (adapter, _) in adapters {
            let of_set = |module: &&Module| self.set.find(&format!("{}.weight", module.path)).is_some();
            let modules: Vec<&Module> = adapter.modules.iter().filter(of_set).collect();
            let Some((first, others)) = modules.split_first() else { return Ok(false) };
            let known = factors(first)?;
            for other in others {
                if factors(other)? != known {
                    return Ok(false);
                }
            }
            if others.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The factors as those of a linear layer: an embedding's are transposed.
fn factors(module: &Module) -> Result<(Vec<f32>, Vec<f32>)> {
    let load = |tensor: &TensorRef, transposed: bool| {
        let (rows, cols) = tensor.info().rows_cols();
        let factor = Factor::matrix(tensor.clone(), rows, cols);
        if transposed { factor.transposed().load() } else { factor.load() }
    };
    match module.kind {
        ModuleKind::Embedding => Ok((load(&module.b, true)?, load(&module.a, true)?)),
        ModuleKind::Linear => Ok((load(&module.a, false)?, load(&module.b, false)?)),
    }
}

/// Biases that are one tensor: no layer computes with the one that is not the output's, so a change of one is a change of
/// all. Weights that are no longer tied need each under its own name.
fn follow(set: &TiedSet, groups: &mut Groups, untied: bool) {
    let anchor = set.anchor();
    let missing = || set.members.iter().filter(|member| member.stored.is_none());
    let kept = set.members.iter().find(|member| member.stored == Some(anchor));
    let Some(kept) = kept.map(|member| member.name.as_str()) else { return };
    let changed = missing().find_map(|member| groups.take(&member.name));
    missing().for_each(|member| drop(groups.take(&member.name)));
    if let Some(group) = changed {
        groups.insert(kept, Group { base: Some(anchor), ..group });
    }
    if untied {
        let same = groups.get(kept).cloned().unwrap_or_default();
        missing()
            .for_each(|member| groups.insert(&member.name, Group { base: Some(anchor), ..same.clone() }));
    }
}

/// The changes of all sides on one tensor.
fn join(changes: Vec<Option<Group>>) -> Group {
    let mut changes = changes.into_iter().flatten();
    let mut joined = changes.next().unwrap_or_default();
    for other in changes {
        joined.replace = joined.replace.or(other.replace);
        joined.multiplied = joined.multiplied.or(other.multiplied);
        joined.dora = joined.dora.or(other.dora);
        joined.terms.extend(other.terms);
        joined.rows.extend(other.rows);
    }
    joined
}
