pub mod format;

mod dtype;
mod error;
mod info;
mod source;
mod storage;

pub use dtype::{Block, DType};
pub use error::{Error, ErrorKind, Result};
pub use info::TensorInfo;
pub use source::{Extent, TensorSource};
pub use storage::{ReadMode, Storage};
