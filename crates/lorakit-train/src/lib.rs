//! Fine-tuning LoRA adapters on a CPU.
//!
//! The frozen base stays packed: its blocks are decoded inside the matrix product, in the forward pass (`Y = X Wᵀ`)
//! and in the backward pass (`dX = dY W`), and no gradient of it exists. Gradients of the rest are written by hand.
//!
//! ```text
//!   eval         whether a fine-tune helped: paired figures, checks of answers, verdicts
//!   tensorboard  what a run tells, as event files
//!   run          steps, checkpoints and resuming, validation, samples, the estimate
//!   generate     answers: sampling, stopping, text as it comes
//!   settings     keys, their YAML
//!   adapter      adapters in and out: fresh, of any format, as a PEFT folder
//!   base         models in: folders, bitsandbytes, GGUF
//!   data         rows of a file, chat templates, which tokens are trained, packing
//!   optimise     AdamW, clipping, learning rates
//!   model        layers of a language model forward and backward, adapters on its linears
//!   kernel       matrix products with frozen and with plain matrices, threads
//!   files        text that a user names, also from a pipe
//! ```
//!
//! Every sum has one order, which depends on shapes only: any number of threads and any instruction set give the same
//! bytes.

#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::print_stdout, reason = "how far numbers are off is worth seeing"))]
#![cfg_attr(test, allow(clippy::single_range_in_vec_init, reason = "lists of ranges may have one"))]

pub mod adapter;
pub mod base;
pub mod data;
mod error;
pub mod eval;
pub mod files;
pub mod generate;
pub mod kernel;
pub mod model;
pub mod optimise;
mod random;
pub mod run;
pub mod settings;
pub mod tensorboard;

pub use error::{Error, ErrorKind, Hint, Result};
