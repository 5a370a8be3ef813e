//! The record of a step that is about to be taken.

use std::path::Path;
use std::sync::Arc;

use lorakit_tensor::{Checkpoint, Reader, Storage, TensorInfo, TensorSource as _};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::form::trained_on;
use super::identity::Identity;
use super::read::{self, MAX_BYTES};
use super::sheet::{Input, card_of_gguf};
use super::weights::{self, hex};
use super::{Lineage, Options, Papers, Parent, Record, Role, Sheet, TrainedAs};
use crate::adapter::Adapter;
use crate::card::Card;
use crate::plan::{Hash, Progress, Provenance, go_on, in_order};
use crate::{Base, Finding, Model, Result, Severity};

/// A record that is being made. If none is wanted, nothing is read.
///
/// ```text
/// let mut step = Step::new("reduce", options.lineage).with("rank", 8);
/// step.adapter(&adapter, None, reader, progress)?;
/// let papers = step.finish(&mut notes);
/// ```
#[derive(Debug, Clone)]
pub struct Step {
    wanted: Lineage,
    /// Whether [`Lineage::Auto`] makes a record only if a parent has one.
    plain: bool,
    /// Whether the output gets a model card, if it is a folder.
    card: bool,
    record: Record,
    sources: Vec<Source>,
    /// What the card needs to know of each parent.
    inputs: Vec<Input>,
    notes: Vec<Finding>,
}

