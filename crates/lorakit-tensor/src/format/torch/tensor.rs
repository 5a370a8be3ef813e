//! How a pickle describes tensors: a storage by key, and a window of sizes and strides on it.

use super::global::Global;
use super::heap::{Heap, Value};
use super::problem::{PickleProblem, Problem};
use super::zip::Span;
#[cfg(doc)]
use crate::ErrorKind;
use crate::{DType, Result, TensorInfo};

pub(super) const MAX_RANK: usize = 8;

/// A storage: the zip entry `data/<key>`.
#[derive(Debug, Clone, Copy)]
pub(super) struct StorageRef<'a> {
    pub(super) key: &'a str,
    /// `None` for a storage of bytes.
    dtype: Option<DType>,
    elements: u64,
}

/// A tensor: a window on a storage.
#[derive(Debug)]
pub(super) struct TensorRef<'a> {
    pub(super) storage: StorageRef<'a>,
    pub(super) dtype: DType,
    pub(super) shape: Vec<usize>,
    strides: Vec<u64>,
    /// First element, counted in elements of `dtype`.
    offset: u64,
}

/// Where a tensor's bytes are, and whether they are its transpose.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Placement {
    pub(super) offset: u64,
    pub(super) transposed: bool,
}

impl<'a> StorageRef<'a> {
    /// Reads `("storage", type, key, device, elements)`.
    pub(super) fn from_persistent_id(heap: &Heap<'a>, id: Value<'a>) -> Result<Self> {
        let Some(
            &[Value::Str("storage"), Value::Global(kind), Value::Str(key), Value::Str(_), Value::Int(n)],
        ) = heap.tuple(id)
        else {
            return Err(PickleProblem::NoStorage.into());
        };
        let dtype = match kind {
            Global::TypedStorage(dtype) => Some(dtype),
            Global::UntypedStorage => None,
            _ => return Err(PickleProblem::StorageType.into()),
        };
        if !(1..=20).contains(&key.len()) || !key.bytes().all(|b| b.is_ascii_digit()) {
            return Err(PickleProblem::StorageKey.into());
        }
        let elements = u64::try_from(n).map_err(|_| PickleProblem::StorageSize)?;
        Ok(StorageRef { key, dtype, elements })
    }

    fn byte_len(&self) -> Option<u64> {
        self.dtype.map_or(Some(self.elements), |dtype| dtype.byte_len(self.elements))
    }
}

impl<'a> TensorRef<'a> {
    /// Reads the arguments `(storage, offset, size, stride, requires_grad, hooks, [metadata])`.
    pub(super) fn rebuild_v2(heap: &Heap<'a>, args: &[Value<'a>]) -> Result<Self> {
        match *args {
            [storage, offset, size, stride, _, _] => {
                Self::rebuild(heap, storage, [offset, size, stride], None, Value::None)
            }
            [storage, offset, size, stride, _, _, metadata] => {
                Self::rebuild(heap, storage, [offset, size, stride], None, metadata)
            }
            _ => Err(PickleProblem::ArgumentCount { count: args.len() }.into()),
        }
    }

    /// Reads the arguments `(storage, offset, size, stride, requires_grad, hooks, dtype, [metadata])`.
    pub(super) fn rebuild_v3(heap: &Heap<'a>, args: &[Value<'a>]) -> Result<Self> {
        match *args {
            [storage, offset, size, stride, _, _, Value::Global(Global::DType(dtype))] => {
                Self::rebuild(heap, storage, [offset, size, stride], Some(dtype), Value::None)
            }
            [storage, offset, size, stride, _, _, Value::Global(Global::DType(dtype)), metadata] => {
                Self::rebuild(heap, storage, [offset, size, stride], Some(dtype), metadata)
            }
            _ => Err(PickleProblem::Arguments.into()),
        }
    }

    fn rebuild(
        heap: &Heap<'a>,
        storage: Value<'a>,
        [offset, size, stride]: [Value<'a>; 3],
        dtype: Option<DType>,
        metadata: Value<'a>,
    ) -> Result<Self> {
        let storage = heap.storage(storage).ok_or(PickleProblem::TensorStorage)?;
        // A typed storage of another dtype would be a reinterpretation, which torch.save never writes.
        let dtype = match (storage.dtype, dtype) {
            (Some(typed), None) => typed,
            (Some(typed), Some(stated)) if typed == stated => typed,
            (None, Some(stated)) => stated,
            _ => return Err(PickleProblem::TensorDType.into()),
        };
        let plain = metadata == Value::None || heap.dict(metadata).is_some_and(|pairs| pairs.is_empty());
        if !plain {
            return Err(Problem::LazyView.into());
        }
        let Value::Int(offset) = offset else {
            return Err(PickleProblem::NoOffset.into());
        };
        let natural = |values| natural_numbers(heap, values);
        let (shape, strides) = (natural(size)?, natural(stride)?);
        if shape.len() != strides.len() {
            return Err(PickleProblem::SizesAndStrides.into());
        }
        let shape = shape.iter().map(|&d| usize::try_from(d)).collect::<std::result::Result<Vec<_>, _>>();
        Ok(TensorRef {
            storage,
            dtype,
            shape: shape.map_err(|_| PickleProblem::Size)?,
            strides,
            offset: u64::try_from(offset).map_err(|_| PickleProblem::NegativeOffset)?,
        })
    }

    /// Places the tensor in the zip entry of its storage.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if storage, entry and tensor do not fit into each other; [`ErrorKind::Unsupported`]
    /// for strides that are neither contiguous nor a plain transpose.
    pub(super) fn place(&self, entry: Span) -> Result<Placement> {
        if self.storage.byte_len() != Some(entry.len) {
            let StorageRef { key, elements, .. } = self.storage;
            return Err(Problem::StorageLen { key: key.to_string(), elements, len: entry.len }.into());
        }
        let count = TensorInfo::count(&self.shape);
        let transposed = match count {
            Some(0) => false,
            _ => self.layout()?,
        };
        let begin = self.dtype.byte_len(self.offset);
        let len = count.and_then(|n| self.dtype.byte_len(n));
        let end = begin.zip(len).and_then(|(begin, len)| begin.checked_add(len));
        match (begin, end) {
            (Some(begin), Some(end)) if end <= entry.len => {
                Ok(Placement { offset: entry.offset + begin, transposed })
            }
            _ => {
                let (shape, dtype) = (self.shape.clone(), self.dtype);
                Err(Problem::Window { shape, dtype, offset: self.offset, len: entry.len }.into())
            }
        }
    }

    /// Whether the elements are stored transposed. Strides along dimensions of one element mean nothing.
    fn layout(&self) -> Result<bool> {
        let mut expected = 1u64;
        let mut contiguous = true;
        for (&size, &stride) in self.shape.iter().zip(&self.strides).rev() {
            contiguous &= size == 1 || stride == expected;
            expected = expected.saturating_mul(size as u64);
        }
        match (self.shape.as_slice(), self.strides.as_slice()) {
            _ if contiguous => Ok(false),
            (&[rows, _], &[1, stride]) if stride == rows as u64 => Ok(true),
            _ => Err(Problem::View { strides: self.strides.clone(), shape: self.shape.clone() }.into()),
        }
    }
}

