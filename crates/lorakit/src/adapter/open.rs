//! Opening an adapter in any format.

use std::path::Path;

use lorakit_tensor::Reader;

use super::{Adapter, format};
use crate::{Base, Result};

impl Adapter {
    /// Opens an adapter in any format: a folder, or its tensor file with the files next to it. `base` is what is known
    /// of its model; some formats cannot be read without it.
    ///
    /// ```
    /// use lorakit::adapter::Adapter;
    ///
    /// let path = "../../fixtures/golden/peft/adapters/attn-r4".as_ref();
    /// let adapter = Adapter::open(path, &lorakit::Reader::default(), None)?;
    /// let module = &adapter.modules[0];
    /// assert_eq!((adapter.format, module.rank()), ("peft", 4));
    /// println!("{}: {:?} times {}", module.path, module.a.info().shape, module.scale(module.rank()));
    /// # Ok::<(), lorakit::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NoAdapter`](crate::ErrorKind::NoAdapter) if there is none,
    /// [`ErrorKind::WrongRole`](crate::ErrorKind::WrongRole) for a full model,
    /// [`ErrorKind::NeedsBase`](crate::ErrorKind::NeedsBase), and any error of reading the files.
    pub fn open(path: &Path, reader: &Reader, base: Option<&Base>) -> Result<Self> {
        format::read(&format::open(path, reader)?, base)
    }
}
