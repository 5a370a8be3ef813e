//! Moving the scale into the factors, and out of them.

use std::collections::HashMap;

use super::options::Alpha;
use super::place::Place;
use super::problem::Problem;
use super::work::Work;
use crate::adapter::{Adapter, Module};
use crate::ops::refuse_repeated;
use crate::{Error, Result};

/// The scale of a module, and the rank by which its alpha is divided.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Scaled {
    scale: f64,
    rank: usize,
}

/// Multiplies each `B`, and its bias, by what its scale loses.
///
/// # Errors
/// For scales that are 0, or not known.
pub(super) fn move_scale(work: &mut Work<'_>, place: &dyn Place, alpha: Alpha) -> Result<()> {
    let read = work.read;
    if let Some(method) = read.modules.iter().find_map(|module| module.expanded) {
        return Err(Error::from(Problem::Expanded { method }).at(&read.path));
    }
    refuse_repeated(read)?;
    let scales = scales(read)?;
    let mut all = read.modules.iter().map(of_module);
    let first = all.next();
    let common = first.filter(|first| all.all(|scaled| scaled == *first));
    let mut moved = 0;
    for item in work.tensors.iter_mut() {
        // The name that it was read by; it may get another.
        let name = item.tensor.info().name.clone();
        if !place.is_b(&name) {
            continue;
        }
        let scaled = scales.get(name.as_str()).copied().flatten().or(common);
        let Some(Scaled { scale, rank }) = scaled else {
            return Err(Error::from(Problem::NoScale).tensor(&name).at(item.tensor.path()));
        };
        let after = match alpha {
            Alpha::Folded => 1.0,
            Alpha::Is(alpha) => place.scaling(read, alpha).scale(rank),
        };
        item.times = scale / after;
        moved += usize::from(item.times != 1.0);
    }
    if moved == 0 {
        work.note("scale", "the scale is what was asked for already, so no value is multiplied".into());
    }
    Ok(())
}

/// The scale of each tensor that is a `B` or its bias, by name; `None` for one of several modules with different
/// scales.
fn scales(read: &Adapter) -> Result<HashMap<&str, Option<Scaled>>> {
    let mut scales: HashMap<&str, Option<Scaled>> = HashMap::new();
    for module in &read.modules {
        let scaled = of_module(module);
        if scaled.scale == 0.0 {
            return Err(Error::from(Problem::ZeroScale).tensor(&module.path).at(&read.path));
        }
        for tensor in [Some(&module.b), module.bias.as_ref()].into_iter().flatten() {
            let known = scales.entry(tensor.info().name.as_str()).or_insert(Some(scaled));
            *known = known.filter(|known| *known == scaled);
        }
    }
    Ok(scales)
}

fn of_module(module: &Module) -> Scaled {
    let rank = module.rank_of_one();
    Scaled { scale: module.scale(rank), rank }
}
