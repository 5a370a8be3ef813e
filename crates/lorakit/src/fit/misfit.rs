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

/// In how many parts every one of these would have been cut along one side, if all were cut alike.
pub(super) fn slices(misfits: &[Misfit]) -> Option<usize> {
    let parts = |misfit: &Misfit| match &misfit.reason {
        Reason::Weight { base, adapter } => match (base.as_slice(), adapter.as_slice()) {
            (&[rows, cols], &[own_rows, own_cols]) if own_rows > 0 && own_cols > 0 => {
                let of = |whole: usize, own: usize| whole.is_multiple_of(own).then(|| whole / own);
                let (rows, cols) = (of(rows, own_rows)?, of(cols, own_cols)?);
                (rows == 1 || cols == 1).then_some(rows * cols)
            }
            _ => None,
        },
        _ => None,
    };
    let first = parts(misfits.first()?).filter(|parts| *parts > 1)?;
    misfits.iter().all(|misfit| parts(misfit) == Some(first)).then_some(first)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_cut_alike() {
        let of = |shapes: &[([usize; 2], [usize; 2])]| {
            let misfit = |(base, adapter): &([usize; 2], [usize; 2])| {
                let reason = Reason::Weight { base: base.to_vec(), adapter: adapter.to_vec() };
                Misfit::new("x", reason)
            };
            slices(&shapes.iter().map(misfit).collect::<Vec<_>>())
        };
        assert_eq!(of(&[([32, 16], [16, 16]), ([16, 32], [16, 16])]), Some(2));
        assert_eq!(of(&[([32, 16], [8, 16]), ([32, 16], [8, 16])]), Some(4));
        assert_eq!(of(&[([32, 16], [16, 16]), ([16, 32], [4, 32])]), None, "not alike");
        assert_eq!(of(&[([32, 16], [16, 8])]), None, "smaller on both sides: another model");
        assert_eq!(of(&[([16, 16], [32, 16])]), None, "larger");
        assert_eq!(of(&[([32, 16], [0, 16])]), None);
        assert_eq!(of(&[]), None);
    }
}
