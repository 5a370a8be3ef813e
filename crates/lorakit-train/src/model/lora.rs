//! A frozen linear with its adapter: `y = x Wᵀ + b + (s x Aᵀ) Bᵀ`.

use super::how::Dropout;
use super::real::{Real, cast};
use super::shape::{Shape, Slot};
use crate::kernel::tiles::{AT_ONCE, BEHIND};
use crate::kernel::{FrozenMatrix, Products};

/// A frozen linear.
pub struct Linear {
    /// `(out, in)`.
    pub weight: Box<dyn FrozenMatrix>,
    /// One for each output.
    pub bias: Option<Vec<f32>>,
}

/// The factors of one linear, or their gradients.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora<R> {
    /// `s`: alpha / r, or alpha / sqrt(r) with rsLoRA.
    pub scale: f64,
    /// `(r, in)`.
    pub a: Vec<R>,
    /// `(out, r)`.
    pub b: Vec<R>,
}

/// The factors of a model, or their gradients. For each layer, those of its linears in the order of [`Slot::ALL`].
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter<R> {
    /// None where a linear is not trained.
    pub layers: Vec<[Option<Lora<R>>; 7]>,
}

impl<R: Real> Adapter<R> {
    /// An adapter that trains nothing: the base alone.
    pub fn none(shape: &Shape) -> Self {
        Self { layers: shape.layers.iter().map(|_| Default::default()).collect() }
    }

    /// Gradients of zero for the factors of this adapter.
    pub fn zeros(&self) -> Self {
        let zeros = |lora: &Lora<R>| Lora {
            scale: lora.scale,
            a: vec![R::ZERO; lora.a.len()],
            b: vec![R::ZERO; lora.b.len()],
        };
        let layer = |layer: &[Option<Lora<R>>; 7]| layer.each_ref().map(|lora| lora.as_ref().map(zeros));
        Self { layers: self.layers.iter().map(layer).collect() }
    }

    /// All factors in one order: layer by layer, linear by linear, A before B.
    pub fn factors(&self) -> impl Iterator<Item = &Vec<R>> {
        self.layers.iter().flatten().flatten().flat_map(|lora| [&lora.a, &lora.b])
    }

    /// The factors of [`Self::factors`], to be changed.
    pub fn factors_mut(&mut self) -> impl Iterator<Item = &mut Vec<R>> {
        self.layers.iter_mut().flatten().flatten().flat_map(|lora| [&mut lora.a, &mut lora.b])
    }

    /// The lowest layer with a factor.
    pub(super) fn lowest(&self) -> Option<usize> {
        self.layers.iter().position(|layer| layer.iter().any(Option::is_some))
    }
}

/// The linear of one slot in one layer, with its factors.
#[derive(Clone, Copy)]
pub(super) struct Adapted<'a, R> {
    pub(super) linear: &'a Linear,
    pub(super) lora: Option<&'a Lora<R>>,
    pub(super) products: Products,
    pub(super) dropout: Option<Dropout>,
    /// Its layer and slot.
    pub(super) place: (usize, Slot),
    /// Tokens of the rows of its inputs, if those are not all.
    pub(super) rows: Option<&'a [usize]>,
}

