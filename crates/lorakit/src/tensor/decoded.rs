//! Tensors of any dtype seen as F32, for changes of layout that would cut blocks or multiply values.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use lorakit_quant::{Codec, codec};
use lorakit_tensor::{DType, Extent, Result as TensorResult, TensorInfo, TensorSource};

use crate::{Result, TensorRef};

/// The values of a tensor, times a number.
struct Decoded {
    info: [TensorInfo; 1],
    tensor: TensorRef,
    codec: &'static dyn Codec,
    times: f64,
}

impl TensorRef {
    /// The tensor with single values, which views do not cut: itself, or as F32 if its dtype has blocks. Blocks that are
    /// encoded again come out as they were.
    ///
    /// # Errors
    /// As [`Self::decoded`].
    pub(crate) fn single_values(&self) -> Result<Self> {
        if self.info().dtype.block().elements == 1 { Ok(self.clone()) } else { self.decoded(1.0) }
    }

    /// The tensor as F32, with each value multiplied by `times` and rounded once; the tensor itself if nothing changes.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a dtype without a decoder.
    pub(crate) fn decoded(&self, times: f64) -> Result<Self> {
        let info = self.info();
        if info.dtype == DType::F32 && times == 1.0 {
            return Ok(self.clone());
        }
        let codec = codec(info.dtype).ok_or_else(|| self.no_decoder())?;
        let info = [TensorInfo { dtype: DType::F32, ..info.clone() }];
        Ok(TensorRef::new(Arc::new(Decoded { info, tensor: self.clone(), codec, times }), 0))
    }
}

impl TensorSource for Decoded {
    fn tensors(&self) -> &[TensorInfo] {
        &self.info
    }

    fn find(&self, name: &str) -> Option<usize> {
        (self.info[0].name == name).then_some(0)
    }

    fn read(&self, _: usize, bytes: Range<u64>) -> TensorResult<Cow<'_, [u8]>> {
        const SIZE: u64 = size_of::<f32>() as u64;
        let dtype = self.tensor.info().dtype;
        let block = dtype.block();
        // Whole blocks that cover the range, cut afterwards.
        let first = bytes.start / SIZE / block.elements as u64;
        let end = bytes.end.div_ceil(SIZE).div_ceil(block.elements as u64);
        let stored = self.tensor.stored(first * block.bytes as u64..end * block.bytes as u64)?;
        let mut values = vec![0.0; (end - first) as usize * block.elements];
        self.codec.decode(&stored, &mut values);
        if self.times != 1.0 {
            values.iter_mut().for_each(|v| *v = (f64::from(*v) * self.times) as f32);
        }
        let mut out: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let cut = (bytes.start - first * block.elements as u64 * SIZE) as usize;
        out.truncate(cut + (bytes.end - bytes.start) as usize);
        out.drain(..cut);
        Ok(Cow::Owned(out))
    }

    fn extent(&self, _: usize) -> Option<Extent<'_>> {
        None
    }

    fn path_of(&self, _: usize) -> &Path {
        self.tensor.path()
    }

    fn is_computed(&self, _: usize) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::tests::{given, tensor};

    /// Two blocks of Q8_0: scales 0.5 and 2, quants 0, 1, 2, ...
    fn q8_0() -> TensorRef {
        let block = |scale: [u8; 2]| scale.into_iter().chain(0..32);
        let bytes = block([0x00, 0x38]).chain(block([0x00, 0x40])).collect();
        given(TensorInfo { name: "q".into(), dtype: DType::Q8_0, shape: vec![2, 32] }, bytes)
    }

    #[test]
    fn blocks_become_values() {
        let decoded = q8_0().decoded(1.0).unwrap();
        assert_eq!(decoded.info().dtype, DType::F32);
        let values = decoded.values().unwrap();
        assert_eq!((values[3], values[32 + 3], values.len()), (1.5, 6.0, 64));
    }

    #[test]
    fn every_range_reads_as_the_whole_does() {
        let decoded = q8_0().decoded(-0.25).unwrap();
        let whole = decoded.read(0..256).unwrap().into_owned();
        for (start, end) in [(0, 1), (5, 9), (100, 140), (127, 129), (128, 256), (255, 256), (8, 8)] {
            assert_eq!(*decoded.read(start..end).unwrap(), whole[start as usize..end as usize]);
        }
    }

    #[test]
    fn nothing_is_wrapped_in_vain() {
        let plain = tensor("w", &[2], &[1.0, 3.0]);
        assert_eq!(plain.decoded(0.5).unwrap().values().unwrap(), [0.5, 1.5]);
        let same = plain.decoded(1.0).unwrap();
        assert!(std::ptr::eq(same.info(), plain.info()));
    }
}
