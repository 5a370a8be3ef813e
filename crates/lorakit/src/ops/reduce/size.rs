//! Ranks for files of a given size.

use lorakit_tensor::DType;

use super::Problem;
use super::rule::{Weighed, spend};
use crate::adapter::{Adapter, Module, Scaling};
use crate::output::{AdapterOutput, Destination};
use crate::plan::{Content, Progress, go_on};
use crate::{Base, Result, TensorRef};

/// Weighs all modules, given what a unit of rank costs in one.
pub(super) type Weigh<'a> = &'a dyn Fn(&dyn Fn(&Module) -> u64) -> Vec<Weighed>;

/// The ranks that keep most energy in files of at most `bytes`, all files together, and the level of the water.
///
/// # Errors
/// [`ErrorKind::Usage`](crate::ErrorKind::Usage) if rank 1 everywhere takes more; what the format refuses;
/// [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted).
pub(super) fn fit(
    adapter: &Adapter,
    base: Option<&Base>,
    to: &Destination<'_>,
    weigh: Weigh<'_>,
    bytes: u64,
    progress: &dyn Progress,
) -> Result<(Vec<usize>, f64)> {
    let least = of_files(adapter, &vec![1; adapter.modules.len()], base, to)?;
    if least > bytes {
        return Err(Problem::Bytes { bytes, least }.into());
    }
    let modules = weigh(&|module| {
        let size = to.dtype.unwrap_or_else(|| module.dtype()).block().bytes;
        ((shape(module).0 + shape(module).1) * size) as u64
    });
    let chosen = most(
        bytes,
        |budget| spend(&modules, budget, "bytes").ok(),
        |ranks| {
            go_on(progress, "anything was written")?;
            of_files(adapter, ranks, base, to)
        },
    )?;
    Ok(chosen.unwrap_or_else(|| (vec![1; adapter.modules.len()], f64::INFINITY)))
}

/// Ranks, and the level of the water.
type Chosen = (Vec<usize>, f64);

/// What `spend` chooses with the largest budget whose ranks take at most `bytes` of files; one byte of budget more is
/// too much, unless all ranks fit. `None` if no budget fits.
///
/// Besides the factors, files hold headers and configurations, which depend on the ranks in them.
fn most(
    bytes: u64,
    spend: impl Fn(u64) -> Option<Chosen>,
    total: impl Fn(&[usize]) -> Result<u64>,
) -> Result<Option<Chosen>> {
    let mut fits: Option<Chosen> = None;
    let mut over: Option<(u64, Vec<usize>)> = None;
    // A correction that is as much as was over is nearly right, and twice as much each time soon is enough.
    let (mut budget, mut factor) = (bytes, 1u64);
    while let Some((ranks, level)) = spend(budget) {
        let found = total(&ranks)?;
        if found <= bytes {
            fits = Some((ranks, level));
            break;
        }
        over = Some((budget, ranks));
        budget = budget.saturating_sub((found - bytes).saturating_mul(factor));
        factor = factor.saturating_mul(2);
    }
    let Some((mut high, mut too_many)) = over else { return Ok(fits) };
    let mut low = budget;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match spend(middle) {
            None => low = middle,
            Some((ranks, _)) if fits.as_ref().is_some_and(|(known, _)| *known == ranks) => low = middle,
            Some((ranks, _)) if ranks == too_many || total(&ranks)? > bytes => {
                (high, too_many) = (middle, ranks);
            }
            Some(chosen) => (low, fits) = (middle, Some(chosen)),
        }
    }
    Ok(fits)
}

/// Bytes of all files of the adapter with these ranks.
fn of_files(adapter: &Adapter, ranks: &[usize], base: Option<&Base>, to: &Destination<'_>) -> Result<u64> {
    let output = AdapterOutput::new(with_ranks(adapter, ranks, to.dtype)?, base.cloned(), to)?;
    let beside = output.plan.side_files().iter().map(|file| match &file.content {
        Content::Bytes(bytes) => bytes.len() as u64,
        Content::CopyOf(path) => std::fs::metadata(path).map_or(0, |meta| meta.len()),
    });
    Ok(output.plan.output_bytes() + beside.sum::<u64>())
}

/// The adapter with factors of these ranks that are not computed but zero; it can be laid out.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a dtype that single values cannot be encoded to.
pub(super) fn with_ranks(adapter: &Adapter, ranks: &[usize], dtype: Option<DType>) -> Result<Adapter> {
    let zeros = |like: &TensorRef, dtype: DType, shape: Vec<usize>| {
        TensorRef::of_zeros(&like.info().name, like.path(), dtype, shape)
    };
    let sized = |(module, &rank): (&Module, &usize)| {
        if rank >= module.rank() {
            return Ok(module.clone());
        }
        let dtype = dtype.unwrap_or_else(|| module.dtype());
        let (mut a, mut b) = (module.a.info().shape.clone(), module.b.info().shape.clone());
        (a[0], b[1]) = (rank, rank);
        Ok(Module {
            a: zeros(&module.a, dtype, a)?,
            b: zeros(&module.b, dtype, b)?,
            scaling: Scaling::Fixed(module.scale(module.rank())),
            config_rank: None,
            ..module.clone()
        })
    };
    let mut placed = adapter.clone();
    placed.modules = adapter.modules.iter().zip(ranks).map(sized).collect::<Result<_>>()?;
    Ok(placed)
}

/// Rows and columns of the delta.
pub(super) fn shape(module: &Module) -> (usize, usize) {
    (module.b.info().rows_cols().0, module.a.info().rows_cols().1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes of factors, and of a header with the digits of each rank.
    fn size(modules: &[Weighed], ranks: &[usize]) -> u64 {
        let of =
            |(module, rank): (&Weighed, &usize)| module.cost * *rank as u64 + rank.to_string().len() as u64;
        300 + modules.iter().zip(ranks).map(of).sum::<u64>()
    }

    proptest! {
        /// At most the target, and with the next larger budget more than it.
        #[test]
        fn the_target_is_met_and_used(
            costs in prop::collection::vec(20u64..400, 1..6),
            fall in 0.5f64..0.99,
            target in 300u64..20_000,
        ) {
            let weighed = |(i, cost): (usize, &u64)| Weighed {
                s: (0..12).map(|j| (1.0 + i as f64) * fall.powi(j)).collect(),
                cost: *cost,
            };
            let modules: Vec<Weighed> = costs.iter().enumerate().map(weighed).collect();
            let chosen = most(
                target,
                |budget| spend(&modules, budget, "bytes").ok(),
                |ranks| Ok(size(&modules, ranks)),
            );
            let least = size(&modules, &vec![1; modules.len()]);
            let Some((ranks, _)) = chosen.unwrap() else {
                prop_assert!(least > target);
                return Ok(());
            };
            prop_assert!(size(&modules, &ranks) <= target);
            // The next larger ranks that any budget buys.
            let own: u64 = modules.iter().zip(&ranks).map(|(module, rank)| module.cost * *rank as u64).sum();
            let larger = (own..own + 400).find_map(|budget| {
                let (next, _) = spend(&modules, budget, "bytes").ok()?;
                (next != ranks).then_some(next)
            });
            let whole = ranks.iter().all(|rank| *rank == 12);
            prop_assert_eq!(larger.is_none(), whole);
            prop_assert!(larger.is_none_or(|next| size(&modules, &next) > target), "{:?}", ranks);
        }
    }
}
