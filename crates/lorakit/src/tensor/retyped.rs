//! Stored bytes under the dtype that they really have, e.g. exponents that a format stores as integers.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use lorakit_tensor::{DType, Extent, Origin, Result as TensorResult, TensorInfo, TensorSource};

use crate::TensorRef;

struct Retyped {
    info: [TensorInfo; 1],
    tensor: TensorRef,
}

impl TensorRef {
    /// The same bytes, read as values of `dtype`, whose values must take as many bytes as those of the present dtype.
    pub(crate) fn retyped(&self, dtype: DType) -> Self {
        debug_assert_eq!(self.info().dtype.block(), dtype.block());
        let info = [TensorInfo { dtype, ..self.info().clone() }];
        TensorRef::new(Arc::new(Retyped { info, tensor: self.clone() }), 0)
    }
}

impl TensorSource for Retyped {
    fn tensors(&self) -> &[TensorInfo] {
        &self.info
    }

    fn find(&self, name: &str) -> Option<usize> {
        (self.info[0].name == name).then_some(0)
    }

    fn read(&self, _: usize, bytes: Range<u64>) -> TensorResult<Cow<'_, [u8]>> {
        self.tensor.stored(bytes)
    }

    fn extent(&self, _: usize) -> Option<Extent<'_>> {
        self.tensor.extent()
    }

    fn path_of(&self, _: usize) -> &Path {
        self.tensor.path()
    }

    fn is_computed(&self, _: usize) -> bool {
        self.tensor.is_computed()
    }

    fn origin(&self, _: usize, element: u64) -> Origin<'_> {
        self.tensor.origin(element)
    }
}
