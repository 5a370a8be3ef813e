//! `lorakit convert` on adapters.

mod gguf;
