//! One module out of those of all adapters.

use lorakit_linalg::{difference_norm, product_norm, stack};
use lorakit_tensor::DType;
use ndarray::Array2;

use super::delta::MixedDelta;
use super::entries::{Mixture, Recipe, Walk};
use super::input::Aligned;
use super::interference::{self, Interference};
use super::{Against, CombineOptions, Combined, Method, Style, whole};
use crate::adapter::factors::{Factors, of_linalg};
use crate::adapter::{Adapter, Module, Scaling};
use crate::ops::truncate::{Truncated, truncate};
use crate::{Result, TensorRef};

/// What is the same for all modules.
pub(super) struct Computation<'a> {
    options: &'a CombineOptions,
    method: Method,
    weights: Vec<f64>,
    /// The rank that is asked for, or the highest there is.
    rank: usize,
    /// What PEFT's mistake about rsLoRA multiplies the result by.
    inflation: f64,
}

/// One module of the result.
pub(super) struct Computed {
    pub(super) module: Module,
    pub(super) combined: Combined,
    pub(super) interference: Vec<Interference>,
}

impl<'a> Computation<'a> {
    pub(super) fn new(adapters: &[(Adapter, f64)], options: &'a CombineOptions) -> Self {
        let method = match (options.method.in_style(options.style), adapters.len()) {
            (Method::Svd | Method::Deltas(_), 1) => Method::Svd,
            (_, 1) => Method::Cat,
            (method, _) => method,
        };
        let highest = |adapter: &Adapter| adapter.modules.iter().map(Module::rank).max().unwrap_or(1);
        let ranks = || adapters.iter().map(|(adapter, _)| highest(adapter));
        let rank = options.rank.unwrap_or_else(|| ranks().max().unwrap_or(1));
        let new_rank = if method == Method::Cat { ranks().sum() } else { rank };
        let inflated = options.style == Style::Peft && adapters[0].0.config.use_rslora;
        let inflation = if inflated { (new_rank as f64).sqrt() } else { 1.0 };
        let weights = adapters.iter().map(|(_, weight)| *weight).collect();
        Computation { options, method, weights, rank, inflation }
    }

    /// What errors are measured against.
    pub(super) fn against(&self) -> Against {
        if matches!(self.method, Method::Deltas(_)) { Against::Mixture } else { Against::Sum }
    }

    /// The module that `aligned` becomes.
    pub(super) fn of_module(&self, aligned: &Aligned) -> Result<Computed> {
        let plain = aligned.parts.iter().map(|(_, m)| Factors::load(m)).collect::<Result<Vec<_>>>()?;
        let weights: Vec<f64> = aligned.parts.iter().map(|(i, _)| self.weights[*i]).collect();
        let mut weighted = plain.clone();
        weighted.iter_mut().zip(&weights).for_each(|(factors, weight)| factors.scale *= weight);
        let like = self.like(aligned, &weighted)?;
        let rank: usize = aligned.parts.iter().map(|(_, m)| m.rank()).sum();
        let (mut module, error, norm) = match self.method {
            Method::Svd if rank > self.rank => {
                let (b, a) = stack(&terms(&weighted)).map_err(|e| of_linalg(&e, &like.path))?;
                let sum = Factors { scale: 1.0, b, a };
                let Truncated { module, error, norm, .. } =
                    truncate(&like, &sum, self.dtype(&like), |_| self.rank)?;
                (module, error, norm)
            }
            Method::Svd | Method::Cat => self.exact(&like, aligned, &weighted)?,
            Method::Factors(mix) => self.by_entries(&like, self.recipe(mix), &weighted)?,
            Method::Deltas(mix) => self.by_deltas(&like, self.recipe(mix), &plain, weights)?,
        };
        let scale = module.scale(module.rank());
        module.bias = bias(&module, aligned, &weighted, scale)?;
        if self.inflation != 1.0 {
            module.scaling = Scaling::Fixed(scale * self.inflation);
        }
        let mut from = vec![None; self.weights.len()];
        aligned.parts.iter().for_each(|(i, module)| from[*i] = Some(module.rank()));
        let combined = Combined { path: like.path.clone(), from, rank: module.rank(), error, norm };
        let interference = interference::of_module(aligned, &weighted)?;
        Ok(Computed { module, combined, interference })
    }

