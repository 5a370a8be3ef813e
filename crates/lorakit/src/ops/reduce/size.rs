//! Ranks, and dtypes, for files of a given size.

use lorakit_tensor::DType;

use super::Problem;
use super::bits::{Asked, Measured, Offers, Way, is_quantised, keeps, shape, stored, ways};
use super::rule::{Weighed, spend};
use crate::adapter::format::{AdapterFormat, most_common};
use crate::adapter::{Adapter, Module, Scaling};
use crate::ops::truncate::scale_of;
use crate::output::{AdapterOutput, Destination};
use crate::plan::{Content, Progress, go_on};
use crate::{Base, Result, TensorRef};

/// Weighs all modules, given what a unit of rank costs in one.
pub(super) type Weigh<'a> = &'a dyn Fn(&dyn Fn(&Module) -> u64) -> Vec<Weighed>;

/// What is to be fitted into a size, and where it goes.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) adapter: &'a Adapter,
    pub(super) base: Option<&'a Base>,
    pub(super) to: &'a Destination<'a>,
    pub(super) progress: &'a dyn Progress,
}

/// A rank for each module, and a dtype.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choice {
    pub(super) ranks: Vec<usize>,
    pub(super) asked: Vec<Asked>,
}

impl Choice {
    /// Every module in the same dtype.
    pub(super) fn same(ranks: Vec<usize>, asked: Asked) -> Self {
        Choice { asked: vec![asked; ranks.len()], ranks }
    }

    fn is_quantised(&self) -> bool {
        self.asked.iter().flatten().any(|dtype| is_quantised([*dtype; 2]))
    }

    fn of(ways: &[Way]) -> Self {
        Choice {
            ranks: ways.iter().map(|way| way.rank).collect(),
            asked: ways.iter().map(|way| way.asked).collect(),
        }
    }
}

/// The ranks that keep most energy in files of at most `bytes`, all files together, and the level of the water.
///
/// # Errors
/// [`ErrorKind::Usage`](crate::ErrorKind::Usage) if rank 1 everywhere takes more; what the format refuses;
/// [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted).
pub(super) fn fit(job: Job<'_>, weigh: Weigh<'_>, bytes: u64) -> Result<(Choice, f64)> {
    let Job { adapter, to, .. } = job;
    let least = Choice::same(vec![1; adapter.modules.len()], to.dtype);
    let smallest = of_files(job, &least)?;
    if smallest > bytes {
        return Err(Problem::Bytes { bytes, least: smallest }.into());
    }
    let modules = weigh(&|module| {
        let size = to.dtype.unwrap_or_else(|| module.dtype()).block().bytes;
        ((shape(module).0 + shape(module).1) * size) as u64
    });
    let spend = |budget| {
        let (ranks, level) = spend(&modules, budget, "bytes").ok()?;
        Some((Choice::same(ranks, to.dtype), level))
    };
    let chosen = most(bytes, spend, |choice| of_files(job, choice))?;
    Ok(chosen.unwrap_or((least, f64::INFINITY)))
}

/// What was chosen, or could have been, with one set of dtypes.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Alternative {
    /// The dtype of all modules; `keep` if each has its own, `mixed` if each has the best for it.
    pub dtype: &'static str,
    /// The lowest and the highest rank.
    pub ranks: (usize, usize),
    /// The size of all files.
    pub bytes: u64,
    /// `||D' - D|| / ||D||` of all modules together, as expected before anything was computed.
    pub error: f64,
    /// Whether it was taken.
    pub chosen: bool,
}

/// The best ranks and dtypes for a size.
#[derive(Debug)]
pub(super) struct Traded {
    pub(super) choice: Choice,
    pub(super) level: f64,
    /// The best without quantised dtypes, if that is another: its place among the alternatives, and its squared error.
    pub(super) floats: Option<(Choice, usize, f64)>,
    pub(super) alternatives: Vec<Alternative>,
}

impl From<(Choice, f64)> for Traded {
    fn from((choice, level): (Choice, f64)) -> Self {
        Traded { choice, level, floats: None, alternatives: Vec::new() }
    }
}

impl Traded {
    /// Takes the alternative at `place` instead.
    pub(super) fn take(&mut self, place: usize) {
        self.alternatives.iter_mut().enumerate().for_each(|(i, one)| one.chosen = i == place);
    }
}

