//! The path of every adapter that is written: planned, written, read again, compared, published.
//!
//! ```text
//!  Adapter ──► Draft ──► Plan ──► staged files
//!     │                               │ read again
//!     └─────────── compare ◄──────────┘
//!                     └─► published, with the error of each module
//! ```

mod compare;
mod problem;
mod rounding;

use std::path::Path;

use lorakit_tensor::{DType, ReadMode, Reader};

pub use compare::ModuleError;
pub(crate) use problem::Problem;
pub(crate) use rounding::errors_of_rows;

use crate::adapter::format::{self, AdapterFormat, Draft, DraftOptions};
use crate::adapter::{Adapter, Mapped, Module, ROW_ORDER};
use crate::lineage::Papers;
use crate::plan::{self, DataDigest, Plan, Progress, Report, SideFile, Unchecked, pool};
use crate::{Base, Error, Result};

/// Where and how an adapter is written.
#[derive(Debug, Clone)]
pub(crate) struct Destination<'a> {
    /// The format.
    pub(crate) format: &'static dyn AdapterFormat,
    /// The output folder or file.
    pub(crate) output: &'a Path,
    /// Replace an output that exists.
    pub(crate) replace: bool,
    /// Dtype of the factors; each keeps its own by default.
    pub(crate) dtype: Option<DType>,
    /// The reader of the inputs.
    pub(crate) reader: Reader,
    /// What the output says about itself.
    pub(crate) papers: Papers,
    /// Files that an output folder gets besides those of its format.
    pub(crate) beside: Vec<SideFile>,
}

/// An adapter that is laid out as files and not yet written.
#[derive(Debug)]
pub struct AdapterOutput {
    /// The plan.
    pub plan: Plan,
    /// Name of the format.
    pub to: &'static str,
    /// What became of each module.
    pub mapped: Vec<Mapped>,
    adapter: Adapter,
    base: Option<Base>,
    mode: ReadMode,
    /// Whether it is compared part by part, as the files hold it.
    as_stored: bool,
}

/// Files of a format that were not made by its writer.
#[derive(Debug)]
pub(crate) struct Redraft {
    /// The files.
    pub(crate) draft: Draft,
    /// The header of the one tensor file, if it stays byte for byte.
    pub(crate) header: Option<Vec<u8>>,
    /// Whether the header has places for digests.
    pub(crate) hashed: bool,
}

/// What writing an adapter did.
#[derive(Debug, Clone)]
pub struct AdapterReport {
    /// What was written.
    pub report: Report,
    /// How far each module of the file is from the intended one, in the order of the adapter.
    pub errors: Vec<ModuleError>,
}

/// The format called `name`, which must have a writer.
///
/// # Errors
/// `Usage`, with the known names, if there is none.
pub(crate) fn writable(name: &str) -> Result<&'static dyn AdapterFormat> {
    format::by_name(name).filter(|format| format.is_written()).ok_or_else(|| {
        let written = format::FORMATS.iter().filter(|format| format.is_written());
        let known = written.map(|format| format.name()).collect();
        Problem::Format { name: name.to_string(), known }.into()
    })
}

/// The format to write: the requested one, else that of the source if it has a writer, else PEFT's.
///
/// # Errors
/// As [`writable`].
pub(crate) fn writable_or_own(to: Option<&str>, own: &str) -> Result<&'static dyn AdapterFormat> {
    match to {
        Some(name) => writable(name),
        None => writable(own).or_else(|_| writable("peft")),
    }
}

/// Refuses quantised factors in a format that has none.
///
/// # Errors
/// `Usage` if there are none.
pub(crate) fn check_dtype(format: &'static dyn AdapterFormat, dtype: Option<DType>) -> Result<()> {
    match dtype.filter(|dtype| dtype.block().elements > 1 && !format.blocks().contains(dtype)) {
        Some(dtype) => Err(Problem::NoBlocks { dtype, format: format.name() }.into()),
        None => Ok(()),
    }
}

impl AdapterOutput {
    /// Lays out `adapter`.
    ///
    /// # Errors
    /// `Inexpressible` for what the format cannot hold, `NeedsBase`; as [`Plan::new`].
    pub(crate) fn new(adapter: Adapter, base: Option<Base>, to: &Destination<'_>) -> Result<Self> {
        Self::written_as(&adapter.clone(), adapter, base, to)
    }

