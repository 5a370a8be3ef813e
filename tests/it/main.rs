//! The command, from outside: parity with the references, bad input, faults.

#![allow(
    clippy::unwrap_used,
    clippy::get_unwrap,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod beside;
mod cards;
mod combine;
mod convert;
mod determinism;
mod diff;
mod edit;
mod errors;
mod eval;
mod extract;
mod faults;
mod finite;
mod generate;
mod golden;
mod habits;
mod help;
mod image;
mod import;
mod inspect;
mod lineage;
mod matrix;
mod merge;
mod mutation;
mod names;
mod outputs;
mod packed;
mod quantize;
mod readme;
mod reduce;
mod reference;
mod registry;
mod saved;
mod smollm2;
mod support;
mod terminal;
mod trace;
mod train;
mod verify;
mod width;

pub(crate) use lorakit_oracle::{llama, near, weights};
