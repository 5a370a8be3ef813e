//! The image models that an adapter may belong to.

use crate::adapter::{Adapter, Module};
use crate::arch::diffusion::{self, DiffusionModel, Named, Spelling};

/// The models whose layers an adapter names, and how it spells them. Models may share names; the base tells which is
/// meant.
pub(super) type Known = (Vec<&'static DiffusionModel>, Spelling);

/// The models whose layers an adapter names.
pub(super) fn of(adapter: &Adapter) -> Known {
    let size = |m: &Module| Some((m.b.info().rows_cols().0, m.a.info().rows_cols().1));
    let modules = adapter.modules.iter().map(|m| Named { name: diffusion::bare(&m.path), size: size(m) });
    let deltas = adapter.deltas.iter().map(|delta| Named::from(diffusion::bare(&delta.path)));
    let names: Vec<Named<'_>> = modules.chain(deltas).collect();
    let known = diffusion::models_of(&names, Spelling::Diffusers);
    if known.is_empty() {
        return (diffusion::models_of(&names, Spelling::Original), Spelling::Original);
    }
    (known, Spelling::Diffusers)
}
