//! The operations, one module per verb.
//!
//! There are three steps: open the inputs, decide what becomes of them, write the output. A verb that decides from
//! headers alone has a `plan`; one that reads values and may decompose them has a `compute`. Both take options and a
//! [`Progress`](crate::plan::Progress), refuse whatever can be refused, and return what `run` then writes. A verb that
//! writes nothing is a single function.

/// `with_*` methods for fields of options, so that options can grow.
macro_rules! setters {
    ($options:ident { $($setter:ident: $field:ident: $type:ty,)* }) => {
        impl $options {
            $(
                #[doc = concat!("The same with another [`", stringify!($field), "`](Self::", stringify!($field), ").")]
                #[must_use]
                pub fn $setter(mut self, $field: $type) -> Self {
                    self.$field = $field;
                    self
                }
            )*
        }
    };
}
pub(crate) use setters;

/// Largest shard of an output, in bytes, unless another size is asked for.
pub(crate) const MAX_SHARD: u64 = 5_000_000_000;

mod approximate;
pub mod audit;
pub mod combine;
pub mod convert;
pub mod diff;
pub mod edit;
mod experts;
pub mod extract;
pub mod inspect;
pub mod merge;
mod panels;
pub(crate) mod problem;
pub mod products;
pub mod quantize;
pub mod reduce;
mod truncate;
pub mod verify;

use std::path::PathBuf;

pub(crate) use experts::expert_notes;
use problem::Problem;

use crate::adapter::Adapter;
use crate::{Error, Result};

/// Refuses weights that are not numbers, or beyond the range of f32: no file could be to blame for what they make of it.
fn refuse_weights(adapters: &[(PathBuf, f64)]) -> Result<()> {
    let fits = |weight: f64| weight.abs() <= f64::from(f32::MAX);
    match adapters.iter().find(|(_, weight)| !fits(*weight)) {
        None => Ok(()),
        Some((adapter, weight)) => Err(Problem::Weight { adapter: adapter.clone(), weight: *weight }.into()),
    }
}

/// Refuses to give an adapter other factors whose initialisation PEFT repeats.
fn refuse_repeated(adapter: &Adapter) -> Result<()> {
    if !adapter.config.repeats_initialisation() {
        return Ok(());
    }
    let problem = Problem::Repeated { init: adapter.config.init.clone() };
    Err(Error::from(problem).at(&adapter.path))
}
