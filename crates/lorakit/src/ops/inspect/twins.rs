//! Modules that are copies of each other, also with another scale or rounding.

use std::collections::{BTreeMap, HashMap};

use lorakit_linalg::inner_product;

use super::traits::{Traits, VIEWS};
use super::{go_on, grid};
use crate::adapter::Adapter;
use crate::adapter::factors::{Factors, of_linalg};
use crate::plan::Progress;
use crate::{Finding, Result, Severity};

/// How much what is seen of two deltas may differ between copies that were rounded.
const ALIKE: f64 = 0.05;
/// The cosine above which two deltas are one.
const SAME: f64 = 0.999;

/// The findings on copies. Only modules that look alike are read again.
///
/// # Errors
/// If factors cannot be read; `Interrupted`.
pub(super) fn findings(
    adapter: &Adapter,
    traits: &[Option<Traits>],
    progress: &dyn Progress,
) -> Result<Vec<Finding>> {
    let mut shapes = BTreeMap::<_, Vec<(usize, [f64; VIEWS])>>::new();
    for (module, traits) in traits.iter().enumerate() {
        if let Some(traits) = traits.as_ref().filter(|traits| traits.norm > 0.0) {
            shapes.entry(traits.shape).or_default().push((module, traits.seen));
        }
    }
    // For each copy, the first module that it is one of.
    let mut copies: BTreeMap<usize, usize> = BTreeMap::new();
    for (_, mut modules) in shapes {
        modules.sort_by(|(_, x), (_, y)| x[0].total_cmp(&y[0]));
        for (i, (x, own)) in modules.iter().enumerate() {
            // Its own copies are those of its original, which have been found.
            if copies.contains_key(x) {
                continue;
            }
            let near = modules[i + 1..].iter().take_while(|(_, other)| other[0] - own[0] < ALIKE);
            for (y, other) in near {
                let (first, second) = (*x.min(y), *x.max(y));
                let alike = own.iter().zip(other).all(|(a, b)| (a - b).abs() < ALIKE);
                if alike
                    && !copies.contains_key(&second)
                    && cosine(adapter, traits, first, second)?.abs() > SAME
                {
                    go_on(progress)?;
                    let original = copies.get(&first).copied().unwrap_or(first);
                    copies.insert(second, original);
                }
            }
        }
    }
    Ok(told(adapter, &copies))
}

/// The cosine between the deltas of two modules.
fn cosine(adapter: &Adapter, traits: &[Option<Traits>], x: usize, y: usize) -> Result<f64> {
    let norm = |module: usize| traits[module].as_ref().map_or(0.0, |traits| traits.norm);
    let norms = norm(x) * norm(y);
    let (x, y) = (&adapter.modules[x], &adapter.modules[y]);
    let (p, q) = (Factors::load(x)?, Factors::load(y)?);
    let product = inner_product(p.term(), q.term()).map_err(|e| of_linalg(&e, &y.path))?;
    Ok(product / norms)
}

/// One finding for each copy; for a layer that is copied with several modules, one.
fn told(adapter: &Adapter, copies: &BTreeMap<usize, usize>) -> Vec<Finding> {
    let path = |module: usize| adapter.modules[module].path.as_str();
    let layer =
        |module: usize| grid::place(path(module)).map(|p| (format!("{}.{}", p.stem, p.layer), p.suffix));
    // The layer of which each copy is one at the same place in another layer.
    let pair = |(copy, original): (&usize, &usize)| {
        let ((to, at), (from, of)) = (layer(*copy)?, layer(*original)?);
        (at == of).then_some((to, from))
    };
    let mut layers: HashMap<(String, String), usize> = HashMap::new();
    copies.iter().filter_map(pair).for_each(|pair| *layers.entry(pair).or_default() += 1);
    let mut findings = Vec::new();
    for (copy, original) in copies {
        let of_layer = pair((copy, original)).and_then(|pair| layers.remove_entry(&pair).or(Some((pair, 0))));
        let (subject, message) = match of_layer {
            Some((_, 0)) => continue,
            Some(((to, from), count)) if count > 1 => {
                (to, format!("{count} of its modules have the deltas of `{from}`"))
            }
            _ => (path(*copy).to_string(), format!("has the delta of `{}`", path(*original))),
        };
        let message = format!("{message}: no two are alike after training, so it may have been copied");
        findings.push(Finding::new(Severity::Warning, "copied-module", &subject, message));
    }
    findings
}
