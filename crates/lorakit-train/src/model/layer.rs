//! One layer: attention and MLP, each on a norm of the residual stream and added to it.

use super::attention::{self, Heads, Kept};
use super::batch::Context;
use super::lora::{Adapted, Linear, Lora};
use super::norm::Norm;
use super::real::Real;
use super::shape::Slot;
use super::{mlp, rope};

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

/// What a layer keeps for its backward pass. Outputs of norms, rotated heads and activations are computed again.
pub(super) struct Saved<R> {
    /// Input, its rates, and what follows attention, with its rates.
    x: Vec<R>,
    rates: Vec<R>,
    middle: Vec<R>,
    middle_rates: Vec<R>,
    /// Of each linear.
    u: [Vec<R>; 7],
    /// Before norm and rotation.
    q: Vec<R>,
    k: Vec<R>,
    v: Vec<R>,
    query_key_rates: Option<(Vec<R>, Vec<R>)>,
    o: Vec<R>,
    lse: Vec<R>,
    gate: Vec<R>,
    up: Vec<R>,
    /// Outputs of attention and MLP with their rates, where they are normalised.
    after: Option<[(Vec<R>, Vec<R>); 2]>,
}

/// A layer of a model in one pass.
pub(super) struct Pass<'a, R> {
    pub(super) layer: &'a Layer,
    pub(super) loras: &'a [Option<Lora<R>>; 7],
    pub(super) index: usize,
    pub(super) context: &'a Context<'a, R>,
}

