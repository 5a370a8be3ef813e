//! Models whose input and output embedding are one tensor.
//!
//! An adapter on one of the two makes them differ. Keeping one tensor would change the other side as well, so the
//! default writes two and says so in the configuration: the merged model then computes what base and adapter computed.

use super::group::{Group, Groups};
use crate::adapter::{Adapter, ModuleKind, Strength};
use crate::arch::names::is_head;
use crate::fit::Resolver;
use crate::tensor::Factor;
use crate::{Finding, Model, Result, Severity};

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
    pub note: Option<Finding>,
}

pub(super) fn resolve(
    view: &Resolver<'_>,
    base: &Model,
    (adapters, strengths): (&[(Adapter, f64)], &[Strength]),
    groups: &mut Groups,
    tied: Tied,
) -> Result<Untied> {
    let Some(embedding) = view.embedding().filter(|_| view.tied()) else { return Ok(Untied::default()) };
    let embed_name = view.tensors[embedding].name.clone();
    let stored_head = view.head();
    let head_name = view.head_name();
    let (head, embed) = (groups.get(&head_name).cloned(), groups.get(&embed_name).cloned());
    if head.is_none() && embed.is_none() {
        return Ok(Untied::default());
    }
    let kept = |groups: &mut Groups, group: Group, message: &str| {
        groups.take(&head_name);
        groups.insert(&embed_name, Group { base: Some(embedding), ..group });
        let note = Finding::new(Severity::Note, "tied-shared", &embed_name, message);
        Ok(Untied { untied: false, note: Some(note) })
    };
    if stored_head.is_none() {
        if tied == Tied::Share {
            let message = "input and output embedding stay one tensor: a change meant for one reaches both";
            return kept(groups, join(head, embed), message);
        }
        // Whoever leaves the output side out wants it as it is in the base.
        let left_out = strengths.iter().flat_map(|strength| &strength.left_out).any(|path| is_head(path));
        if let Some(group) = trained_as_one(base, (adapters, left_out), head.as_ref(), embed.as_ref())? {
            return kept(groups, group, "input and output embedding were trained as one tensor and stay one");
        }
        if head.is_none() {
            // The head keeps the values the embedding had.
            let copy = Group { base: Some(embedding), ..Group::default() };
            groups.insert(&head_name, copy);
        }
    }
    let side = match (&head, &embed) {
        (Some(_), None) => "the output side",
        (None, Some(_)) => "the input side",
        _ => "each side differently",
    };
    let message = format!(
        "input and output embedding were one tensor and the adapter changes {side}: written as two (`{embed_name}`, \
         `{head_name}`), tie_word_embeddings is now false"
    );
    Ok(Untied { untied: true, note: Some(Finding::new(Severity::Note, "untied", &head_name, message)) })
}

/// The changes of both sides on one tensor.
fn join(head: Option<Group>, embed: Option<Group>) -> Group {
    let mut joined = embed.unwrap_or_default();
    if let Some(head) = head {
        joined.replace = joined.replace.or(head.replace);
        joined.multiplied = joined.multiplied.or(head.multiplied);
        joined.dora = joined.dora.or(head.dora);
        joined.terms.extend(head.terms);
        joined.rows.extend(head.rows);
    }
    joined
}

/// The one change, if the adapters trained both sides as one tensor.
fn trained_as_one(
    base: &Model,
    (adapters, without_head): (&[(Adapter, f64)], bool),
    head: Option<&Group>,
    embed: Option<&Group>,
) -> Result<Option<Group>> {
    if let (None, Some(embed)) = (head, embed) {
        // PEFT keeps the output side of trained token rows in step; a grown vocabulary needs both sides.
        let only_rows = embed.terms.is_empty()
            && embed.dora.is_none()
            && embed.multiplied.is_none()
            && embed.replace.is_none();
        let grown = match (&embed.replace, embed.base) {
            (Some(new), Some(old)) => new.info().shape != base.tensor(old).info().shape,
            _ => false,
        };
        let declared = adapters.iter().all(|(a, _)| a.config.ensure_weight_tying);
        return Ok((grown || !without_head && (only_rows || declared)).then(|| embed.clone()));
    }
    let (Some(head), Some(embed)) = (head, embed) else { return Ok(None) };
    if head.multiplied.is_some() || embed.multiplied.is_some() {
        return Ok(None);
    }
    let same_replacement = match (&head.replace, &embed.replace) {
        (None, None) => true,
        (Some(a), Some(b)) => a.same_values(b)?,
        _ => false,
    };
    if !same_replacement {
        return Ok(None);
    }
    if head.only_replaces() && embed.only_replaces() {
        return Ok(Some(embed.clone()));
    }
    let rows = |g: &Group| g.rows.iter().map(|r| r.rows.clone()).collect::<Vec<_>>();
    let plain =
        head.terms.is_empty() && embed.terms.is_empty() && head.dora.is_none() && embed.dora.is_none();
    if plain && rows(head) == rows(embed) {
        for (a, b) in head.rows.iter().zip(&embed.rows) {
            if !a.tensor.same_values(&b.tensor)? {
                return Ok(None);
            }
        }
        return Ok(Some(embed.clone()));
    }
    let scales = |g: &Group| g.terms.iter().map(|term| term.scale).collect::<Vec<_>>();
    Ok((scales(head) == scales(embed) && mirrored(adapters)?).then(|| embed.clone()))
}

/// Whether every adapter's head factors are its embedding factors transposed, as PEFT stores a tied pair.
fn mirrored(adapters: &[(Adapter, f64)]) -> Result<bool> {
    for (adapter, _) in adapters {
        let embedding = adapter.modules.iter().find(|m| m.kind == ModuleKind::Embedding);
        let head = adapter.modules.iter().find(|m| m.kind == ModuleKind::Linear && is_head(&m.path));
        let (Some(embedding), Some(head)) = (embedding, head) else { return Ok(false) };
        let load = |tensor: &crate::TensorRef, transposed: bool| {
            let (rows, cols) = tensor.info().rows_cols();
            let factor = Factor::matrix(tensor.clone(), rows, cols);
            if transposed { factor.transposed().load() } else { factor.load() }
        };
        let same = load(&head.a, false)? == load(&embedding.b, true)?
            && load(&head.b, false)? == load(&embedding.a, true)?;
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}