/// The ranks and dtypes that lose least in files of at most `bytes`: all modules in one of `dtypes`, or each in the best.
///
/// # Errors
/// As [`fit`].
pub(super) fn trade(
    job: Job<'_>,
    measured: &[Measured],
    dtypes: &[Asked],
    (max_rank, bytes): (usize, u64),
) -> Result<Traded> {
    let Job { adapter, to, .. } = job;
    let energy: f64 = measured.iter().map(Measured::energy).sum();
    let (mut found, mut least) = (Vec::new(), u64::MAX);
    let mixed = (dtypes.len() > 1).then_some(dtypes);
    for set in dtypes.chunks(1).chain(mixed) {
        let of_module = |(module, of)| ways(to.format, module, of, set, max_rank);
        let offers = Offers::new(adapter.modules.iter().zip(measured).map(of_module).collect());
        least = least.min(of_files(job, &Choice::of(&offers.smallest()))?);
        let chosen = most(bytes, |budget| offers.spend(budget), |ways| of_files(job, &Choice::of(ways)))?;
        let Some((ways, level)) = chosen else { continue };
        let choice = Choice::of(&ways);
        let lost: f64 = ways.iter().map(|way| way.lost).sum();
        let (low, high) = (choice.ranks.iter().min(), choice.ranks.iter().max());
        let alternative = Alternative {
            dtype: match set {
                [one] => one.map_or("keep", DType::name),
                _ => "mixed",
            },
            ranks: (low.copied().unwrap_or(0), high.copied().unwrap_or(0)),
            bytes: of_files(job, &choice)?,
            error: if energy == 0.0 { 0.0 } else { (lost / energy).sqrt() },
            chosen: false,
        };
        found.push(Found { choice, level, lost, alternative });
    }
    let nearest = |found: &[Found], of: fn(&Choice) -> bool| {
        let fitting = (0..found.len()).filter(|i| of(&found[*i].choice));
        fitting.min_by(|x, y| found[*x].lost.total_cmp(&found[*y].lost))
    };
    let best = nearest(&found, |_| true).ok_or(Problem::Bytes { bytes, least })?;
    let floats = nearest(&found, |choice| !choice.is_quantised()).filter(|floats| *floats != best);
    let floats = floats.map(|floats| (found[floats].choice.clone(), floats, found[floats].lost));
    found[best].alternative.chosen = true;
    let Found { choice, level, .. } = found[best].clone();
    // A mixture of one kind is that kind.
    let twin = |other: &Found| !other.alternative.chosen && other.choice == choice;
    let others = found.iter().filter(|other| !(other.alternative.dtype == "mixed" && twin(other)));
    let alternatives = others.map(|found| found.alternative.clone()).collect();
    Ok(Traded { choice, level, floats, alternatives })
}

/// The best of one set of dtypes.
#[derive(Clone)]
struct Found {
    choice: Choice,
    level: f64,
    lost: f64,
    alternative: Alternative,
}

/// What `spend` chooses with the largest budget whose ranks take at most `bytes` of files; one byte of budget more is
/// too much, unless all ranks fit. `None` if no budget fits.
///
/// Besides the factors, files hold headers and configurations, which depend on the ranks in them.
fn most<C: PartialEq>(
    bytes: u64,
    spend: impl Fn(u64) -> Option<(C, f64)>,
    total: impl Fn(&C) -> Result<u64>,
) -> Result<Option<(C, f64)>> {
    let mut fits: Option<(C, f64)> = None;
    let mut over: Option<(u64, C)> = None;
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

/// Bytes of all files of the adapter with these ranks and dtypes.
fn of_files(Job { adapter, base, to, progress }: Job<'_>, choice: &Choice) -> Result<u64> {
    go_on(progress, "anything was written")?;
    let output = AdapterOutput::new(with_ranks(adapter, choice, to)?, base.cloned(), to)?;
    let beside = output.plan.side_files().iter().map(|file| match &file.content {
        Content::Bytes(bytes) => bytes.len() as u64,
        Content::CopyOf(path) => std::fs::metadata(path).map_or(0, |meta| meta.len()),
    });
    Ok(output.plan.output_bytes() + beside.sum::<u64>())
}

/// The adapter with factors of these ranks and dtypes that are not computed but zero; it can be laid out.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a dtype to which values cannot be encoded.
pub(super) fn with_ranks(adapter: &Adapter, choice: &Choice, to: &Destination<'_>) -> Result<Adapter> {
    let zeros = |like: &TensorRef, dtype: DType, shape: Vec<usize>| {
        TensorRef::of_zeros(&like.info().name, like.path(), dtype, shape)
    };
    let alpha = alpha(adapter, to.format);
    let sized = |((module, &rank), &asked): ((&Module, &usize), &Asked)| {
        if keeps(module, rank, (asked, to.dtype)) {
            return Ok(module.clone());
        }
        let rank = rank.min(module.rank());
        let [dtype_a, dtype_b] = stored(to.format, module, rank, asked);
        let (mut a, mut b) = (module.a.info().shape.clone(), module.b.info().shape.clone());
        (a[0], b[1]) = (rank, rank);
        Ok(Module {
            a: zeros(&module.a, dtype_a, a)?,
            b: zeros(&module.b, dtype_b, b)?,
            scaling: Scaling::Fixed(alpha.map_or(module.scale(module.rank()), |alpha| scale_of(alpha, rank))),
            config_rank: None,
            ..module.clone()
        })
    };
    let mut placed = adapter.clone();
    let modules = adapter.modules.iter().zip(&choice.ranks).zip(&choice.asked);
    placed.modules = modules.map(sized).collect::<Result<_>>()?;
    Ok(placed)
}

/// The alpha that most modules have, if a file of that format has one for all: reduced modules of any rank get it, so no
/// factor is multiplied afterwards, and rounded again.
pub(super) fn alpha(adapter: &Adapter, to: &dyn AdapterFormat) -> Option<f64> {
    let alphas = adapter.modules.iter().map(|module| module.scale(module.rank()) * module.rank() as f64);
    let usable = alphas.map(|alpha| f64::from(alpha as f32)).filter(|alpha| alpha.is_normal());
    to.one_alpha().then(|| most_common(usable)).flatten()
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
                |ranks: &Vec<usize>| Ok(size(&modules, ranks)),
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
