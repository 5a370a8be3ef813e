//! Parameters that are saved whole: there is no sum of replacements, so all adapters must agree.

use std::collections::HashMap;

use super::Problem;
use super::input::Aligned;
use crate::adapter::{Adapter, Saved, TokenRows};
use crate::{Error, Result, TensorRef};

/// What all adapters together replace.
///
/// # Errors
/// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) with one line for each parameter that two adapters give
/// different values.
pub(super) fn united(adapters: &[(Adapter, f64)]) -> Result<(Vec<Saved>, Vec<TokenRows>)> {
    let mut saved: Vec<(usize, Saved)> = Vec::new();
    let mut rows: Vec<(usize, TokenRows)> = Vec::new();
    let (mut places, mut places_of_rows) = (HashMap::new(), HashMap::new());
    let mut conflicts = Vec::new();
    let conflict = |name: &str, i: usize, j: usize| {
        let (one, two) = (adapters[i].0.path.display(), adapters[j].0.path.display());
        format!("{name}  differs between `{one}` and `{two}`")
    };
    for (j, (adapter, _)) in adapters.iter().enumerate() {
        for new in &adapter.saved {
            match places.get(new.name.as_str()).map(|&place: &usize| &saved[place]) {
                None => {
                    places.insert(new.name.as_str(), saved.len());
                    saved.push((j, new.clone()));
                }
                Some((i, old)) if !old.tensor.same_values(&new.tensor)? => {
                    conflicts.push(conflict(&new.name, *i, j));
                }
                Some(_) => {}
            }
        }
        for new in &adapter.token_rows {
            match places_of_rows.get(new.path.as_str()).map(|&place: &usize| &rows[place]) {
                None => {
                    places_of_rows.insert(new.path.as_str(), rows.len());
                    rows.push((j, new.clone()));
                }
                Some((i, old)) if old.rows != new.rows || !old.tensor.same_values(&new.tensor)? => {
                    conflicts.push(conflict(&new.path, *i, j));
                }
                Some(_) => {}
            }
        }
    }
    refuse(conflicts)?;
    Ok((saved.into_iter().map(|s| s.1).collect(), rows.into_iter().map(|r| r.1).collect()))
}

/// The weight that replaces the base's in the modules of one path.
///
/// # Errors
/// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if two have different ones.
pub(super) fn base_weight(aligned: &Aligned) -> Result<Option<TensorRef>> {
    let mut found: Option<&TensorRef> = None;
    for weight in aligned.parts.iter().filter_map(|(_, module)| module.base_weight.as_ref()) {
        match found {
            Some(first) if !first.same_values(weight)? => {
                refuse(vec![format!("{}  its weight differs between adapters", aligned.first().path)])?;
            }
            _ => found = Some(weight),
        }
    }
    Ok(found.cloned())
}

fn refuse(conflicts: Vec<String>) -> Result<()> {
    if conflicts.is_empty() {
        return Ok(());
    }
    Err(Error::from(Problem::Conflicts { parameters: conflicts.len() }).details(conflicts))
}
