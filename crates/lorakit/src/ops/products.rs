//! An adapter as nothing but products of factors on weights of a base: what a trainer can go on from.

use crate::adapter::Adapter;
use crate::fit::{self, Change, Edit, FitOptions, Resolver};
use crate::plan::LowRank;
use crate::{Base, Error, Result};

use super::merge;
use super::problem::{Foreign, Problem};

/// `scale * B * A`, added to a weight of a base.
#[derive(Debug, Clone, PartialEq)]
pub struct Product {
    /// The weight, by its name in the base.
    pub weight: String,
    /// Alpha / r, or alpha / sqrt(r) with rsLoRA.
    pub scale: f64,
    /// The rank r.
    pub rank: usize,
    /// `(r, in)`, row-major.
    pub a: Vec<f32>,
    /// `(out, r)`, row-major.
    pub b: Vec<f32>,
}

/// The products that `adapter` adds to the weights of `base`, in the order of its modules.
///
/// # Errors
/// As [`Adapter::check`]; [`ErrorKind::Unmergeable`](crate::ErrorKind::Unmergeable) and
/// [`ErrorKind::MutatedBase`](crate::ErrorKind::MutatedBase) for options with which it is no product on this base;
/// [`ErrorKind::Unmatched`](crate::ErrorKind::Unmatched), [`ErrorKind::Ambiguous`](crate::ErrorKind::Ambiguous) or
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) if it belongs to another base;
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), with a line for each part that is anything else;
/// [`ErrorKind::NonFinite`](crate::ErrorKind::NonFinite).
pub fn of(base: &Base, adapter: &Adapter) -> Result<Vec<Product>> {
    adapter.check()?;
    merge::refuse_unmergeable(adapter, false)?;
    let resolver = Resolver::new(&base.tensors, base.config.as_ref());
    // OLoRA takes a part out of the weights first: it is fitted with that, and refused.
    let edits = fit::fit(&resolver, adapter, FitOptions { initial: true, ..FitOptions::default() })?;
    let foreign: Vec<String> = edits
        .iter()
        .enumerate()
        .filter_map(|(at, edit)| {
            let reason = foreign(edit, base).or_else(|| {
                let before = edits[..at].iter().any(|other| other.target == edit.target);
                before.then(|| Foreign::Second { weight: edit.target.clone() })
            })?;
            Some(format!("{}  {reason}", edit.origin))
        })
        .collect();
    if !foreign.is_empty() {
        let problem = Problem::NotProducts { count: foreign.len(), total: edits.len() };
        return Err(Error::from(problem).at(&adapter.path).details(foreign));
    }
    edits
        .iter()
        .filter_map(term)
        .map(|(edit, term)| {
            let place = |error: Error| error.at(&adapter.path);
            let (a, b) = (term.a.load().map_err(place)?, term.b.load().map_err(place)?);
            Ok(Product { weight: edit.target.clone(), scale: term.scale, rank: term.rank(), a, b })
        })
        .collect()
}

/// The one term of an edit that is a product on a whole weight.
fn term(edit: &Edit) -> Option<(&Edit, &LowRank)> {
    match &edit.change {
        Change::LowRank { terms, dora: None, initial: None, .. } => match terms.as_slice() {
            [term] => Some((edit, term)),
            _ => None,
        },
        _ => None,
    }
}

/// Why an edit is anything else.
fn foreign(edit: &Edit, base: &Base) -> Option<Foreign> {
    let weight = || edit.target.clone();
    Some(match &edit.change {
        Change::LowRank { dora: Some(_), .. } => Foreign::Dora,
        Change::LowRank { initial: Some(_), .. } => Foreign::Initial,
        Change::LowRank { .. } => {
            let rows = edit.base.map(|index| base.tensors[index].rows_cols().0);
            match term(edit) {
                Some((_, term)) if term.rows.start == 0 && Some(term.rows.end) == rows => return None,
                _ => Foreign::Part { weight: weight() },
            }
        }
        Change::Replace(_) => Foreign::Whole,
        Change::Multiply(_) => Foreign::Multiplied,
        Change::Rows(..) => Foreign::TokenRows,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use lorakit_tensor::Reader;

    use super::*;

    fn golden(name: &str) -> Result<Vec<Product>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/peft");
        let table: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join("peft.json")).unwrap()).unwrap();
        let base = table["cases"][name]["base"].as_str().unwrap();
        let reader = Reader::default();
        let base = Base::open(&folder.join("bases").join(base), &reader)?;
        let adapter = Adapter::open(&folder.join("adapters").join(name), &reader, Some(&base))?;
        of(&base, &adapter)
    }

    #[test]
    fn a_plain_adapter_is_its_factors() {
        let products = golden("attn-r4").unwrap();
        assert!(!products.is_empty());
        for product in &products {
            assert_eq!(product.rank, 4);
            assert!(product.weight.ends_with("_proj.weight"), "{}", product.weight);
            assert!(product.a.len().is_multiple_of(4) && product.b.len().is_multiple_of(4));
        }
    }

    #[test]
    fn anything_else_is_named() {
        let refused = |name: &str| {
            let error = golden(name).unwrap_err();
            let text = error.to_string();
            let text = text.rsplit("`: ").next().unwrap_or_default().to_string();
            let first = error.detail_lines().first().cloned().unwrap_or_default();
            format!("{}: {text}\n    {first}", error.kind().name())
        };
        insta::assert_snapshot!(refused("dora"), @"
        Unsupported: 14 of 14 parts of the adapter are not products of factors on whole weights, and only these are trained
            model.layers.0.mlp.down_proj  uses DoRA
        ");
        insta::assert_snapshot!(refused("modules-to-save"), @"
        Unsupported: 6 of 8 parts of the adapter are not products of factors on whole weights, and only these are trained
            base_model.model.lm_head.weight  is saved whole
        ");
    }
}
