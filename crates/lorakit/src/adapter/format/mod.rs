//! Adapter file formats, one module each.

pub mod peft;
