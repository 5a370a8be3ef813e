//! GGUF, versions 2 and 3, little-endian: typed metadata, tensor infos, then the data.
//!
//! ```text
//! ┌────────┬─────────┬──────────┬──────────┬───────────────┬────────────────┬─────┬───────────────────────┐
//! │ "GGUF" │ version │ tensors  │ keys     │ keys × entry  │ tensors × info │ pad │ tensor data,          │
//! │        │ u32     │ u64      │ u64      │               │                │     │ each padded           │
//! └────────┴─────────┴──────────┴──────────┴───────────────┴────────────────┴─────┴───────────────────────┘
//! entry    key: string │ u32 value type │ value
//! info     name: string │ u32 n │ n × u64 dimension │ u32 ggml type │ u64 offset from the first data byte
//! string   u64 length │ UTF-8
//! array    u32 element type │ u64 count │ elements
//! ```
//!
//! Padding is zeros up to a multiple of `general.alignment`, 32 where the key is absent. The file lists
//! dimensions innermost first; that order ends here, `TensorInfo::shape` is outermost first.
//!
//! Reading is as strict as llama.cpp, and stricter about sizes: nothing is allocated before the file is known
//! to be long enough for it. Writing refuses whatever reading would refuse.

mod cursor;
mod element;
pub(crate) mod problem;
mod reader;
mod rules;
mod split;
mod value;
mod writer;

#[cfg(test)]
mod tests;

pub use reader::{Header, read_header};
pub(crate) use split::{Part, take_part};
pub use split::{SplitName, parse_split_name, split_name};
pub use value::{Array, Metadata, Value};
pub use writer::{Layout, layout};
