//! The folder of a run: checkpoints, the best adapter, the last one, metrics.
//!
//! ```text
//!   checkpoint-200/         a PEFT folder with the state of the run; `keep` of them
//!   best/                   a PEFT folder
//!   metrics.jsonl  samples.jsonl  run.yaml
//!   runs/                   what TensorBoard reads
//!   adapter_model.safetensors, adapter_config.json, ...      the adapter, once all steps are done
//! ```

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use lorakit_tensor::Reader;
use lorakit_tensor::publish::{Existing, Staged};
use rustix::fs::{FlockOperation, flock};

use super::problem::Problem;
use super::state::{self, Origin, State};
use crate::error::{Error, Result};
use crate::model::Adapter;
use crate::settings::{Held, Resume, Settings};

pub(crate) const METRICS: &str = "metrics.jsonl";
pub(crate) const SAMPLES: &str = "samples.jsonl";
const SETTINGS: &str = "run.yaml";
/// What TensorBoard reads.
pub(crate) const RUNS: &str = "runs";
const BEST: &str = "best";
/// Where the last adapter is written before its files get their place.
const LAST: &str = ".last";
/// What makes a folder an adapter.
const CONFIG: &str = "adapter_config.json";

/// Writes adapters as folders, each complete or not at all.
pub(crate) trait Writes {
    /// Writes a folder with files beside the adapter's own; one that is there is replaced if `replace` says so.
    fn write(
        &self,
        folder: &Path,
        adapter: &Adapter<f32>,
        replace: bool,
        beside: Vec<(&'static str, Vec<u8>)>,
    ) -> Result<()>;

    /// Reads the adapter in a folder again, and compares what it computes with what was trained.
    fn check(&self, folder: &Path, adapter: &Adapter<f32>) -> Result<()>;
}

/// The folder of a run.
pub(crate) struct Output<'a> {
    path: PathBuf,
    writes: &'a dyn Writes,
    keep: usize,
    /// The latest checkpoint of this run, and its step.
    latest: Option<(u64, PathBuf)>,
    /// Held as long as the run lasts.
    _lock: File,
}

/// The checkpoint at which a run shall go on, if there is one; looks, and changes nothing.
///
/// # Errors
/// If the output is an input, or holds one or something else that may not be there.
pub(crate) fn checkpoint(settings: &Settings) -> Result<Option<PathBuf>> {
    check_inputs(settings)?;
    let output = &settings.output;
    let (names, latest) = (names(output)?, checkpoints(output)?.pop().map(|(_, path)| path));
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let refused = |first: Option<&String>| match (first, &latest) {
        (None, _) => Ok(()),
        (_, Some(latest)) => Err(Error::from(Problem::HasRun { checkpoint: name(latest) }).at(output)),
        (Some(first), None) => Err(Error::from(Problem::NotEmpty { first: first.clone() }).at(output)),
    };
    match &settings.resume {
        None => refused(names.first()).map(|()| None),
        Some(Resume::Auto) if latest.is_some() => Ok(latest),
        Some(Resume::Auto) => {
            // What a run has before its first checkpoint.
            let known = |name: &&String| ![METRICS, SAMPLES, SETTINGS, RUNS, BEST].contains(&name.as_str());
            refused(names.iter().find(known)).map(|()| None)
        }
        Some(Resume::From(path)) if !path.join(state::STATE).is_file() => {
            Err(Error::from(Problem::NoCheckpoint).at(path))
        }
        Some(Resume::From(path)) => {
            let own = same_folder(path.parent(), output);
            refused(names.first().filter(|_| !own)).map(|()| Some(path.clone()))
        }
    }
}

/// Refuses an output that would replace what the run reads: adapters, checkpoints and files come and go in it.
fn check_inputs(settings: &Settings) -> Result<()> {
    let inputs = Reader::default();
    let held = match &settings.val {
        Some(Held::Files(paths)) => paths.as_slice(),
        _ => &[],
    };
    let rows = settings.data.iter().map(|source| &source.path).chain(held);
    let others = [&settings.model].into_iter().chain(&settings.adapter).chain(&settings.chat_template);
    let others = others.chain(&settings.sample_prompts);
    rows.chain(others).for_each(|path| inputs.name(path));
    inputs.check_output(&settings.output)?;
    // Another name of the same file may lie elsewhere.
    [METRICS, SAMPLES, SETTINGS]
        .iter()
        .try_for_each(|name| Ok(inputs.check_output(&settings.output.join(name))?))
}

/// Whether the output holds the adapter that a run ended with.
pub(crate) fn is_finished(settings: &Settings) -> bool {
    settings.output.join(CONFIG).is_file()
}

fn same_folder(folder: Option<&Path>, output: &Path) -> bool {
    let folder = folder.map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    folder.is_some_and(|folder| fs::canonicalize(folder).ok() == fs::canonicalize(output).ok())
}

