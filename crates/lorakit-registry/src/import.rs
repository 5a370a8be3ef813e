//! Artifacts from other OCI image layouts.

use std::path::Path;

use lorakit::Finding;
use lorakit::plan::Progress;

use crate::add::{AddOptions, look};
use crate::problem::Problem;
use crate::store::{Change, Expected, Ingest, needs};
use crate::{Artifact, Digest, Error, File, Kind, Result, Store, Tag};

/// What was imported.
#[derive(Debug)]
pub struct Imported {
    /// The artifact.
    pub artifact: Artifact,
    /// What the tag pointed to before.
    pub before: Option<Digest>,
    /// The tags of what was attached to it there: evaluations and signatures.
    pub attached: Vec<String>,
    /// What the audit found.
    pub notes: Vec<Finding>,
}

/// Copies the artifact `from` of the layout at `layout`, and what is attached to it there. Every byte is compared with its
/// digest, and the copy is audited, before the tag points to it. The manifest stays as it is.
///
/// # Errors
/// `NotFound` if the layout has no such tag; `Unsupported` if it is of another kind; `Corrupt` if bytes or weights are
/// others than the manifest says; `NonFinite`; `Moved`.
pub fn import(
    store: &Store,
    layout: &Path,
    from: &str,
    tag: &Tag,
    expected: Expected,
    progress: &dyn Progress,
) -> Result<Imported> {
    let source = Store::open_as_input(layout)?;
    let refs = source.refs()?;
    let digest = *refs.get(from).ok_or_else(|| {
        let known = refs.keys().take(8).cloned().collect();
        Error::from(Problem::NoTagThere { tag: from.to_string(), known }).at(layout)
    })?;
    let artifact = source.artifact(digest, from)?;
    if !matches!(artifact.facts.kind, Kind::Adapter | Kind::Merged) {
        let found = "of another program".to_string();
        return Err(Error::from(Problem::Foreign { name: from.to_string(), found }).at(layout));
    }
    let before = store.tagged(tag)?;
    let ingest = Ingest::begin(store)?;
    progress.begin(artifact.bytes);
    copy(&source, &ingest, &artifact, from, progress)?;
    let notes = audit(&ingest, &artifact, from, layout, progress)?;
    let mut changes = vec![Change { tag: tag.to_string(), new: Some(digest), expected }];
    let here = store.refs()?;
    let mut attached = Vec::new();
    for (name, other) in refs.iter().filter(|(_, other)| **other != digest) {
        let Ok(found) = source.artifact(*other, name) else { continue };
        if found.subject == Some(digest) {
            copy(&source, &ingest, &found, name, progress)?;
            // `sql:v1-eval-1` there is `NEW-eval-1` here, unless that is another one.
            let kind = if found.facts.kind == Kind::Signature { "sig" } else { "eval" };
            let same = name.strip_prefix(from).map(|ending| format!("{tag}{ending}"));
            let numbered = (1..).map(|number| format!("{tag}-{kind}-{number}"));
            let is_free =
                |name: &String| here.get(name).is_none_or(|known| known == other) && !attached.contains(name);
            let Some(name) = same.into_iter().chain(numbered).find(is_free) else { continue };
            changes.push(Change { tag: name.clone(), new: Some(*other), expected: Expected::Nothing });
            attached.push(name);
        }
    }
    store.change(&changes, "import")?;
    Ok(Imported { artifact, before: before.filter(|before| *before != digest), attached, notes })
}

/// Copies the files, the configuration and the manifest of an artifact.
fn copy(
    source: &Store,
    ingest: &Ingest,
    artifact: &Artifact,
    of: &str,
    progress: &dyn Progress,
) -> Result<()> {
    for File { path, digest, bytes } in &artifact.files {
        let place = Path::new(&artifact.digest.hex()).join(path);
        keep(source, ingest, (*digest, *bytes), &place, of, progress)?;
    }
    // The configuration, and layers that say no place.
    let manifest = source.read_manifest(artifact.digest, of)?;
    let other = Path::new("other").join(artifact.digest.hex());
    for (digest, bytes) in needs(&manifest) {
        if artifact.files.iter().all(|file| file.digest != digest) {
            keep(source, ingest, (digest, bytes), &other.join(digest.hex()), of, progress)?;
        }
    }
    ingest.keep_bytes(&manifest)?;
    Ok(())
}

/// Copies a blob, which must be as it is described.
fn keep(
    source: &Store,
    ingest: &Ingest,
    (digest, bytes): (Digest, u64),
    place: &Path,
    of: &str,
    progress: &dyn Progress,
) -> Result<()> {
    let staged = ingest.copy(&source.blob_path(digest, of)?, place, progress)?;
    if staged.digest != digest {
        let (digest, found, of) = (digest.to_string(), staged.digest.to_string(), of.to_string());
        return Err(Problem::OtherBytes { digest, found, of }.into());
    }
    if staged.bytes != bytes {
        let reason = format!("says that {digest} has {bytes} bytes; it has {}", staged.bytes);
        return Err(Problem::Manifest { digest: of.to_string(), reason }.into());
    }
    ingest.keep(&staged)
}

/// Audits the staged copy, and compares its weights with what the manifest says.
fn audit(
    ingest: &Ingest,
    artifact: &Artifact,
    of: &str,
    layout: &Path,
    progress: &dyn Progress,
) -> Result<Vec<Finding>> {
    let folder = ingest.folder().join(artifact.digest.hex());
    let place = match &artifact.files[..] {
        [only] => folder.join(&only.path),
        _ => folder,
    };
    let mut notes = Vec::new();
    let facts = look::facts(&place, layout, &AddOptions::default(), &mut notes, progress)?;
    match (&facts.weights, &artifact.facts.weights) {
        (Some(found), Some(stated)) if found != stated => {
            Err(Problem::OtherWeights { name: of.to_string(), found: found.clone(), stated: stated.clone() }
                .into())
        }
        _ => Ok(notes),
    }
}
