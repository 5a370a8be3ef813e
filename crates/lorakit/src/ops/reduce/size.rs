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
    // Headers and configurations grow with the ranks in them, so the first guess may be a few bytes off. The correction
    // per byte doubles each time, because a change of rank is many bytes.
    let (mut budget, mut factor) = (bytes, 1u64);
    while let Ok((ranks, level)) = spend(&modules, budget, "bytes") {
        go_on(progress, "anything was written")?;
        let total = of_files(adapter, &ranks, base, to)?;
        if total <= bytes {
            return Ok((ranks, level));
        }
        budget = budget.saturating_sub((total - bytes).saturating_mul(factor));
        factor = factor.saturating_mul(2);
    }
    Ok((vec![1; adapter.modules.len()], f64::INFINITY))
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
