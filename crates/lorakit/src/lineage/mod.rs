//! Where an output came from: one record for every verb that writes, and the model card of every folder.
//!
//! ```text
//!  parents ─► their records ─┐
//!          ─► their digests ─┴─► Step ─► record ─► header of the file, `lorakit.json` of the folder
//!          ─► their cards ──────────┴──► sheet ──► `README.md` of the folder
//! ```
//!
//! A record contains the records of its parents in full, so the chain survives the deletion of an intermediate output.
//! It says nothing about the machine: the same inputs and options give the same bytes, wherever they are.

mod form;
mod identity;
mod papers;
mod read;
mod record;
mod sheet;
mod step;
pub mod weights;

pub use form::form_of;
pub(crate) use papers::Papers;
pub use read::read;
pub use record::{Ancestry, Options, Parent, Record, Role, TrainedAs, VERSION};
pub(crate) use sheet::{Sheet, percent};
pub(crate) use step::sha256;
pub use step::{Step, digest_of};

use crate::Model;

/// What a model is called: its id if it lies in the hub's local cache, what its configuration says if that is a name and
/// not a path, else the name of its folder or file.
pub fn name_of(model: &Model) -> String {
    identity::Identity::of_model(model).name
}

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
