//! Passes that go on: a prompt in tiles, as training does, and then one token after another, each a row in every
//! product.

use super::attention::{self, Heads, Places};
use super::cache::{self, Cache};
use super::lora::{self, Adapter, Lora};
use super::norm::Norm;
use super::parallel;
use super::pass::Model;
use super::real::Real;
use super::shape::Slot;
use super::{mlp, rope};
use crate::kernel::{self, FrozenMatrix, PlainMatrix, Products};

/// Values of the widest state of a prompt that exist at a time.
const STATES: usize = 1 << 22;

/// Multiplications of attention that pay for threads.
const LEAST: usize = 1 << 17;

/// A model with an adapter, ready to go on with texts.
///
/// The adapter's products are added to those of the base, whose weights stay as they are.
pub struct Decoder<'a> {
    model: &'a Model,
    layers: Vec<[Option<Factors<'a>>; 7]>,
    products: Products,
}

/// The factors of one linear.
struct Factors<'a> {
    scale: f32,
    /// `(r, in)`.
    a: &'a [f32],
    /// `(r, out)`.
    turned_b: Vec<f32>,
}

impl<'a> Factors<'a> {
    fn of(lora: &'a Lora<f32>, inputs: usize) -> Self {
        let turned_b = lora::transposed(&lora.b, lora.a.len() / inputs);
        Self { scale: lora.scale as f32, a: &lora.a, turned_b }
    }

    fn rank(&self, out: usize) -> usize {
        self.turned_b.len() / out
    }
}

/// How rows are multiplied.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    /// As training does: the same bits.
    Tiles,
    /// By the products of few rows.
    Rows,
}

