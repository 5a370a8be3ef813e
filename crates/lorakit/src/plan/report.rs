//! A plan and what a run of it did, for programs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lorakit_tensor::DType;
use serde::Serialize;

use super::{OutputTensor, Plan, Report, Retention, TensorRetention, by_type};
use crate::{Error, report};

/// A plan, described: what a run would write. `O` is the form of an error that stands in the way.
#[derive(Debug, Serialize)]
pub struct PlanReport<'p, O = Error> {
    /// Files of the old output that would be replaced.
    #[serde(serialize_with = "report::paths")]
    pub replaces: Vec<PathBuf>,
    /// The error that a run would meet as things stand, such as an output that exists.
    pub obstacle: Option<O>,
    /// The tensor files.
    pub files: Vec<FileSize<'p>>,
    /// The other files.
    #[serde(serialize_with = "report::paths")]
    pub other_files: Vec<&'p Path>,
    /// Every tensor, in file order.
    pub tensors: Vec<PlannedTensor<'p>>,
    /// Bytes of all tensor files.
    pub output_bytes: u64,
    /// See [`Plan::peak_memory`].
    pub peak_memory_bytes: u64,
}

/// A tensor file.
#[derive(Debug, Clone, Serialize)]
pub struct FileSize<'p> {
    /// Its name.
    pub name: &'p str,
    /// Its length.
    pub bytes: u64,
}

/// A tensor of the output.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedTensor<'p> {
    /// Its name.
    pub name: &'p str,
    /// The file that it is in.
    pub file: &'p str,
    /// Where it begins in the file.
    pub offset: u64,
    /// Its dtype.
    pub dtype: DType,
    /// Its shape.
    pub shape: &'p [usize],
    /// How its bytes come about, in words.
    #[serde(serialize_with = "report::text")]
    pub recipe: &'p OutputTensor,
}

/// What a run wrote.
#[derive(Debug, Clone, Serialize)]
pub struct WriteReport<'r> {
    /// The output.
    #[serde(serialize_with = "report::path")]
    pub output: &'r Path,
    /// Files of an old output that were replaced.
    #[serde(serialize_with = "report::paths")]
    pub replaced: &'r [PathBuf],
    /// Where the rest of an old output is, if something appeared in it at the last moment.
    #[serde(serialize_with = "report::optional_path")]
    pub kept: Option<&'r Path>,
    /// Staged names of this output that another machine left, or this one before a restart.
    #[serde(serialize_with = "report::paths")]
    pub leftovers: &'r [PathBuf],
    /// The tensor files.
    pub files: Vec<FileSize<'r>>,
    /// Number of tensors.
    pub tensors: usize,
    /// Bytes of tensor files written.
    pub bytes: u64,
    /// Number of tensors that were copied without checking their values.
    pub unchecked_tensors: usize,
    /// Their bytes.
    pub unchecked_bytes: u64,
    /// Wall time.
    #[serde(rename = "seconds", serialize_with = "report::seconds")]
    pub elapsed: Duration,
    /// Bytes written per second, divided by 10^9.
    pub gb_per_second: f64,
}

/// How much of the adapters is left in the tensors that are stored as one type.
#[derive(Debug, Clone, Serialize)]
pub struct TypeRetention {
    /// See [`Retention::ratio`].
    pub retention: Option<f64>,
    /// See [`Retention::unchanged_share`].
    pub unchanged_share: f64,
    /// Number of values with a delta that is not zero.
    pub touched: u64,
    /// `||D||` of all tensors that adapters touch.
    pub delta_norm: f64,
    /// `||W||` of the same tensors.
    pub weight_norm: f64,
}

impl Plan {
    /// Describes the plan, run on `threads` threads (0: one for each core).
    pub fn description(&self, threads: usize) -> PlanReport<'_> {
        let (replaces, obstacle) = match self.check() {
            Ok(replaces) => (replaces, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let tensors = self.files.iter().flat_map(|file| {
            file.tensors.iter().map(|(offset, tensor)| PlannedTensor {
                name: &tensor.info.name,
                file: &file.name,
                offset: *offset,
                dtype: tensor.info.dtype,
                shape: &tensor.info.shape,
                recipe: tensor,
            })
        });
        PlanReport {
            replaces,
            obstacle,
            files: self.file_sizes(),
            other_files: self.side_files.iter().map(|file| file.name.as_path()).collect(),
            tensors: tensors.collect(),
            output_bytes: self.output_bytes(),
            peak_memory_bytes: self.peak_memory(threads),
        }
    }

    /// What `run`, a run of this plan, wrote.
    pub fn report<'r>(&'r self, run: &'r Report) -> WriteReport<'r> {
        WriteReport {
            output: self.target.path(),
            replaced: &run.replaced,
            kept: run.kept.as_deref(),
            leftovers: &run.leftovers,
            files: self.file_sizes(),
            tensors: self.tensors().count(),
            bytes: run.bytes,
            unchecked_tensors: run.unchecked.tensors,
            unchecked_bytes: run.unchecked.bytes,
            elapsed: run.elapsed,
            gb_per_second: run.bytes as f64 / run.elapsed.as_secs_f64().max(1e-9) / 1e9,
        }
    }

    fn file_sizes(&self) -> Vec<FileSize<'_>> {
        self.files.iter().map(|file| FileSize { name: &file.name, bytes: file.len }).collect()
    }
}

impl<'p, O> PlanReport<'p, O> {
    /// The same with the obstacle in the form that `say` gives it.
    pub fn map_obstacle<P>(self, say: impl FnOnce(O) -> P) -> PlanReport<'p, P> {
        PlanReport {
            replaces: self.replaces,
            obstacle: self.obstacle.map(say),
            files: self.files,
            other_files: self.other_files,
            tensors: self.tensors,
            output_bytes: self.output_bytes,
            peak_memory_bytes: self.peak_memory_bytes,
        }
    }
}

impl From<Retention> for TypeRetention {
    fn from(sums: Retention) -> Self {
        TypeRetention {
            retention: sums.ratio(),
            unchanged_share: sums.unchanged_share(),
            touched: sums.moved,
            delta_norm: sums.whole.sqrt(),
            weight_norm: sums.base.sqrt(),
        }
    }
}

impl TypeRetention {
    /// The retention of `tensors`, by the type they are stored as.
    pub fn by_type(tensors: &[TensorRetention]) -> BTreeMap<&'static str, TypeRetention> {
        by_type(tensors).into_iter().map(|(stored_as, sums)| (stored_as, sums.into())).collect()
    }
}