/// What a folder holds, except for what is being written.
fn names(folder: &Path) -> Result<Vec<String>> {
    if folder.is_file() {
        return Err(Error::from(Problem::NotEmpty { first: "a file".into() }).at(folder));
    }
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Vec::new()) };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    Ok(names)
}

/// The checkpoints in a folder with their steps, the latest last.
fn checkpoints(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let step = |name: &String| name.strip_prefix("checkpoint-")?.parse().ok();
    let mut found: Vec<(u64, PathBuf)> =
        names(folder)?.iter().filter_map(|name| Some((step(name)?, folder.join(name)))).collect();
    found.retain(|(_, path)| path.join(state::STATE).is_file());
    found.sort();
    Ok(found)
}

impl<'a> Output<'a> {
    /// Makes the folder, and keeps other runs out of it.
    ///
    /// # Errors
    /// If another run writes to it, and if it cannot be made.
    pub(crate) fn begin(settings: &Settings, from: Option<&Path>, writes: &'a dyn Writes) -> Result<Self> {
        let path = settings.output.clone();
        fs::create_dir_all(&path).map_err(|e| lorakit_tensor::Error::io("create", &path, e))?;
        let metrics = path.join(METRICS);
        let lock = OpenOptions::new().append(true).create(true).open(&metrics);
        let lock = lock.map_err(|e| lorakit_tensor::Error::io("create", &metrics, e))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Error::from(Problem::Busy).at(&path));
        }
        let known = Existing::Replaced(Default::default());
        let staged = Staged::file(&path.join(SETTINGS), known)?;
        let text = settings.print();
        staged.create(SETTINGS, text.len() as u64)?.write_at(text.as_bytes(), 0)?;
        let _ = staged.publish()?;
        let step = |path: &Path| path.file_name()?.to_str()?.strip_prefix("checkpoint-")?.parse().ok();
        let latest = from.and_then(|path| Some((step(path)?, path.to_path_buf())));
        Ok(Self { path, writes, keep: settings.keep, latest, _lock: lock })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.path
    }

    /// The latest checkpoint.
    pub(crate) fn latest(&self) -> Option<&PathBuf> {
        self.latest.as_ref().map(|(_, path)| path)
    }

    /// Saves a checkpoint, unless the state is that of the latest, and removes those that are too many.
    pub(crate) fn save(&mut self, state: &State, origin: &Origin) -> Result<Option<PathBuf>> {
        if self.latest.as_ref().is_some_and(|(step, _)| *step == state.step) && !state.unevaluated {
            return Ok(None);
        }
        let path = self.path.join(format!("checkpoint-{}", state.step));
        self.writes.write(&path, &state.adapter, true, state.files(origin)?)?;
        self.latest = Some((state.step, path.clone()));
        let old = checkpoints(&self.path)?;
        let old: Vec<_> = old.into_iter().filter(|(step, _)| *step <= state.step).collect();
        for (_, path) in &old[..old.len().saturating_sub(self.keep)] {
            // The state goes first: what is left of a folder that is half removed is not a checkpoint.
            let _ = fs::remove_file(path.join(state::STATE));
            fs::remove_dir_all(path).map_err(|e| lorakit_tensor::Error::io("remove", path, e))?;
        }
        Ok(Some(path))
    }

    /// Keeps the best adapter.
    pub(crate) fn save_best(&self, adapter: &Adapter<f32>) -> Result<PathBuf> {
        let path = self.path.join(BEST);
        self.writes.write(&path, adapter, true, Vec::new())?;
        Ok(path)
    }

    pub(crate) fn best(&self) -> Option<PathBuf> {
        Some(self.path.join(BEST)).filter(|path| path.is_dir())
    }

    /// Writes the adapter with which the run ends into the folder itself. Its configuration comes last: without it, the
    /// folder is not an adapter.
    pub(crate) fn finish(&self, adapter: &Adapter<f32>) -> Result<()> {
        let last = self.path.join(LAST);
        self.writes.write(&last, adapter, true, Vec::new())?;
        let failed = |e| lorakit_tensor::Error::io("move the finished adapter to", &self.path, e);
        let entries = fs::read_dir(&last).map_err(failed)?.flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        names.sort_by_key(|name| name == CONFIG);
        for name in names {
            let to = self.path.join(&name);
            if to.is_dir() {
                // From a run that ended here before.
                fs::remove_dir_all(&to).map_err(failed)?;
            }
            fs::rename(last.join(&name), to).map_err(failed)?;
        }
        fs::remove_dir(&last).map_err(failed)?;
        let _ = File::open(&self.path).and_then(|folder| folder.sync_all());
        self.writes.check(&self.path, adapter)
    }
}
