//! A tensor of an opened source, and its views: rows in another order, parts of several tensors, decoded, computed.

mod computed;
mod decoded;
mod factor;
mod gathered;
mod memory;
mod mosaic;
mod problem;
mod retyped;
mod row_order;
mod step;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use lorakit_quant::{all_finite, codec};
use lorakit_tensor::{DType, Extent, Origin, TensorInfo, TensorSource};

pub(crate) use computed::Inputs;
pub use factor::Factor;
pub(crate) use memory::Shelf;
pub(crate) use problem::{Problem, place};
pub use row_order::RowOrder;
pub(crate) use step::step;

use crate::{Error, Result};

/// A handle to a tensor, without its bytes, that can be read.
#[derive(Clone)]
pub struct TensorRef {
    source: Arc<dyn TensorSource>,
    index: usize,
    /// Whether every value has been examined and found to be neither NaN nor infinite.
    known_finite: bool,
}

/// The findings of one pass over every value of a tensor.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Whether every value is zero.
    pub(crate) zero: bool,
    /// Number of NaN and infinite values.
    pub(crate) non_finite: u64,
    /// The first such value, and its position.
    pub(crate) first_bad: Option<(u64, f32)>,
}

impl TensorRef {
    /// Tensor `index` of `source`.
    pub fn new(source: Arc<dyn TensorSource>, index: usize) -> Self {
        TensorRef { source, index, known_finite: false }
    }

    /// The same tensor, marked as one whose every value is known to be finite.
    #[must_use]
    pub(crate) fn known_finite(self) -> Self {
        TensorRef { known_finite: true, ..self }
    }

    /// Whether [`Self::known_finite`] marked it.
    pub(crate) fn is_known_finite(&self) -> bool {
        self.known_finite
    }

    /// Whether its values are computed when they are read.
    pub(crate) fn is_computed(&self) -> bool {
        self.source.is_computed(self.index)
    }

    /// Its source, and its place there.
    pub(crate) fn place(&self) -> (&dyn TensorSource, usize) {
        (self.source.as_ref(), self.index)
    }

