//! The engine: every file is planned from headers alone, then streamed.
//!
//! A [`Plan`] knows each output file's header bytes and each output tensor's offset and [`Recipe`] before any
//! weight is read, so that refusals come early, memory is bounded and row panels can run on all cores in any
//! order. Output bytes depend on inputs and options only.

mod chosen;
mod compute;
mod copy;
mod digest;
mod float8;
mod initial;
mod job;
mod kernel;
mod largest;
mod low_rank;
mod multiply;
mod pack;
mod papers;
mod parts;
mod problem;
mod progress;
mod provenance;
mod recipe;
mod report;
mod reshape;
mod residue;
mod retention;
mod run;
mod shards;
mod side;
mod store;
mod target;
mod threads;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use lorakit_tensor::format::{gguf, safetensors};
use lorakit_tensor::{Checkpoint, Reader, TensorInfo};

pub use chosen::Chosen;
pub(crate) use compute::Panel;
pub use copy::Unchecked;
pub(crate) use digest::DataDigest;
pub use digest::Hash;
pub use float8::Fp8;
pub use kernel::vector_code;
pub use pack::Packer;
pub use papers::{Cover, Held, Papers};
pub(crate) use problem::Problem;
pub(crate) use progress::Stretch;
#[doc(hidden)]
pub use progress::go_on;
pub use progress::{Progress, Silent};
pub use provenance::{PROVENANCE_KEY, Provenance};
pub use recipe::OutputTensor;
pub use report::{FileSize, PlanReport, PlannedTensor, TypeRetention, WriteReport};
pub(crate) use reshape::seen_as;
pub use residue::Residue;
pub use retention::{Retention, TensorRetention, by_type, overall};
pub use run::Report;
use shards::Limits;
pub(crate) use side::{ADAPTER_CONFIG, CONFIGURATION};
pub use side::{Content, PROVENANCE_FILE, SideFile, TOKENIZER};
pub use target::Target;
pub(crate) use threads::{in_order, pool};

// The tests of this crate make plans by hand; these items are not part of its interface.
#[doc(hidden)]
pub use initial::Initial;
#[doc(hidden)]
pub use low_rank::LowRank;
#[doc(hidden)]
pub use multiply::{Multiplied, Multiply};
#[doc(hidden)]
pub use pack::{Packed, Part};
#[doc(hidden)]
pub use recipe::{Axis, Compute, Dora, Importance, Recipe, ReplacedRows, Rounding};
#[doc(hidden)]
pub use run::Written;

use crate::{Error, Result};

/// The format of the output's tensor files.
#[derive(Debug, Clone)]
pub enum Container {
    /// Safetensors files `{stem}.safetensors` with this `__metadata__`, split into shards of at most `max_shard` data
    /// bytes, and of no more tensors than a header may describe.
    Safetensors {
        /// Name of the tensor files, e.g. `model`.
        stem: &'static str,
        /// Strings for the header.
        metadata: BTreeMap<String, String>,
        /// Largest data section of a shard, in bytes; a larger tensor gets a shard of its own.
        max_shard: u64,
    },
    /// One GGUF file.
    Gguf(gguf::Metadata),
}

/// One tensor file of the output.
#[derive(Debug)]
pub struct OutputFile {
    /// File name.
    pub name: String,
    /// Everything before the first tensor.
    pub(crate) header: Vec<u8>,
    /// Length in bytes.
    pub len: u64,
    /// Tensors with their absolute offsets, in file order.
    pub tensors: Vec<(u64, OutputTensor)>,
}

/// A complete output, decided but not yet written.
#[derive(Debug)]
pub struct Plan {
    target: Target,
    replace: bool,
    reader: Reader,
    container: Container,
    files: Vec<OutputFile>,
    side_files: Vec<SideFile>,
    provenance: Option<Arc<dyn Provenance>>,
    cover: Option<Arc<dyn Cover>>,
    data_digests: Vec<DataDigest>,
    /// Whether copies are searched for NaN and infinity.
    check_copies: bool,
}

