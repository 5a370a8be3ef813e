//! An adapter as modules on the layers of the original model, which may compute several layers of diffusers as one.

use std::collections::BTreeMap;

use super::Problem;
use super::layers::{swap_halves, swapped_rows};
use crate::adapter::fuse::{FusePart, fuse};
use crate::adapter::{Adapter, Delta, Module};
use crate::arch::diffusion::{DiffusionModel, Layer, Spelling};
use crate::tensor::Factor;
use crate::{Error, Result, TensorRef};

/// A layer of the original model with what an adapter has for it, each at the place of its part.
pub(super) struct OnLayer<'a> {
    pub(super) layer: &'static Layer,
    pub(super) modules: Vec<Option<&'a Module>>,
    /// Full deltas: of the weight, and of the bias.
    deltas: [Vec<Option<&'a Delta>>; 2],
}

/// What an adapter has for each layer of `model`, to which it belongs.
///
/// # Errors
/// `ErrorKind::Damaged` for a layer that is named twice.
pub(super) fn by_layer<'a>(model: &'static DiffusionModel, adapter: &'a Adapter) -> Result<Vec<OnLayer<'a>>> {
    let mut layers: BTreeMap<&str, OnLayer<'a>> = BTreeMap::new();
    let twice = |path: &str| Error::from(Problem::Twice).tensor(path).at(&adapter.path);
    for module in &adapter.modules {
        let Some(found) = model.find(&module.path, Spelling::Diffusers) else { continue };
        let on = layers.entry(&found.layer.kohya).or_insert_with(|| OnLayer::empty(found.layer));
        if on.modules[found.part.unwrap_or(0)].replace(module).is_some() {
            return Err(twice(&module.path));
        }
    }
    for delta in &adapter.deltas {
        let Some(found) = model.find(&delta.path, Spelling::Diffusers) else { continue };
        let on = layers.entry(&found.layer.kohya).or_insert_with(|| OnLayer::empty(found.layer));
        if on.deltas[usize::from(delta.of_bias)][found.part.unwrap_or(0)].replace(delta).is_some() {
            return Err(twice(&delta.path));
        }
    }
    Ok(layers.into_values().collect())
}

impl OnLayer<'_> {
    fn empty(layer: &'static Layer) -> Self {
        let count = layer.paths.len();
        OnLayer { layer, modules: vec![None; count], deltas: [vec![None; count], vec![None; count]] }
    }

    /// The module on the whole layer that does what the modules on its parts do, called `name`; `None` if there are
    /// none.
    ///
    /// # Errors
    /// As [`fuse`] and [`swap_halves`].
    pub(super) fn module(&self, name: &str) -> Result<Option<Module>> {
        let Some(unit) = self.unit() else { return Ok(None) };
        if let [Some(module)] = self.modules.as_slice() {
            let module = if self.layer.swapped { swap_halves(module)? } else { (*module).clone() };
            return Ok(Some(module));
        }
        let part = |(module, share): (&Option<_>, &usize)| FusePart { module: *module, rows: share * unit };
        let parts: Vec<FusePart<'_>> = self.modules.iter().zip(&self.layer.shares).map(part).collect();
        fuse(name, &parts).map(Some)
    }

    /// The rows of a part that has a share of 1.
    fn unit(&self) -> Option<usize> {
        let rows = |module: &Module| module.b.info().rows_cols().0;
        self.modules
            .iter()
            .zip(&self.layer.shares)
            .find_map(|(part, share)| Some(rows(part.as_ref()?) / share))
    }

    /// The full deltas of the whole layer's weight and of its bias, with zeros for parts that have none.
    ///
    /// # Errors
    /// `ErrorKind::Shape` if they do not share the rows as the layer does.
    pub(super) fn deltas(&self) -> Result<[Option<TensorRef>; 2]> {
        let [weight, bias] = &self.deltas;
        Ok([self.delta(weight)?, self.delta(bias)?])
    }

    fn delta(&self, parts: &[Option<&Delta>]) -> Result<Option<TensorRef>> {
        if let [Some(delta)] = parts {
            let swapped = self.layer.swapped.then(|| swapped_rows(&delta.tensor, delta.rows()));
            return swapped.unwrap_or_else(|| Ok(delta.tensor.clone())).map(Some);
        }
        let shares = &self.layer.shares;
        let Some((first, share)) =
            parts.iter().zip(shares).find_map(|(part, share)| Some((part.as_ref()?, share)))
        else {
            return Ok(None);
        };
        let (unit, whole) = (first.rows() / share, shares.iter().sum::<usize>());
        let cols = first.tensor.info().elements() as usize / first.rows().max(1);
        let (mut pieces, mut row) = (Vec::new(), 0);
        for (part, share) in parts.iter().zip(shares) {
            if let Some(delta) = part {
                let info = delta.tensor.info();
                if info.elements() != (share * unit * cols) as u64 {
                    let problem = Problem::NoShares { rows: delta.rows(), shares: *share };
                    return Err(Error::from(problem).tensor(&info.name));
                }
                pieces.push((Factor::matrix(delta.tensor.clone(), share * unit, cols), row, 0));
            }
            row += share * unit;
        }
        let shape = std::iter::once(unit * whole).chain(first.tensor.info().shape.iter().skip(1).copied());
        TensorRef::assembled(pieces, cols, shape.collect()).map(Some)
    }
}