impl<'a> Decoder<'a> {
    /// `products.compute` is the type of operands for prompts; tokens after them are multiplied in f32.
    pub fn new(model: &'a Model, adapter: &'a Adapter<f32>, products: Products) -> Self {
        let factors = |slot: Slot, lora: &'a Option<Lora<f32>>| {
            lora.as_ref().map(|lora| Factors::of(lora, model.shape.size(slot).1))
        };
        let layer =
            |loras: &'a [Option<Lora<f32>>; 7]| Slot::ALL.map(|slot| factors(slot, &loras[slot as usize]));
        Self { model, layers: adapter.layers.iter().map(layer).collect(), products }
    }

    /// A cache for a text.
    pub fn cache(&self) -> Cache {
        Cache::new(&self.model.shape)
    }

    /// Adds tokens to a text, and returns the logits that follow the last of them: the bits that [`Model::logits`] has
    /// for all tokens, if those before were added so too.
    ///
    /// # Panics
    /// If there are none, or one is not in the vocabulary.
    pub fn extend(&self, cache: &mut Cache, tokens: &[u32]) -> Vec<f32> {
        let shape = &self.model.shape;
        let widest = shape.intermediate.max(shape.heads * shape.head_dim);
        let mut last = Vec::new();
        for tokens in tokens.chunks((STATES / widest).clamp(64, 512)) {
            let from = cache.len();
            let tables: Vec<_> =
                shape.ropes.iter().map(|rope| rope.rows(shape.head_dim, from..from + tokens.len())).collect();
            let attend = |index: usize, q: &[f32], k: Vec<f32>, v: Vec<f32>| {
                self.attend_tiles(cache.layer(index), index, q, k, v)
            };
            last = self.run(Manner::Tiles, self.model.embedded(tokens), &tables, attend);
            cache.advance(tokens.len());
        }
        let row = last.split_off(last.len() - shape.hidden);
        self.logits(Manner::Tiles, &row)
    }

    /// Adds one token to each of several texts, and returns the logits that follow: `(texts, vocabulary)`. Each row has
    /// the bits that it has alone.
    ///
    /// # Panics
    /// If there are not as many tokens as texts, or one is not in the vocabulary.
    pub fn step(&self, caches: &mut [&mut Cache], tokens: &[u32]) -> Vec<f32> {
        assert_eq!(caches.len(), tokens.len(), "a token for each text");
        if tokens.is_empty() {
            return Vec::new();
        }
        parallel::awake(self.products.threads, || self.step_here(caches, tokens))
    }

    fn step_here(&self, caches: &mut [&mut Cache], tokens: &[u32]) -> Vec<f32> {
        let shape = &self.model.shape;
        let table = |rope: &rope::Rope| -> Vec<f32> {
            let rows = caches.iter().map(|cache| rope.rows(shape.head_dim, cache.len()..cache.len() + 1));
            rows.collect::<Vec<_>>().concat()
        };
        let tables: Vec<_> = shape.ropes.iter().map(table).collect();
        let attend =
            |index: usize, q: &[f32], k: Vec<f32>, v: Vec<f32>| self.attend_rows(caches, index, q, &k, &v);
        let x = self.run(Manner::Rows, self.model.embedded(tokens), &tables, attend);
        caches.iter_mut().for_each(|cache| cache.advance(1));
        self.logits(Manner::Rows, &x)
    }

    /// What leaves the last layer. `attend` takes queries, keys and values of a layer, and returns what they see.
    fn run(
        &self,
        manner: Manner,
        mut x: Vec<f32>,
        tables: &[Vec<f32>],
        mut attend: impl FnMut(usize, &[f32], Vec<f32>, Vec<f32>) -> Vec<f32>,
    ) -> Vec<f32> {
        let (shape, threads) = (&self.model.shape, self.products.threads);
        for (index, layer) in self.model.layers.iter().enumerate() {
            let h = self.normed(&layer.attention_norm, &x);
            let [mut q, mut k, v] = self.linears(manner, index, [Slot::Query, Slot::Key, Slot::Value], &h);
            if let Some((of_q, of_k)) = &layer.query_key_norm {
                (q, k) = (self.normed(of_q, &q), self.normed(of_k, &k));
            }
            if let Some(at) = shape.layers[index].rope {
                rope::rotate(&mut q, &tables[at], shape.head_dim, false, threads);
                rope::rotate(&mut k, &tables[at], shape.head_dim, false, threads);
            }
            let o = attend(index, &q, k, v);
            let [attended] = self.linears(manner, index, [Slot::Output], &o);
            let after = layer.after_norms.as_ref();
            self.add(&mut x, attended, after.map(|norms| &norms.0));
            let h = self.normed(&layer.mlp_norm, &x);
            let [gate, up] = self.linears(manner, index, [Slot::Gate, Slot::Up], &h);
            let product = mlp::forward(shape.activation, &gate, &up, threads);
            let [down] = self.linears(manner, index, [Slot::Down], &product);
            self.add(&mut x, down, after.map(|norms| &norms.1));
        }
        x
    }

    fn normed(&self, norm: &Norm, x: &[f32]) -> Vec<f32> {
        let threads = self.products.threads;
        norm.forward(x, &norm.rates(x, self.model.shape.norm_epsilon, threads), threads)
    }

    /// Adds `branch`, or its norm, to `x`.
    fn add(&self, x: &mut [f32], branch: Vec<f32>, norm: Option<&Norm>) {
        let branch = match norm {
            Some(norm) => self.normed(norm, &branch),
            None => branch,
        };
        x.iter_mut().zip(branch).for_each(|(x, branch)| *x += branch);
    }

    fn logits(&self, manner: Manner, x: &[f32]) -> Vec<f32> {
        let h = self.normed(&self.model.norm, x);
        let head = &*self.model.head;
        let mut logits = vec![0.0; x.len() / head.cols() * head.rows()];
        match manner {
            Manner::Tiles => kernel::times_transposed(self.products, &h, head, &mut logits),
            Manner::Rows => {
                kernel::row_times_transposed_each(self.products.threads, &h, &mut [(head, &mut logits)]);
            }
        }
        logits
    }

    /// The outputs of linears that share their inputs: `y = x Wᵀ + b + (s x Aᵀ) Bᵀ`.
    fn linears<const N: usize>(
        &self,
        manner: Manner,
        layer: usize,
        slots: [Slot; N],
        x: &[f32],
    ) -> [Vec<f32>; N] {
        let Some(inputs) = slots.first().map(|slot| self.model.shape.size(*slot).1) else {
            return std::array::from_fn(|_| Vec::new());
        };
        let rows = x.len() / inputs;
        let linear = |slot: Slot| &self.model.layers[layer].linears[slot as usize];
        let factors = |slot: Slot| self.layers[layer][slot as usize].as_ref();
        let mut found = slots.map(|slot| match &linear(slot).bias {
            Some(bias) => bias.repeat(rows),
            None => vec![0.0; rows * linear(slot).weight.rows()],
        });
        let outputs = |slot: Slot| linear(slot).weight.rows();
        let mut inside =
            slots.map(|slot| vec![0.0; rows * factors(slot).map_or(0, |of| of.rank(outputs(slot)))]);
        let (mut frozen, mut plain) = (Vec::with_capacity(N), Vec::with_capacity(N));
        for ((slot, y), u) in slots.into_iter().zip(&mut found).zip(&mut inside) {
            frozen.push((&*linear(slot).weight, y.as_mut_slice()));
            plain.extend(factors(slot).map(|factors| (factors.a, u.as_mut_slice())));
        }
        match manner {
            Manner::Tiles => f32::times_transposed_each(self.products, x, &mut frozen, &mut plain, inputs),
            Manner::Rows => {
                let a = plain.into_iter().map(|(a, u)| (PlainMatrix { values: a, cols: inputs }, u));
                let mut a: Vec<_> = a.collect();
                let a = a.iter_mut().map(|(a, u)| (&*a as &dyn FrozenMatrix, &mut **u));
                let mut each: Vec<_> = frozen.into_iter().chain(a).collect();
                kernel::row_times_transposed_each(self.products.threads, x, &mut each);
            }
        }
        for ((slot, y), u) in slots.into_iter().zip(&mut found).zip(&mut inside) {
            let Some(factors) = factors(slot) else { continue };
            u.iter_mut().for_each(|u| *u *= factors.scale);
            let outputs = outputs(slot);
            match manner {
                Manner::Tiles => f32::times_plain(self.products, u, &factors.turned_b, outputs, y),
                Manner::Rows => {
                    for (y, u) in y.chunks_exact_mut(outputs).zip(u.chunks_exact(factors.rank(outputs))) {
                        cache::add_weighted(u, &factors.turned_b, y);
                    }
                }
            }
        }
        found
    }

    /// What many new tokens of one text see.
    fn attend_tiles(
        &self,
        kept: &mut cache::Kept,
        index: usize,
        q: &[f32],
        k: Vec<f32>,
        v: Vec<f32>,
    ) -> Vec<f32> {
        let shape = &self.model.shape;
        let (mut keys, mut values) = kept.last(kept.seen());
        kept.push(&k, &v);
        keys.extend(k);
        values.extend(v);
        let all = keys.len() / (shape.kv_heads * shape.head_dim);
        let new = q.len() / (shape.heads * shape.head_dim);
        let rows: Vec<usize> = (all - new..all).collect();
        let document = 0..all;
        let places = Places::some(std::slice::from_ref(&document), &rows);
        let heads = Heads::of(shape, index);
        attention::forward(&heads, &places, (q, &keys, &values), self.products.threads).0
    }

    /// What the new token of each text sees.
    fn attend_rows(
        &self,
        caches: &mut [&mut Cache],
        index: usize,
        q: &[f32],
        k: &[f32],
        v: &[f32],
    ) -> Vec<f32> {
        let shape = &self.model.shape;
        let (width, scale) = (shape.kv_heads * shape.head_dim, shape.score_scale as f32);
        let rows = k.chunks_exact(width).zip(v.chunks_exact(width));
        let kept: Vec<&cache::Kept> = caches
            .iter_mut()
            .zip(rows)
            .map(|(cache, (k, v))| {
                let kept = cache.layer(index);
                kept.push(k, v);
                &*kept
            })
            .collect();
        let mut o = vec![0.0; q.len()];
        let group = shape.heads / shape.kv_heads * shape.head_dim;
        let work: usize = kept.iter().map(|kept| 2 * (kept.seen() + 1) * shape.heads * shape.head_dim).sum();
        let each = q.chunks_exact(group).zip(o.chunks_exact_mut(group)).enumerate();
        let attend = |(at, (q, o)): (usize, (&[f32], &mut [f32]))| {
            kept[at / shape.kv_heads].attend(at % shape.kv_heads, q, scale, o);
        };
        if self.products.threads == 1 || work < LEAST {
            each.for_each(attend);
        } else {
            rayon::scope(|scope| each.for_each(|one| scope.spawn(move |_| attend(one))));
        }
        o
    }
}
