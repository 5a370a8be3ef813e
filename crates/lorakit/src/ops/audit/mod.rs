//! Every adapter and model under a folder: one line each, and whether they keep a policy.
//!
//! Headers are enough, so a thousand adapters take about a second. Whatever cannot be read is an entry that says so.
//!
//! ```
//! use lorakit::ops::audit::{AuditOptions, Filter, Policy, audit};
//! use lorakit::plan::Silent;
//!
//! let folders = ["../../fixtures/golden/peft/adapters".into()];
//! let policy = Policy::parse("formats = ['peft']\nrank.max = 8")?;
//! let options = AuditOptions::new().with_filters(vec![Filter::parse("rank=4..")?]).with_policy(Some(policy));
//! let report = audit(&folders, &options, &Silent)?;
//! for violation in &report.violations {
//!     println!("{}: {violation}", violation.path.display());
//! }
//! # assert!(report.counts.adapters > 10 && report.entries.iter().all(|entry| entry.rank.is_some()));
//! # Ok::<(), lorakit::Error>(())
//! ```

mod codes;
mod entry;
mod filter;
mod glob;
mod group;
mod judge;
mod policy;
mod problem;
mod report;
mod rules;
mod sort;
#[cfg(test)]
mod tests;
mod walk;

use std::path::{Path, PathBuf};

use lorakit_tensor::ReadMode;

pub use crate::hub::HubOrigin;
pub use entry::{Entry, EntryKind, Range};
pub use filter::Filter;
pub use judge::{FailOn, Violation, judge};
pub use policy::Policy;
#[cfg(test)]
pub(crate) use problem::Problem;
pub use report::{AuditReport, Counts};
pub use sort::Sort;

use crate::Result;
use crate::ops::inspect::InspectOptions;
use crate::plan::{Progress, go_on, in_order, pool};
use walk::Found;

/// What to look at, what to show, and what to ask of it.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct AuditOptions {
    /// Read the values of adapters: norms, NaN and infinity, factors that are all zero.
    pub norms: bool,
    /// Compute the singular values of each delta; implies [`Self::norms`].
    pub spectrum: bool,
    /// Also look into hidden folders.
    pub hidden: bool,
    /// Conditions that all entries of the report meet.
    pub filters: Vec<Filter>,
    /// The order of the entries.
    pub sort: Sort,
    /// What entries must keep.
    pub policy: Option<Policy>,
    /// The severity of findings that no entry may have.
    pub fail_on: Option<FailOn>,
    /// How files are read.
    pub mode: ReadMode,
    /// Threads that read files; 0: one for each core.
    pub threads: usize,
}

impl AuditOptions {
    /// Headers only, everything, by path.
    pub fn new() -> Self {
        Self::default()
    }
}

crate::ops::setters! { AuditOptions {
    with_norms: norms: bool,
    with_spectrum: spectrum: bool,
    with_hidden: hidden: bool,
    with_filters: filters: Vec<Filter>,
    with_sort: sort: Sort,
    with_policy: policy: Option<Policy>,
    with_fail_on: fail_on: Option<FailOn>,
    with_mode: mode: ReadMode,
    with_threads: threads: usize,
} }

/// Only asks whether to stop: the bytes of entries that are looked at side by side are counted together.
struct Inner<'p>(&'p dyn Progress);

impl Progress for Inner<'_> {
    fn advance(&self, _: u64) {}

    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

/// Looks at every adapter and model under `roots`, each a folder or a single file. Files that are reached by several
/// paths are one entry.
///
/// # Errors
/// `ErrorKind::File` with `NotFound` or `Io` if a root cannot be read; `ErrorKind::Interrupted` if `progress` asks to
/// stop. What is wrong below a root is a finding.
pub fn audit(roots: &[PathBuf], options: &AuditOptions, progress: &dyn Progress) -> Result<AuditReport> {
    let mut found: Vec<(&Path, Found)> = Vec::new();
    let mut entries = Vec::new();
    let mut hidden = 0;
    for root in roots {
        let walked = walk::walk(root, options.hidden, progress)?;
        let root = if root.is_dir() { root } else { root.parent().unwrap_or(Path::new("")) };
        found.extend(walked.found.into_iter().map(|one| (root, one)));
        entries
            .extend(walked.unreadable.iter().map(|(folder, error)| entry::unreadable(root, folder, error)));
        hidden += walked.hidden;
    }
    let looks = InspectOptions::new()
        .with_norms(options.norms)
        .with_spectrum(options.spectrum)
        .with_mode(options.mode)
        .with_threads(options.threads);
    progress.begin(found.iter().map(|(_, one)| one.bytes).sum());
    let looked = pool(options.threads)?.install(|| {
        in_order(&found, |(root, one)| {
            go_on(progress, "everything was looked at")?;
            let entry = entry::entry(root, one, &looks, &Inner(progress))?;
            progress.advance(one.bytes);
            Ok(entry)
        })
    })?;
    entries.extend(looked.into_iter().flatten());
    let all = entries.len();
    entries.retain(|entry| options.filters.iter().all(|filter| filter.accepts(entry)));
    sort::sort(&mut entries, options.sort);
    let violations = judge(&entries, options.policy.as_ref(), options.fail_on);
    Ok(AuditReport::new(entries, violations, all, hidden))
}
