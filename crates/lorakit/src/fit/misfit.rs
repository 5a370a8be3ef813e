//! Parts of an adapter that do not fit.

use super::problem::Reason;
use super::resolver::Resolver;
use crate::error::Problem as _;
use crate::{ErrorKind, TensorRef};

/// A part of an adapter that does not fit.
#[derive(Debug)]
pub(crate) struct Misfit {
    pub(super) origin: String,
    pub(super) reason: Reason,
}

impl Misfit {
    pub(super) fn new(origin: &str, reason: Reason) -> Self {
        Misfit { origin: origin.to_string(), reason }
    }

    /// How serious it is: 0 is the most serious.
    pub(super) fn grade(&self) -> u8 {
        match self.reason.kind() {
            ErrorKind::Unmatched => 0,
            ErrorKind::Ambiguous => 1,
            ErrorKind::Shape => 2,
            _ => 3,
        }
    }
}

/// The misfit of a part that is not in the base.
pub(super) fn unmatched(name: &str) -> Misfit {
    Misfit::new(name, Reason::NotThere)
}

/// The misfit of a part that could belong to any of `names`.
pub(super) fn ambiguous(name: &str, names: &[&str]) -> Misfit {
    Misfit::new(name, Reason::Several { names: names.iter().map(|name| name.to_string()).collect() })
}

/// Checks that a saved tensor has the base's shape, or more rows of the same width (a vocabulary that grew).
pub(super) fn check_rows(
    base: &Resolver<'_>,
    index: Option<usize>,
    tensor: &TensorRef,
    name: &str,
) -> std::result::Result<(), Misfit> {
    let Some(index) = index else { return Ok(()) };
    let (old, new) = (&base.tensors[index].shape, &tensor.info().shape);
    let grown = matches!((old.as_slice(), new.as_slice()), ([v, d], [w, e]) if w >= v && d == e);
    if old == new || grown {
        return Ok(());
    }
    Err(Misfit::new(name, Reason::Weight { base: old.clone(), adapter: new.clone() }))
}
