//! Computed tensors that wait to be written.
//!
//! The factors of most adapters are small and held in memory. Those of a large adapter wait in an unnamed file next to
//! the output, so memory does not grow with the adapter.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use lorakit_quant::{Encoder, codec, encoder};
use lorakit_tensor::{DType, Extent, Result as TensorResult, Spill, TensorInfo, TensorSource};

use super::{Problem, first_bad};
use crate::{Error, Result, TensorRef};

/// Number of bytes held in memory; anything beyond them waits in a file.
const HELD: u64 = 32 << 20;

/// Stands in messages for the path of values that do not come from a file.
const IN_MEMORY: &str = "(in memory)";

/// The place where computed tensors of one output wait.
#[derive(Debug, Clone)]
pub(crate) struct Shelf(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    /// How much may be held in memory.
    most: u64,
    held: AtomicU64,
    /// The file, created when it is needed; `None` where it cannot be created.
    spill: OnceLock<Option<Arc<Spill>>>,
}

/// A tensor that waits to be written.
struct Waiting {
    info: [TensorInfo; 1],
    bytes: Bytes,
    path: PathBuf,
}

enum Bytes {
    Held(Vec<u8>),
    /// Bytes in this file, from this offset on.
    Spilled(Arc<Spill>, u64),
    /// Only zeros.
    Zero,
}

impl Shelf {
    /// Returns the shelf for `output`, a file or folder.
    pub(crate) fn beside(output: &Path) -> Self {
        Self::holding(HELD, output.parent().unwrap_or(Path::new("")))
    }

    fn holding(most: u64, folder: &Path) -> Self {
        let held = AtomicU64::new(0);
        let spill = OnceLock::new();
        Shelf(Arc::new(Inner { folder: folder.to_path_buf(), most, held, spill }))
    }

    /// Returns `values` as a tensor of that dtype and shape, called `name`, computed from the file `path`.
    ///
    /// # Errors
    /// `Unsupported` for a dtype whose blocks the rows do not fill, or without an encoder; `NonFinite` for values that are not finite or
    /// that the dtype cannot hold.
    pub(crate) fn tensor(
        &self,
        name: &str,
        path: &Path,
        dtype: DType,
        shape: Vec<usize>,
        values: &[f32],
    ) -> Result<TensorRef> {
        let (info, bytes) = encoded(name, path, dtype, shape, values)?;
        Ok(waiting(info, self.put(bytes), path))
    }

    /// Where no file can be created, the bytes are held in memory; if that matters, writing the output fails as well.
    fn put(&self, bytes: Vec<u8>) -> Bytes {
        let before = self.0.held.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if before + bytes.len() as u64 <= self.0.most {
            return Bytes::Held(bytes);
        }
        let spill = self.0.spill.get_or_init(|| Spill::in_folder(&self.0.folder).ok().map(Arc::new));
        match spill.as_ref().and_then(|spill| Some((Arc::clone(spill), spill.push(&bytes).ok()?))) {
            Some((spill, offset)) => Bytes::Spilled(spill, offset),
            None => Bytes::Held(bytes),
        }
    }
}

impl TensorRef {
    /// Returns `values`, row by row, as a tensor in memory of that dtype and shape, outermost dimension first. Messages
    /// call it `name`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) if the values do not fill the shape;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a dtype that does not hold values one by one;
    /// [`ErrorKind::NonFinite`](crate::ErrorKind::NonFinite) for NaN, infinity, and what the dtype cannot hold.
    pub fn of_values(
        name: impl Into<String>,
        dtype: DType,
        shape: impl Into<Vec<usize>>,
        values: &[f32],
    ) -> Result<Self> {
        let name = name.into();
        let shape = shape.into();
        if TensorInfo::count(&shape) != Some(values.len() as u64) {
            return Err(Error::from(Problem::Unfilled { values: values.len(), shape }).tensor(&name));
        }
        Self::in_memory(&name, Path::new(IN_MEMORY), dtype, shape, values)
    }

    /// As [`Shelf::tensor`], for small tensors, which are held in memory.
    ///
    /// # Errors
    /// As [`Shelf::tensor`].
    pub(crate) fn in_memory(
        name: &str,
        path: &Path,
        dtype: DType,
        shape: Vec<usize>,
        values: &[f32],
    ) -> Result<Self> {
        let (info, bytes) = encoded(name, path, dtype, shape, values)?;
        Ok(waiting(info, Bytes::Held(bytes), path))
    }

    /// A tensor of zeros, which takes no memory.
    ///
    /// # Errors
    /// As [`Shelf::tensor`].
    pub(crate) fn of_zeros(name: &str, path: &Path, dtype: DType, shape: Vec<usize>) -> Result<Self> {
        encoder_of_rows(name, dtype, &shape)?;
        Ok(waiting(TensorInfo { name: name.to_string(), dtype, shape }, Bytes::Zero, path))
    }
}

fn waiting(info: TensorInfo, bytes: Bytes, path: &Path) -> TensorRef {
    TensorRef::new(Arc::new(Waiting { info: [info], bytes, path: path.to_path_buf() }), 0)
}

