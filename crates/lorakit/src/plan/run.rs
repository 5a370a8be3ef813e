//! Running a plan: panels on all cores, positional writes, one publication.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lorakit_quant::Codec;
use lorakit_tensor::format::{gguf, safetensors};
use lorakit_tensor::publish::{self, Staged};
use lorakit_tensor::{Checkpoint, ReadMode, Reader, TensorInfo, TensorSource};

use super::compute::Scratch;
use super::copy::{self, Unchecked};
use super::digest::{self, Piece, Subtree};
use super::job::{Job, Late, Place};
use super::threads::in_order_with;
use super::{
    Container, OutputFile, OutputTensor, Plan, Problem, Progress, Recipe, Retention, Target, TensorRetention,
    go_on, pool,
};
use crate::{Error, ErrorKind, Result, TensorRef};

/// Values of one computed panel: large enough for efficient writes, small enough to be written out of a cache.
pub(super) const PANEL: usize = 1 << 18;
/// Bytes of one copied piece.
const COPY: u64 = 64 << 20;

/// Bytes that one task takes in the list, with its outcome, and their growth while the list is collected.
pub(super) const TASK_BYTES: u64 = 4 * (size_of::<Task<'_>>() + size_of::<Outcome>()) as u64;

/// What a run did.
#[derive(Debug, Clone)]
pub struct Report {
    /// Bytes of tensor files written.
    pub bytes: u64,
    /// Wall time, publication included.
    pub elapsed: Duration,
    /// Adapter retention of each tensor that was edited, in file order.
    pub retention: Vec<TensorRetention>,
    /// Files of an old output that were replaced.
    pub replaced: Vec<PathBuf>,
    /// Where the rest of an old output is, if something appeared in it at the last moment.
    pub kept: Option<PathBuf>,
    /// Staged names of this output that another machine left, or this one before a restart.
    pub leftovers: Vec<PathBuf>,
    /// What was copied without checking its values.
    pub unchecked: Unchecked,
}

/// An output that is complete and not yet published; dropping it deletes it.
#[derive(Debug)]
#[must_use = "an output that is not published is removed"]
pub struct Written {
    report: Report,
    staged: Staged,
    reader: Reader,
    start: Instant,
}

impl Written {
    /// What was done, with the time until now.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Where the output is until it is published.
    pub(crate) fn path(&self) -> &std::path::Path {
        self.staged.path()
    }

    /// Makes the output durable and visible, in place of an old one that it replaces.
    ///
    /// # Errors
    /// [`ErrorKind::File`] if the file system fails, with `Changed` if an input changed since it was read, with
    /// `Appeared` if something new is at the output. Nothing is published then.
    pub fn publish(self) -> Result<Report> {
        self.reader.check_unchanged()?;
        let leftovers = self.staged.leftovers().to_vec();
        let kept = self.staged.publish()?.kept;
        Ok(Report { elapsed: self.start.elapsed(), leftovers, kept, ..self.report })
    }
}

/// A piece of work: part of one tensor, or of a digest.
pub(super) struct Task<'p> {
    job: usize,
    file: usize,
    offset: u64,
    part: Part<'p>,
}

enum Part<'p> {
    /// Bytes `start..end` of a copied tensor, and the codec that checks their values.
    Bytes(&'p TensorRef, Option<&'static dyn Codec>, u64, u64),
    /// Rows `start..end` of a computed tensor.
    Rows(usize, usize),
    /// A tensor whose bytes are given.
    Given(&'p OutputTensor, &'p [u8]),
    /// A piece of an input whose digest is wanted.
    Digest(Piece<'p>),
}

/// What all tasks leave behind.
struct Done {
    retention: Vec<TensorRetention>,
    subtrees: Vec<Subtree>,
    late: Vec<Late>,
    /// Bytes reported to `progress`.
    told: u64,
}

/// What a task leaves behind.
enum Outcome {
    Written,
    Computed(Retention, Option<Late>),
    Hashed(Subtree),
}

