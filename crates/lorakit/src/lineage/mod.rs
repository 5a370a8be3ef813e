//! Where an output came from: one record for every verb that writes.
//!
//! ```text
//!  parents ─► their records ─┐
//!          ─► their digests ─┴─► Step ─► record ─► header of the file, `lorakit.json` of the folder
//! ```
//!
//! A record contains the records of its parents in full, so the chain survives the deletion of an intermediate output.
//! It says nothing about the machine: the same inputs and options give the same bytes, wherever they are.

mod hub;
mod read;
mod record;
mod step;
pub mod weights;

pub use read::read;
pub use record::{Ancestry, Options, Parent, Record, Role, VERSION};
pub use step::Step;
pub(crate) use step::sha256;

/// When an output says where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lineage {
    /// Always, except for a plain conversion or quantisation of a model without a record, which stays byte for byte
    /// what the reference tool writes.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

crate::choice::choices! { Lineage {
    Auto = "auto", "always, but for a plain conversion or quantisation of a model that has no record";
    Always = "always", "always";
    Never = "never", "never";
} }
