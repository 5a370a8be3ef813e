//! Editing an adapter without computing: the name of its base, its licence and tags, where its scale is, the dtype of
//! its factors, the prefixes of its paths. Everything else stays byte for byte.
//!
//! ```text
//!  files ──► Work: every tensor, header, configuration ──► edits ──► Draft ──► plan
//!              │                                                               │ read again
//!              └─ Adapter, with its new paths ──────────── compared ◄──────────┘
//! ```
//!
//! ```
//! use lorakit::ops::edit::{self, Alpha, EditOptions, Edits};
//! use lorakit::plan::Silent;
//!
//! let folder = tempfile::tempdir().unwrap();
//! let edits = Edits::default().with_base_model(Some("org/model".into())).with_alpha(Some(Alpha::Folded));
//! let source = "../../fixtures/golden/peft/adapters/plain";
//! let edit = edit::compute(&EditOptions::new(source, folder.path().join("edited"), edits), &Silent)?;
//! let rounding = edit.rounding.expect("factors are multiplied");
//! assert_eq!(rounding.changed, 0); // by a power of two
//! edit.run(0, &Silent)?;
//! # Ok::<(), lorakit::Error>(())
//! ```

mod alpha;
mod card;
mod options;
mod place;
mod prefix;
pub(crate) mod problem;
mod report;
mod rounding;
mod sides;
mod text;
mod work;
mod write;

use lorakit_tensor::{DType, Reader};

pub use options::{Alpha, EditOptions, Edits};
pub use prefix::Renamed;
pub use report::EditReport;
pub use rounding::Rounding;
pub use work::Change;

use crate::adapter::{Adapter, ROW_ORDER, format, is_local_path};
use crate::lineage::{Papers, Step};
pub use crate::output::{AdapterOutput, AdapterReport, ModuleError};
use crate::plan::{Progress, go_on, pool};
use crate::tensor::Shelf;
use crate::{Base, Error, Finding, Result, Severity};
use prefix::{Prefixes, renamed};
pub(crate) use problem::Problem;
use work::Work;
use write::Written;

/// An edit that is planned.
#[derive(Debug)]
pub struct Edit {
    /// What is written.
    pub output: AdapterOutput,
    /// The format, of input and output.
    pub format: &'static str,
    /// What says something else, in the order of the files.
    pub changes: Vec<Change>,
    /// Paths that begin otherwise.
    pub renamed: Vec<Renamed>,
    /// What rounding did, if values were multiplied or got another dtype.
    pub rounding: Option<Rounding>,
    /// Number of tensors that are copied byte for byte.
    pub copied: usize,
    /// Things worth telling the user.
    pub notes: Vec<Finding>,
}

