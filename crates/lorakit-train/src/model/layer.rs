//! One layer: attention and MLP, each on a norm of the residual stream and added to it.

mod backward;

use super::attention::{self, Heads};
use super::batch::{Context, Queries};
use super::how::Recompute;
use super::lora::{self, Adapted, Linear, Lora};
use super::norm::Norm;
use super::real::Real;
use super::shape::Slot;
use super::stored::Stored;
use super::{mlp, parallel, rope};

/// The frozen weights of a layer.
pub struct Layer {
    /// In the order of [`Slot::ALL`].
    pub linears: [Linear; 7],
    /// Before attention.
    pub attention_norm: Norm,
    /// Before the MLP.
    pub mlp_norm: Norm,
    /// Of the queries and keys of each head.
    pub query_key_norm: Option<(Norm, Norm)>,
    /// Of the outputs of attention and MLP.
    pub after_norms: Option<(Norm, Norm)>,
}

/// What is normalised, and the rates of its rows.
type Normed<R> = (Vec<R>, Vec<R>);

/// What a layer keeps for its backward pass. Outputs of norms, rotated heads and activations are computed again.
pub(super) struct Saved<R> {
    /// Input, its rates, and what follows attention, with its rates.
    x: Stored<R>,
    rates: Vec<R>,
    middle: Stored<R>,
    middle_rates: Vec<R>,
    /// `u` of queries, keys, values, the output of attention and that of the MLP.
    u: [Stored<R>; 5],
    /// Before norm and rotation.
    q: Stored<R>,
    k: Stored<R>,
    v: Stored<R>,
    query_key_rates: Option<(Vec<R>, Vec<R>)>,
    o: Stored<R>,
    lse: Vec<R>,
    /// None if it is computed again.
    inside: Option<Inside<R>>,
    /// Outputs of attention and MLP with their rates, where they are normalised.
    after: Option<[(Stored<R>, Vec<R>); 2]>,
}

/// Gate and up, each with its `u`.
struct Inside<R> {
    gate: Stored<R>,
    up: Stored<R>,
    u: [Stored<R>; 2],
}

impl<R: Real> Inside<R> {
    fn of([(gate, u_gate), (up, u_up)]: [(Vec<R>, Vec<R>); 2], halves: bool) -> Self {
        let stored = |values| Stored::of(values, halves);
        Self { gate: stored(gate), up: stored(up), u: [stored(u_gate), stored(u_up)] }
    }
}

/// A layer of a model in one pass.
pub(super) struct Pass<'a, R> {
    pub(super) layer: &'a Layer,
    pub(super) loras: &'a [Option<Lora<R>>; 7],
    pub(super) index: usize,
    pub(super) context: &'a Context<'a, R>,
}

