pub mod format;
#[doc(hidden)]
pub mod json;
pub mod publish;

mod checkpoint;
mod dtype;
mod error;
mod info;
mod sniff;
mod source;
mod storage;

pub use checkpoint::Checkpoint;
pub use dtype::{Block, DType};
pub use error::{Error, ErrorKind, Result};
pub use info::TensorInfo;
pub use sniff::Format;
pub use source::{Extent, TensorSource};
pub use storage::{ReadMode, Storage};
