//! What a tensor is on disk.
//!
//! This crate opens the files that models and adapters come in, proves their headers, and hands out bytes; it
//! lays new files out and publishes them atomically. It does no arithmetic: what bytes mean is `lorakit-quant`'s
//! business.
//!
//! ```
//! use lorakit_tensor::{Checkpoint, DType, Reader, TensorInfo, TensorSource};
//! use lorakit_tensor::format::safetensors;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("model.safetensors");
//! let info = TensorInfo { name: "w".into(), dtype: DType::F32, shape: vec![1, 2] };
//! let layout = safetensors::layout(&Default::default(), &[info])?;
//! std::fs::write(&path, [layout.header, vec![0; 8]].concat())?;
//!
//! let checkpoint = Checkpoint::open(&path, &Reader::default())?;
//! let index = checkpoint.find("w").expect("it was just written");
//! assert_eq!(checkpoint.tensors()[index].shape, [1, 2]);
//! assert_eq!(checkpoint.read(index, 0..8)?.len(), 8);
//! # Ok(())
//! # }
//! ```
//!
//! # Formats
//!
//! | format | read | written | layout |
//! |---|---|---|---|
//! | safetensors, single or sharded | yes | yes | [`format::safetensors`] |
//! | GGUF 2 and 3, single or split | yes | version 3 | [`format::gguf`] |
//! | Torch zip archives (`.bin`, `.pt`) | yes | no | [`format::torch`] |
//!
//! The content of a file decides its format. [`Checkpoint`] is one or more files as one [`TensorSource`].
//!
//! # Hostile files
//!
//! A header is checked completely before any data is looked at: lengths against the file, shapes against
//! overflow, names against repetition, offsets against holes and overlaps, counts against what the file could
//! hold. No input makes this crate run code, panic, or leave the folder it was given. Memory for a header stays
//! within a small multiple of its size, and sizes are bounded:
//! [`MAX_HEADER_BYTES`](format::safetensors::MAX_HEADER_BYTES), [`MAX_TENSORS`](format::safetensors::MAX_TENSORS)
//! and their counterparts in the other formats.
//!
//! # Atomic outputs
//!
//! [`publish`] stages an output next to its target, makes it durable and renames it: a path holds the old content
//! or the complete new one. Bytes that are computed before they have a place there wait in a [`Spill`].

#![deny(missing_docs)]

pub mod format;
#[doc(hidden)]
pub mod json;
#[doc(hidden)]
pub mod problem;
pub mod publish;

mod checkpoint;
mod checksum;
mod dtype;
mod error;
mod file_problem;
mod info;
mod mapped;
mod reader;
mod sniff;
mod source;
mod spill;
mod storage;

pub use checkpoint::Checkpoint;
pub use dtype::{Block, DType};
pub use error::{Error, ErrorKind, Result};
pub use info::TensorInfo;
#[doc(hidden)]
pub use mapped::fault_at;
pub use reader::{MAX_SIDE_BYTES, Reader};
pub use sniff::{Format, stranger};
pub use source::{Extent, Origin, TensorSource};
pub use spill::Spill;
pub use storage::{ReadMode, Storage};
