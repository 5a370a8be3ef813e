//! A prefix that some program put in front of every path: if without it every part has exactly one home, it is left out.

use std::collections::{HashMap, HashSet};

use super::edit::{Change, Edit, Fitting};
use super::misfit::Misfit;
use super::problem::Reason;
use super::resolver::Resolver;
use super::{Found, homes};
use crate::arch::names;
use crate::{Finding, Severity};

/// The edits of an adapter whose misfits all come from one extra prefix, and the note that says so.
///
/// Without it each path must be the whole name of a tensor of the base, in some spelling, and not only end like one, no
/// two may be the same, and all shapes must fit. Prefixes that name another part of a model are no mistake.
pub(super) fn explained(
    base: &Resolver<'_>,
    fitting: &Fitting<'_>,
    misfits: &[Misfit],
) -> Option<(Vec<Edit>, Finding)> {
    let adapter = fitting.adapter;
    if misfits.is_empty() || !misfits.iter().all(|misfit| matches!(misfit.reason, Reason::NotThere)) {
        return None;
    }
    let modules = adapter.modules.iter().map(|module| module.path.as_str());
    let rows = adapter.token_rows.iter().map(|rows| rows.path.as_str());
    let saved = adapter.saved.iter().map(|saved| names::module_of(&saved.name));
    let paths: Vec<&str> = modules.chain(rows).chain(saved).collect();
    let first = paths.first()?;
    let ends = first.match_indices('.').map(|(end, _)| &first[..=end]);
    let common = ends.take_while(|prefix| paths.iter().all(|path| path.starts_with(prefix)));
    let mut found: Option<(&str, Vec<Edit>)> = None;
    for prefix in common.filter(|prefix| !names::names_another_part(prefix)) {
        let Some(edits) = without(base, fitting, prefix) else { continue };
        match &found {
            Some((_, known)) if !same_targets(known, &edits) => return None,
            Some(_) => {}
            None => found = Some((prefix, edits)),
        }
    }
    let (prefix, edits) = found?;
    let message = format!(
        "every path begins with `{prefix}`, which no tensor of the base does: without it each part has exactly one home, of \
         the right shape, and is put there"
    );
    let subject = adapter.path.display().to_string();
    Some((edits, Finding::new(Severity::Note, "extra-prefix", &subject, message)))
}

fn without(base: &Resolver<'_>, fitting: &Fitting<'_>, prefix: &str) -> Option<Vec<Edit>> {
    let mut adapter = fitting.adapter.clone();
    let mut origins = HashMap::new();
    let is_whole = |name: &str| matches!(base.named(name), Found::One(_)) || base.in_place_of(name).is_some();
    for module in &mut adapter.modules {
        let short = module.path.strip_prefix(prefix)?.to_string();
        if !is_whole(&format!("{short}.weight")) {
            return None;
        }
        origins.insert(short.clone(), std::mem::replace(&mut module.path, short));
    }
    for saved in &mut adapter.saved {
        let short = saved.name.strip_prefix(prefix)?.to_string();
        if !is_whole(&short) {
            return None;
        }
        saved.name = short;
    }
    for rows in &mut adapter.token_rows {
        let short = rows.path.strip_prefix(prefix)?.to_string();
        if !is_whole(&format!("{short}.weight")) {
            return None;
        }
        origins.insert(short.clone(), std::mem::replace(&mut rows.path, short));
    }
    let (mut edits, misfits) = homes(base, &Fitting::new(&adapter, fitting.options));
    let mut homes = HashSet::new();
    let weights = edits
        .iter()
        .filter(|edit| edit.target.ends_with(".weight") && matches!(edit.change, Change::LowRank { .. }));
    if !misfits.is_empty() || !weights.map(|edit| edit.target.as_str()).all(|target| homes.insert(target)) {
        return None;
    }
    for edit in &mut edits {
        if let Some(origin) = origins.get(&edit.origin) {
            edit.origin.clone_from(origin);
        }
    }
    Some(edits)
}

fn same_targets(a: &[Edit], b: &[Edit]) -> bool {
    a.iter().map(|edit| &edit.target).eq(b.iter().map(|edit| &edit.target))
}