fn encoded(
    name: &str,
    path: &Path,
    dtype: DType,
    shape: Vec<usize>,
    values: &[f32],
) -> Result<(TensorInfo, Vec<u8>)> {
    let encoder = encoder_of_rows(name, dtype, &shape)?;
    let mut bytes = vec![0; dtype.byte_len(values.len() as u64).unwrap_or(0) as usize];
    encoder.encode(values, &mut bytes);
    if codec(dtype).is_some_and(|codec| !codec.all_finite(&bytes)) {
        return Err(Error::from(beyond(values, dtype, shape)).tensor(name).at(path));
    }
    let info = TensorInfo { name: name.to_string(), dtype, shape };
    debug_assert_eq!(info.elements(), values.len() as u64);
    Ok((info, bytes))
}

/// The encoder of a dtype of which each row is a whole number of blocks.
fn encoder_of_rows(name: &str, dtype: DType, shape: &[usize]) -> Result<&'static dyn Encoder> {
    let row = shape.last().copied().unwrap_or(1);
    let encoder = encoder(dtype).filter(|_| row.is_multiple_of(dtype.block().elements));
    encoder.ok_or_else(|| Error::from(Problem::NoSingleValues { dtype }).tensor(name))
}

/// The problem of the first of `values` that is not finite, or else of the largest, which `dtype` cannot hold.
fn beyond(values: &[f32], dtype: DType, shape: Vec<usize>) -> Problem {
    match first_bad(values) {
        Some((element, value)) => Problem::Computed { value, shape, element },
        None => {
            let largest = values.iter().enumerate().max_by(|(_, x), (_, y)| x.abs().total_cmp(&y.abs()));
            let (element, value) = largest.map_or((0, 0.0), |(at, value)| (at as u64, *value));
            Problem::Beyond { value, shape, element, dtype }
        }
    }
}

impl TensorSource for Waiting {
    fn tensors(&self) -> &[TensorInfo] {
        &self.info
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.info.iter().position(|info| info.name == name)
    }

    fn read(&self, _: usize, range: Range<u64>) -> TensorResult<Cow<'_, [u8]>> {
        let len = (range.end - range.start) as usize;
        match &self.bytes {
            Bytes::Held(bytes) => Ok(Cow::Borrowed(&bytes[range.start as usize..range.end as usize])),
            Bytes::Spilled(spill, start) => spill.read(start + range.start, len).map(Cow::Owned),
            Bytes::Zero => Ok(Cow::Owned(vec![0; len])),
        }
    }

    fn extent(&self, _: usize) -> Option<Extent<'_>> {
        None
    }

    fn path_of(&self, _: usize) -> &Path {
        &self.path
    }

    fn is_computed(&self, _: usize) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_the_dtype_cannot_hold() {
        let made = |dtype, values: &[f32]| {
            TensorRef::in_memory("w", Path::new("a"), dtype, vec![2, 2], values).map_err(|e| e.to_string())
        };
        assert!(made(DType::F32, &[1.0, 1e38, 0.0, 2.0]).is_ok());
        assert_eq!(
            made(DType::F16, &[1.0, 7e4, -8e4, 2.0]).unwrap_err(),
            "`a`: `w`: comes to -8e4 at row 1, column 0, which F16 cannot hold"
        );
        assert_eq!(
            made(DType::F32, &[1.0, 1.0, 1.0, f32::NAN]).unwrap_err(),
            "`a`: `w`: comes to NaN at row 1, column 1 when it is computed"
        );
    }

    #[test]
    fn what_is_too_much_to_hold_reads_as_what_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let values: Vec<f32> = (0..6).map(|i| i as f32).collect();
        for folder in [folder.path(), &folder.path().join("none")] {
            let shelf = Shelf::holding(30, folder);
            let make =
                |name: &str| shelf.tensor(name, Path::new("from"), DType::F32, vec![2, 3], &values).unwrap();
            let [held, spilled, more] = ["a", "b", "c"].map(make);
            let spill = shelf.0.spill.get().and_then(Option::as_ref);
            assert_eq!(spill.is_some(), folder.exists(), "30 bytes hold the first of three");
            for tensor in [held, spilled, more] {
                assert_eq!(tensor.values().unwrap(), values);
                assert_eq!(*tensor.read(6..11).unwrap(), tensor.read(0..24).unwrap()[6..11]);
                assert_eq!(tensor.path(), Path::new("from"));
            }
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn zeros_are_zeros() {
        let zeros = TensorRef::of_zeros("z", Path::new("from"), DType::BF16, vec![2, 2]).unwrap();
        assert_eq!(zeros.values().unwrap(), [0.0; 4]);
        let blocks = |shape| TensorRef::of_zeros("z", Path::new("from"), DType::Q8_0, shape);
        assert!(blocks(vec![32, 2]).is_err(), "rows of two values are no blocks");
        assert_eq!(blocks(vec![2, 32]).unwrap().values().unwrap(), [0.0; 64]);
    }

    #[test]
    fn rows_of_whole_blocks_are_encoded() {
        let values: Vec<f32> = (0..64).map(|i| i as f32 - 31.0).collect();
        let made = |shape| TensorRef::in_memory("w", Path::new("a"), DType::Q8_0, shape, &values);
        let read = made(vec![2, 32]).unwrap().values().unwrap();
        assert!(
            read.iter().zip(&values).all(|(read, value)| (read - value).abs() <= 0.5 * 32.0 / 127.0 + 0.02)
        );
        assert!(made(vec![32, 2]).is_err());
    }
}
