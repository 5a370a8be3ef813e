//! The record of a step that is about to be taken.

use std::path::Path;
use std::sync::Arc;

use lorakit_tensor::{Checkpoint, Reader, Storage};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::hub::{self, Snapshot};
use super::read::{self, MAX_BYTES};
use super::weights::{self, hex};
use super::{Lineage, Parent, Record, Role};
use crate::adapter::{Adapter, is_local_path};
use crate::plan::{Hash, Progress, Provenance, go_on, in_order};
use crate::{Base, Finding, Model, Result, Severity};

/// A record that is being made. If none is wanted, nothing is read.
///
/// ```text
/// let mut step = Step::new("reduce", options.lineage).with("rank", 8);
/// step.adapter(&adapter, None, reader, progress)?;
/// let provenance = step.finish(&mut notes);
/// ```
#[derive(Debug)]
pub struct Step {
    wanted: Lineage,
    /// Whether [`Lineage::Auto`] makes a record only if a parent has one.
    plain: bool,
    record: Record,
    sources: Vec<Source>,
    notes: Vec<Finding>,
}

/// A parent whose digest the run computes.
#[derive(Debug)]
struct Source {
    parent: usize,
    checkpoint: Arc<Checkpoint>,
}

/// A record whose digests the run completes.
#[derive(Debug)]
struct Pending {
    record: Record,
    /// The position among the parents of each of [`Self::checkpoints`].
    parents: Vec<usize>,
    checkpoints: Vec<Arc<Checkpoint>>,
}

impl Step {
    /// A step without parents or options.
    pub fn new(verb: &str, wanted: Lineage) -> Self {
        let (record, sources, notes) = (Record::new(verb), Vec::new(), Vec::new());
        Step { wanted, plain: false, record, sources, notes }
    }

    /// The same for a plain conversion: under [`Lineage::Auto`] it is recorded only if a parent has a record.
    #[must_use]
    pub fn plain(self) -> Self {
        Step { plain: true, ..self }
    }

    /// The same with an option that decides the bytes of the output; `None` is an option that was not given.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Serialize) -> Self {
        match serde_json::to_value(value) {
            Ok(Value::Null) | Err(_) => {}
            Ok(value) => drop(self.record.options.0.insert(name.to_string(), value)),
        }
        self
    }

    fn is_idle(&self) -> bool {
        self.wanted == Lineage::Never
    }

    /// Adds a model whose weights are digested while the output is written.
    pub fn model(&mut self, role: Role, model: &Model) {
        if self.is_idle() {
            return;
        }
        let said = model.config.as_ref().and_then(|config| config.entry("_name_or_path")?.as_str());
        let public = said.filter(|name| !name.is_empty() && !is_local_path(name));
        let mut parent = Parent::at(role, &model.path);
        if let Some(public) = public.filter(|_| parent.revision.is_none()) {
            parent.name = public.to_string();
        }
        let (ancestry, notes) = read::read(model.checkpoint(), model.reader());
        parent.lineage = ancestry;
        self.notes.extend(notes);
        let parent = self.push(parent);
        self.sources.push(Source { parent, checkpoint: Arc::clone(model.checkpoint()) });
    }

    /// Adds a base that was consulted only for its configuration.
    pub fn base(&mut self, base: Option<&Base>) {
        if let Some(base) = base.filter(|_| !self.is_idle()) {
            self.push(Parent::at(Role::Base, &base.path));
        }
    }

    /// Adds an adapter, and its weight in a sum. Adapters are small, and digested here.
    ///
    /// # Errors
    /// If a file cannot be read; [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted).
    pub fn adapter(
        &mut self,
        adapter: &Adapter,
        weight: Option<f64>,
        reader: &Reader,
        progress: &dyn Progress,
    ) -> Result<()> {
        if self.is_idle() {
            return Ok(());
        }
        let checkpoint = adapter.checkpoint();
        let (sha256, weights) = rayon::join(
            || in_order(adapter.files(), |file| sha256(file, progress)),
            || match checkpoint {
                Some(checkpoint) => weights::digest(checkpoint.as_ref(), progress),
                None => weights::of_parts(&adapter.tensors(), progress),
            },
        );
        let (lineage, notes) = checkpoint.map(|own| read::read(own, reader)).unwrap_or_default();
        self.notes.extend(notes);
        self.push(Parent {
            weight,
            base_model: adapter.config.public_base_model().map(str::to_string),
            weights: Some(weights?),
            sha256: sha256?,
            lineage,
            ..Parent::at(Role::Adapter, &adapter.path)
        });
        Ok(())
    }

    fn push(&mut self, parent: Parent) -> usize {
        self.record.parents.push(parent);
        self.record.parents.len() - 1
    }

    /// What the output says about itself, if anything. Whatever could not be read of the inputs' records is noted.
    pub fn finish(mut self, notes: &mut Vec<Finding>) -> Option<Arc<dyn Provenance>> {
        let known = self.record.parents.iter().any(|parent| parent.lineage.is_some());
        let written = match self.wanted {
            Lineage::Never => false,
            Lineage::Always => true,
            Lineage::Auto => known || !self.plain,
        };
        notes.append(&mut self.notes);
        if !written {
            return None;
        }
        cut(&mut self.record, notes);
        let parents = self.sources.iter().map(|source| source.parent).collect();
        let checkpoints = self.sources.into_iter().map(|source| source.checkpoint).collect();
        Some(Arc::new(Pending { record: self.record, parents, checkpoints }))
    }
}

