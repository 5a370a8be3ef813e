//! One tensor of an opened source, as recipes hold it.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use lorakit_quant::codec;
use lorakit_tensor::{Extent, TensorInfo, TensorSource};

use crate::{Error, ErrorKind, Result};

/// A tensor that can be read, without its bytes.
#[derive(Clone)]
pub struct TensorRef {
    source: Arc<dyn TensorSource>,
    index: usize,
}

/// What one look at every value of a tensor tells.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Whether every value is zero.
    pub(crate) zero: bool,
    /// Number of NaN and infinite values.
    pub(crate) non_finite: u64,
    /// The first of those.
    pub(crate) first_bad: Option<f32>,
}

impl TensorRef {
    /// Tensor `index` of `source`.
    pub fn new(source: Arc<dyn TensorSource>, index: usize) -> Self {
        TensorRef { source, index }
    }

    /// Name, dtype and shape.
    pub fn info(&self) -> &TensorInfo {
        &self.source.tensors()[self.index]
    }

    /// The given bytes, counted from the tensor's first.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(&self, bytes: Range<u64>) -> Result<Cow<'_, [u8]>> {
        Ok(self.stored(bytes)?)
    }

    /// As [`Self::read`], for views, whose errors are those of the files beneath.
    pub(crate) fn stored(&self, bytes: Range<u64>) -> lorakit_tensor::Result<Cow<'_, [u8]>> {
        self.source.read(self.index, bytes)
    }

    /// Where the bytes lie as one run, for kernel-side copies.
    pub(crate) fn extent(&self) -> Option<Extent<'_>> {
        self.source.extent(self.index)
    }

    /// Values `elements` (whole blocks) decoded to f32 into `out`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a dtype without a decoder; if the file cannot be read.
    pub fn decode(&self, elements: Range<u64>, out: &mut [f32]) -> Result<()> {
        let info = self.info();
        let codec = codec(info.dtype).ok_or_else(|| self.no_decoder())?;
        let byte = |element| info.dtype.byte_len(element).unwrap_or(0);
        let bytes = self.read(byte(elements.start)..byte(elements.end))?;
        codec.decode(&bytes, out);
        Ok(())
    }

    /// All values as f32; for small tensors.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn values(&self) -> Result<Vec<f32>> {
        let n = self.info().elements();
        let mut out = vec![0.0; n as usize];
        self.decode(0..n, &mut out)?;
        Ok(out)
    }

    /// Calls `each` with consecutive pieces of the decoded values, at most 64 Ki at a time.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn for_each_piece(&self, mut each: impl FnMut(&[f32])) -> Result<()> {
        const PIECE: u64 = 1 << 16;
        let n = self.info().elements();
        let mut buffer = vec![0.0; n.min(PIECE) as usize];
        let mut start = 0;
        while start < n {
            let end = (start + PIECE).min(n);
            let piece = &mut buffer[..(end - start) as usize];
            self.decode(start..end, piece)?;
            each(piece);
            start = end;
        }
        Ok(())
    }

    /// Looks at every value once.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub(crate) fn scan(&self) -> Result<Scan> {
        let mut scan = Scan { zero: true, non_finite: 0, first_bad: None };
        self.for_each_piece(|values| {
            scan.zero &= values.iter().all(|v| *v == 0.0);
            let mut bad = values.iter().copied().filter(|v| !v.is_finite());
            if let Some(first) = bad.next() {
                scan.first_bad.get_or_insert(first);
                scan.non_finite += 1 + bad.count() as u64;
            }
        })?;
        Ok(scan)
    }

    /// Whether `other` has the same shape and dtype and holds the same stored bytes.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn same_values(&self, other: &TensorRef) -> Result<bool> {
        const PIECE: u64 = 4 << 20;
        let (a, b) = (self.info(), other.info());
        if (a.dtype, &a.shape) != (b.dtype, &b.shape) {
            return Ok(false);
        }
        for start in (0..a.byte_len()).step_by(PIECE as usize) {
            let range = start..(start + PIECE).min(a.byte_len());
            if self.read(range.clone())? != other.read(range)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(crate) fn no_decoder(&self) -> Error {
        let info = self.info();
        let message = format!("is stored as {}, which cannot be decoded to numbers", info.dtype);
        Error::new(ErrorKind::Unsupported, message).at(self.source.path_of(self.index)).tensor(&info.name)
    }

    /// The file that holds it, for messages.
    pub fn path(&self) -> &std::path::Path {
        self.source.path_of(self.index)
    }
}

impl fmt::Debug for TensorRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TensorRef").field(self.info()).finish()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use lorakit_tensor::{DType, Result as TensorResult};

    use super::*;

    struct Given([TensorInfo; 1], Vec<u8>);

    impl TensorSource for Given {
        fn tensors(&self) -> &[TensorInfo] {
            &self.0
        }

        fn find(&self, name: &str) -> Option<usize> {
            (self.0[0].name == name).then_some(0)
        }

        fn read(&self, _: usize, bytes: Range<u64>) -> TensorResult<Cow<'_, [u8]>> {
            Ok(Cow::Borrowed(&self.1[bytes.start as usize..bytes.end as usize]))
        }

        fn extent(&self, _: usize) -> Option<Extent<'_>> {
            None
        }

        fn path_of(&self, _: usize) -> &Path {
            Path::new("given")
        }
    }

    /// An F32 tensor of these values.
    pub(crate) fn tensor(name: &str, shape: &[usize], values: &[f32]) -> TensorRef {
        let info = TensorInfo { name: name.to_string(), dtype: DType::F32, shape: shape.to_vec() };
        given(info, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// A tensor of these stored bytes.
    pub(crate) fn given(info: TensorInfo, bytes: Vec<u8>) -> TensorRef {
        TensorRef::new(Arc::new(Given([info], bytes)), 0)
    }
}