    /// Where value `element` is stored.
    pub(crate) fn origin(&self, element: u64) -> Origin<'_> {
        self.source.origin(self.index, element)
    }

    /// Name, dtype and shape.
    pub fn info(&self) -> &TensorInfo {
        &self.source.tensors()[self.index]
    }

    /// Reads the given bytes, counted from the tensor's first.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(&self, bytes: Range<u64>) -> Result<Cow<'_, [u8]>> {
        Ok(self.stored(bytes)?)
    }

    /// As [`Self::read`], for views, which report the errors of the files beneath.
    pub(crate) fn stored(&self, bytes: Range<u64>) -> lorakit_tensor::Result<Cow<'_, [u8]>> {
        self.source.read(self.index, bytes)
    }

    /// Where the bytes are stored as a single run, for kernel-side copies.
    pub(crate) fn extent(&self) -> Option<Extent<'_>> {
        self.source.extent(self.index)
    }

    /// Decodes the values `elements` (whole blocks) to f32 into `out`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a dtype without a decoder; if the file cannot be read.
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

    /// Examines every value once.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub(crate) fn scan(&self) -> Result<Scan> {
        let mut scan = Scan { zero: true, non_finite: 0, first_bad: None };
        let mut before = 0;
        self.for_each_piece(|values| {
            scan.zero &= values.iter().all(|v| *v == 0.0);
            if let Some((at, value)) = first_bad(values) {
                scan.first_bad.get_or_insert((before + at, value));
                scan.non_finite += values.iter().filter(|v| !v.is_finite()).count() as u64;
            }
            before += values.len() as u64;
        })?;
        Ok(scan)
    }

    /// All values as f32, every one of them finite; for small tensors.
    ///
    /// # Errors
    /// `NonFinite`; as [`Self::decode`].
    pub(crate) fn finite_values(&self) -> Result<Vec<f32>> {
        let values = self.values()?;
        self.refuse_non_finite(0, &values)?;
        Ok(values)
    }

    /// Refuses a tensor with NaN or infinity. Only a few values are in memory at a time.
    ///
    /// # Errors
    /// `NonFinite`; as [`Self::decode`].
    pub(crate) fn check_finite(&self) -> Result<()> {
        match self.scan()?.first_bad {
            None => Ok(()),
            Some((element, value)) => Err(self.holds(element, value)),
        }
    }

    /// Refuses NaN and infinity among `values`, which were decoded from value `first` on.
    ///
    /// # Errors
    /// [`ErrorKind::NonFinite`](crate::ErrorKind::NonFinite) with the file, the tensor and the place.
    pub fn refuse_non_finite(&self, first: u64, values: &[f32]) -> Result<()> {
        match first_bad(values) {
            None => Ok(()),
            Some((at, value)) => Err(self.holds(first + at, value)),
        }
    }

    /// The error about `value`, value `element` of the tensor, which is NaN or infinite.
    pub(crate) fn holds(&self, element: u64, value: f32) -> Error {
        let Origin { path, info, .. } = self.origin(element);
        Error::from(self.non_finite(element, value)).tensor(&info.name).at(path)
    }

    /// The problem that value `element` is `value`, which is NaN or infinite, and where it is.
    pub(crate) fn what_it_holds(&self, element: u64, value: f32) -> String {
        self.non_finite(element, value).to_string()
    }

    fn non_finite(&self, element: u64, value: f32) -> Problem {
        let Origin { info, element: at, .. } = self.origin(element);
        let (shape, element, dtype, wide) = (info.shape.clone(), at, info.dtype, self.wide(element));
        match wide.filter(|wide| wide.is_finite()) {
            Some(value) => Problem::Wide { value, shape, element, dtype },
            None if self.is_computed() => Problem::Decoded { value, shape, element, dtype },
            None => Problem::Stored { value, shape, element, dtype },
        }
    }

    /// Value `element`, if it is stored as F64.
    fn wide(&self, element: u64) -> Option<f64> {
        const SIZE: u64 = size_of::<f64>() as u64;
        if self.info().dtype != DType::F64 {
            return None;
        }
        let stored = self.read(element * SIZE..(element + 1) * SIZE).ok()?;
        Some(f64::from_le_bytes(stored.as_ref().try_into().ok()?))
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
        Error::from(Problem::NoDecoder { dtype: info.dtype }).at(self.path()).tensor(&info.name)
    }

    /// The file that holds it, for messages.
    pub fn path(&self) -> &std::path::Path {
        self.source.path_of(self.index)
    }
}

/// The first value that is NaN or infinite.
pub(crate) fn first_bad(values: &[f32]) -> Option<(u64, f32)> {
    if all_finite(values) {
        return None;
    }
    let at = values.iter().position(|v| !v.is_finite())?;
    Some((at as u64, values[at]))
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

    #[test]
    fn what_is_no_number_is_named_with_its_place() {
        let message = |shape: &[usize], values: &[f32]| {
            tensor("w", shape, values).check_finite().unwrap_err().to_string()
        };
        let bad = [1.0, 2.0, 3.0, 4.0, f32::NAN, f32::INFINITY];
        assert_eq!(message(&[2, 3], &bad), "`given`: `w`: holds NaN at row 1, column 1 (F32)");
        assert_eq!(message(&[6], &bad), "`given`: `w`: holds NaN at index 4 (F32)");
        assert_eq!(message(&[1, 3, 2], &bad), "`given`: `w`: holds NaN at [0, 2, 0] (F32)");
        let scan = tensor("w", &[6], &bad).scan().unwrap();
        assert_eq!((scan.zero, scan.non_finite, scan.first_bad.map(|(at, _)| at)), (false, 2, Some(4)));
        assert!(tensor("w", &[2], &[0.0, 1.0]).check_finite().is_ok());
    }

    /// A number that only F64 holds is reported differently from infinity.
    #[test]
    fn numbers_beyond_f32() {
        let info = TensorInfo { name: "w".into(), dtype: DType::F64, shape: vec![2] };
        let bytes = [1.0f64, 1e300].iter().flat_map(|v| v.to_le_bytes()).collect();
        let error = given(info, bytes).check_finite().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`given`: `w`: holds 1e300 at index 1 (F64), and values are computed as F32"
        );
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
