//! Tensors that were computed and are held in memory until they are written: the factors of adapters, which are small.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lorakit_quant::{codec, encoder};
use lorakit_tensor::{DType, Extent, Result as TensorResult, TensorInfo, TensorSource};

use crate::tensor_ref::{first_bad, place};
use crate::{Error, ErrorKind, Result, TensorRef};

struct Memory {
    info: [TensorInfo; 1],
    bytes: Vec<u8>,
    path: PathBuf,
}

impl TensorRef {
    /// `values` as a tensor of that dtype and shape, called `name`, made from the file `path`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a dtype without an encoder of single values; [`ErrorKind::NonFinite`] for values
    /// that are no numbers, or none that the dtype can hold.
    pub(crate) fn in_memory(
        name: &str,
        path: &Path,
        dtype: DType,
        shape: Vec<usize>,
        values: &[f32],
    ) -> Result<Self> {
        let encoder = encoder(dtype).filter(|_| dtype.block().elements == 1).ok_or_else(|| {
            let message = format!("cannot be computed as {dtype}; F32, F16 and BF16 can");
            Error::new(ErrorKind::Unsupported, message).tensor(name)
        })?;
        let mut bytes = vec![0; dtype.byte_len(values.len() as u64).unwrap_or(0) as usize];
        encoder.encode(values, &mut bytes);
        if codec(dtype).is_some_and(|codec| !codec.all_finite(&bytes)) {
            return Err(beyond(values, dtype, &shape).tensor(name).at(path));
        }
        let info = TensorInfo { name: name.to_string(), dtype, shape };
        debug_assert_eq!(info.elements(), values.len() as u64);
        Ok(TensorRef::new(Arc::new(Memory { info: [info], bytes, path: path.to_path_buf() }), 0))
    }
}

/// The error about the first of `values` that is no number, or else about the largest, which `dtype` cannot hold.
fn beyond(values: &[f32], dtype: DType, shape: &[usize]) -> Error {
    let message = match first_bad(values) {
        Some((at, value)) => format!("comes to {value} {} when it is computed", place(shape, at)),
        None => {
            let largest = values.iter().enumerate().max_by(|(_, x), (_, y)| x.abs().total_cmp(&y.abs()));
            let (at, value) = largest.map_or((0, 0.0), |(at, value)| (at as u64, *value));
            format!("comes to {value:e} {}, which {dtype} cannot hold", place(shape, at))
        }
    };
    Error::new(ErrorKind::NonFinite, message)
}

impl TensorSource for Memory {
    fn tensors(&self) -> &[TensorInfo] {
        &self.info
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.info.iter().position(|info| info.name == name)
    }

    fn read(&self, _: usize, bytes: Range<u64>) -> TensorResult<Cow<'_, [u8]>> {
        Ok(Cow::Borrowed(&self.bytes[bytes.start as usize..bytes.end as usize]))
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
}
