//! The gradients of a layer.

use super::{Inside, Pass, Saved};
use crate::model::attention::{self, Kept};
use crate::model::batch::Queries;
use crate::model::lora::Lora;
use crate::model::mlp;
use crate::model::norm::Norm;
use crate::model::real::Real;
use crate::model::shape::Slot;
use crate::model::stored::Stored;

/// What was normalised, as it was kept, and the rates of its rows.
type KeptNormed<R> = (Stored<R>, Vec<R>);

impl<R: Real> Pass<'_, R> {
    /// Adds the gradients of the factors to `gradients`, given that of the output; returns that of the input if anyone
    /// `below` needs it.
    pub(in crate::model) fn backward(
        &self,
        mut d: Vec<R>,
        saved: Saved<R>,
        gradients: &mut [Option<Lora<R>>; 7],
        below: bool,
    ) -> Vec<R> {
        let [to_q, to_k, to_v, to_o, to_gate, to_up, to_down] = gradients.each_mut().map(Option::as_mut);
        let Saved { x, rates, middle, middle_rates, u, q, k, v, query_key_rates, o, lse, inside, after } =
            saved;
        let [u_q, u_k, u_v, u_o, u_down] = u;
        let (after_attention, after_mlp) = match (&self.layer.after_norms, &after) {
            (Some(norms), Some([attention, mlp])) => (Some((&norms.0, attention)), Some((&norms.1, mlp))),
            _ => (None, None),
        };

        let d_down = self.through(after_mlp, &d);
        let middle = middle.get();
        let inside = inside.unwrap_or_else(|| Inside::of(self.inside(&middle, &middle_rates), true));
        let to_mlp = [to_gate, to_up, to_down];
        let dh = self.mlp_backward(
            d_down.as_deref().unwrap_or(&d),
            (inside, u_down),
            (&middle, &middle_rates),
            to_mlp,
        );
        let threads = self.context.products.threads;
        self.layer.mlp_norm.backward(&dh, &middle, &middle_rates, &mut d, threads);
        drop((dh, d_down, middle));

        let o = o.get();
        let mut d_o = vec![R::ZERO; o.len()];
        let d_attended = self.through(after_attention, &d);
        let d_attended = d_attended.as_deref().unwrap_or(&d);
        self.adapted(Slot::Output).backward(d_attended, (&o, &u_o.get()), to_o, Some(&mut d_o));
        let (q, k, v) = (q.get(), k.get(), v.get());
        let [q_norm, k_norm] = self.norms(&query_key_rates);
        let (queries, all) = (self.queries(), &self.context.all);
        let turned = (self.prepared(&q, q_norm, queries), self.prepared(&k, k_norm, all));
        let kept = Kept { q: &turned.0, k: &turned.1, v: &v, o: &o, lse: &lse, d_o: &d_o };
        let (dq, dk, dv) = attention::backward(&self.heads(), &queries.places, &kept, threads);
        let dq = self.unprepared(dq, &q, q_norm, queries);
        let dk = self.unprepared(dk, &k, k_norm, all);
        drop((turned, d_o, o));

        let (x, hidden) = (x.get(), self.context.shape.hidden);
        let h = self.layer.attention_norm.forward(&x, &rates, threads);
        let h_queries = queries.of(&h, hidden);
        let zeros = |like: &[R]| below.then(|| vec![R::ZERO; like.len()]);
        let mut dh = zeros(&h_queries);
        self.adapted(Slot::Query).backward(&dq, (&h_queries, &u_q.get()), to_q, dh.as_deref_mut());
        let mut dh = dh.map(|dh| queries.spread(dh, hidden, h.len() / hidden));
        self.adapted(Slot::Key).backward(&dk, (&h, &u_k.get()), to_k, dh.as_deref_mut());
        self.adapted(Slot::Value).backward(&dv, (&h, &u_v.get()), to_v, dh.as_deref_mut());
        let Some(dh) = dh else { return d };
        let mut d = queries.spread(d, hidden, h.len() / hidden);
        self.layer.attention_norm.backward(&dh, &x, &rates, &mut d, threads);
        d
    }

    /// The gradient of the MLP's input, given that of its output.
    fn mlp_backward(
        &self,
        d: &[R],
        (inside, u_down): (Inside<R>, Stored<R>),
        (middle, rates): (&[R], &[R]),
        [to_gate, to_up, to_down]: [Option<&mut Lora<R>>; 3],
    ) -> Vec<R> {
        let (act, threads) = (self.context.shape.activation, self.context.products.threads);
        let Inside { gate, up, u: [u_gate, u_up] } = inside;
        let (mut gate, mut up) = (gate.taken(), up.taken());
        let product = mlp::forward(act, &gate, &up, threads);
        let mut d_product = vec![R::ZERO; product.len()];
        self.adapted(Slot::Down).backward(d, (&product, &u_down.get()), to_down, Some(&mut d_product));
        drop(product);
        mlp::backward(act, &d_product, &mut gate, &mut up, threads);
        drop(d_product);
        let h = self.layer.mlp_norm.forward(middle, rates, threads);
        let mut dh = vec![R::ZERO; h.len()];
        self.adapted(Slot::Gate).backward(&gate, (&h, &u_gate.get()), to_gate, Some(&mut dh));
        self.adapted(Slot::Up).backward(&up, (&h, &u_up.get()), to_up, Some(&mut dh));
        dh
    }

    /// The gradient of a branch, given that of its norm; none if it has no norm.
    fn through(&self, after: Option<(&Norm, &KeptNormed<R>)>, d: &[R]) -> Option<Vec<R>> {
        let (norm, (branch, rates)) = after?;
        let mut through = vec![R::ZERO; d.len()];
        norm.backward(d, &branch.get(), rates, &mut through, self.context.products.threads);
        Some(through)
    }

    /// The gradient of raw queries or keys, given that of prepared ones.
    fn unprepared(&self, mut d: Vec<R>, raw: &[R], norm: Option<(&Norm, &[R])>, of: &Queries<R>) -> Vec<R> {
        self.rotate(&mut d, of, true);
        let Some((norm, rates)) = norm else { return d };
        let mut through = vec![R::ZERO; d.len()];
        norm.backward(&d, raw, rates, &mut through, self.context.products.threads);
        through
    }
}
