//! Before anything is done with inputs from the hub cache: are they what the hub lists?

use std::path::PathBuf;

use lorakit::hub::{Claim, Tree, Verified, check, files_below, files_read};
use lorakit::{Finding, Severity};

use super::cache::set;
use super::{Found, INPUTS};
use crate::error::Failure;
use crate::progress::Bar;
use crate::ui::Ui;

/// The variable that says whether files are checked.
const VARIABLE: &str = "LORAKIT_HUB_VERIFY";

/// Compares the files of the inputs that were [resolved](super::resolve) with the listings of their snapshots, where
/// there are any; of a folder, those `below` it too.
///
/// # Errors
/// If a file is not what the hub lists, or cannot be read; if a signal asks to stop; if the variable has a wrong value.
pub(crate) fn verify(ui: &Ui, below: bool) -> Result<(), Failure> {
    let found = INPUTS.read().map(|inputs| inputs.found.clone()).unwrap_or_default();
    if found.is_empty() || !is_wanted()? {
        return Ok(());
    }
    let claims = claims(&found, below, ui);
    if claims.is_empty() {
        return Ok(());
    }
    let memory = memory();
    let mut verified = memory.as_deref().map(Verified::read).unwrap_or_default();
    let bar = Bar::new(ui, "checking");
    let checked = check(&claims, &mut verified, &bar);
    bar.finish();
    if let Some(memory) = memory {
        // Without it, files are read again.
        let _ = verified.write(&memory);
    }
    Ok(checked?)
}

/// What the listings say of the files that are read, each once. A listing that cannot be read is noted.
fn claims(found: &[Found], below: bool, ui: &Ui) -> Vec<Claim> {
    let (mut claims, mut notes): (Vec<Claim>, Vec<Finding>) = (Vec::new(), Vec::new());
    for Found { id, snapshot, .. } in found {
        let tree = match Tree::place(snapshot).map(|place| Tree::read(&place)) {
            Some(Ok(Some(tree))) => tree,
            None | Some(Ok(None)) => continue,
            Some(Err(error)) => {
                let message = format!("its files are not compared with the hub's listing: {error}");
                let note = Finding::new(Severity::Note, "hub-cache", &id.folder(), message);
                if !notes.contains(&note) {
                    notes.push(note);
                }
                continue;
            }
        };
        let mut named = snapshot.clone();
        named.extend(&id.file);
        let files = if below && named.is_dir() { files_below(&named) } else { files_read(&named) };
        for path in files {
            if let Some(listed) = tree.listed(snapshot, &path)
                && !claims.iter().any(|claim| claim.path == path)
            {
                claims.push(Claim { path, listed });
            }
        }
    }
    ui.notes(&notes);
    claims
}

/// Whether files are checked, as the variable says.
fn is_wanted() -> Result<bool, Failure> {
    match set(VARIABLE).map(PathBuf::into_os_string) {
        None => Ok(true),
        Some(value) if value == "always" => Ok(true),
        Some(value) if value == "never" => Ok(false),
        Some(value) => Err(Failure::usage(
            &format!("invalid value '{}' for {VARIABLE}: must be always or never", value.display()),
            "`unset LORAKIT_HUB_VERIFY`, or correct its value",
        )),
    }
}

/// The file that remembers what was verified; none where no folder for it is named.
fn memory() -> Option<PathBuf> {
    let folder = set("LORAKIT_HOME").map(|home| home.join("cache"));
    let folder = folder.or_else(|| Some(set("XDG_CACHE_HOME")?.join("lorakit")));
    let folder = folder.or_else(|| Some(set("HOME")?.join(".cache/lorakit")));
    Some(folder?.join("verified.json"))
}