impl Plan {
    /// Lays out `tensors`, in the order given, and checks that the output can be written.
    ///
    /// `reader` knows the inputs: the output must not be one of them, nor contain one. With `replace`, an existing
    /// output may be replaced once the new one is complete; [`Self::check`] says whether it can be.
    ///
    /// # Errors
    /// [`ErrorKind::File`](crate::ErrorKind::File) with `SameFile`, or for a side file that cannot be copied; what the
    /// format's layout refuses.
    // For tests of this crate, which make plans by hand.
    #[doc(hidden)]
    pub fn new(
        target: Target,
        replace: bool,
        reader: &Reader,
        container: Container,
        tensors: Vec<OutputTensor>,
        side_files: Vec<SideFile>,
    ) -> Result<Self> {
        Self::with_papers(target, replace, reader, container, tensors, side_files, Papers::default())
    }

    /// As [`Self::new`], for an output that says where it came from, and a folder that describes itself. What an input
    /// said about where it came from is not true of the output, and is left out either way.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn with_papers(
        target: Target,
        replace: bool,
        reader: &Reader,
        mut container: Container,
        tensors: Vec<OutputTensor>,
        mut side_files: Vec<SideFile>,
        papers: Papers,
    ) -> Result<Self> {
        let Papers { provenance, cover } = papers;
        side_files.retain(|side| !provenance::is_page(&side.name));
        let cover = papers::allowed(cover, &target, &mut side_files);
        let places = provenance.as_deref().map(provenance::places).unwrap_or_default();
        container.set_provenance(provenance.as_ref().map(|provenance| provenance.text(Some(&places))));
        for side in &side_files {
            if let Content::CopyOf(source) = &side.content {
                reader.side_file(source)?;
            }
        }
        reader.check_output(target.path())?;
        if let (Container::Gguf(_), Some(name)) = (&container, target.path().file_name())
            && let Some(gguf::SplitName { index, count, .. }) = gguf::parse_split_name(name)
            && count > 1
        {
            return Err(Error::from(Problem::PartOfName { index, count }).at(target.path()));
        }
        prove_unique(&tensors)?;
        let files = match &mut container {
            Container::Safetensors { stem, metadata, max_shard } => {
                let others = serde_json::to_string(metadata).map_or(0, |text| text.len() as u64);
                let shards = Limits::of_safetensors(*max_shard, others).split(tensors);
                if let Some(provenance) = provenance.as_ref().filter(|_| shards.len() > 1) {
                    metadata.insert(PROVENANCE_KEY.into(), provenance.text(None));
                }
                let files = lay_out_shards(&target, stem, metadata, shards)?;
                if files.len() > 1 {
                    if matches!(target, Target::File(_)) {
                        let problem = Problem::Shards { count: files.len() };
                        return Err(Error::from(problem).at(target.path()));
                    }
                    side_files.push(index_of(stem, &files, total_size(&files)));
                }
                files
            }
            Container::Gguf(metadata) => {
                let infos: Vec<TensorInfo> = tensors.iter().map(|t| t.info.clone()).collect();
                let layout = gguf::layout(metadata, &infos)?;
                let tensors = layout.offsets.into_iter().zip(tensors).collect();
                let name = match &target {
                    Target::Folder(_) => "model.gguf".into(),
                    Target::File(path) => name_of(path),
                };
                vec![OutputFile { name, header: layout.header, len: layout.len, tensors }]
            }
        };
        if let Some(cover) = &cover {
            let bytes = files.iter().map(|file| file.len).sum();
            let held = Held { files: &files, side_files: &side_files, bytes, retention: &[] };
            side_files.push(papers::card(cover.as_ref(), &held));
        }
        if let (Some(provenance), Target::Folder(_)) = (&provenance, &target) {
            side_files.push(provenance::page(provenance.as_ref(), &places, &files, &side_files));
        }
        let data_digests = Vec::new();
        let reader = reader.clone();
        let check_copies = false;
        Ok(Plan {
            target,
            replace,
            reader,
            container,
            files,
            side_files,
            provenance,
            cover,
            data_digests,
            check_copies,
        })
    }

    /// Makes the run fill in digests of what it writes; their places are in the metadata given to [`Self::new`].
    #[must_use]
    pub(crate) fn with_data_digests(self, data_digests: Vec<DataDigest>) -> Self {
        Plan { data_digests, ..self }
    }

    /// Puts `header` in the place of that of the one tensor file; it must describe the same tensors, in the same order.
    #[must_use]
    pub(crate) fn with_header(mut self, header: Vec<u8>) -> Self {
        if let [file] = self.files.as_mut_slice() {
            let (before, now) = (file.header.len() as u64, header.len() as u64);
            file.len = file.len - before + now;
            file.tensors.iter_mut().for_each(|(offset, _)| *offset = *offset - before + now);
            file.header = header;
        }
        self
    }

    /// Where the output goes.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The tensor files.
    pub fn files(&self) -> &[OutputFile] {
        &self.files
    }

    /// The other files.
    pub fn side_files(&self) -> &[SideFile] {
        &self.side_files
    }

    /// Every output tensor, in file order.
    pub fn tensors(&self) -> impl Iterator<Item = &OutputTensor> {
        self.files.iter().flat_map(|f| f.tensors.iter().map(|(_, t)| t))
    }

    /// The inputs whose weights the run digests.
    fn hashed(&self) -> impl Iterator<Item = &Checkpoint> {
        self.provenance.iter().flat_map(|provenance| provenance.sources()).map(Arc::as_ref)
    }

    /// Bytes of all tensor files.
    pub fn output_bytes(&self) -> u64 {
        self.files.iter().map(|f| f.len).sum()
    }

    /// Bytes of anonymous memory that a run takes at most: panels and read buffers of every thread, the factors of the
    /// tensors that can be in progress at the same time, and the list of tasks. Mapped input pages are file cache and
    /// are not counted.
    pub fn peak_memory(&self, threads: usize) -> u64 {
        let mut panel = 0;
        let mut loaded: Vec<u64> = Vec::new();
        for tensor in self.tensors() {
            if let Recipe::Compute(compute) = &tensor.recipe {
                panel = panel.max(compute::Scratch::bytes_for(run::PANEL, compute));
                loaded.push(compute.loaded_bytes());
            }
        }
        loaded.sort_unstable_by(|a, b| b.cmp(a));
        let headers: u64 = self.files.iter().map(|f| f.header.len() as u64).sum();
        let hashed = if self.hashed().next().is_none() { 0 } else { digest::PIECE };
        let (jobs, tasks) = self.tasks();
        let list = run::TASK_BYTES * (jobs.len() + self.with_digest_tasks(tasks).len()) as u64;
        (panel + hashed) * threads as u64 + loaded.iter().take(threads).sum::<u64>() + 4 * headers + list
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Proves that every output name occurs once, and so that each tensor is written exactly once.
fn prove_unique(tensors: &[OutputTensor]) -> Result<()> {
    let mut seen = HashSet::with_capacity(tensors.len());
    match tensors.iter().find(|t| !seen.insert(t.info.name.as_str())) {
        None => Ok(()),
        Some(twice) => Err(Error::from(Problem::Twice).tensor(&twice.info.name)),
    }
}

fn lay_out_shards(
    target: &Target,
    stem: &str,
    metadata: &BTreeMap<String, String>,
    shards: Vec<Vec<OutputTensor>>,
) -> Result<Vec<OutputFile>> {
    let count = shards.len();
    let lay_out = |(i, mut tensors): (usize, Vec<OutputTensor>)| {
        // Tensors that may come out shorter than planned go last, where the file can be cut.
        tensors.sort_by_key(|t| matches!(t.recipe, Recipe::Part { part: Part::State, .. }));
        let infos: Vec<TensorInfo> = tensors.iter().map(|t| t.info.clone()).collect();
        let layout = safetensors::layout(metadata, &infos)?;
        let name = match target {
            Target::Folder(_) => safetensors::shard_name(stem, i + 1, count),
            Target::File(path) => name_of(path),
        };
        let tensors = layout.offsets.into_iter().zip(tensors).collect();
        Ok(OutputFile { name, header: layout.header, len: layout.len, tensors })
    };
    shards.into_iter().enumerate().map(lay_out).collect()
}

/// Bytes of all tensors, without headers.
fn total_size(files: &[OutputFile]) -> u64 {
    files.iter().flat_map(|f| &f.tensors).map(|(_, t)| t.info.byte_len()).sum()
}

fn index_of(stem: &str, files: &[OutputFile], total: u64) -> SideFile {
    let pairs =
        files.iter().flat_map(|f| f.tensors.iter().map(|(_, t)| (t.info.name.as_str(), f.name.as_str())));
    let content = Content::bytes(safetensors::index_json(total, pairs));
    SideFile { name: safetensors::index_name(stem).into(), content }
}