impl<R: Real> Pass<'_, R> {
    fn queries(&self) -> &Queries<R> {
        self.context.queries(self.index)
    }

    fn adapted(&self, slot: Slot) -> Adapted<'_, R> {
        let at = slot as usize;
        let all = matches!(slot, Slot::Key | Slot::Value);
        Adapted {
            linear: &self.layer.linears[at],
            lora: self.loras[at].as_ref(),
            products: self.context.products,
            dropout: self.context.dropout,
            place: (self.index, slot),
            rows: self.queries().rows.as_deref().filter(|_| !all),
        }
    }

    fn forward_of<const N: usize>(&self, slots: [Slot; N], x: &[R]) -> [(Vec<R>, Vec<R>); N] {
        lora::forward(slots.map(|slot| self.adapted(slot)), x)
    }

    fn heads(&self) -> Heads {
        Heads::of(self.context.shape, self.index)
    }

    fn rates(&self, norm: &Norm, x: &[R]) -> Vec<R> {
        norm.rates(x, self.context.shape.norm_epsilon, self.context.products.threads)
    }

    /// Queries or keys as attention takes them: normalised and rotated.
    fn prepared(&self, raw: &[R], norm: Option<(&Norm, &[R])>, of: &Queries<R>) -> Vec<R> {
        let threads = self.context.products.threads;
        let mut x = match norm {
            Some((norm, rates)) => norm.forward(raw, rates, threads),
            None => raw.to_vec(),
        };
        self.rotate(&mut x, of, false);
        x
    }

    fn rotate(&self, x: &mut [R], of: &Queries<R>, back: bool) {
        if let Some(at) = self.context.shape.layers[self.index].rope {
            let dim = self.context.shape.head_dim;
            rope::rotate(x, &of.tables[at], dim, back, self.context.products.threads);
        }
    }

    /// Norms of queries and keys with their rates.
    fn norms<'a>(&'a self, rates: &'a Option<(Vec<R>, Vec<R>)>) -> [Option<(&'a Norm, &'a [R])>; 2] {
        match (&self.layer.query_key_norm, rates) {
            (Some((q, k)), Some((q_rates, k_rates))) => [Some((q, q_rates)), Some((k, k_rates))],
            _ => [None, None],
        }
    }

    /// The residual stream after this layer, at its queries, and what `recompute` keeps: all of it in f32 for
    /// [`Recompute::Layers`], because that is asked for when it is needed.
    ///
    /// Where halves are kept, the MLP takes its rounded input already, so that its inside can be computed again from
    /// what is kept.
    pub(super) fn forward(&self, x: Vec<R>, recompute: Recompute) -> (Vec<R>, Saved<R>) {
        let (layer, threads, queries) = (self.layer, self.context.products.threads, self.queries());
        let hidden = self.context.shape.hidden;
        let halves = recompute.halves();
        let stored = |values| Stored::of(values, halves);
        let rates = self.rates(&layer.attention_norm, &x);
        let h = layer.attention_norm.forward(&x, &rates, threads);
        let [(q, u_q), (k, u_k), (v, u_v)] = match queries.rows {
            None => self.forward_of([Slot::Query, Slot::Key, Slot::Value], &h),
            Some(_) => {
                let [q] = self.forward_of([Slot::Query], &queries.of(&h, hidden));
                let [k, v] = self.forward_of([Slot::Key, Slot::Value], &h);
                [q, k, v]
            }
        };
        drop(h);
        let query_key_norm = layer.query_key_norm.as_ref();
        let query_key_rates = query_key_norm.map(|(of_q, of_k)| (self.rates(of_q, &q), self.rates(of_k, &k)));
        let [q_norm, k_norm] = self.norms(&query_key_rates);
        let turned = (self.prepared(&q, q_norm, queries), self.prepared(&k, k_norm, &self.context.all));
        let (o, lse) =
            attention::forward(&self.heads(), &queries.places, (&turned.0, &turned.1, &v), threads);
        let [(attended, u_o)] = self.forward_of([Slot::Output], &o);
        drop(turned);
        let after_norms = layer.after_norms.as_ref();
        let (middle, after_attention) =
            self.added(&queries.of(&x, hidden), attended, after_norms.map(|norms| &norms.0));
        let (x, q, k, v, o) = (stored(x), stored(q), stored(k), stored(v), stored(o));

        let seen = halves.then(|| Stored::of(middle.clone(), true));
        let seen_middle = seen.as_ref().map(Stored::get);
        let seen_middle = seen_middle.as_deref().unwrap_or(&middle);
        let middle_rates = self.rates(&layer.mlp_norm, seen_middle);
        let inside = self.inside(seen_middle, &middle_rates);
        let product = mlp::forward(self.context.shape.activation, &inside[0].0, &inside[1].0, threads);
        let inside = (recompute != Recompute::Mlp).then(|| Inside::of(inside, halves));
        let [(down, u_down)] = self.forward_of([Slot::Down], &product);
        drop(product);
        let (out, after_mlp) = self.added(&middle, down, after_norms.map(|norms| &norms.1));
        let after = after_attention.zip(after_mlp);
        let after = after.map(|pair| <[_; 2]>::from(pair).map(|(branch, rates)| (stored(branch), rates)));
        let middle = seen.unwrap_or(Stored::Whole(middle));
        let u = [u_q, u_k, u_v, u_o, u_down].map(stored);
        let saved =
            Saved { x, rates, middle, middle_rates, u, q, k, v, query_key_rates, o, lse, inside, after };
        (out, saved)
    }

    /// Gate and up, each with its `u`.
    fn inside(&self, middle: &[R], rates: &[R]) -> [(Vec<R>, Vec<R>); 2] {
        let h = self.layer.mlp_norm.forward(middle, rates, self.context.products.threads);
        self.forward_of([Slot::Gate, Slot::Up], &h)
    }

    /// `x` and `branch`, or its norm, and what is kept of the latter.
    fn added(&self, x: &[R], branch: Vec<R>, norm: Option<&Norm>) -> (Vec<R>, Option<Normed<R>>) {
        let (threads, width) = (self.context.products.threads, self.context.shape.hidden);
        let plus = |mut branch: Vec<R>| {
            parallel::rows(threads, &mut branch, width, |first, branch| {
                branch.iter_mut().zip(&x[first * width..]).for_each(|(branch, x)| *branch = *x + *branch);
            });
            branch
        };
        let Some(norm) = norm else { return (plus(branch), None) };
        let rates = self.rates(norm, &branch);
        let normed = norm.forward(&branch, &rates, threads);
        (plus(normed), Some((branch, rates)))
    }
}
