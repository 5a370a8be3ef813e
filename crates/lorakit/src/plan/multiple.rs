//! Tensors times a number, for layouts in which parts with different scales become one tensor.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use lorakit_quant::codec;
use lorakit_tensor::{DType, Extent, Result as TensorResult, TensorInfo, TensorSource};

use crate::{Result, TensorRef};

/// Bytes of one value.
const SIZE: u64 = size_of::<f32>() as u64;

struct Multiple {
    info: [TensorInfo; 1],
    tensor: TensorRef,
    times: f64,
}

impl TensorRef {
    /// The tensor as F32, each value multiplied and rounded once.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a dtype without a decoder, and for block types,
    /// of which no single values can be read.
    pub(crate) fn multiplied(&self, times: f64) -> Result<Self> {
        let info = self.info().clone();
        if codec(info.dtype).is_none() || info.dtype.block().elements != 1 {
            return Err(self.no_decoder());
        }
        let info = [TensorInfo { dtype: DType::F32, ..info }];
        Ok(TensorRef::new(Arc::new(Multiple { info, tensor: self.clone(), times }), 0))
    }
}

impl TensorSource for Multiple {
    fn tensors(&self) -> &[TensorInfo] {
        &self.info
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.info.iter().position(|info| info.name == name)
    }

    fn read(&self, _: usize, bytes: Range<u64>) -> TensorResult<Cow<'_, [u8]>> {
        let dtype = self.tensor.info().dtype;
        let size = dtype.block().bytes as u64;
        // Whole values that cover the range, of which the first and the last may be cut.
        let values = bytes.start / SIZE..bytes.end.div_ceil(SIZE);
        let stored = self.tensor.stored(values.start * size..values.end * size)?;
        let mut decoded = vec![0.0; (values.end - values.start) as usize];
        if let Some(decoder) = codec(dtype) {
            decoder.decode(&stored, &mut decoded);
        }
        let mut out: Vec<u8> =
            decoded.iter().flat_map(|&v| ((f64::from(v) * self.times) as f32).to_le_bytes()).collect();
        out.truncate((bytes.end - values.start * SIZE) as usize);
        out.drain(..(bytes.start - values.start * SIZE) as usize);
        Ok(Cow::Owned(out))
    }

    fn extent(&self, _: usize) -> Option<Extent<'_>> {
        None
    }

    fn path_of(&self, _: usize) -> &Path {
        self.tensor.path()
    }
}

#[cfg(test)]
mod tests {
    use crate::tensor_ref::tests::tensor;

    #[test]
    fn every_range_reads_as_the_whole_does() {
        let multiple = tensor("w", &[3], &[1.0, -2.5, 0.1]).multiplied(0.3).unwrap();
        assert_eq!(multiple.values().unwrap(), [0.3, -0.75, (f64::from(0.1f32) * 0.3) as f32]);
        let whole = multiple.read(0..12).unwrap().into_owned();
        for start in 0..12 {
            for end in start + 1..=12 {
                let part = multiple.read(start as u64..end as u64).unwrap();
                assert_eq!(*part, whole[start..end], "{start}..{end}");
            }
        }
    }
}