/// A tuple of at most [`MAX_RANK`] non-negative numbers.
fn natural_numbers<'a>(heap: &Heap<'a>, tuple: Value<'a>) -> Result<Vec<u64>> {
    let items = heap.tuple(tuple).ok_or(PickleProblem::NoSizes)?;
    if items.len() > MAX_RANK {
        return Err(PickleProblem::Rank { rank: items.len() }.into());
    }
    let natural = |item: &Value<'a>| match *item {
        Value::Int(n) => u64::try_from(n).ok(),
        _ => None,
    };
    let numbers: Option<Vec<u64>> = items.iter().map(natural).collect();
    numbers.ok_or_else(|| PickleProblem::Number.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn tensor(shape: &[usize], strides: &[u64], offset: u64, elements: u64) -> TensorRef<'static> {
        let storage = StorageRef { key: "0", dtype: Some(DType::F32), elements };
        TensorRef { storage, dtype: DType::F32, shape: shape.to_vec(), strides: strides.to_vec(), offset }
    }

    #[test]
    fn contiguous_and_transposed_windows_are_placed() {
        let entry = Span { offset: 1000, len: 48 };
        for (shape, strides, offset, transposed) in [
            (&[3, 4][..], &[4, 1][..], 0, false),
            (&[3, 4], &[1, 3], 0, true),
            (&[12, 1], &[1, 1], 0, false),
            (&[1, 12], &[1, 1], 0, false),
            (&[2, 2, 1, 1], &[2, 1, 7, 7], 8, false),
            (&[], &[], 11, false),
            (&[0, 4], &[9, 9], 12, false),
        ] {
            let placed = tensor(shape, strides, offset, 12).place(entry).unwrap();
            assert_eq!(placed, Placement { offset: 1000 + 4 * offset, transposed }, "{shape:?}");
        }
    }

    #[test]
    fn windows_that_do_not_fit_are_refused() {
        let entry = Span { offset: 1000, len: 48 };
        for (shape, strides, offset, elements, kind) in [
            (&[3, 4][..], &[4, 1][..], 1, 12, ErrorKind::Corrupt),
            (&[3, 4], &[4, 1], 0, 11, ErrorKind::Corrupt),
            (&[0], &[1], 13, 12, ErrorKind::Corrupt),
            (&[1], &[1], u64::MAX, 12, ErrorKind::Corrupt),
            (&[usize::MAX, 2], &[2, 1], 0, 12, ErrorKind::Corrupt),
            (&[2, 2], &[4, 1], 0, 12, ErrorKind::Unsupported),
            (&[3, 4], &[0, 0], 0, 12, ErrorKind::Unsupported),
            (&[2, 3, 2], &[1, 2, 6], 0, 12, ErrorKind::Unsupported),
        ] {
            let error = tensor(shape, strides, offset, elements).place(entry).unwrap_err();
            assert_eq!(error.kind(), kind, "{shape:?}: {error}");
        }
    }
}
