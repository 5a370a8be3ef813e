//! One budget for all modules: what is known of each, and what it is spent on.

use lorakit_linalg::product_singular_values;
use lorakit_tensor::DType;

use super::bits::{self, Asked, Measured, is_quantised};
use super::options::ReduceOptions;
use super::rule::Rule;
use super::rule::{Weighed, spend};
use super::size::{self, Choice, Job, Traded};
use crate::Result;
use crate::adapter::Module;
use crate::adapter::factors::{Factors, of_linalg};
use crate::plan::{go_on, in_order};

/// Ranks, and dtypes, from one budget for all modules.
pub(super) fn spent(job: Job<'_>, options: &ReduceOptions, trades: bool) -> Result<Traded> {
    let Job { adapter, to, progress, .. } = job;
    let max_rank = options.max_rank.unwrap_or(usize::MAX);
    let told = trades || options.dtype.is_some_and(|dtype| is_quantised([dtype; 2]));
    let mut dtypes: Vec<Asked> = vec![options.dtype];
    if trades {
        let own = adapter.modules.iter().map(Module::dtype);
        let f16 = Some(DType::F16).filter(|f16| own.clone().any(|own| own != *f16));
        dtypes.extend(f16.into_iter().chain(to.format.blocks().iter().copied()).map(Some));
    }
    let measure = |module: &Module| {
        go_on(progress, "anything was written")?;
        let Factors { scale, b, a } = Factors::load(module)?;
        let s = product_singular_values(b.view(), a.view()).map_err(|e| of_linalg(&e, &module.path))?;
        // Where losses are told, triplets beyond the highest rank are among them.
        let most = if told { usize::MAX } else { max_rank };
        let s = s.into_iter().take(most).map(|s| s * scale.abs());
        progress.advance(module.factor_bytes());
        // Blocks leave the other factor in 16 bits where its rows are too short.
        let tried = [module.dtype(), DType::F16].into_iter().chain(to.format.blocks().iter().copied());
        let tried = tried.filter(|_| told);
        Ok(Measured::new(s.collect(), &a, tried))
    };
    progress.begin(adapter.modules.iter().map(Module::factor_bytes).sum());
    let measured = in_order(&adapter.modules, measure)?;
    let weigh = |cost: &dyn Fn(&Module) -> u64| -> Vec<Weighed> {
        let modules = adapter.modules.iter().zip(&measured);
        modules.map(|(module, Measured { s, .. })| Weighed { s: s.clone(), cost: cost(module) }).collect()
    };
    let chosen = match options.rule {
        Rule::Size(bytes) if told => size::trade(job, &measured, &dtypes, (max_rank, bytes)),
        Rule::Size(bytes) => size::fit(job, &weigh, bytes).map(Traded::from),
        Rule::Parameters(budget) => {
            let cost = |module: &Module| {
                let (rows, cols) = bits::shape(module);
                (rows + cols) as u64
            };
            spend(&weigh(&cost), budget, "parameters")
                .map(|(ranks, level)| (Choice::same(ranks, options.dtype), level).into())
        }
        _ => Ok((Choice::same(Vec::new(), options.dtype), 0.0).into()),
    };
    chosen.map_err(|e| e.at(&options.source))
}
