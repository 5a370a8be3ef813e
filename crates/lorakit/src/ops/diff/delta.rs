//! One module of A against its counterpart of B, from the factors.

use lorakit_linalg::{Term, difference_norm, inner_product, product_norm};
use lorakit_tensor::DType;

use super::{ModuleDiff, ModuleSide, State, Sums};
use crate::adapter::factors::{Factors, of_linalg};
use crate::adapter::{Module, ModuleKind};
use crate::{ErrorKind, Result};

/// Deltas that differ by less, relative to their norm, are the same except for the rounding of f32.
pub(super) const EXACT: f64 = 1e-6;

/// Compares the modules of one path.
///
/// # Errors
/// If the factors cannot be read; values that are not finite are a state, not an error.
pub(super) fn compare(a: Option<&Module>, b: Option<&Module>) -> Result<ModuleDiff> {
    let found = |state, sums| ModuleDiff {
        path: a.or(b).map_or(String::new(), |m| m.path.clone()),
        state,
        a: a.map(ModuleSide::of),
        b: b.map(ModuleSide::of),
        sums,
    };
    if let (Some(x), Some(y)) = (a, b)
        && same(x, y)?
    {
        let norm = numbers(sums(a, None))?.map(|sums| sums.a);
        return Ok(found(State::Same, norm.map(Sums::alike)));
    }
    let sums = numbers(sums(a, b))?;
    let state = match (a.map(ModuleSide::of), b.map(ModuleSide::of), sums) {
        // Some formats have a module for every layer; those that were not trained are zero.
        (None, _, Some(sums)) | (_, None, Some(sums)) if sums.off == 0.0 => State::Equal,
        (Some(_), None, _) => State::OnlyA,
        (None, _, _) => State::OnlyB,
        (Some(x), Some(y), _) if x.shape != y.shape => State::Reshaped,
        (_, _, None) => State::NonFinite,
        (Some(x), Some(y), Some(sums)) => of_deltas(&sums, &x, &y),
    };
    Ok(found(state, sums))
}

/// The sums, unless factors hold NaN or infinity.
fn numbers(sums: Result<Sums>) -> Result<Option<Sums>> {
    match sums {
        Err(e) if e.kind() == ErrorKind::NonFinite => Ok(None),
        sums => sums.map(Some),
    }
}

/// Whether every stored byte of the factors is the same, and so is the scale.
fn same(a: &Module, b: &Module) -> Result<bool> {
    let alike = a.kind == b.kind && a.scale(a.rank()) == b.scale(b.rank());
    Ok(alike && a.a.same_values(&b.a)? && a.b.same_values(&b.b)?)
}

fn sums(a: Option<&Module>, b: Option<&Module>) -> Result<Sums> {
    let path = a.or(b).map_or("", |m| m.path.as_str());
    let place = |e: lorakit_linalg::Error| of_linalg(&e, path);
    let (one, two) = (a.map(Factors::load).transpose()?, b.map(Factors::load).transpose()?);
    let (x, y) = (a.zip(one.as_ref()).map(term), b.zip(two.as_ref()).map(term));
    let norm = |t: &Option<Term<'_>>| match t {
        Some((scale, b, a)) => product_norm(*b, *a).map(|norm| (scale * norm).powi(2)).map_err(place),
        None => Ok(0.0),
    };
    let (one, two) = (norm(&x)?, norm(&y)?);
    match (x, y) {
        (Some(x), Some(y)) if (x.1.nrows(), x.2.ncols()) == (y.1.nrows(), y.2.ncols()) => Ok(Sums {
            a: one,
            b: two,
            ab: inner_product(x, y).map_err(place)?,
            off: difference_norm(x, y).map_err(place)?.powi(2),
        }),
        _ => Ok(Sums::apart(one, two)),
    }
}

/// The delta in the orientation of the weight: for an embedding, that is the transposed product.
fn term<'a>((module, factors): (&Module, &'a Factors)) -> Term<'a> {
    match module.kind {
        ModuleKind::Linear => factors.term(),
        ModuleKind::Embedding => (factors.scale, factors.a.t(), factors.b.t()),
    }
}

/// How two deltas of one shape are related.
fn of_deltas(sums: &Sums, a: &ModuleSide, b: &ModuleSide) -> State {
    let distance = match sums.distance() {
        Some(distance) if distance <= EXACT => return State::Equal,
        Some(distance) => distance,
        None => return State::Different,
    };
    // If the ranks differ, a near delta is an approximation, not the same one rounded.
    let noise = if a.rank == b.rank { rounding(a).max(rounding(b)) } else { EXACT };
    if a.dtypes != b.dtypes && distance <= noise {
        return State::Recast;
    }
    let (factor, cosine) = (sums.factor().unwrap_or(0.0), sums.cosine().unwrap_or(0.0));
    let sine = (1.0 - cosine * cosine).max(0.0).sqrt();
    if sine <= noise.max(EXACT) && (factor - 1.0).abs() > noise {
        State::Rescaled(factor)
    } else {
        State::Different
    }
}

/// The largest distance of the product of two rounded factors from that of the factors, relative to its norm.
fn rounding(side: &ModuleSide) -> f64 {
    let half_step = |dtype: DType| match dtype {
        DType::F64 | DType::F32 => EXACT / 2.0,
        DType::F16 => 2f64.powi(-11),
        _ => 2f64.powi(-8),
    };
    half_step(side.dtypes.0) + half_step(side.dtypes.1)
}

#[cfg(test)]
mod tests;