/// The outputs of linears that share their inputs, each with `u = s x Aᵀ` for the backward pass (empty without factors).
pub(super) fn forward<R: Real, const N: usize>(each: [Adapted<'_, R>; N], x: &[R]) -> [(Vec<R>, Vec<R>); N] {
    let Some(Adapted { products, linear, dropout, .. }) = each.first().copied() else {
        return std::array::from_fn(|_| Default::default());
    };
    let inputs = linear.weight.cols();
    let tokens = x.len() / inputs;
    let mut found = each.map(|adapted| {
        let y = match &adapted.linear.bias {
            Some(bias) => cast(bias).repeat(tokens),
            None => vec![R::ZERO; tokens * adapted.linear.weight.rows()],
        };
        let rank = adapted.lora.map_or(0, |lora| lora.a.len() / inputs);
        (y, vec![R::ZERO; tokens * rank])
    });
    let (mut frozen, mut plain) = (Vec::with_capacity(N), Vec::with_capacity(N));
    for (adapted, (y, u)) in each.iter().zip(&mut found) {
        frozen.push((&*adapted.linear.weight, y.as_mut_slice()));
        if let Some(lora) = adapted.lora.filter(|_| dropout.is_none()) {
            plain.push((lora.a.as_slice(), u.as_mut_slice()));
        }
    }
    R::times_transposed_each(products, x, &mut frozen, &mut plain, inputs);
    for (adapted, (y, u)) in each.iter().zip(&mut found) {
        let Some(lora) = adapted.lora else { continue };
        if let Some(dropped) = adapted.dropped(x) {
            R::times_plain_transposed(products, &dropped, &lora.a, inputs, u);
        }
        scale(u, lora.scale);
        R::times_plain_transposed(products, u, &lora.b, lora.a.len() / inputs, y);
    }
    found
}

impl<R: Real> Adapted<'_, R> {
    /// Adds the gradients of the factors to `gradient`, and that of `x` to `dx` where anyone needs it:
    /// `du = s dy B`, `dA += duᵀ x`, `dB += dyᵀ u`, `dx += dy W + du A`.
    pub(super) fn backward(
        &self,
        dy: &[R],
        (x, u): (&[R], &[R]),
        gradient: Option<&mut Lora<R>>,
        mut dx: Option<&mut [R]>,
    ) {
        let (out, inputs) = (self.linear.weight.rows(), self.linear.weight.cols());
        let frozen = dx.as_deref_mut().map(|dx| (&*self.linear.weight, dx));
        let (Some(lora), Some(gradient)) = (self.lora, gradient) else {
            return R::times_each(self.products, dy, frozen, None);
        };
        let rank = lora.a.len() / inputs;
        let mut du = vec![R::ZERO; u.len()];
        R::times_each(self.products, dy, frozen, Some((&lora.b, rank, &mut du)));
        scale(&mut du, lora.scale);
        let dropped = self.dropped(x);
        let x = dropped.as_deref().unwrap_or(x);
        R::add_outer(self.products, &du, x, &mut gradient.a, rank, inputs);
        // The other way round, because there are fewer columns in u than in dy.
        let mut turned = transposed(&gradient.b, rank);
        R::add_outer(self.products, u, dy, &mut turned, rank, out);
        gradient.b = transposed(&turned, out);
        let Some(dx) = dx else { return };
        if self.dropout.is_none() {
            return R::times_plain(self.products, &du, &lora.a, inputs, dx);
        }
        let mut through = vec![R::ZERO; dx.len()];
        R::times_plain(self.products, &du, &lora.a, inputs, &mut through);
        let through = self.dropped(&through).unwrap_or(through);
        dx.iter_mut().zip(through).for_each(|(dx, through)| *dx += through);
    }

    fn dropped(&self, x: &[R]) -> Option<Vec<R>> {
        let width = self.linear.weight.cols();
        self.dropout.map(|dropout| dropout.apply(self.place, self.rows, width, x))
    }
}

/// A matrix with `cols` columns, transposed.
pub(super) fn transposed<R: Real>(values: &[R], cols: usize) -> Vec<R> {
    let rows = values.len().checked_div(cols).unwrap_or(0);
    let mut turned = vec![R::ZERO; values.len() + BEHIND];
    // The last ones first: what a row has too much behind it belongs to those before.
    for first in (0..rows).step_by(AT_ONCE).rev() {
        let count = AT_ONCE.min(rows - first);
        R::transpose(&values[first * cols..], cols, count, cols, &mut turned[first..], rows);
    }
    turned.truncate(values.len());
    turned
}

fn scale<R: Real>(values: &mut [R], by: f64) {
    values.iter_mut().for_each(|value| *value = *value * R::of(by));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Compute, FloatMatrix};
    use crate::model::real::dot;
    use crate::model::testing::{agrees, noise};

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let (out, inputs, rank, tokens) = (5, 7, 2, 3);
        let values = noise(out * inputs, 1).iter().map(|v| *v as f32).collect();
        let weight = Box::new(FloatMatrix { values, cols: inputs });
        let linear = Linear { weight, bias: Some(vec![0.5; out]) };
        let lora = Lora { scale: 1.5, a: noise(rank * inputs, 2), b: noise(out * rank, 3) };
        let (x, dy) = (noise(tokens * inputs, 4), noise(tokens * out, 5));
        let products = Products { compute: Compute::F32, threads: 1 };
        let some = Dropout { rate: 0.3, seed: 6, step: 7, place: 8 };
        for dropout in [None, Some(some)] {
            let (place, rows): (_, Option<&[usize]>) = ((3, Slot::Up), Some(&[2, 5, 9]));
            let adapted = Adapted { linear: &linear, lora: Some(&lora), products, dropout, place, rows };
            let run = |lora: &Lora<f64>, x: &[f64]| {
                let [found] = forward([Adapted { lora: Some(lora), ..adapted }], x);
                found
            };
            let mut gradient = Lora { scale: 1.5, a: vec![0.0; rank * inputs], b: vec![0.0; out * rank] };
            let mut dx = vec![0.0; x.len()];
            adapted.backward(&dy, (&x, &run(&lora, &x).1), Some(&mut gradient), Some(&mut dx));
            agrees(&x, &dx, |x| dot(&run(&lora, x).0, &dy));
            agrees(&lora.a, &gradient.a, |a| dot(&run(&Lora { a: a.to_vec(), ..lora.clone() }, &x).0, &dy));
            agrees(&lora.b, &gradient.b, |b| dot(&run(&Lora { b: b.to_vec(), ..lora.clone() }, &x).0, &dy));
        }
    }
}
