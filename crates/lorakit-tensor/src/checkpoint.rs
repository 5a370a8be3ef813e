//! One or more files opened as one list of tensors.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(doc)]
use crate::ErrorKind;
use crate::checksum::Checksum;
use crate::file_problem::Problem;
use crate::format::gguf::SplitName;
use crate::format::{Stored, gguf, safetensors, torch};
use crate::sniff::{self, Format};
use crate::{Error, Extent, Reader, Result, Storage, TensorInfo, TensorSource};

/// An opened checkpoint: headers parsed and checked, data untouched.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    format: Format,
    files: Vec<Storage>,
    tensors: Vec<TensorInfo>,
    places: Vec<Place>,
    index: HashMap<String, usize>,
    metadata: BTreeMap<String, String>,
    gguf: Option<gguf::Metadata>,
}

#[derive(Debug)]
struct Place {
    file: usize,
    offset: u64,
    transposed: bool,
    checksum: Option<Arc<Checksum>>,
}

/// File names that are tried in a folder, in this order, as `transformers` does.
const MODELS: &[&str] = &[
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];
/// Names that are tried if nothing else is a checkpoint: an adapter may lie in the folder of its base.
const ADAPTERS: &[&str] = &["adapter_model.safetensors", "adapter_model.bin"];
/// What training leaves beside an adapter, and what is never one itself.
const STATES: &[&str] = &["optimizer.safetensors"];

impl Checkpoint {
    /// Opens a file, an index file, or the checkpoint inside a folder. The content of a file decides its format.
    ///
    /// # Errors
    /// Any [`ErrorKind`] of the readers; [`ErrorKind::MissingShard`] names a shard that is not there.
    pub fn open(path: &Path, reader: &Reader) -> Result<Self> {
        reader.name(path);
        let found = if path.is_dir() { find_in_folder(path, reader)? } else { path.to_path_buf() };
        let name = found.file_name().unwrap_or_default();
        if ends_with(name, ".index.json") {
            return Self::open_sharded(&found, reader);
        }
        let mut checkpoint = Self::empty(&found);
        match checkpoint.add(reader.open(&found)?)? {
            Some((split, _)) => Self::open_split(&found, &split, reader),
            None => Ok(checkpoint),
        }
    }

    /// The files that [`Self::open`] reads there, as far as their names and an index tell: the index and its shards, all
    /// parts of a split model that are there, or a single file. Shards need not exist, and what is not an index lists
    /// none.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] and [`ErrorKind::Several`] for a folder without a checkpoint, or with more than one.
    pub fn files_at(path: &Path, reader: &Reader) -> Result<Vec<PathBuf>> {
        let found = if path.is_dir() { find_in_folder(path, reader)? } else { path.to_path_buf() };
        let folder = found.parent().unwrap_or(Path::new(""));
        let name = found.file_name().unwrap_or_default();
        let others: Vec<OsString> = if ends_with(name, ".index.json") {
            let pairs = safetensors::read_index(&found, reader).unwrap_or_default();
            pairs.into_iter().map(|(_, shard)| shard.into()).collect()
        } else if let Some(SplitName { stem, count, .. }) = gguf::parse_split_name(name) {
            // How many there are is only what a name says.
            let parts = (1..=count).map(|number| gguf::split_name(&stem, number, count));
            parts.take_while(|part| folder.join(part).exists()).collect()
        } else {
            Vec::new()
        };
        let mut files: BTreeSet<PathBuf> = others.iter().map(|name| folder.join(name)).collect();
        files.insert(found);
        Ok(files.into_iter().collect())
    }

    fn open_sharded(index_path: &Path, reader: &Reader) -> Result<Self> {
        let pairs = safetensors::read_index(index_path, reader)?;
        let folder = index_path.parent().unwrap_or(Path::new(""));
        let mut checkpoint = Self::empty(index_path);
        let shards: BTreeSet<&str> = pairs.iter().map(|(_, file)| file.as_str()).collect();
        for shard in &shards {
            let path = folder.join(shard);
            if !reader.has(&path)? {
                let index = file_name(index_path);
                return Err(Error::from(Problem::MissingShard { index }).at(&path));
            }
            checkpoint.add(reader.open(&path)?)?;
        }
        for (tensor, file) in &pairs {
            let holder = checkpoint.find(tensor).map(|i| file_name(checkpoint.path_of(i)));
            let problem = match holder {
                Some(found) if found == *file => continue,
                Some(found) => Problem::InOtherShard { stated: file.clone(), found },
                None => Problem::InNoShard { stated: file.clone() },
            };
            return Err(Error::from(problem).at(index_path).tensor(tensor));
        }
        if pairs.len() != checkpoint.tensors.len() {
            let listed: std::collections::HashSet<&str> = pairs.iter().map(|(t, _)| t.as_str()).collect();
            let extra = checkpoint.tensors.iter().find(|t| !listed.contains(t.name.as_str()));
            let name = extra.map_or("", |t| &t.name);
            return Err(Error::from(Problem::Unlisted).at(index_path).tensor(name));
        }
        Ok(checkpoint)
    }

