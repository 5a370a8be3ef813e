//! Tensors that were computed and are held in memory until they are written: the factors of adapters, which are small.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lorakit_quant::encoder;
use lorakit_tensor::{DType, Extent, Result as TensorResult, TensorInfo, TensorSource};

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
    /// [`ErrorKind::Unsupported`] for a dtype without an encoder of single values.
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
        let info = TensorInfo { name: name.to_string(), dtype, shape };
        debug_assert_eq!(info.elements(), values.len() as u64);
        Ok(TensorRef::new(Arc::new(Memory { info: [info], bytes, path: path.to_path_buf() }), 0))
    }
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
}