/// A parent whose digest the run computes.
#[derive(Debug, Clone)]
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
        Step { wanted, plain: false, card: true, record, sources, inputs: Vec::new(), notes }
    }

    /// The same for a plain conversion: under [`Lineage::Auto`] it is recorded only if a parent has a record.
    #[must_use]
    pub fn plain(self) -> Self {
        Step { plain: true, ..self }
    }

    /// The same for an output that gets a model card, or none.
    #[must_use]
    pub fn card(self, card: bool) -> Self {
        Step { card, ..self }
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

    /// The same with several options.
    #[must_use]
    pub fn with_all<V: Serialize>(self, options: impl IntoIterator<Item = (&'static str, V)>) -> Self {
        options.into_iter().fold(self, |step, (name, value)| step.with(name, value))
    }

    /// The options that are recorded.
    pub(crate) fn options(&self) -> &Options {
        &self.record.options
    }

    /// Whether nothing is said about the parents.
    fn is_idle(&self) -> bool {
        self.wanted == Lineage::Never && !self.card
    }

    fn is_recorded(&self) -> bool {
        self.wanted != Lineage::Never
    }

    /// Adds a model whose weights are digested while the output is written.
    pub fn model(&mut self, role: Role, model: &Model) {
        if let Some(parent) = self.read_model(role, model).filter(|_| self.is_recorded()) {
            self.sources.push(Source { parent, checkpoint: Arc::clone(model.checkpoint()) });
        }
    }

    /// Adds the base that an adapter was trained on. Whoever trained it has read its weights, whose digest is `weights`,
    /// so nothing is read again.
    pub fn trained_on(&mut self, base: &Model, weights: &str, form: TrainedAs) {
        if let Some(parent) = self.read_model(Role::Base, base).filter(|_| self.is_recorded()) {
            let parent = &mut self.record.parents[parent];
            (parent.weights, parent.trained_as) = (Some(weights.to_string()), Some(form));
        }
    }

    /// Adds a model without its digest; returns its position among the parents.
    fn read_model(&mut self, role: Role, model: &Model) -> Option<usize> {
        if self.is_idle() {
            return None;
        }
        let mut input = Input::of_path(&model.path);
        if self.card {
            match model.checkpoint().gguf() {
                Some(metadata) => {
                    let (card, id) = card_of_gguf(metadata);
                    (input.card, input.id) = (Some(card), id.or(input.id));
                }
                None => input.card = self.card_in(&model.path, model.reader()),
            }
        }
        let made_here = input.card.as_ref().is_some_and(Card::has_section);
        if !self.is_recorded() {
            let input = input.of_config(model.config.as_ref(), made_here);
            return Some(self.push(Parent::new(role, Identity::of_model(model)), input));
        }
        let (ancestry, notes) = read::read(model.checkpoint(), model.reader());
        self.notes.extend(notes);
        // An output has the configuration of its base, and with it the name.
        let made_here = made_here || ancestry.is_some();
        let identity = if made_here { Identity::of_path(&model.path) } else { Identity::of_model(model) };
        let parent = Parent { lineage: ancestry, ..Parent::new(role, identity) };
        Some(self.push(parent, input.of_config(model.config.as_ref(), made_here)))
    }

    /// The adapters whose record says that they were trained on another form of a base than `form`: their names, and the
    /// base with the form.
    pub(crate) fn trained_on_other(&self, form: &str) -> Vec<(String, Parent)> {
        let adapters = self.record.parents.iter().filter(|parent| parent.role == Role::Adapter);
        let trained = adapters.filter_map(|parent| {
            let base = trained_on(parent.lineage.as_ref()?)?;
            let other = base.trained_as.as_ref().is_some_and(|trained| trained.quant != form);
            other.then(|| (parent.name.clone(), base))
        });
        trained.collect()
    }

    /// Adds a base that was consulted only for its configuration.
    pub fn base(&mut self, base: Option<&Base>) {
        if let Some(base) = base.filter(|_| !self.is_idle()) {
            let input = Input { consulted: true, ..Input::of_path(&base.path) };
            let input = input.of_config(base.config.as_ref(), false);
            self.push(Parent::new(Role::Base, Identity::of_path(&base.path)), input);
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
        let identity = Identity::of_path(&adapter.path);
        let card = if self.card { self.card_in(&adapter.path, reader) } else { None };
        let input = Input { card, ..Input::of_path(&adapter.path) };
        let base_model = adapter.config.public_base_model().map(str::to_string);
        let parent = Parent { weight, base_model, ..Parent::new(Role::Adapter, identity) };
        if !self.is_recorded() {
            self.push(parent, input);
            return Ok(());
        }
        let checkpoint = adapter.checkpoint();
        let of_files: u64 = adapter.files().iter().map(|file| file.len()).sum();
        let of_weights: u64 = match checkpoint {
            Some(checkpoint) => checkpoint.tensors().iter().map(TensorInfo::byte_len).sum(),
            None => adapter.tensors().iter().map(|tensor| tensor.info().byte_len()).sum(),
        };
        progress.begin(of_files + of_weights);
        let (sha256, weights) = rayon::join(
            || in_order(adapter.files(), |file| sha256(file, progress)),
            || digest_of(adapter, progress),
        );
        let (lineage, notes) = checkpoint.map(|own| read::read(own, reader)).unwrap_or_default();
        self.notes.extend(notes);
        self.push(Parent { weights: Some(weights?), sha256: sha256?, lineage, ..parent }, input);
        Ok(())
    }

    fn push(&mut self, parent: Parent, input: Input) -> usize {
        self.record.parents.push(parent);
        self.inputs.push(input);
        self.inputs.len() - 1
    }

    /// The model card in an input, if that is a folder: next to a file there may be anything.
    fn card_in(&mut self, path: &Path, reader: &Reader) -> Option<Card> {
        if path.is_dir() { Card::read(path, reader, &mut self.notes) } else { None }
    }

    /// What the output says about itself. Whatever could not be read of the inputs' records and cards is noted.
    pub(crate) fn finish(mut self, notes: &mut Vec<Finding>) -> Papers {
        let known = self.record.parents.iter().any(|parent| parent.lineage.is_some());
        let written = match self.wanted {
            Lineage::Never => false,
            Lineage::Always => true,
            Lineage::Auto => known || !self.plain,
        };
        notes.append(&mut self.notes);
        if written {
            cut(&mut self.record, notes);
        }
        let sheet =
            self.card.then(|| Sheet::new(self.record.clone(), self.inputs, self.wanted != Lineage::Never));
        notes.extend(sheet.iter().flat_map(Sheet::notes));
        if !written {
            return Papers { provenance: None, sheet };
        }
        let parents = self.sources.iter().map(|source| source.parent).collect();
        let checkpoints = self.sources.into_iter().map(|source| source.checkpoint).collect();
        let provenance: Arc<dyn Provenance> = Arc::new(Pending { record: self.record, parents, checkpoints });
        Papers { provenance: Some(provenance), sheet }
    }
}

impl Parent {
    pub(super) fn new(role: Role, identity: Identity) -> Self {
        Parent {
            role,
            weight: None,
            name: identity.name,
            revision: identity.revision,
            base_model: None,
            weights: None,
            trained_as: None,
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

/// The digest of the weights of an adapter, from its file or from memory.
///
/// # Errors
/// As [`weights::digest`].
pub fn digest_of(adapter: &Adapter, progress: &dyn Progress) -> Result<String> {
    match adapter.checkpoint() {
        Some(checkpoint) => weights::digest(checkpoint.as_ref(), progress),
        None => weights::of_parts(&adapter.tensors(), progress),
    }
}

/// The SHA-256 of a file, in hexadecimal. All of its bytes are told to `progress`, in the phase of the caller.
///
/// # Errors
/// If it cannot be read; [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted).
pub(crate) fn sha256(file: &Storage, progress: &dyn Progress) -> Result<String> {
    const PIECE: u64 = 4 << 20;
    let mut hash = Sha256::new();
    for start in (0..file.len()).step_by(PIECE as usize) {
        go_on(progress, "anything was written")?;
        let len = (file.len() - start).min(PIECE);
        hash.update(file.read(start, len as usize)?);
        progress.advance(len);
    }
    Ok(hex(&hash.finalize()))
}
