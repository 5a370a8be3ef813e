//! LoRA adapters and the models they belong to: audit, merge, convert.
//!
//! Everything is planned from headers and then streamed: an operation opens its inputs, decides what becomes of
//! each tensor (all refusals happen here), and runs the [`plan`] on all cores with bounded memory.
//!
//! ```no_run
//! use lorakit::ops::merge::{self, MergeOptions, Sum};
//! use lorakit::plan::{Silent, by_type};
//!
//! # fn main() -> lorakit::Result<()> {
//! let sum = Sum::new("base/", [("style/", 0.7), ("facts/", 1.0)]);
//! let options = MergeOptions::new(sum, "merged/");
//! let merge = merge::plan(&options, &Silent)?;
//! println!("{} bytes to write", merge.plan.output_bytes());
//! let report = merge.run(0, &Silent)?;
//! for (dtype, retention) in by_type(&report.retention) {
//!     println!("{dtype}: {:?} of the adapters survived rounding", retention.ratio());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # The algebra
//!
//! A low-rank module changes a weight `W (out, in)` to `W + scale * B * A` with `A (r, in)`, `B (out, r)` and
//! `scale = alpha / r` (Hu et al. 2021), or `alpha / sqrt(r)` (rsLoRA, Kalajdzievski 2023). DoRA (Liu et al. 2024)
//! scales each row of that sum to a learned magnitude. Every other spelling is turned into this one when an
//! adapter is read ([`adapter`]) and fitted to its base.
//!
//! ```text
//!            in                 r          in                 in
//!        ┌────────┐           ┌───┐   ┌────────┐          ┌────────┐
//!    out │   W    │  + s · out│ B │ · │   A    │ r   =  out│   W'   │   one rounding
//!        └────────┘           └───┘   └────────┘          └────────┘
//! ```

#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod adapter;
pub mod card;
pub mod hub;
pub mod lineage;
pub mod model;
pub mod ops;
pub mod plan;
pub mod units;

mod arch;
mod choice;
mod error;
mod finding;
mod fit;
mod output;
mod report;
mod tensor;

pub use choice::Choice;
pub use error::{Error, ErrorKind, Hint, Result};
pub use finding::{Finding, Severity};
pub use lorakit_quant::mix::{FileType, MixOptions};
pub use lorakit_tensor::{DType, ErrorKind as FileErrorKind, ReadMode, Reader};
pub use model::{Base, Model, ModelConfig};
pub use tensor::TensorRef;

/// How rooms of other crates of this workspace declare what can go wrong; not part of the public interface.
#[doc(hidden)]
pub mod problem {
    pub use crate::error::Problem;
}

/// Parts of the engine that other crates of this workspace share, or tests take apart; not part of its interface.
#[doc(hidden)]
pub mod inside {
    pub use crate::model::gguf::write::{gguf_tensors, with_dtype};
    pub use crate::model::tokenizer::check as check_tokenizer;
    pub use crate::plan::go_on;
    pub use crate::tensor::{Factor, RowOrder};
}

/// Checks that the program in the how-to compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/how-to/use-the-library.md")]
struct UseTheLibrary;
