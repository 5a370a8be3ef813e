//! One module, or one tensor that is saved whole.

use lorakit_linalg::Svd;
use lorakit_quant::codec;
use ndarray::Array2;

use super::bulk::Bulk;
use super::difference::{Difference, Measured};
use super::pair::{Pair, Part, Role};
use super::rule::for_energy;
use super::{Became, Changed, ExtractOptions, Rule};
use crate::adapter::factors::Factors;
use crate::adapter::{Module, Scaling};
use crate::ops::panels::{Panels, Told, leading};
use crate::plan::Stretch;
use crate::tensor::Shelf;
use crate::{Result, TensorRef};

/// Minimum number of vectors, beyond the wanted ones, of the randomised decomposition.
const OVERSAMPLING: usize = 10;

/// A part of a pair of tensors.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pair: &'a Pair,
    part: Option<&'a Part>,
}

/// A change, and what the adapter gets of it.
#[derive(Debug)]
pub(super) struct Done<'a> {
    /// The tensor.
    pub(super) tensor: &'a str,
    pub(super) changed: Changed,
    pub(super) sums: Measured,
    pub(super) module: Option<Module>,
}

/// The parts of all tensors, in order.
pub(super) fn jobs(pairs: &[Pair]) -> Vec<Job<'_>> {
    let mut jobs = Vec::new();
    for pair in pairs {
        match &pair.role {
            Role::Factors(parts) => jobs.extend(parts.iter().map(|part| Job { pair, part: Some(part) })),
            Role::Whole | Role::LeftOut => jobs.push(Job { pair, part: None }),
        }
    }
    jobs
}

impl<'a> Job<'a> {
    /// Bytes of the tuned tensor.
    pub(super) fn bytes(&self) -> u64 {
        let info = self.pair.tuned.info();
        match self.part {
            Some(part) => {
                let share = part.values() as f64 / info.elements().max(1) as f64;
                (info.byte_len() as f64 * share) as u64
            }
            None => info.byte_len(),
        }
    }

    /// What changed, and what becomes of it; `None` if nothing changed.
    ///
    /// # Errors
    /// As [`Difference::measure`].
    pub(super) fn run(
        &self,
        options: &ExtractOptions,
        shelf: &Shelf,
        stretch: &Stretch<'_>,
    ) -> Result<Option<Done<'a>>> {
        let Pair { name, base, tuned, packed, role } = self.pair;
        // For one of many experts, the sums show whether it changed, without reading the others.
        let all = self.part.is_none_or(|part| part.values() == tuned.info().elements());
        if let Some(base) = base.as_ref().filter(|_| all)
            && base.same_values(tuned)?
        {
            return Ok(None);
        }
        let Some(part) = self.part else {
            let wanted = !matches!(role, Role::LeftOut);
            return whole(name, base.as_ref(), tuned, wanted);
        };
        let Some(base) = base else { return whole(name, None, tuned, true) };
        let difference = Difference::new(base.clone(), tuned.clone(), *packed)
            .of_rows(part.rows.clone(), part.cols)
            .with_seen_steps()?;
        let sums = difference.measure()?;
        if sums.delta == 0.0 {
            return Ok(None);
        }
        let svd = decompose(&difference, &sums, (&part.path, stretch, self.bytes()), options)?;
        let mut module = None;
        let rank = svd.s.len();
        // Both in the orientation of the stored weight, as they are stored.
        let (mut left, mut right) =
            (Array2::zeros((difference.dim().0, 0)), Array2::zeros((0, difference.dim().1)));
        if rank > 0 {
            let made = module_of(part, tuned, &svd, options, shelf)?;
            let Factors { b, a, .. } = Factors::load(&made)?;
            (left, right) = if part.transposed { (a.reversed_axes(), b.reversed_axes()) } else { (b, a) };
            module = Some(made);
        }
        let compared = difference.compare(left.view(), right.view())?;
        let norm = sums.delta.sqrt();
        let changed = Changed {
            name: part.path.clone(),
            became: if rank > 0 { Became::Factors(rank) } else { Became::Noise },
            shape: difference.dim(),
            norm,
            relative: Some(norm / sums.base.sqrt()),
            moved: Some(sums.moved as f64 / part.values().max(1) as f64),
            residual: compared.residual / norm,
            rounding: sums.rounding.map(f64::sqrt),
            identical: compared.same,
        };
        Ok(Some(Done { tensor: name, changed, sums, module }))
    }
}