/// Plans the edits of an adapter. Values that are multiplied, or get another dtype, are computed here; `progress` counts
/// their bytes.
///
/// # Errors
/// [`ErrorKind::Usage`](crate::ErrorKind::Usage) if there is no edit, or for a prefix that matches nothing;
/// [`ErrorKind::Inexpressible`](crate::ErrorKind::Inexpressible) for edits that have no place in the format, a line for
/// each; [`ErrorKind::NonFinite`](crate::ErrorKind::NonFinite) for values that the dtype cannot hold; what reading turns
/// up.
pub fn compute(options: &EditOptions, progress: &dyn Progress) -> Result<Edit> {
    let edits = &options.edits;
    if edits.is_empty() {
        return Err(Error::from(Problem::Nothing).at(&options.source));
    }
    let reader = &Reader::new(options.mode);
    let base = options.base.as_deref().map(|base| Base::open(base, reader)).transpose()?;
    let files = format::open(&options.source, reader)?;
    let mut read = format::read(&files, base.as_ref())?;
    // Rows stay where they are, whatever their order.
    read.findings.retain(|finding| finding.code != ROW_ORDER);
    read.check()?;
    let place = place::of(read.format).ok_or_else(|| closed(&read))?;
    go_on(progress, "anything was written")?;

    let mut work = Work::new(&files, &read, edits)?;
    place.describe(&mut work)?;
    let prefixes = Prefixes::new(&edits.prefixes);
    let moved = if edits.prefixes.is_empty() { Vec::new() } else { prefixes.check(&read)? };
    if !moved.is_empty() {
        place.rename(&mut work, &prefixes)?;
    }
    if let Some(alpha) = edits.alpha {
        alpha::move_scale(&mut work, place, alpha)?;
        place.set_alpha(&mut work, alpha)?;
    }
    if let Some(dtype) = edits.dtype {
        work.cast(dtype);
    }
    refuse_placeless(&work)?;
    let stem = place.stem(&files);
    let mut beside = match stem {
        Some(_) => sides::travelling(&mut work)?,
        None => Default::default(),
    };
    if stem.is_some() {
        card::describe(&mut work, &mut beside)?;
    }
    place.finish(&mut work);

    let mut step = recorded(options);
    step.base(base.as_ref());
    step.adapter(&read, None, reader, progress)?;
    let mut notes = std::mem::take(&mut work.notes);
    notes.extend(read.notes());
    // The card is a file like others: only what was asked for is edited in it.
    let papers = Papers { sheet: None, ..step.finish(&mut notes) };
    let shelf = Shelf::beside(&options.output);
    let computed = pool(options.threads)?.install(|| write::compute(&work, &shelf, progress))?;
    let meant = renamed(read.clone().with_fixed_scales(), &prefixes);
    let written = Written { stem, beside, computed, papers, meant, base };
    let (output, rounding, copied) = write::output(&work, written, options, &mut notes)?;
    if work.changes.is_empty() && moved.is_empty() {
        let message = "everything is as it should be already; nothing is edited";
        notes.push(Finding::new(Severity::Note, "nothing-edited", "", message));
    }
    Ok(Edit { output, format: read.format, changes: work.changes, renamed: moved, rounding, copied, notes })
}

fn closed(read: &Adapter) -> Error {
    Error::from(Problem::Closed { format: read.format }).at(&read.path)
}

fn refuse_placeless(work: &Work<'_>) -> Result<()> {
    let count = work.refused.len();
    if count == 0 {
        return Ok(());
    }
    let problem = Problem::Placeless { format: work.read.format, count };
    Err(Error::from(problem).at(&work.read.path).details(work.refused.clone()))
}

/// What the output says about how it was made. A path on this machine stays out of it.
fn recorded(options: &EditOptions) -> Step {
    let edits = &options.edits;
    let some = |tags: &Vec<String>| (!tags.is_empty()).then(|| tags.clone());
    let alpha = edits.alpha.map(|alpha| match alpha {
        Alpha::Folded => "folded".into(),
        Alpha::Is(alpha) => serde_json::Value::from(alpha),
    });
    let prefixes: Vec<String> = edits.prefixes.iter().map(|(old, new)| format!("{old}={new}")).collect();
    Step::new("edit", options.lineage)
        .with("base_model", edits.base_model.as_ref().filter(|name| !is_local_path(name)))
        .with("revision", &edits.revision)
        .with("license", &edits.license)
        .with("tags", some(&edits.tags))
        .with("removed_tags", some(&edits.removed_tags))
        .with("alpha", alpha)
        .with("dtype", edits.dtype.map(DType::name))
        .with("prefixes", some(&prefixes))
}

impl Edit {
    /// Writes the output: see [`AdapterOutput::run`].
    ///
    /// # Errors
    /// As [`AdapterOutput::run`].
    pub fn run(&self, threads: usize, progress: &dyn Progress) -> Result<AdapterReport> {
        self.output.run(threads, progress)
    }

    /// What `run`, a run of this plan, did.
    pub fn report<'e>(&'e self, run: &'e AdapterReport) -> EditReport<'e> {
        EditReport {
            errors: Some(&run.errors),
            max_error: Some(run.errors.iter().map(|e| e.error).fold(0.0, f64::max)),
            written: Some(self.output.plan.report(&run.report)),
            ..self.preview()
        }
    }

    /// What is known before a run.
    pub fn preview(&self) -> EditReport<'_> {
        EditReport {
            format: self.format,
            changes: &self.changes,
            renamed: &self.renamed,
            rounding: self.rounding,
            copied_tensors: self.copied,
            findings: &self.notes,
            errors: None,
            max_error: None,
            written: None,
        }
    }
}
