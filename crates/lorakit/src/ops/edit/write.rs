//! The edited files, laid out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lorakit_tensor::{DType, Format};

use super::options::EditOptions;
use super::rounding::{self, Rounding};
use super::work::{CONFIG, Header, Item, Work};
use crate::adapter::Adapter;
use crate::adapter::format::{Draft, by_name};
use crate::lineage::Papers;
use crate::model::folder::side_files_of;
use crate::output::{AdapterOutput, Destination, Redraft};
use crate::plan::{Container, Content, OutputTensor, PROVENANCE_KEY, Progress, go_on, in_order};
use crate::tensor::Shelf;
use crate::{Base, Finding, Result, Severity, TensorRef};

/// What is written besides what is in [`Work`].
pub(super) struct Written {
    pub(super) stem: Option<&'static str>,
    pub(super) beside: BTreeMap<PathBuf, Content>,
    pub(super) computed: Vec<Option<(TensorRef, Rounding)>>,
    pub(super) papers: Papers,
    /// What the output must do.
    pub(super) meant: Adapter,
    pub(super) base: Option<Base>,
}

impl Item {
    /// Whether its bytes or its name change.
    pub(super) fn is_edited(&self) -> bool {
        self.is_computed() || self.name != self.tensor.info().name
    }

    fn is_computed(&self) -> bool {
        self.value.is_some() || self.times != 1.0 || self.dtype != self.tensor.info().dtype
    }
}

/// Computes the tensors whose values change; `None` for the others.
///
/// # Errors
/// As [`rounding::product`].
pub(super) fn compute(
    work: &Work<'_>,
    shelf: &Shelf,
    progress: &dyn Progress,
) -> Result<Vec<Option<(TensorRef, Rounding)>>> {
    let changing = work.tensors.iter().filter(|item| item.is_computed());
    progress.begin(changing.map(|item| item.tensor.info().byte_len()).sum());
    in_order(&work.tensors, |item| {
        if !item.is_computed() {
            return Ok(None);
        }
        go_on(progress, "anything was written")?;
        let made = match item.value {
            Some(value) => (alpha(item, value)?, Rounding::default()),
            None => rounding::product(&item.tensor, item.times, item.dtype, shelf)?,
        };
        progress.advance(item.tensor.info().byte_len());
        Ok(Some(made))
    })
}

/// An alpha in its own dtype if that can hold it, else as F32.
fn alpha(item: &Item, value: f64) -> Result<TensorRef> {
    let info = item.tensor.info();
    let made = |dtype: DType| {
        TensorRef::in_memory(&info.name, item.tensor.path(), dtype, info.shape.clone(), &[value as f32])
    };
    let own = made(info.dtype).ok();
    let exact = |made: &TensorRef| made.values().is_ok_and(|values| values == [value as f32]);
    own.filter(exact).map_or_else(|| made(DType::F32), Ok)
}

/// Lays the edited adapter out. Also returns what rounding did, and the number of tensors that are copied.
///
/// # Errors
/// As [`AdapterOutput::redrafted`].
pub(super) fn output(
    work: &Work<'_>,
    written: Written,
    options: &EditOptions,
    notes: &mut Vec<Finding>,
) -> Result<(AdapterOutput, Option<Rounding>, usize)> {
    let Written { stem, mut beside, computed, papers, meant, base } = written;
    let source = &work.files.source;
    let copied = computed.iter().filter(|made| made.is_none()).count();
    let rounding = computed.iter().flatten().map(|(_, rounding)| *rounding).reduce(Rounding::and);
    let tensor = |(item, made): (&Item, Option<(TensorRef, Rounding)>)| {
        let tensor = made.map_or_else(|| item.tensor.clone(), |(made, _)| made);
        OutputTensor::copy(tensor).named(&item.name)
    };
    let tensors = work.tensors.iter().zip(computed).map(tensor).collect();
    let mut note = |message: String| notes.push(Finding::new(Severity::Note, "container", "", message));
    let container = match &work.header {
        Header::Gguf(metadata) => Container::Gguf(metadata.clone()),
        Header::Safetensors(metadata) => {
            let (stem, mut metadata) = (stem.unwrap_or("adapter"), metadata.clone());
            if source.format() != Format::Safetensors {
                metadata.entry("format".into()).or_insert_with(|| "pt".into());
                note(format!(
                    "`{}` is a Torch archive; its tensors are written as safetensors",
                    name_of(source.path())
                ));
            } else if source.files().len() > 1 {
                note(format!("its {} tensor files are written as one", source.files().len()));
            }
            Container::Safetensors { stem, metadata, max_shard: u64::MAX }
        }
    };
    if let Some(config) = work.config.as_ref().filter(|_| stem.is_some()) {
        let changed = work.changes.iter().any(|change| change.place.starts_with(CONFIG));
        if changed {
            beside.insert(CONFIG.into(), Content::bytes(config.bytes()));
        }
    }
    let side_files = side_files_of(beside);
    let draft = Draft { stem, container, tensors, side_files, mapped: Vec::new() };
    let header = if papers.provenance.is_none() { same_header(work)? } else { None };
    // It has been read, so there is one.
    let format = by_name(work.read.format).ok_or_else(|| work.files.no_adapter())?;
    let destination = Destination {
        format,
        output: &options.output,
        replace: options.replace,
        dtype: None,
        reader: work.files.reader.clone(),
        papers,
        beside: Vec::new(),
    };
    let redraft = Redraft { draft, header, hashed: work.hashed };
    let rounding = rounding.filter(|rounding| rounding.tensors > 0);
    Ok((AdapterOutput::redrafted(redraft, meant, base, &destination)?, rounding, copied))
}

/// The bytes of the header, if the file stays the same: they say what the planned one says, maybe in another spelling.
fn same_header(work: &Work<'_>) -> Result<Option<Vec<u8>>> {
    let source = &work.files.source;
    let Header::Safetensors(metadata) = &work.header else { return Ok(None) };
    let same = metadata == work.files.metadata() && !metadata.contains_key(PROVENANCE_KEY);
    let [file] = source.files() else { return Ok(None) };
    if !same || source.format() != Format::Safetensors || work.tensors.iter().any(Item::is_edited) {
        return Ok(None);
    }
    let mut length = [0; 8];
    length.copy_from_slice(&file.read(0, 8)?);
    Ok(Some(file.read(0, u64::from_le_bytes(length) as usize + 8)?.into_owned()))
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
