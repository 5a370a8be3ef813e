//! Adapters of any format as factors of a model's linears.

use std::collections::HashMap;

use lorakit::adapter::Adapter as Opened;
use lorakit::ops::products::{self, Product};
use lorakit::{Base as Headers, Reader};
use std::path::Path;

use super::problem::Problem;
use crate::base::Base;
use crate::model::{Adapter, Lora, Slot};
use crate::{Error, Result};

/// Reads an adapter of any format that `lorakit` reads, and finds the linear of each of its parts. Returns what was
/// opened too, which a refinement names as its parent.
///
/// # Errors
/// If there is none, or it is damaged; as [`products::of`] for what is not a low-rank product on a weight of this base;
/// [`Unsupported`](lorakit::ErrorKind::Unsupported), with their names, for products on embeddings or head.
pub fn read(path: &Path, base: &Base) -> Result<(Opened, Adapter<f32>)> {
    let opened = Opened::open(path, &Reader::default(), Some(&Headers::of(base.opened())))?;
    let adapter = of(&opened, base)?;
    Ok((opened, adapter))
}

/// The factors of an adapter that is opened, or computed, on the linears of `base`.
///
/// # Errors
/// As [`read`], for what it holds.
pub fn of(opened: &Opened, base: &Base) -> Result<Adapter<f32>> {
    let products = products::of(&Headers::of(base.opened()), opened)?;
    let mut adapter = Adapter::none(&base.model.shape);
    let slots: HashMap<String, (usize, Slot)> = (0..adapter.layers.len())
        .flat_map(|layer| Slot::ALL.map(|slot| (base.weight(layer, slot).to_string(), (layer, slot))))
        .collect();
    let total = products.len();
    let mut others = Vec::new();
    for Product { weight, scale, a, b, .. } in products {
        match slots.get(&weight) {
            Some((layer, slot)) => adapter.layers[*layer][*slot as usize] = Some(Lora { scale, a, b }),
            None => others.push(weight),
        }
    }
    if !others.is_empty() {
        let problem = Problem::Untrained { count: others.len(), total };
        return Err(Error::from(problem).at(&opened.path).details(others));
    }
    Ok(adapter)
}