impl Plan {
    /// Writes the output on `threads` threads (0: one for each core) and publishes it.
    ///
    /// # Errors
    /// As [`Self::write`] and [`Written::publish`].
    pub fn run(&self, threads: usize, progress: &dyn Progress) -> Result<Report> {
        self.write(threads, progress)?.publish()
    }

    /// Writes the output on `threads` threads (0: one for each core) next to its destination.
    ///
    /// # Errors
    /// [`ErrorKind::NonFinite`] for a NaN or an infinity in a tensor that is computed, or copied and
    /// [checked](Self::checking_copies), [`ErrorKind::Interrupted`] if `progress` asks to stop, [`ErrorKind::File`] if
    /// reading or writing fails. Staged files are deleted then.
    pub fn write(&self, threads: usize, progress: &dyn Progress) -> Result<Written> {
        self.stage(threads, progress).map_err(|error| match error.kind() {
            ErrorKind::Interrupted => error,
            // If an input changed, that is the cause, whatever else the error looks like.
            _ => self.reader.check_unchanged().err().map_or(error, Error::from),
        })
    }

    fn stage(&self, threads: usize, progress: &dyn Progress) -> Result<Written> {
        let start = Instant::now();
        let existing = self.existing()?;
        self.check_space()?;
        let replaced = self.replaced(&existing);
        let staged = match self.target() {
            Target::Folder(path) => Staged::folder(path, existing)?,
            Target::File(path) => Staged::file(path, existing)?,
        };
        let place = |name: &str| match self.target() {
            Target::Folder(_) => staged.path().join(name),
            Target::File(_) => staged.path().to_path_buf(),
        };
        let mut outputs = Vec::with_capacity(self.files.len());
        for file in &self.files {
            outputs.push(staged.create(&file.name, file.len)?);
        }
        if let Target::Folder(_) = self.target() {
            self.side_files.iter().try_for_each(|side| side.write(staged.path()))?;
        }
        progress.begin(self.output_bytes());
        let mut done = self.run_tasks(&outputs, threads, progress)?;
        // Headers, padding, and what will be shorter than planned: progress ends at the total.
        progress.advance(self.output_bytes().saturating_sub(done.told));
        let digests = self.digests(&done.subtrees);
        done.late.sort_by_key(|late| late.file);
        let mut bytes = 0;
        let mut late = done.late.as_slice();
        for (i, (file, output)) in self.files.iter().zip(&outputs).enumerate() {
            go_on(progress, "anything was published")?;
            let (own, others) = late.split_at(late.partition_point(|late| late.file == i));
            late = others;
            let (mut header, len) = self.settle(file, own, output, &digests)?;
            for digest in &self.data_digests {
                digest.fill(&place(&file.name), &mut header, progress)?;
            }
            output.write_at(&header, 0)?;
            bytes += len;
        }
        if let Container::Safetensors { stem, .. } = &self.container
            && bytes < self.output_bytes()
            && self.files.len() > 1
        {
            let total = super::total_size(&self.files) - (self.output_bytes() - bytes);
            super::index_of(stem, &self.files, total).write(staged.path())?;
        }
        self.write_page(&digests, staged.path())?;
        drop(outputs);
        self.reopen(staged.path())?;
        go_on(progress, "anything was published")?;
        let unchecked = self.unchecked();
        let elapsed = start.elapsed();
        let retention = done.retention;
        let report =
            Report { bytes, elapsed, retention, replaced, kept: None, leftovers: Vec::new(), unchecked };
        Ok(Written { report, staged, reader: self.reader.clone(), start })
    }

    /// The digest of the weights of each input whose digest is wanted, from the pieces that tasks hashed.
    fn digests(&self, mut subtrees: &[Subtree]) -> Vec<String> {
        let Some(provenance) = &self.provenance else { return Vec::new() };
        let of_source = |(i, source): (usize, &Checkpoint)| {
            let (own, others) = subtrees.split_at(digest::pieces(source).count());
            subtrees = others;
            provenance.digest(i, &digest::join(source, own))
        };
        self.hashed().enumerate().map(of_source).collect()
    }