impl<R: Real> Pass<'_, R> {
    fn adapted(&self, slot: Slot) -> Adapted<'_, R> {
        let at = slot as usize;
        Adapted {
            linear: &self.layer.linears[at],
            lora: self.loras[at].as_ref(),
            products: self.context.products,
            dropout: self.context.dropout,
            place: (self.index, slot),
        }
    }

    fn heads(&self) -> Heads {
        let shape = self.context.shape;
        Heads {
            heads: shape.heads,
            kv_heads: shape.kv_heads,
            dim: shape.head_dim,
            window: shape.layers[self.index].window,
            scale: shape.score_scale,
        }
    }

    fn rates(&self, norm: &Norm, x: &[R]) -> Vec<R> {
        norm.rates(x, self.context.shape.norm_epsilon, self.context.products.threads)
    }

    /// Queries or keys as attention takes them: normalised and rotated.
    fn prepared(&self, raw: &[R], norm: Option<(&Norm, &[R])>) -> Vec<R> {
        let threads = self.context.products.threads;
        let mut x = match norm {
            Some((norm, rates)) => norm.forward(raw, rates, threads),
            None => raw.to_vec(),
        };
        self.rotate(&mut x, false);
        x
    }

    fn rotate(&self, x: &mut [R], back: bool) {
        if let Some(at) = self.context.shape.layers[self.index].rope {
            let (table, dim) = (&self.context.tables[at], self.context.shape.head_dim);
            rope::rotate(x, table, dim, back, self.context.products.threads);
        }
    }

    /// Norms of queries and keys with their rates.
    fn norms<'a>(&'a self, rates: &'a Option<(Vec<R>, Vec<R>)>) -> [Option<(&'a Norm, &'a [R])>; 2] {
        match (&self.layer.query_key_norm, rates) {
            (Some((q, k)), Some((q_rates, k_rates))) => [Some((q, q_rates)), Some((k, k_rates))],
            _ => [None, None],
        }
    }

    /// The residual stream after this layer.
    pub(super) fn forward(&self, x: Vec<R>) -> (Vec<R>, Saved<R>) {
        let (layer, threads) = (self.layer, self.context.products.threads);
        let rates = self.rates(&layer.attention_norm, &x);
        let h = layer.attention_norm.forward(&x, &rates, threads);
        let (q, u_q) = self.adapted(Slot::Query).forward(&h);
        let (k, u_k) = self.adapted(Slot::Key).forward(&h);
        let (v, u_v) = self.adapted(Slot::Value).forward(&h);
        drop(h);
        let query_key_norm = layer.query_key_norm.as_ref();
        let query_key_rates = query_key_norm.map(|(of_q, of_k)| (self.rates(of_q, &q), self.rates(of_k, &k)));
        let [q_norm, k_norm] = self.norms(&query_key_rates);
        let (queries, keys) = (self.prepared(&q, q_norm), self.prepared(&k, k_norm));
        let places = &self.context.places;
        let (o, lse) = attention::forward(&self.heads(), places, (&queries, &keys, &v), threads);
        let (attended, u_o) = self.adapted(Slot::Output).forward(&o);
        let after_norms = layer.after_norms.as_ref();
        let (middle, after_attention) = self.added(&x, attended, after_norms.map(|norms| &norms.0));

        let middle_rates = self.rates(&layer.mlp_norm, &middle);
        let h = layer.mlp_norm.forward(&middle, &middle_rates, threads);
        let (gate, u_gate) = self.adapted(Slot::Gate).forward(&h);
        let (up, u_up) = self.adapted(Slot::Up).forward(&h);
        let product = mlp::forward(self.context.shape.activation, &gate, &up, threads);
        let (down, u_down) = self.adapted(Slot::Down).forward(&product);
        let (out, after_mlp) = self.added(&middle, down, after_norms.map(|norms| &norms.1));
        let u = [u_q, u_k, u_v, u_o, u_gate, u_up, u_down];
        let after = after_attention.zip(after_mlp).map(|(attention, mlp)| [attention, mlp]);
        let saved =
            Saved { x, rates, middle, middle_rates, u, q, k, v, query_key_rates, o, lse, gate, up, after };
        (out, saved)
    }

    /// `x` and `branch`, or its norm, and what is kept of the latter.
    fn added(&self, x: &[R], branch: Vec<R>, norm: Option<&Norm>) -> (Vec<R>, Option<(Vec<R>, Vec<R>)>) {
        let plus = |branch: &[R]| x.iter().zip(branch).map(|(x, branch)| *x + *branch).collect();
        let Some(norm) = norm else { return (plus(&branch), None) };
        let rates = self.rates(norm, &branch);
        let normed = norm.forward(&branch, &rates, self.context.products.threads);
        (plus(&normed), Some((branch, rates)))
    }

    /// Adds the gradients of the factors to `gradients`; returns that of the input if anyone `below` needs it.
    pub(super) fn backward(
        &self,
        mut d: Vec<R>,
        saved: Saved<R>,
        gradients: &mut [Option<Lora<R>>; 7],
        below: bool,
    ) -> Vec<R> {
        let (layer, threads) = (self.layer, self.context.products.threads);
        let [to_q, to_k, to_v, to_o, to_gate, to_up, to_down] = gradients.each_mut().map(Option::as_mut);
        let [u_q, u_k, u_v, u_o, u_gate, u_up, u_down] = &saved.u;
        let (after_attention, after_mlp) = match (&layer.after_norms, &saved.after) {
            (Some(norms), Some([attention, mlp])) => (Some((&norms.0, attention)), Some((&norms.1, mlp))),
            _ => (None, None),
        };

        let act = self.context.shape.activation;
        let (mut gate, mut up) = (saved.gate, saved.up);
        let product = mlp::forward(act, &gate, &up, threads);
        let mut d_product = vec![R::ZERO; product.len()];
        let d_down = self.through(after_mlp, &d);
        self.adapted(Slot::Down).backward(
            d_down.as_ref().unwrap_or(&d),
            (&product, u_down),
            to_down,
            Some(&mut d_product),
        );
        mlp::backward(act, &d_product, &mut gate, &mut up, threads);
        let h = layer.mlp_norm.forward(&saved.middle, &saved.middle_rates, threads);
        let mut dh = vec![R::ZERO; h.len()];
        self.adapted(Slot::Gate).backward(&gate, (&h, u_gate), to_gate, Some(&mut dh));
        self.adapted(Slot::Up).backward(&up, (&h, u_up), to_up, Some(&mut dh));
        layer.mlp_norm.backward(&dh, &saved.middle, &saved.middle_rates, &mut d, threads);

        let mut d_o = vec![R::ZERO; saved.o.len()];
        let d_attended = self.through(after_attention, &d);
        self.adapted(Slot::Output).backward(
            d_attended.as_ref().unwrap_or(&d),
            (&saved.o, u_o),
            to_o,
            Some(&mut d_o),
        );
        let [q_norm, k_norm] = self.norms(&saved.query_key_rates);
        let (queries, keys) = (self.prepared(&saved.q, q_norm), self.prepared(&saved.k, k_norm));
        let kept = Kept { q: &queries, k: &keys, v: &saved.v, o: &saved.o, lse: &saved.lse, d_o: &d_o };
        let (dq, dk, dv) = attention::backward(&self.heads(), &self.context.places, &kept, threads);
        let dq = self.unprepared(dq, &saved.q, q_norm);
        let dk = self.unprepared(dk, &saved.k, k_norm);

        let h = layer.attention_norm.forward(&saved.x, &saved.rates, threads);
        let mut dh = vec![R::ZERO; if below { h.len() } else { 0 }];
        let mut to_input = |slot, d: &[R], u: &[R], to| {
            self.adapted(slot).backward(d, (&h, u), to, below.then_some(dh.as_mut_slice()));
        };
        to_input(Slot::Query, &dq, u_q, to_q);
        to_input(Slot::Key, &dk, u_k, to_k);
        to_input(Slot::Value, &dv, u_v, to_v);
        if below {
            layer.attention_norm.backward(&dh, &saved.x, &saved.rates, &mut d, threads);
        }
        d
    }

    /// The gradient of a branch, given that of its norm; none if it has no norm.
    fn through(&self, after: Option<(&Norm, &(Vec<R>, Vec<R>))>, d: &[R]) -> Option<Vec<R>> {
        let (norm, (branch, rates)) = after?;
        let mut through = vec![R::ZERO; d.len()];
        norm.backward(d, branch, rates, &mut through, self.context.products.threads);
        Some(through)
    }

    /// The gradient of raw queries or keys, given that of prepared ones.
    fn unprepared(&self, mut d: Vec<R>, raw: &[R], norm: Option<(&Norm, &[R])>) -> Vec<R> {
        self.rotate(&mut d, true);
        let Some((norm, rates)) = norm else { return d };
        let mut through = vec![R::ZERO; d.len()];
        norm.backward(&d, raw, rates, &mut through, self.context.products.threads);
        through
    }
}
