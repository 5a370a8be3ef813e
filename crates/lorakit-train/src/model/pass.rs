//! Whole passes: losses, gradients, logits.

use std::ops::Range;
use std::sync::Arc;

use super::batch::{Batch, Context};
use super::head;
use super::how::{How, Recompute};
use super::layer::{Layer, Pass, Saved};
use super::lora::Adapter;
use super::norm::Norm;
use super::parallel;
use super::real::{Real, cast};
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

/// What is kept of a layer for its backward pass.
enum Kept<R> {
    Saved(Box<Saved<R>>),
    Input(Vec<R>),
}

impl Model {
    /// Adds the weighted losses of `batch` to `loss`, token by token, and their gradients times `scale` to `gradients`.
    /// `scale` is 1 over the weight of a whole step, so that passes over parts of it add up.
    ///
    /// # Panics
    /// If the sizes of the batch, the adapter, the states and the model do not fit, or a token is not in the vocabulary.
    pub fn train<R: Real>(
        &self,
        adapter: &Adapter<R>,
        batch: &Batch,
        scale: f64,
        how: &How,
        gradients: &mut Adapter<R>,
        loss: &mut f64,
    ) {
        parallel::awake(how.products.threads, || {
            let (rows, targets) = batch.targets();
            let products = how.products;
            let mut context = Context::new(&self.shape, &batch.documents(), Some(rows), products);
            context.dropout = how.dropout;
            let lowest = adapter.lowest().unwrap_or(self.layers.len());
            let mut x = match how.states {
                Some(states) => cast(states),
                None => self.run(adapter, self.embedded(batch.tokens), 0..lowest, &context),
            };
            assert_eq!(x.len(), batch.tokens.len() * self.shape.hidden, "the states");
            let mut kept = Vec::new();
            for index in lowest..self.layers.len() {
                let pass = self.pass(adapter, index, &context);
                if how.recompute == Recompute::Layers {
                    kept.push(Kept::Input(x.clone()));
                    x = pass.forward(x, how.recompute).0;
                } else {
                    let (next, saved) = pass.forward(x, how.recompute);
                    kept.push(Kept::Saved(Box::new(saved)));
                    x = next;
                }
            }
            let rates = self.norm.rates(&x, self.shape.norm_epsilon, products.threads);
            let h = self.norm.forward(&x, &rates, products.threads);
            let dh = head::loss_and_gradient(products, &*self.head, &h, &targets, scale, loss);
            let mut d = vec![R::ZERO; x.len()];
            self.norm.backward(&dh, &x, &rates, &mut d, products.threads);
            for index in (lowest..self.layers.len()).rev() {
                let Some(kept) = kept.pop() else { return };
                let pass = self.pass(adapter, index, &context);
                let saved = match kept {
                    Kept::Input(input) => pass.forward(input, how.recompute).1,
                    Kept::Saved(saved) => *saved,
                };
                d = pass.backward(d, saved, &mut gradients.layers[index], index > lowest);
            }
        });
    }

    /// What enters layer `layer`, in which no layer below it has factors: `(tokens, hidden)`.
    pub fn states(&self, tokens: &[u32], lengths: &[usize], layer: usize, products: Products) -> Vec<f32> {
        let batch = Batch { tokens, lengths, weights: &[] };
        let context = Context::new(&self.shape, &batch.documents(), None, products);
        parallel::awake(products.threads, || {
            self.run(&Adapter::none(&self.shape), self.embedded(tokens), 0..layer, &context)
        })
    }

    /// Adds the weighted losses of `batch` to `loss`.
    pub fn loss<R: Real>(&self, adapter: &Adapter<R>, batch: &Batch, products: Products, loss: &mut f64) {
        let (rows, targets) = batch.targets();
        let h = self.hidden(adapter, batch.tokens, &batch.documents(), rows, products);
        head::loss(products, &*self.head, &h, &targets, loss);
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
        let mut logits = vec![R::ZERO; rows.len() * self.shape.vocabulary];
        let h = self.hidden(adapter, tokens, std::slice::from_ref(&document), rows.collect(), products);
        R::times_transposed(products, &h, &*self.head, &mut logits);
        logits
    }

    /// The tokens that follow `prompt`, each the likeliest and of several the lowest: at most `most`, up to one of
    /// `stop`, which is not among them. Each takes a pass over all that is before it.
    pub fn greedy<R: Real>(
        &self,
        adapter: &Adapter<R>,
        prompt: &[u32],
        stop: &[u32],
        most: usize,
        products: Products,
    ) -> Vec<u32> {
        let mut tokens = prompt.to_vec();
        while !tokens.is_empty() && tokens.len() < prompt.len() + most {
            let last = tokens.len() - 1;
            let logits = self.logits(adapter, &tokens, last..last + 1, products);
            let best =
                (1..logits.len()).fold(0, |best, at| if logits[at] > logits[best] { at } else { best });
            if stop.contains(&(best as u32)) {
                break;
            }
            tokens.push(best as u32);
        }
        tokens.split_off(prompt.len())
    }

    /// The normalised last hidden state of the tokens `rows`.
    fn hidden<R: Real>(
        &self,
        adapter: &Adapter<R>,
        tokens: &[u32],
        documents: &[Range<usize>],
        rows: Vec<usize>,
        products: Products,
    ) -> Vec<R> {
        let (context, threads) =
            (Context::new(&self.shape, documents, Some(rows), products), products.threads);
        parallel::awake(threads, || {
            let x = self.run(adapter, self.embedded(tokens), 0..self.layers.len(), &context);
            self.norm.forward(&x, &self.norm.rates(&x, self.shape.norm_epsilon, threads), threads)
        })
    }

    /// What leaves the last of `layers`, given what enters the first.
    fn run<R: Real>(
        &self,
        adapter: &Adapter<R>,
        x: Vec<R>,
        layers: Range<usize>,
        context: &Context<R>,
    ) -> Vec<R> {
        layers.fold(x, |x, index| self.pass(adapter, index, context).forward(x, Recompute::Nothing).0)
    }

    fn pass<'a, R: Real>(
        &'a self,
        adapter: &'a Adapter<R>,
        index: usize,
        context: &'a Context<'a, R>,
    ) -> Pass<'a, R> {
        Pass { layer: &self.layers[index], loras: &adapter.layers[index], index, context }
    }

    pub(super) fn embedded<R: Real>(&self, tokens: &[u32]) -> Vec<R> {
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
