//! The reduction of modules, one by one, once it is known how.

use lorakit_linalg::Decomposed;

use super::bits::{self, Asked, stored};
use super::options::ReduceOptions;
use super::reduced::Reduced;
use super::size::Choice;
use crate::Result;
use crate::adapter::Module;
use crate::adapter::factors::{Factors, of_linalg};
use crate::ops::truncate::{Truncated, truncate_as};
use crate::output::Destination;
use crate::plan::{Progress, go_on, in_order};
use crate::tensor::Shelf;

/// What reducing modules needs.
pub(super) struct Work<'a> {
    pub(super) options: &'a ReduceOptions,
    pub(super) to: &'a Destination<'a>,
    /// The alpha that all modules get, if the file has one for all.
    pub(super) alpha: Option<f64>,
    pub(super) shelf: Shelf,
    pub(super) progress: &'a dyn Progress,
}

impl Work<'_> {
    /// Gives all modules new factors, as `choice` says, if ranks depend on all modules.
    pub(super) fn reduce(&self, modules: &mut [Module], choice: Option<&Choice>) -> Result<Vec<Reduced>> {
        self.progress.begin(modules.iter().map(Module::factor_bytes).sum());
        in_order(modules.iter_mut().enumerate(), |(i, module): (usize, &mut Module)| {
            go_on(self.progress, "anything was written")?;
            let rank = choice.and_then(|choice| choice.ranks.get(i)).copied();
            let asked = choice.and_then(|choice| choice.asked.get(i)).copied().unwrap_or(self.options.dtype);
            let bytes = module.factor_bytes();
            let reduced = self.reduce_module(module, rank, asked)?;
            self.progress.advance(bytes);
            Ok(reduced)
        })
    }

    /// Gives the module its new factors; one that keeps its rank keeps its bytes, unless they become blocks.
    pub(super) fn reduce_module(
        &self,
        module: &mut Module,
        fixed: Option<usize>,
        asked: Asked,
    ) -> Result<Reduced> {
        let factors = Factors::load(module)?;
        let rank_before = module.rank();
        let shape = bits::shape(module);
        let mut keeps = false;
        let like = &*module;
        let rank = |s: &[f64]| {
            let rank = fixed.or_else(|| self.options.rule.of_module(s, shape)).unwrap_or(rank_before);
            let rank = rank.min(self.options.max_rank.unwrap_or(usize::MAX));
            keeps = bits::keeps(like, rank, (asked, self.to.dtype));
            rank
        };
        let place = |e: lorakit_linalg::Error| of_linalg(&e, &like.path);
        let product = Decomposed::of(factors.b.view(), factors.a.view()).map_err(place)?;
        let dtypes = |rank| stored(self.to.format, like, rank, asked);
        let Truncated { module: small, energy, error, norm } =
            truncate_as(like, factors.scale, product, (dtypes, &self.shelf), self.alpha, rank)?;
        let path = module.path.clone();
        if keeps {
            let [a, b] = asked.map_or([module.a.info().dtype, module.b.info().dtype], |dtype| [dtype; 2]);
            let kept = Reduced {
                path,
                rank_before,
                rank: rank_before,
                dtypes: (a, b),
                shape,
                energy: 1.0,
                error: 0.0,
                norm,
            };
            return Ok(kept);
        }
        *module = small;
        let dtypes = (module.a.info().dtype, module.b.info().dtype);
        Ok(Reduced { path, rank_before, rank: module.rank(), dtypes, shape, energy, error, norm })
    }
}
