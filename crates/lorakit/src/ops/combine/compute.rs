//! One module, made from those of all adapters.

use lorakit_linalg::{Coordinates, Decomposed, difference_norm, distance_to, product_norm};
use lorakit_tensor::DType;
use ndarray::Array2;

use super::delta::{MixedDelta, Told};
use super::factors::mixed;
use super::input::Aligned;
use super::interference::{self, Interference};
use super::recipe::Recipe;
use super::stack::Stack;
use super::stacked::Stacked;
use super::{Against, CombineOptions, Combined, Method, Mix, Style, rounded, whole};
use crate::adapter::factors::{Factors, of_linalg};
use crate::adapter::{Adapter, Module, Scaling};
use crate::ops::truncate::{Truncated, truncate_decomposed};
use crate::plan::Stretch;
use crate::tensor::Shelf;
use crate::{Result, TensorRef};

/// Everything that is the same for all modules.
pub(super) struct Computation<'a> {
    options: &'a CombineOptions,
    method: Method,
    weights: Vec<f64>,
    /// The requested rank, or else the highest of the adapters.
    rank: usize,
    /// The factor by which PEFT's mistake about rsLoRA enlarges the result.
    inflation: f64,
    /// Where modules wait to be written.
    shelf: Shelf,
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
        let shelf = Shelf::beside(&options.output);
        Computation { options, method, weights, rank, inflation, shelf }
    }

    /// What errors are measured against.
    pub(super) fn against(&self) -> Against {
        if matches!(self.method, Method::Deltas(_)) { Against::Mixture } else { Against::Sum }
    }

    /// Combines the parts of `aligned` into one module.
    pub(super) fn of_module(&self, aligned: &Aligned, stretch: &Stretch<'_>) -> Result<Computed> {
        let weights: Vec<f64> = aligned.parts.iter().map(|(i, m)| self.weights[*i] * m.strength).collect();
        let stack = Stack::load(aligned, &weights)?;
        let scales = stack.scales.clone();
        let like =
            Module { base_weight: whole::base_weight(aligned)?, strength: 1.0, ..aligned.first().clone() };
        let place = |e: lorakit_linalg::Error| of_linalg(&e, &like.path);
        let rank: usize = aligned.parts.iter().map(|(_, m)| m.rank()).sum();
        let (mut module, error, norm, interference) = match self.method {
            Method::Svd if rank > self.rank => {
                let terms = Decomposed::of(stack.b.view(), stack.a.view()).map_err(place)?;
                let coordinates = terms.coordinates(&stack.ranks);
                let interference = interference::of_module(aligned, &stack, &coordinates, &scales)?;
                let sum = terms.weighted(stack.scales_of_columns());
                let Truncated { module, error, norm, .. } =
                    truncate_decomposed(&like, 1.0, sum, (self.dtype(aligned), &self.shelf), |_| self.rank)?;
                (module, error, norm, interference)
            }
            Method::Svd | Method::Cat if aligned.parts.len() == 1 => {
                let (module, norm) = self.rescaled(&like, &stack)?;
                (module, 0.0, norm, Vec::new())
            }
            _ => {
                let coordinates = stack.coordinates(&like.path)?;
                let interference = interference::of_module(aligned, &stack, &coordinates, &scales)?;
                let norm = coordinates.norm_of_sum(&scales).map_err(place)?;
                let (module, error, norm) = match self.method {
                    Method::Factors(mix) => self.by_entries(
                        (&like, self.dtype(aligned)),
                        self.recipe(mix),
                        &stack,
                        (&coordinates, norm),
                    )?,
                    Method::Deltas(mix) => {
                        let own = |(i, (_, module)): (usize, &(usize, Module))| {
                            stack.factors(i, module.scale(module.rank()))
                        };
                        let plain: Vec<Factors> = aligned.parts.iter().enumerate().map(own).collect();
                        drop(stack);
                        let told = Told { stretch, bytes: aligned.bytes() };
                        let like = (&like, self.dtype(aligned));
                        self.by_deltas(like, self.recipe(mix), &plain, weights, &told)?
                    }
                    Method::Svd | Method::Cat => self.exact(&like, aligned, &stack, norm)?,
                };
                (module, error, norm, interference)
            }
        };
        let scale = module.scale(module.rank());
        module.bias = bias(&module, aligned, &scales, scale)?;
        if self.inflation != 1.0 {
            module.scaling = Scaling::Fixed(scale * self.inflation);
        }
        let mut ranks_before = vec![None; self.weights.len()];
        aligned.parts.iter().for_each(|(i, module)| ranks_before[*i] = Some(module.rank()));
        let combined = Combined { path: like.path.clone(), ranks_before, rank: module.rank(), error, norm };
        Ok(Computed { module, combined, interference })
    }

    fn dtype(&self, aligned: &Aligned) -> DType {
        self.options.dtype.unwrap_or_else(|| aligned.dtype())
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

    /// A single term, which keeps its factors' bytes while its scale takes the weight; also its norm.
    fn rescaled(&self, like: &Module, stack: &Stack) -> Result<(Module, f64)> {
        let scale = stack.scales.first().copied().unwrap_or(1.0);
        let norm = product_norm(stack.b.view(), stack.a.view()).map_err(|e| of_linalg(&e, &like.path))?;
        // Formats want a positive scale: a sign, and a weight of zero, go into B.
        let module = if scale > 0.0 {
            Module { scaling: Scaling::Fixed(scale), config_rank: None, ..like.clone() }
        } else {
            let (sign, scale) = if scale == 0.0 { (0.0, 1.0) } else { (-1.0, -scale) };
            let b: Vec<f32> = stack.b.iter().map(|value| sign * value).collect();
            like.with_tensors(scale, self.shelved(&like.b, like.dtype(), &b)?, like.a.clone())
        };
        Ok((module, scale.abs() * norm))
    }

    /// The sum in stacked factors; `norm` is its norm.
    fn exact(
        &self,
        like: &Module,
        aligned: &Aligned,
        stack: &Stack,
        norm: f64,
    ) -> Result<(Module, f64, f64)> {
        let sum = Stacked::of(aligned, stack);
        let own = aligned.dtype();
        let (dtype, held) = match self.options.dtype {
            Some(dtype) => (dtype, sum.is_held_by(dtype)),
            None if sum.is_held_by(own) => (own, true),
            None => (DType::F32, sum.is_held_by(DType::F32)),
        };
        let module = sum.module(like, dtype, &self.shelf)?;
        if held {
            return Ok((module, 0.0, norm));
        }
        let (b, a) = lorakit_linalg::stack(&stack.terms()).map_err(|e| of_linalg(&e, &like.path))?;
        let error = rounding(&module, &b, &a, norm)?;
        Ok((module, error, norm))
    }

    /// `values` in the place of the tensor `like`.
    fn shelved(&self, like: &TensorRef, dtype: DType, values: &[f32]) -> Result<TensorRef> {
        let info = like.info();
        self.shelf.tensor(&info.name, like.path(), dtype, info.shape.clone(), values)
    }

    /// Combines `A` with `A` and `B` with `B`: each weight is split equally between the two, and its sign goes into
    /// `A`. The factors of `stack` have these coordinates, and their sum this norm.
    fn by_entries(
        &self,
        (like, dtype): (&Module, DType),
        recipe: Recipe,
        stack: &Stack,
        (coordinates, norm): (&Coordinates, f64),
    ) -> Result<(Module, f64, f64)> {
        let root = |scale: &f64| scale.abs().sqrt();
        let signed = |scale: &f64| if *scale < 0.0 { -root(scale) } else { root(scale) };
        let of_b: Vec<f64> = stack.scales.iter().map(root).collect();
        let of_a: Vec<f64> = stack.scales.iter().map(signed).collect();
        let terms = stack.terms();
        let streams =
            |part: &str| (0..terms.len()).map(|i| stream(&like.path, i, part)).collect::<Vec<u64>>();
        let b = mixed(recipe, terms.iter().map(|t| t.1).collect(), &of_b, &streams("B"));
        let a = mixed(recipe, terms.iter().map(|t| t.2).collect(), &of_a, &streams("A"));
        let module =
            like.with_tensors(1.0, self.shelved(&like.b, dtype, &b)?, self.shelved(&like.a, dtype, &a)?);
        let place = |e: lorakit_linalg::Error| of_linalg(&e, &like.path);
        let told = if recipe.mix == Mix::LINEAR {
            let product = coordinates.mixed(&of_b, &of_a, &stack.scales).map_err(place)?;
            rounded::distance(&product, dtype, &b, &a)
        } else {
            None
        };
        drop((b, a));
        let off = match told {
            Some(off) => off,
            None => {
                let stored = Stack::load(&Aligned { parts: vec![(0, module.clone())] }, &[1.0])?;
                distance_to(stored.term(0), &terms, norm).map_err(place)?
            }
        };
        Ok((module, if norm == 0.0 { off } else { off / norm }, norm))
    }

    /// Combines delta with delta, then takes the nearest of the rank.
    fn by_deltas(
        &self,
        (like, dtype): (&Module, DType),
        recipe: Recipe,
        plain: &[Factors],
        weights: Vec<f64>,
        told: &Told<'_>,
    ) -> Result<(Module, f64, f64)> {
        let streams: Vec<u64> = (0..plain.len()).map(|i| stream(&like.path, i, "BA")).collect();
        let delta = MixedDelta::new(recipe, weights, plain, &streams, told);
        let place = |e: lorakit_linalg::Error| of_linalg(&e, &like.path);
        let leading = delta.leading(self.rank, self.options.seed.unwrap_or(0)).map_err(place)?;
        let (b, a) = leading.svd.balanced_factors();
        let module = like.with_factors(1.0, &b, &a, dtype, &self.shelf)?;
        let kept = product_norm(b.view(), a.view()).map_err(place)?;
        let off = leading.residual.hypot(rounding(&module, &b, &a, kept)? * kept);
        let error = if leading.norm == 0.0 { 0.0 } else { off / leading.norm };
        Ok((module, error, leading.norm))
    }
}

/// `||module - b a|| / ||b a||` of a module whose factors are `b` and `a`, rounded; `norm` is `||b a||`.
fn rounding(module: &Module, b: &Array2<f64>, a: &Array2<f64>, norm: f64) -> Result<f64> {
    let stored = Factors::load(module)?;
    let off = difference_norm(stored.term(), (1.0, b.view(), a.view()));
    let off = off.map_err(|e| of_linalg(&e, &module.path))?;
    Ok(if norm == 0.0 { off } else { off / norm })
}

/// The weighted sum of the biases; the bias of the result is multiplied by `scale`.
fn bias(module: &Module, aligned: &Aligned, scales: &[f64], scale: f64) -> Result<Option<TensorRef>> {
    let biases = aligned.parts.iter().zip(scales).filter_map(|((_, m), s)| Some((m.bias.as_ref()?, *s)));
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

/// A different number for each tensor (FNV-1a, 64 bits): the random numbers of one do not depend on others.
fn stream(path: &str, adapter: usize, part: &str) -> u64 {
    let text = format!("{path}/{adapter}/{part}");
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests;