    /// Writes the tensors of `file` that came out shorter than planned, and cuts it to what they need. Returns its
    /// header, with `digests` in it, and length.
    fn settle(
        &self,
        file: &OutputFile,
        late: &[Late],
        output: &publish::OutputFile,
        digests: &[String],
    ) -> Result<(Vec<u8>, u64)> {
        let completed = self.completed(digests);
        if late.is_empty() && completed.is_none() {
            return Ok((file.header.clone(), file.len));
        }
        let mut infos: Vec<TensorInfo> = file.tensors.iter().map(|(_, t)| t.info.clone()).collect();
        for late in late {
            infos[late.index].shape = vec![late.bytes.len()];
        }
        match completed.as_ref().unwrap_or(&self.container) {
            Container::Safetensors { metadata, .. } => {
                let layout = safetensors::layout_padded(metadata, &infos, file.header.len())?;
                for late in late {
                    output.write_at(&late.bytes, layout.offsets[late.index])?;
                }
                output.truncate(layout.len)?;
                Ok((layout.header, layout.len))
            }
            Container::Gguf(metadata) => Ok((gguf::layout(metadata, &infos)?.header, file.len)),
        }
    }

    fn run_tasks(
        &self,
        outputs: &[publish::OutputFile],
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Done> {
        let (jobs, tasks) = self.tasks();
        let tasks = self.with_digest_tasks(tasks);
        // More threads than tasks would only wait.
        let threads = threads.min(tasks.len().max(1));
        let pool = pool(threads)?;
        // Results are summed in order, so that the report does not depend on which thread finished first.
        let told = AtomicU64::new(0);
        let one = |scratch: &mut Scratch, task| {
            if progress.cancelled() {
                return Err(Error::from(Problem::Interrupted));
            }
            let (outcome, bytes) = run_task(task, &jobs, outputs, scratch)?;
            told.fetch_add(bytes, Ordering::Relaxed);
            progress.advance(bytes);
            Ok(outcome)
        };
        let done = pool.install(|| in_order_with(&tasks, one))?;
        let mut retention = vec![Retention::default(); jobs.len()];
        let (mut subtrees, mut late) = (Vec::new(), Vec::new());
        for (task, outcome) in tasks.iter().zip(done) {
            match outcome {
                Outcome::Computed(part, settled) => {
                    retention[task.job].add(part);
                    late.extend(settled);
                }
                Outcome::Written => {}
                Outcome::Hashed(subtree) => subtrees.push(subtree),
            }
        }
        let edited = jobs.iter().zip(retention).filter(|(job, _)| job.compute.edits());
        let tensors = edited.map(|(job, retention)| TensorRetention {
            name: job.tensor.info.name.clone(),
            stored_as: job.tensor.stored_as(),
            retention,
        });
        Ok(Done { retention: tensors.collect(), subtrees, late, told: told.into_inner() })
    }

    /// Puts the hashing of inputs between the tasks at an even pace. What is hashed was just read for the output, or is
    /// about to be, if both go through the files in the same order.
    pub(super) fn with_digest_tasks<'p>(&'p self, tasks: Vec<Task<'p>>) -> Vec<Task<'p>> {
        let hashed: u64 = self.hashed().map(digest::bytes).sum();
        let mut position = 0;
        let mut pieces = self.hashed().flat_map(digest::pieces).map(|piece| {
            let share = position as f64 / hashed.max(1) as f64;
            position += piece.bytes.end - piece.bytes.start;
            (share, Task { job: 0, file: 0, offset: 0, part: Part::Digest(piece) })
        });
        let whole = self.output_bytes();
        let starts: Vec<u64> =
            self.files.iter().scan(0, |end, f| Some(std::mem::replace(end, *end + f.len))).collect();
        let mut next = pieces.next();
        let mut paced = Vec::new();
        for task in tasks {
            let share = (starts[task.file] + task.offset) as f64 / whole as f64;
            while let Some((_, piece)) = next.take_if(|(at, _)| *at <= share) {
                paced.push(piece);
                next = pieces.next();
            }
            paced.push(task);
        }
        paced.extend(next.into_iter().chain(pieces).map(|(_, piece)| piece));
        paced
    }

    pub(super) fn tasks(&self) -> (Vec<Job<'_>>, Vec<Task<'_>>) {
        let (mut jobs, mut tasks) = (Vec::new(), Vec::new());
        let mut parts = self.places_of_parts();
        for (file, output) in self.files.iter().enumerate() {
            for (offset, tensor) in &output.tensors {
                match &tensor.recipe {
                    Recipe::Copy(source) => {
                        let len = tensor.info.byte_len();
                        let checker = self.checker(source);
                        let step = copy::whole_blocks(source.info().dtype, COPY);
                        for start in (0..len).step_by(step as usize) {
                            let part = Part::Bytes(source, checker, start, (start + step).min(len));
                            tasks.push(Task { job: 0, file, offset: offset + start, part });
                        }
                    }
                    Recipe::Part { .. } => {}
                    Recipe::Bytes(bytes) => {
                        tasks.push(Task { job: 0, file, offset: *offset, part: Part::Given(tensor, bytes) });
                    }
                    Recipe::Compute(compute) => {
                        let step = (PANEL / compute.cols.max(1)).max(1).next_multiple_of(4);
                        let step = step.next_multiple_of(compute.rows_of_panel());
                        let starts = (0..compute.rows).step_by(step);
                        let job = jobs.len();
                        let parts = parts.remove(tensor.info.name.as_str()).unwrap_or_default();
                        jobs.push(Job::new(tensor, compute, parts, starts.len()));
                        for start in starts {
                            let offset = offset + tensor.bytes_before(compute, start);
                            let part = Part::Rows(start, (start + step).min(compute.rows));
                            tasks.push(Task { job, file, offset, part });
                        }
                    }
                }
            }
        }
        (jobs, tasks)
    }

    /// Where the parts of packed tensors go, by the name of the tensor.
    fn places_of_parts(&self) -> HashMap<&str, Vec<Place>> {
        let mut places: HashMap<&str, Vec<Place>> = HashMap::new();
        for (file, output) in self.files.iter().enumerate() {
            for (index, (offset, tensor)) in output.tensors.iter().enumerate() {
                if let Recipe::Part { of, part } = &tensor.recipe {
                    places.entry(of).or_default().push(Place { part: *part, file, index, offset: *offset });
                }
            }
        }
        places
    }

    /// Reads the staged output's headers with the strict reader before anything is published.
    fn reopen(&self, staged: &Path) -> Result<()> {
        let written = Checkpoint::open(staged, &Reader::new(ReadMode::Positioned))?;
        let (found, planned) = (written.tensors().len(), self.tensors().count());
        if found != planned {
            return Err(Error::from(Problem::Reread { found, planned }).at(self.target().path()));
        }
        Ok(())
    }
}

fn run_task<'p>(
    task: &Task<'p>,
    jobs: &[Job<'p>],
    outputs: &[publish::OutputFile],
    scratch: &mut Scratch,
) -> Result<(Outcome, u64)> {
    let output = &outputs[task.file];
    match &task.part {
        &Part::Bytes(source, checker, start, end) => {
            match checker {
                Some(checker) => {
                    copy::copy_checked(source, checker, (start, end), output, task.offset)?;
                }
                None => copy::copy(source, start, end, output, task.offset)?,
            }
            Ok((Outcome::Written, end - start))
        }
        &Part::Given(tensor, bytes) => {
            copy::check_given(tensor, bytes)?;
            output.write_at(bytes, task.offset)?;
            Ok((Outcome::Written, bytes.len() as u64))
        }
        &Part::Rows(start, end) => {
            let job = &jobs[task.job];
            let prepared = job.prepared()?;
            let retention = prepared.rows(start..end, scratch)?;
            drop(prepared);
            output.write_at(&scratch.bytes, task.offset)?;
            job.take_scales(start, &scratch.scales, outputs)?;
            let late = job.finish_task(outputs)?;
            Ok((Outcome::Computed(retention, late), scratch.bytes.len() as u64))
        }
        Part::Digest(piece) => Ok((Outcome::Hashed(piece.hash()?), 0)),
    }
}