    /// The first adapter's module, with what stands in for its weight, and the bias kept for [`bias`].
    fn like(&self, aligned: &Aligned, weighted: &[Factors]) -> Result<Module> {
        debug_assert_eq!(aligned.parts.len(), weighted.len());
        Ok(Module { base_weight: whole::base_weight(aligned)?, ..aligned.first().clone() })
    }

    fn dtype(&self, like: &Module) -> DType {
        self.options.dtype.unwrap_or_else(|| like.dtype())
    }

    fn recipe(&self, mix: super::Mix) -> Recipe {
        let options = self.options;
        let density = options.density.unwrap_or(1.0);
        Recipe {
            mix,
            density,
            majority: options.majority,
            style: options.style,
            seed: options.seed.unwrap_or(0),
        }
    }

    /// The sum in stacked factors. One term keeps its factors' bytes, and its scale takes the weight.
    fn exact(&self, like: &Module, aligned: &Aligned, weighted: &[Factors]) -> Result<(Module, f64, f64)> {
        let place = |e: lorakit_linalg::Error| of_linalg(&e, &like.path);
        if let ([(_, own)], [factors]) = (aligned.parts.as_slice(), weighted) {
            let norm =
                factors.scale.abs() * product_norm(factors.b.view(), factors.a.view()).map_err(place)?;
            // Formats want a positive scale: a sign, and a weight of zero, go into B.
            let module = match factors.scale > 0.0 {
                true => Module { scaling: Scaling::Fixed(factors.scale), config_rank: None, ..like.clone() },
                false => {
                    let (sign, scale) =
                        if factors.scale == 0.0 { (0.0, 1.0) } else { (-1.0, -factors.scale) };
                    let turned = like.with_factors(scale, &(&factors.b * sign), &factors.a, own.dtype())?;
                    Module { a: own.a.clone(), ..turned }
                }
            };
            return Ok((module, 0.0, norm));
        }
        let (b, a) = stack(&terms(weighted)).map_err(place)?;
        let dtype = match self.options.dtype {
            Some(dtype) => dtype,
            None if holds(like, &a, &b)? => like.dtype(),
            None => DType::F32,
        };
        let module = like.with_factors(1.0, &b, &a, dtype)?;
        let (error, norm) = distance(&module, &b, &a)?;
        Ok((module, error, norm))
    }

