//! Looking for adapters and models under a folder.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::group::{Candidate, candidates};
use crate::hub;
use crate::plan::{Progress, go_on};
use crate::{Error, Result};

/// Folders of trainers that hold the state of optimisers, in files that look like weights.
const STATES: &str = "global_step";
/// The card, whose front matter is part of what is audited.
const CARD: &str = "README.md";

/// What is under a folder.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// Adapters and models, each once, in no particular order.
    pub(super) found: Vec<Found>,
    /// Folders that cannot be listed.
    pub(super) unreadable: Vec<(PathBuf, Error)>,
    /// Hidden folders that were not looked into.
    pub(super) hidden: usize,
}

/// An adapter or a model.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) candidate: Candidate,
    /// Other paths of the same files.
    pub(super) also: Vec<PathBuf>,
    /// Size of its files.
    pub(super) bytes: u64,
    /// Whether a link is on its way.
    linked: bool,
}

/// A file or folder, whatever its path.
type Identity = (u64, u64);
/// The names of the files in a folder, and the folders in it.
type Listed = (Vec<String>, Vec<(PathBuf, Identity)>);

struct Walk<'w> {
    hidden: bool,
    progress: &'w dyn Progress,
    seen: HashSet<Identity>,
    /// Links to folders, followed once all else is known, so that a folder is found under its own path.
    links: Vec<PathBuf>,
    known: BTreeMap<Vec<Identity>, usize>,
    walked: Walked,
}

/// Everything under `root`, which may be a single file. Hidden folders are looked into only if `hidden`; each folder is
/// looked into once, whatever links lead to it.
///
/// # Errors
/// `Io` and `NotFound` if `root` cannot be read; `Interrupted`.
pub(super) fn walk(root: &Path, hidden: bool, progress: &dyn Progress) -> Result<Walked> {
    let fail = |e| Error::from(lorakit_tensor::Error::io("list", root, e));
    let meta = fs::metadata(root).map_err(fail)?;
    let mut walk = Walk {
        hidden,
        progress,
        seen: HashSet::new(),
        links: Vec::new(),
        known: BTreeMap::new(),
        walked: Walked::default(),
    };
    if !meta.is_dir() {
        let path = root.to_path_buf();
        let files = vec![path.clone()];
        walk.enter(Candidate { open: path.clone(), path, files, certain: true, adapter: false }, false);
        return Ok(walk.walked);
    }
    // Listed here too, because the folder that the user named must be readable.
    drop(fs::read_dir(root).map_err(fail)?);
    // A link to a folder around it is a loop.
    let real = fs::canonicalize(root).map_err(fail)?;
    walk.seen.extend(
        real.ancestors().skip(1).filter_map(|outer| fs::metadata(outer).ok()).map(|meta| identity(&meta)),
    );
    walk.folder(root.to_path_buf(), &meta, false)?;
    let mut next = 0;
    while next < walk.links.len() {
        let link = walk.links[next].clone();
        next += 1;
        if let Ok(meta) = fs::metadata(&link) {
            walk.folder(link, &meta, true)?;
        }
    }
    Ok(walk.walked)
}

impl Walk<'_> {
    /// Looks into a folder and those below it, unless that was done already.
    fn folder(&mut self, top: PathBuf, meta: &Metadata, linked: bool) -> Result<()> {
        let mut stack = vec![(top, identity(meta))];
        while let Some((folder, identity)) = stack.pop() {
            go_on(self.progress, "everything was looked at")?;
            if !self.seen.insert(identity) {
                continue;
            }
            match self.list(&folder) {
                Ok((names, inner)) => {
                    for candidate in candidates(&folder, &names) {
                        self.enter(candidate, linked);
                    }
                    // The first is looked into first.
                    stack.extend(inner.into_iter().rev());
                }
                Err(error) => {
                    let error = lorakit_tensor::Error::io("list", &folder, error).into();
                    self.walked.unreadable.push((folder, error));
                }
            }
        }
        Ok(())
    }

    /// The names of the files in a folder, sorted, and the folders in it.
    fn list(&mut self, folder: &Path) -> std::io::Result<Listed> {
        let (mut names, mut inner, mut links) = (Vec::new(), Vec::new(), Vec::new());
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let path = entry.path();
            let is_link = entry.file_type()?.is_symlink();
            match fs::metadata(&path) {
                Ok(meta) if meta.is_dir() => {
                    if name.as_bytes().starts_with(b".") && !self.hidden {
                        self.walked.hidden += 1;
                    } else if hub::is_innards(&path) || name.as_bytes().starts_with(STATES.as_bytes()) {
                        continue;
                    } else if is_link {
                        links.push(path);
                    } else {
                        inner.push((path, identity(&meta)));
                    }
                }
                // A link to nothing counts: opening it tells what is wrong.
                _ => names.extend(name.into_string().ok().filter(|name| !name.starts_with('.'))),
            }
        }
        names.sort();
        inner.sort();
        links.sort();
        self.links.extend(links);
        Ok((names, inner))
    }

    /// Enters a candidate, or another path of one that is known.
    fn enter(&mut self, candidate: Candidate, linked: bool) {
        let card = candidate.files.first().and_then(|file| Some(file.parent()?.join(CARD)));
        let of_files = |files: &[PathBuf]| files.iter().filter_map(|file| fs::metadata(file).ok()).collect();
        let metas: Vec<Metadata> = of_files(&candidate.files);
        let bytes = metas.iter().map(Metadata::len).sum();
        let identities: Vec<Identity> =
            metas.iter().chain(&of_files(card.as_slice())).map(identity).collect();
        let linked = linked || candidate.files.iter().any(|file| file.is_symlink());
        let found = Found { candidate, also: Vec::new(), bytes, linked };
        let Some(at) = self.known.get(&identities).copied().filter(|_| !identities.is_empty()) else {
            self.known.insert(identities, self.walked.found.len());
            self.walked.found.push(found);
            return;
        };
        let known = &mut self.walked.found[at];
        if known.linked && !found.linked {
            known.also.push(std::mem::replace(&mut known.candidate, found.candidate).path);
            known.linked = false;
        } else {
            known.also.push(found.candidate.path);
        }
    }
}

fn identity(meta: &Metadata) -> Identity {
    (meta.dev(), meta.ino())
}
