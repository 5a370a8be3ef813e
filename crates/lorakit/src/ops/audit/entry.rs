//! One line of an audit: what is at a path, in a few facts.

use std::path::{Path, PathBuf};

use lorakit_tensor::Reader;
use serde::Serialize;

use super::walk::Found;
use crate::card::Card;
use crate::hub::HubOrigin;
use crate::ops::inspect::{AdapterReport, InspectOptions, Inspection, ModelReport, look};
use crate::plan::Progress;
use crate::{Error, ErrorKind, Finding, Result, Severity};

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// An adapter.
    Adapter,
    /// A model.
    Model,
    /// A folder that cannot be listed, so nobody knows.
    Unknown,
}

impl EntryKind {
    /// `adapter`, `model` or `unknown`.
    pub fn name(self) -> &'static str {
        match self {
            EntryKind::Adapter => "adapter",
            EntryKind::Model => "model",
            EntryKind::Unknown => "unknown",
        }
    }
}

/// The smallest and the largest of values that may differ from module to module.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Range<T> {
    /// The smallest.
    pub min: T,
    /// The largest.
    pub max: T,
}

impl<T: Copy> Range<T> {
    /// Of values in ascending order.
    fn of(mut sorted: impl DoubleEndedIterator<Item = T>) -> Option<Self> {
        let min = sorted.next()?;
        Some(Range { min, max: sorted.next_back().unwrap_or(min) })
    }
}

/// An adapter or a model, in a few facts.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// The folder that was looked through, as it was given; the folder of a file that was given.
    #[serde(serialize_with = "crate::report::path")]
    pub root: PathBuf,
    /// Where it is in that folder; `.` for the folder itself.
    #[serde(serialize_with = "crate::report::path")]
    pub path: PathBuf,
    /// Other paths of the same files in that folder.
    #[serde(serialize_with = "crate::report::paths")]
    pub also: Vec<PathBuf>,
    /// In a cache of the hub, the repository.
    pub hub: Option<HubOrigin>,
    /// What it is.
    pub kind: EntryKind,
    /// `peft`, `gguf`, ...; for models `safetensors`, `gguf` or `torch`. `None` if it cannot be read.
    pub format: Option<String>,
    /// The model it was made from, as its configuration names it, or else its card.
    pub base: Option<String>,
    /// The class of a model.
    pub architecture: Option<String>,
    /// The licences that its card states.
    pub licenses: Vec<String>,
    /// Ranks of the modules.
    pub rank: Option<Range<usize>>,
    /// Scales of the modules.
    pub scale: Option<Range<f64>>,
    /// The norm of all deltas together, if values were read.
    pub norm: Option<f64>,
    /// The mean of the effective ranks of the modules, if spectra were computed.
    pub effective_rank: Option<f64>,
    /// Number of values.
    pub parameters: Option<u64>,
    /// Size of the tensor files in bytes.
    pub bytes: u64,
    /// What the audit turned up, gravest first.
    pub findings: Vec<Finding>,
}

impl Entry {
    /// What is known before anything is opened.
    fn empty(root: &Path, path: &Path, kind: EntryKind) -> Self {
        let inside = match path.strip_prefix(root) {
            Ok(inside) if inside.as_os_str().is_empty() => Path::new("."),
            Ok(inside) => inside,
            Err(_) => path,
        };
        Entry {
            root: root.to_path_buf(),
            path: inside.to_path_buf(),
            also: Vec::new(),
            hub: None,
            kind,
            format: None,
            base: None,
            architecture: None,
            licenses: Vec::new(),
            rank: None,
            scale: None,
            norm: None,
            effective_rank: None,
            parameters: None,
            bytes: 0,
            findings: Vec::new(),
        }
    }

    /// The entry of a report.
    pub fn of(inspection: &Inspection) -> Self {
        let (path, kind) = match inspection {
            Inspection::Adapter(report) => (&report.path, EntryKind::Adapter),
            Inspection::Model(report) => (&report.path, EntryKind::Model),
        };
        let mut entry = Entry::empty(Path::new(""), path, kind);
        entry.describe(inspection);
        entry.read_card(path);
        entry
    }

    /// Where it is: the root and the path in it.
    pub fn place(&self) -> PathBuf {
        place(&self.root, &self.path)
    }

    /// The gravest severity of its findings.
    pub fn gravest(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }

    /// How many findings it has of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Takes over what the card next to the tensors states.
    fn read_card(&mut self, path: &Path) {
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
        let Some(card) = Card::read(folder, &Reader::default(), &mut self.findings) else { return };
        self.licenses = card.list("license").into_iter().map(str::to_string).collect();
        // On the hub, `other` goes with a name.
        if let ("other", Some(name)) = (self.licenses.join(",").as_str(), card.text("license_name")) {
            self.licenses = vec![name.to_string()];
        }
        if self.base.is_none() {
            self.base = card.base_models().first().map(|name| (*name).to_string());
        }
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    }

    fn describe(&mut self, inspection: &Inspection) {
        match inspection {
            Inspection::Adapter(report) => self.describe_adapter(report),
            Inspection::Model(report) => self.describe_model(report),
        }
    }

    fn describe_adapter(&mut self, report: &AdapterReport) {
        self.kind = EntryKind::Adapter;
        self.format = Some(report.format.to_string());
        self.base.clone_from(&report.base_model);
        self.rank = Range::of(report.ranks.keys().copied());
        self.scale = Range::of(report.scales.iter().map(|(scale, _)| *scale));
        let norms: Vec<f64> = report.modules.iter().filter_map(|module| module.norm).collect();
        if report.norms && !norms.is_empty() {
            self.norm = Some(norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt());
        }
        let spectra: Vec<f64> =
            report.modules.iter().filter_map(|m| Some(m.spectrum.as_ref()?.effective)).collect();
        if !spectra.is_empty() {
            self.effective_rank = Some(spectra.iter().sum::<f64>() / spectra.len() as f64);
        }
        self.parameters = Some(report.parameters);
        self.bytes = report.bytes;
        self.findings.clone_from(&report.findings);
    }

    fn describe_model(&mut self, report: &ModelReport) {
        self.kind = EntryKind::Model;
        self.format = Some(report.format.to_ascii_lowercase());
        self.architecture.clone_from(&report.architecture);
        self.parameters = Some(report.parameters);
        self.bytes = report.bytes;
        self.findings.clone_from(&report.findings);
    }
}

/// Where something is in a folder, in which `.` is the folder itself.
pub(super) fn place(root: &Path, inside: &Path) -> PathBuf {
    if inside == Path::new(".") { root.to_path_buf() } else { root.join(inside) }
}

/// Looks at what was found; `None` if it is neither an adapter nor a model after all.
///
/// # Errors
/// Only `Interrupted`: what cannot be read is an entry with that finding.
pub(super) fn entry(
    root: &Path,
    found: &Found,
    options: &InspectOptions,
    progress: &dyn Progress,
) -> Result<Option<Entry>> {
    let candidate = &found.candidate;
    let kind = if candidate.adapter { EntryKind::Adapter } else { EntryKind::Model };
    let mut entry = Entry::empty(root, &candidate.path, kind);
    entry.also =
        found.also.iter().map(|also| also.strip_prefix(root).unwrap_or(also).to_path_buf()).collect();
    // The folder that was named may itself be inside a cache.
    entry.hub = HubOrigin::of(&candidate.path);
    entry.bytes = found.bytes;
    match look(&candidate.open, options, progress) {
        Ok(Inspection::Model(_)) if !candidate.certain => return Ok(None),
        Ok(inspection) => entry.describe(&inspection),
        Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
        Err(_) if !candidate.certain => return Ok(None),
        Err(error) => entry.findings.push(unread(&error)),
    }
    entry.read_card(&candidate.path);
    Ok(Some(entry))
}

/// A folder that cannot be listed.
pub(super) fn unreadable(root: &Path, folder: &Path, error: &Error) -> Entry {
    let mut entry = Entry::empty(root, folder, EntryKind::Unknown);
    entry.findings.push(unread(error));
    entry
}

/// An error as a finding: some adapters can be read only with their base, which is no fault of theirs.
fn unread(error: &Error) -> Finding {
    let (severity, code) = match error.kind() {
        ErrorKind::NeedsBase => (Severity::Warning, "needs-base"),
        _ => (Severity::Error, "unreadable"),
    };
    let causes = std::iter::successors(std::error::Error::source(error), |cause| (*cause).source());
    let texts: Vec<String> =
        std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect();
    Finding::new(severity, code, "", texts.join(": "))
}