/// What becomes of a tensor without factors. Rows that the base does not have count as a change, but not in its norm.
fn whole<'a>(
    name: &'a str,
    base: Option<&TensorRef>,
    tuned: &TensorRef,
    wanted: bool,
) -> Result<Option<Done<'a>>> {
    let shape = tuned.info().rows_cols();
    let opaque = |tensor: &TensorRef| codec(tensor.info().dtype).is_none();
    let sums = match base {
        // What is left out need not be measured.
        _ if !wanted && (opaque(tuned) || base.is_some_and(opaque)) => Measured::default(),
        Some(base) => {
            let rows = shape.0.min(base.info().rows_cols().0);
            Difference::new(base.clone(), tuned.clone(), false).of_rows(0..rows, shape.1).measure()?
        }
        None => {
            let mut delta = 0.0;
            tuned.for_each_piece(|values| {
                delta += values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>()
            })?;
            Measured { delta, ..Measured::default() }
        }
    };
    if sums.delta == 0.0 && !opaque(tuned) && base.is_some_and(|base| base.info().shape == tuned.info().shape)
    {
        return Ok(None);
    }
    let norm = sums.delta.sqrt();
    let changed = Changed {
        name: name.into(),
        became: if wanted { Became::Saved } else { Became::LeftOut },
        shape,
        norm,
        relative: base.map(|_| norm / sums.base.sqrt()),
        moved: base.map(|_| sums.moved as f64 / tuned.info().elements().max(1) as f64),
        residual: if wanted { 0.0 } else { 1.0 },
        rounding: Some(0.0),
        identical: None,
    };
    Ok(Some(Done { tensor: name, changed, sums, module: None }))
}

/// As many leading triplets as the rule wants, or all there may be.
fn decompose(
    difference: &Difference,
    sums: &Measured,
    (path, stretch, bytes): (&str, &Stretch<'_>, u64),
    options: &ExtractOptions,
) -> Result<Svd> {
    let told = Told { matrix: difference, stretch, bytes };
    let bulk = match options.rule {
        Rule::Auto => Some(Bulk::of(difference, sums, path)?),
        _ => None,
    };
    let (rows, cols) = difference.dim();
    let most = rows.min(cols).min(options.max_rank.unwrap_or(usize::MAX));
    let mut count = options.rule.first().min(most);
    loop {
        let svd = leading(&told, count, OVERSAMPLING.max(count / 2), path)?;
        let rank = match (options.rule, &bulk) {
            (_, Some(bulk)) => bulk.rank(&svd)?,
            (Rule::Energy(share), _) => for_energy(&svd.s, share, sums.delta),
            _ => Some(count),
        };
        match rank {
            Some(rank) => return Ok(svd.truncated(rank)),
            None if count == most => return Ok(svd),
            None => count = count.saturating_mul(4).min(most),
        }
    }
}

fn module_of(
    part: &Part,
    tuned: &TensorRef,
    svd: &Svd,
    options: &ExtractOptions,
    shelf: &Shelf,
) -> Result<Module> {
    let (b, a) = svd.balanced_factors();
    let (b, a) = if part.transposed { (a.reversed_axes(), b.reversed_axes()) } else { (b, a) };
    let (mut of_a, mut of_b) = (vec![a.nrows(), a.ncols()], vec![b.nrows(), b.ncols()]);
    // The kernel of a convolution belongs to `A`.
    if let [_, inputs, kernel @ ..] = tuned.info().shape.as_slice()
        && part.cols == tuned.info().rows_cols().1
        && !kernel.is_empty()
    {
        of_a = [&[a.nrows(), *inputs], kernel].concat();
        of_b.extend(kernel.iter().map(|_| 1));
    }
    let tensor = |half: &str, shape: Vec<usize>, matrix: &Array2<f64>| {
        let values: Vec<f32> = matrix.iter().map(|&v| v as f32).collect();
        let name = format!("{}.lora_{half}.weight", part.path);
        shelf.tensor(&name, tuned.path(), options.dtype, shape, &values)
    };
    let (a, b) = (tensor("A", of_a, &a)?, tensor("B", of_b, &b)?);
    let (parameter, experts) = part.stack.clone().unzip();
    Ok(Module { parameter, experts, ..Module::new(part.path.clone(), part.kind, a, b, Scaling::Fixed(1.0)) })
}
