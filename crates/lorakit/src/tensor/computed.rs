//! Tensors whose values are computed from other tensors when they are read.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use lorakit_quant::codec;
use lorakit_tensor::{DType, Extent, Result as TensorResult, TensorInfo, TensorSource};

use crate::{Result, TensorRef};

/// The values of the inputs, in their order.
pub(crate) type Inputs = [Vec<f32>];

/// Computes one row from the inputs and the row's number.
type Row = Box<dyn Fn(&Inputs, usize, &mut [f32]) + Send + Sync>;

/// An F32 tensor that is computed row by row. Its inputs are decoded once, when the first row is read.
struct Computed {
    info: [TensorInfo; 1],
    cols: usize,
    inputs: Vec<TensorRef>,
    loaded: Mutex<Option<Arc<Vec<Vec<f32>>>>>,
    row: Row,
}

impl TensorRef {
    /// Returns the F32 tensor of shape `shape`, seen as a matrix, whose row `i` is what `row(inputs, i, out)` leaves in
    /// `out`. It takes its name and its file from the first of `inputs`, which must not be empty.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] for inputs whose dtype has no decoder.
    pub(crate) fn computed(
        inputs: Vec<TensorRef>,
        shape: Vec<usize>,
        row: impl Fn(&Inputs, usize, &mut [f32]) + Send + Sync + 'static,
    ) -> Result<Self> {
        if let Some(opaque) = inputs.iter().find(|input| codec(input.info().dtype).is_none()) {
            return Err(opaque.no_decoder());
        }
        let name = inputs.first().map(|input| input.info().name.clone()).unwrap_or_default();
        let info = TensorInfo { name, dtype: DType::F32, shape };
        let cols = info.rows_cols().1;
        let computed = Computed { info: [info], cols, inputs, loaded: Mutex::default(), row: Box::new(row) };
        Ok(TensorRef::new(Arc::new(computed), 0))
    }
}

impl Computed {
    fn inputs(&self) -> TensorResult<Arc<Vec<Vec<f32>>>> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = &*loaded {
            return Ok(Arc::clone(loaded));
        }
        let decode = |input: &TensorRef| {
            let info = input.info();
            let bytes = input.stored(0..info.byte_len())?;
            let mut values = vec![0.0; info.elements() as usize];
            if let Some(codec) = codec(info.dtype) {
                codec.decode(&bytes, &mut values);
            }
            Ok(values)
        };
        let values = Arc::new(self.inputs.iter().map(decode).collect::<TensorResult<Vec<_>>>()?);
        *loaded = Some(Arc::clone(&values));
        Ok(values)
    }
}

impl TensorSource for Computed {
    fn tensors(&self) -> &[TensorInfo] {
        &self.info
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.info.iter().position(|info| info.name == name)
    }

    fn read(&self, _: usize, bytes: Range<u64>) -> TensorResult<Cow<'_, [u8]>> {
        let size = size_of::<f32>();
        let width = self.cols * size;
        if bytes.is_empty() || width == 0 {
            return Ok(Cow::Owned(Vec::new()));
        }
        let inputs = self.inputs()?;
        let (start, end) = (bytes.start as usize, bytes.end as usize);
        let mut out = Vec::with_capacity(end - start);
        let mut values = vec![0.0; self.cols];
        for row in start / width..end.div_ceil(width) {
            (self.row)(&inputs, row, &mut values);
            let stored = values.iter().flat_map(|value| value.to_le_bytes());
            let first = start.saturating_sub(row * width);
            out.extend(stored.skip(first).take(end - row * width - first));
        }
        Ok(Cow::Owned(out))
    }

    fn extent(&self, _: usize) -> Option<Extent<'_>> {
        None
    }

    fn path_of(&self, _: usize) -> &Path {
        self.inputs.first().map_or(Path::new(""), TensorRef::path)
    }

    fn is_computed(&self, _: usize) -> bool {
        true
    }
}

impl fmt::Debug for Computed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Computed").field("info", &self.info).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::TensorRef;
    use crate::tensor::tests::tensor;

    #[test]
    fn every_range_reads_as_the_whole_does() {
        let base = tensor("w", &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let sums = TensorRef::computed(vec![base], vec![2, 3], |inputs, row, out| {
            for (i, out) in out.iter_mut().enumerate() {
                *out = inputs[0][i] + 10.0 * row as f32;
            }
        })
        .unwrap();
        assert_eq!(sums.values().unwrap(), [1.0, 2.0, 3.0, 11.0, 12.0, 13.0]);
        let whole = sums.read(0..24).unwrap().into_owned();
        for start in 0..24 {
            for end in start..=24 {
                assert_eq!(*sums.read(start..end).unwrap(), whole[start as usize..end as usize]);
            }
        }
    }
}