    /// Lays out `written`, which must do what `adapter` does.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn written_as(
        written: &Adapter,
        adapter: Adapter,
        base: Option<Base>,
        to: &Destination<'_>,
    ) -> Result<Self> {
        let draft = to.format.write(written, &DraftOptions { dtype: to.dtype, base: base.as_ref() })?;
        let digests = to.format.digests(&draft)?;
        let papers = to.papers.clone().of_adapter(written, to.format.loading());
        Self::drafted(draft, (digests, papers), adapter, base, to)
    }

    /// Lays out files that were edited in place, which must do what `adapter` does.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub(crate) fn redrafted(
        redraft: Redraft,
        adapter: Adapter,
        base: Option<Base>,
        to: &Destination<'_>,
    ) -> Result<Self> {
        let Redraft { draft, header, hashed } = redraft;
        let digests = if hashed { to.format.digests(&draft)? } else { Vec::new() };
        let papers = to.papers.clone().of_adapter(&adapter, to.format.loading());
        let output = Self::drafted(draft, (digests, papers), adapter, base, to)?;
        let plan = match header {
            Some(header) => output.plan.with_header(header),
            None => output.plan,
        };
        Ok(AdapterOutput { plan, as_stored: true, ..output })
    }

    fn drafted(
        draft: Draft,
        (digests, papers): (Vec<DataDigest>, plan::Papers),
        adapter: Adapter,
        base: Option<Base>,
        to: &Destination<'_>,
    ) -> Result<Self> {
        let target = draft.target(to.output)?;
        let mut side_files = draft.side_files;
        side_files.extend(to.beside.iter().cloned());
        let plan = Plan::with_papers(
            target,
            to.replace,
            &to.reader,
            draft.container,
            draft.tensors,
            side_files,
            papers,
        )?;
        let plan = plan.with_data_digests(digests);
        Ok(AdapterOutput {
            plan,
            to: to.format.name(),
            mapped: draft.mapped,
            adapter,
            base,
            mode: to.reader.mode(),
            as_stored: false,
        })
    }

    /// The adapter that is written, with its factors as they are computed.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// The modules that are written.
    pub fn modules(&self) -> &[Module] {
        &self.adapter.modules
    }

    /// Writes the output, reads it again, compares every module, and publishes it.
    ///
    /// # Errors
    /// As [`Plan::run`]; [`ErrorKind::Verification`](crate::ErrorKind::Verification) if the output does not hold what
    /// was meant. Nothing is published then.
    pub fn run(&self, threads: usize, progress: &dyn Progress) -> Result<AdapterReport> {
        let written = self.plan.write(threads, progress)?;
        let errors = pool(threads)?.install(|| self.verify(written.path(), progress))?;
        // Comparing has read every value of every tensor.
        let report = Report { unchecked: Unchecked::default(), ..written.publish()? };
        Ok(AdapterReport { report, errors })
    }

    fn verify(&self, staged: &Path, progress: &dyn Progress) -> Result<Vec<ModuleError>> {
        let files = format::open(staged, &Reader::new(self.mode))?;
        let place = |e: Error| e.at(self.plan.target().path());
        let mut after = format::read(&files, self.base.as_ref())?;
        if self.as_stored {
            after.findings.retain(|finding| finding.code != ROW_ORDER);
            after.check().map_err(place)?;
            return compare::compare(&self.adapter, &after.with_fixed_scales(), progress).map_err(place);
        }
        if self.to == "peft" {
            named(&after).map_err(place)?;
        }
        // Expert by expert: in the parameter if the format packs them there, else as modules of their own.
        let packs = format::by_name(self.to).is_some_and(|format| format.packs_experts());
        let apart = |adapter: Adapter| {
            let adapter = if packs { adapter.split()? } else { adapter };
            let known = |module: &Module| !module.is_packed();
            let alone = packs && adapter.modules.iter().all(known);
            if alone { Ok(adapter) } else { adapter.unpacked(self.base.as_ref()) }
        };
        let (before, after) = (apart(self.adapter.clone())?, apart(after)?);
        after.check().map_err(place)?;
        compare::compare(&before, &after, progress).map_err(place)
    }
}

/// Refuses a folder of which PEFT would load only a part, or not the right one: the configuration must name every module
/// and give it the rank that it has.
fn named(adapter: &Adapter) -> Result<()> {
    let lost = adapter.unnamed();
    if let Some(first) = lost.first() {
        let problem = Problem::Unnamed { count: lost.len(), of: adapter.modules.len() };
        return Err(Error::from(problem).tensor(&first.path));
    }
    let ranks = |module: &&Module| match module.config_rank {
        Some(said) => said != module.rank_of_one() as f64,
        None => false,
    };
    match adapter.modules.iter().find(ranks) {
        None => Ok(()),
        Some(module) => {
            let (rank, said) = (module.rank_of_one(), module.config_rank.unwrap_or_default());
            Err(Error::from(Problem::OtherRank { rank, said }).tensor(&module.path))
        }
    }
}