    fn open_split(path: &Path, split: &SplitName, reader: &Reader) -> Result<Self> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut checkpoint = Self::empty(path);
        let mut stated = None;
        for number in 1..=split.count {
            let part = folder.join(gguf::split_name(&split.stem, number, split.count));
            if !reader.has(&part)? {
                let problem = Problem::MissingPart { sibling: file_name(path), count: split.count };
                return Err(Error::from(problem).at(&part));
            }
            let of_part = checkpoint.add(reader.open(&part)?)?;
            stated = stated.or(of_part.and_then(|(_, header)| header.tensors));
        }
        match (checkpoint.tensors.len() as u64, stated) {
            (found, Some(stated)) if found != stated => {
                let problem = Problem::PartTensors { count: split.count, found, stated };
                Err(Error::from(problem).at(path))
            }
            _ => Ok(checkpoint),
        }
    }

    fn empty(path: &Path) -> Self {
        Checkpoint {
            path: path.to_path_buf(),
            format: Format::Safetensors,
            files: Vec::new(),
            tensors: Vec::new(),
            places: Vec::new(),
            index: HashMap::new(),
            metadata: BTreeMap::new(),
            gguf: None,
        }
    }

    /// Parses one more file, and says which part of a split model it is, by its name and by its header. The metadata of
    /// the first file, without what they say of its place among others, are those of the checkpoint.
    fn add(&mut self, storage: Storage) -> Result<Option<(SplitName, gguf::Part)>> {
        let extension =
            storage.path().extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
        let head = storage.read(0, storage.len().min(64) as usize)?;
        let format = sniff::format(&head, &extension).map_err(|e| e.at(storage.path()))?;
        if !self.files.is_empty() && format != self.format {
            let problem = Problem::MixedFormats { found: format.name(), others: self.format.name() };
            return Err(Error::from(problem).at(storage.path()));
        }
        drop(head);
        self.format = format;
        let first = self.files.is_empty();
        let mut part = None;
        let stored: Vec<Stored> = match format {
            Format::Safetensors => {
                let header = safetensors::read_header(&storage)?;
                if first {
                    self.metadata = header.metadata;
                }
                header.tensors
            }
            Format::Gguf => {
                let mut header = gguf::read_header(&storage)?;
                let name = storage.path().file_name().unwrap_or_default();
                let stated = gguf::take_part(&mut header.metadata);
                part = stated.and_then(|header| part_of(name, header)).map_err(|e| e.at(storage.path()))?;
                if first {
                    self.gguf = Some(header.metadata);
                }
                header.tensors
            }
            Format::Torch => torch::read_header(&storage)?,
        };
        let file = self.files.len();
        for Stored { info, offset, transposed, checksum } in stored {
            if self.index.insert(info.name.clone(), self.tensors.len()).is_some() {
                return Err(Error::from(Problem::InTwoShards).at(storage.path()).tensor(&info.name));
            }
            self.tensors.push(info);
            self.places.push(Place { file, offset, transposed, checksum });
        }
        self.files.push(storage);
        Ok(part)
    }

    /// The file or index that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files, in shard order.
    pub fn files(&self) -> &[Storage] {
        &self.files
    }

    /// The format of all files.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The `__metadata__` strings of the first safetensors file.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The metadata of a GGUF checkpoint.
    pub fn gguf(&self) -> Option<&gguf::Metadata> {
        self.gguf.as_ref()
    }

    /// Compares the bytes around a tensor with the sum that its file gives, unless that was done before.
    fn check(&self, place: &Place) -> Result<()> {
        place.checksum.as_ref().map_or(Ok(()), |checksum| checksum.check(&self.files[place.file]))
    }

    /// Position in [`Self::files`] of the file that holds tensor `index`.
    pub fn file_of(&self, index: usize) -> usize {
        self.places[index].file
    }

    /// Whether tensor `index` is stored column by column, so that reading any of it reads the whole.
    pub fn is_transposed(&self, index: usize) -> bool {
        self.places[index].transposed
    }
}

