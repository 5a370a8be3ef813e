//! What is there, compared with what was signed.

use std::collections::BTreeMap;

use super::files::Files;
use super::problem::Problem;
use super::statement::{Digests, Statement};
use crate::{Error, Result};

/// Compares every file with the statement. Nothing is hashed if files are missing, not signed, or of another size.
///
/// # Errors
/// See [`verify`](super::verify).
pub(super) fn check(statement: &Statement, files: &dyn Files) -> Result<()> {
    let found = listed(files.list(&statement.ignored)?, files.signature())?;
    told(listing(statement, &found))?;
    let mut differences = Vec::new();
    for (name, digests) in &statement.files {
        let Some(size) = found.get(name) else { continue };
        content(name, *size, digests, files, &mut differences)?;
    }
    told(differences)
}

/// The files by their names, without the signature.
pub(super) fn listed(files: Vec<(String, u64)>, signature: Option<&str>) -> Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for (name, size) in files {
        if signature != Some(&name) && found.insert(name.clone(), size).is_some() {
            return Err(Problem::Twice { name }.into());
        }
    }
    Ok(found)
}

/// What the list of files tells.
fn listing(statement: &Statement, found: &BTreeMap<String, u64>) -> Vec<Problem> {
    let missing = statement.files.keys().filter(|name| !found.contains_key(*name));
    let mut differences: Vec<Problem> = missing.map(|name| Problem::Missing { name: name.clone() }).collect();
    let sharded = statement.files.values().any(|digests| matches!(digests, Digests::Shards { .. }));
    for (name, size) in found {
        let name = name.clone();
        match statement.files.get(&name) {
            // An empty file has no shard, so such a statement cannot list it (section 6.3.2).
            None if sharded && *size == 0 => {}
            None => differences.push(Problem::Unsigned { name }),
            Some(Digests::Shards { size: signed, .. }) if signed != size => {
                differences.push(Problem::Size { name, found: *size, expected: *signed });
            }
            Some(_) => {}
        }
    }
    differences
}

/// Appends how the content of a file differs.
fn content(
    name: &str,
    size: u64,
    digests: &Digests,
    files: &dyn Files,
    told: &mut Vec<Problem>,
) -> Result<()> {
    match digests {
        Digests::Whole(signed) => {
            let digest = files.sha256(name, 0..size)?;
            if digest != *signed {
                let (found, expected) = (digest.to_string(), signed.to_string());
                told.push(Problem::Changed { name: name.into(), found, expected });
            }
        }
        Digests::Shards { shard, digests, .. } => {
            let mut start = 0_u64;
            for signed in digests {
                let end = size.min(start.saturating_add(*shard));
                let digest = files.sha256(name, start..end)?;
                if digest != *signed {
                    let (found, expected) = (digest.to_string(), signed.to_string());
                    told.push(Problem::ChangedRange { name: name.into(), start, end, found, expected });
                }
                start = end;
            }
        }
    }
    Ok(())
}

/// One error for all differences.
fn told(mut differences: Vec<Problem>) -> Result<()> {
    match differences.len() {
        0 => Ok(()),
        1 => Err(differences.remove(0).into()),
        count => {
            let details = differences.iter().map(ToString::to_string).collect();
            Err(Error::from(Problem::Differences { count }).details(details))
        }
    }
}
