//! Whole passes: losses, gradients, logits.

use std::ops::Range;
use std::sync::Arc;

use super::batch::{Batch, Context};
use super::head;
use super::layer::{Layer, Pass, Saved};
use super::lora::Adapter;
use super::norm::Norm;
use super::real::Real;
use super::shape::Shape;
use crate::kernel::{FrozenMatrix, Products};

/// A model that is not trained.
pub struct Model {
    /// What it is.
    pub shape: Shape,
    /// `(vocabulary, hidden)`.
    pub embedding: Arc<dyn FrozenMatrix>,
    /// From the embedding up.
    pub layers: Vec<Layer>,
    /// Before the head.
    pub norm: Norm,
    /// `(vocabulary, hidden)`; the embedding if they are tied.
    pub head: Arc<dyn FrozenMatrix>,
}

impl Model {
    /// Adds the weighted losses of `batch` to `loss`, token by token, and their gradients times `scale` to `gradients`.
    /// `scale` is 1 over the weight of a whole step, so that passes over parts of it add up.
    ///
    /// # Panics
    /// If the sizes of the batch, the adapter and the model do not fit, or a token is not in the vocabulary.
    pub fn train<R: Real>(
        &self,
        adapter: &Adapter<R>,
        batch: &Batch,
        (scale, products): (f64, Products),
        gradients: &mut Adapter<R>,
        loss: &mut f64,
    ) {
        let (documents, targets) = (batch.documents(), batch.targets());
        let context = Context::new(&self.shape, &documents, products);
        let lowest = adapter.lowest().unwrap_or(self.layers.len());
        let mut saved = Vec::new();
        let x = self.run(adapter, batch.tokens, &context, |at, kept| {
            if at >= lowest {
                saved.push(kept);
            }
        });
        let rates = self.norm.rates(&x, self.shape.norm_epsilon, products.threads);
        let h = self.norm.forward(&x, &rates, products.threads);
        let dh = head::loss_and_gradient(products, &*self.head, &h, &targets, scale, loss);
        let mut d = vec![R::ZERO; x.len()];
        self.norm.backward(&dh, &x, &rates, &mut d, products.threads);
        for index in (lowest..self.layers.len()).rev() {
            let Some(saved) = saved.pop() else { return };
            let pass = self.pass(adapter, index, &context);
            d = pass.backward(d, saved, &mut gradients.layers[index], index > lowest);
        }
    }

    /// Adds the weighted losses of `batch` to `loss`.
    pub fn loss<R: Real>(&self, adapter: &Adapter<R>, batch: &Batch, products: Products, loss: &mut f64) {
        let h = self.hidden(adapter, batch.tokens, &batch.documents(), products);
        head::loss(products, &*self.head, &h, &batch.targets(), loss);
    }

    /// The logits that follow the tokens `rows` of one document.
    pub fn logits<R: Real>(
        &self,
        adapter: &Adapter<R>,
        tokens: &[u32],
        rows: Range<usize>,
        products: Products,
    ) -> Vec<R> {
        let document = 0..tokens.len();
        let h = self.hidden(adapter, tokens, std::slice::from_ref(&document), products);
        let mut logits = vec![R::ZERO; rows.len() * self.shape.vocabulary];
        let h = &h[rows.start * self.shape.hidden..rows.end * self.shape.hidden];
        R::times_transposed(products, h, &*self.head, &mut logits);
        logits
    }

    /// The normalised last hidden state.
    fn hidden<R: Real>(
        &self,
        adapter: &Adapter<R>,
        tokens: &[u32],
        documents: &[Range<usize>],
        products: Products,
    ) -> Vec<R> {
        let context = Context::new(&self.shape, documents, products);
        let x = self.run(adapter, tokens, &context, |_, _| ());
        self.norm.forward(
            &x,
            &self.norm.rates(&x, self.shape.norm_epsilon, products.threads),
            products.threads,
        )
    }

    fn run<R: Real>(
        &self,
        adapter: &Adapter<R>,
        tokens: &[u32],
        context: &Context<R>,
        mut keep: impl FnMut(usize, Saved<R>),
    ) -> Vec<R> {
        let mut x = self.embedded(tokens);
        for index in 0..self.layers.len() {
            let (next, saved) = self.pass(adapter, index, context).forward(x);
            keep(index, saved);
            x = next;
        }
        x
    }

    fn pass<'a, R: Real>(
        &'a self,
        adapter: &'a Adapter<R>,
        index: usize,
        context: &'a Context<'a, R>,
    ) -> Pass<'a, R> {
        Pass { layer: &self.layers[index], loras: &adapter.layers[index], index, context }
    }

    fn embedded<R: Real>(&self, tokens: &[u32]) -> Vec<R> {
        let scale = R::of(self.shape.embedding_scale);
        let mut row = vec![0.0; self.shape.hidden];
        let mut x = Vec::with_capacity(tokens.len() * row.len());
        for token in tokens {
            self.embedding.decode(*token as usize, 0..row.len(), &mut row);
            x.extend(row.iter().map(|value| R::of(f64::from(*value)) * scale));
        }
        x
    }
}