    /// `A` with `A` and `B` with `B`: each weight goes in equal parts into both, its sign into `A`.
    fn by_entries(&self, like: &Module, recipe: Recipe, weighted: &[Factors]) -> Result<(Module, f64, f64)> {
        let root = |f: &Factors| f.scale.abs().sqrt();
        let signed = |f: &Factors| if f.scale < 0.0 { -root(f) } else { root(f) };
        let mixed = |part: &str, matrices: Vec<&Array2<f64>>, weights: Vec<f64>| {
            let values: Vec<Vec<f64>> = matrices.iter().map(|m| m.iter().copied().collect()).collect();
            let walks: Vec<_> =
                values.iter().map(|v| move |each: &mut dyn FnMut(usize, &[f64])| each(0, v)).collect();
            let tensors: Vec<(u64, Walk<'_>)> = walks
                .iter()
                .enumerate()
                .map(|(i, walk)| (stream(&like.path, i, part), walk as Walk<'_>))
                .collect();
            let mixture = Mixture::new(recipe, weights, values[0].len(), &tensors);
            let mut out = mixture.of(0, &mut values.clone()).into_iter();
            Array2::from_shape_simple_fn(matrices[0].dim(), || out.next().unwrap_or_default())
        };
        let a = mixed("A", weighted.iter().map(|f| &f.a).collect(), weighted.iter().map(signed).collect());
        let b = mixed("B", weighted.iter().map(|f| &f.b).collect(), weighted.iter().map(root).collect());
        let module = like.with_factors(1.0, &b, &a, self.dtype(like))?;
        let (sum_b, sum_a) = stack(&terms(weighted)).map_err(|e| of_linalg(&e, &like.path))?;
        let (error, norm) = distance(&module, &sum_b, &sum_a)?;
        Ok((module, error, norm))
    }

    /// Delta with delta, then the nearest of the rank.
    fn by_deltas(
        &self,
        like: &Module,
        recipe: Recipe,
        plain: &[Factors],
        weights: Vec<f64>,
    ) -> Result<(Module, f64, f64)> {
        let streams: Vec<u64> = (0..plain.len()).map(|i| stream(&like.path, i, "BA")).collect();
        let delta = MixedDelta::new(recipe, weights, plain, &streams);
        let place = |e: lorakit_linalg::Error| of_linalg(&e, &like.path);
        let leading = delta.leading(self.rank, self.options.seed.unwrap_or(0)).map_err(place)?;
        let (b, a) = leading.svd.balanced_factors();
        let module = like.with_factors(1.0, &b, &a, self.dtype(like))?;
        let (rounding, kept) = distance(&module, &b, &a)?;
        let off = leading.residual.hypot(rounding * kept);
        let error = if leading.norm == 0.0 { 0.0 } else { off / leading.norm };
        Ok((module, error, leading.norm))
    }
}

fn terms(factors: &[Factors]) -> Vec<lorakit_linalg::Term<'_>> {
    factors.iter().map(Factors::term).collect()
}

/// Whether the dtype of the module holds all of these values.
fn holds(like: &Module, a: &Array2<f64>, b: &Array2<f64>) -> Result<bool> {
    let stored = Factors::load(&like.with_factors(1.0, b, a, like.dtype())?)?;
    Ok(stored.a == a && stored.b == b)
}

/// `||module - b a|| / ||b a||`, and `||b a||`.
fn distance(module: &Module, b: &Array2<f64>, a: &Array2<f64>) -> Result<(f64, f64)> {
    let place = |e: lorakit_linalg::Error| of_linalg(&e, &module.path);
    let stored = Factors::load(module)?;
    let norm = product_norm(b.view(), a.view()).map_err(place)?;
    if stored.scale == 1.0 && stored.b == b && stored.a == a {
        return Ok((0.0, norm));
    }
    let off = difference_norm(stored.term(), (1.0, b.view(), a.view())).map_err(place)?;
    Ok((if norm == 0.0 { off } else { off / norm }, norm))
}

/// The weighted sum of the biases; `scale` is what the result's is multiplied by.
fn bias(module: &Module, aligned: &Aligned, weighted: &[Factors], scale: f64) -> Result<Option<TensorRef>> {
    let biases =
        aligned.parts.iter().zip(weighted).filter_map(|((_, m), f)| Some((m.bias.as_ref()?, f.scale)));
    let biases: Vec<(&TensorRef, f64)> = biases.collect();
    let Some((first, own)) = biases.first() else { return Ok(None) };
    if biases.len() == 1 && *own == scale {
        return Ok(Some((*first).clone()));
    }
    let mut sum = vec![0.0; first.info().elements() as usize];
    for (bias, weight) in &biases {
        sum.iter_mut()
            .zip(bias.finite_values()?)
            .for_each(|(sum, value)| *sum += weight / scale * f64::from(value));
    }
    let values: Vec<f32> = sum.into_iter().map(|v| v as f32).collect();
    let info = first.info();
    TensorRef::in_memory(&info.name, first.path(), module.b.info().dtype, info.shape.clone(), &values)
        .map(Some)
}

/// A number of its own for each tensor (FNV-1a, 64 bits): the random numbers of one do not depend on others.
fn stream(path: &str, adapter: usize, part: &str) -> u64 {
    let text = format!("{path}/{adapter}/{part}");
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests;