impl TensorSource for Checkpoint {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    fn read(&self, index: usize, bytes: Range<u64>) -> Result<Cow<'_, [u8]>> {
        let (info, place) = (&self.tensors[index], &self.places[index]);
        assert!(bytes.end <= info.byte_len(), "bytes {bytes:?} of tensor `{}`", info.name);
        let file = &self.files[place.file];
        let run = |offset: u64, len: u64| file.read(place.offset + offset, len as usize);
        let result = self.check(place).and_then(|()| match place.transposed {
            true => run(0, info.byte_len()).map(|all| {
                let whole = transpose(&all, info);
                Cow::Owned(whole[bytes.start as usize..bytes.end as usize].to_vec())
            }),
            false => run(bytes.start, bytes.end - bytes.start),
        });
        result.map_err(|e| e.tensor(&info.name))
    }

    fn extent(&self, index: usize) -> Option<Extent<'_>> {
        let place = &self.places[index];
        // Bytes that fail their checksum must not be copied: reading them gives the error.
        let whole = !place.transposed && self.check(place).is_ok();
        whole.then(|| Extent { file: &self.files[place.file], offset: place.offset })
    }

    fn path_of(&self, index: usize) -> &Path {
        self.files[self.places[index].file].path()
    }
}

/// Row-major bytes of a matrix that is stored column-major.
fn transpose(stored: &[u8], info: &TensorInfo) -> Vec<u8> {
    let (rows, cols) = info.rows_cols();
    let size = info.dtype.block().bytes;
    let mut out = vec![0; stored.len()];
    for row in 0..rows {
        for col in 0..cols {
            let (to, from) = ((row * cols + col) * size, (col * rows + row) * size);
            out[to..to + size].copy_from_slice(&stored[from..from + size]);
        }
    }
    out
}

fn find_in_folder(folder: &Path, reader: &Reader) -> Result<PathBuf> {
    let first = |names: &[&str]| -> Result<Option<PathBuf>> {
        for path in names.iter().map(|name| folder.join(name)) {
            if reader.has(&path)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    };
    if let Some(path) = first(MODELS)? {
        return Ok(path);
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| Error::io("list", folder, e))? {
        let entry = entry.map_err(|e| Error::io("list", folder, e))?;
        names.push(entry.file_name());
    }
    names.retain(|name| !ADAPTERS.iter().chain(STATES).any(|other| name == other));
    names.sort();
    let ending = |suffix: &str| -> Vec<&OsString> { names.iter().filter(|n| ends_with(n, suffix)).collect() };
    for suffix in [".safetensors.index.json", ".safetensors", ".gguf"] {
        match ending(suffix).as_slice() {
            [] => {}
            [one] => return Ok(folder.join(one)),
            [first, others @ ..] if others.iter().all(|other| are_parts(first, other)) => {
                return Ok(folder.join(first));
            }
            many => {
                let problem = Problem::ManyCheckpoints { count: many.len(), suffix, first: many[0].into() };
                return Err(Error::from(problem).at(folder));
            }
        }
    }
    first(ADAPTERS)?.ok_or_else(|| Error::from(Problem::NoCheckpoint).at(folder))
}

/// Whether two names are those of parts of one model.
fn are_parts(one: &OsStr, other: &OsStr) -> bool {
    let split = |name| gguf::parse_split_name(name).map(|split| (split.stem, split.count));
    split(one).is_some() && split(one) == split(other)
}

/// Which part of a model a file is, if its header says that there are others. Its name must say the same: a part that
/// was renamed looks like a whole model that lacks tensors.
fn part_of(name: &OsStr, header: Option<gguf::Part>) -> Result<Option<(SplitName, gguf::Part)>> {
    match (gguf::parse_split_name(name).filter(|split| split.count > 1), header) {
        (Some(split), Some(header))
            if (split.index as u64, split.count as u64) == (header.number, header.count) =>
        {
            Ok(Some((split, header)))
        }
        (_, Some(gguf::Part { number, count, .. })) => Err(Problem::PartName { number, count }.into()),
        (Some(SplitName { index, count, .. }), None) => Err(Problem::PartByName { index, count }.into()),
        (None, None) => Ok(None),
    }
}

fn ends_with(name: &OsStr, suffix: &str) -> bool {
    name.as_bytes().ends_with(suffix.as_bytes())
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}