impl Parent {
    /// What the path of an input says.
    fn at(role: Role, path: &Path) -> Self {
        let snapshot = hub::snapshot(path);
        let (name, revision) = match snapshot {
            Some(Snapshot { id, commit }) => (id, Some(commit)),
            None => (last_component(path), None),
        };
        Parent {
            role,
            weight: None,
            name,
            revision,
            base_model: None,
            weights: None,
            sha256: Vec::new(),
            lineage: None,
        }
    }
}

/// Leaves out the earliest steps of a long chain, then the largest records of parents, until the whole can be read again.
fn cut(record: &mut Record, notes: &mut Vec<Finding>) {
    for parent in &mut record.parents {
        // As deep as it is in the record.
        let mut whole = serde_json::json!({ "parents": [&*parent] });
        if read::shorten(&mut whole) {
            parent.lineage = serde_json::from_value(whole["parents"][0]["lineage"].take()).ok();
            let message =
                "the earliest steps of its record of where it came from are left out: there are too many";
            notes.push(Finding::new(Severity::Note, "lineage", &parent.name, message));
        }
    }
    // Room for the digests that are still to come.
    let room = MAX_BYTES.saturating_sub(128 * record.parents.len());
    while record.text().len() > room {
        let size = |parent: &Parent| serde_json::to_string(&parent.lineage).map_or(0, |text| text.len());
        let largest =
            record.parents.iter_mut().filter(|parent| parent.lineage.is_some()).max_by_key(|p| size(p));
        let Some(largest) = largest else { return };
        largest.lineage = None;
        let message =
            format!("its record of where it came from is left out: all together exceed {MAX_BYTES} bytes");
        notes.push(Finding::new(Severity::Note, "lineage", &largest.name, message));
    }
}

impl Pending {
    fn with(&self, digests: &[String]) -> Record {
        let mut record = self.record.clone();
        for (parent, digest) in self.parents.iter().zip(digests) {
            record.parents[*parent].weights = Some(digest.clone());
        }
        record
    }
}

impl Provenance for Pending {
    fn sources(&self) -> &[Arc<Checkpoint>] {
        &self.checkpoints
    }

    fn digest(&self, source: usize, hashes: &[Hash]) -> String {
        weights::of_hashes(lorakit_tensor::TensorSource::tensors(self.checkpoints[source].as_ref()), hashes)
    }

    fn text(&self, digests: Option<&[String]>) -> String {
        match digests {
            Some(digests) => self.with(digests).text(),
            None => self.record.text(),
        }
    }

    fn page(&self, digests: &[String], files: &[String]) -> Vec<u8> {
        let mut page = serde_json::to_value(self.with(digests)).unwrap_or_default();
        page["files"] = files.into();
        let mut text = serde_json::to_vec_pretty(&page).unwrap_or_default();
        text.push(b'\n');
        text
    }
}

/// The name of a file or folder, without its directory.
fn last_component(path: &Path) -> String {
    let real = || std::fs::canonicalize(path).ok()?.file_name().map(ToOwned::to_owned);
    let name = path.file_name().map(ToOwned::to_owned).or_else(real);
    name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// The SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// If it cannot be read; [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted).
pub(crate) fn sha256(file: &Storage, progress: &dyn Progress) -> Result<String> {
    const PIECE: u64 = 4 << 20;
    let mut hash = Sha256::new();
    for start in (0..file.len()).step_by(PIECE as usize) {
        go_on(progress, "anything was written")?;
        hash.update(file.read(start, (file.len() - start).min(PIECE) as usize)?);
    }
    Ok(hex(&hash.finalize()))
}
