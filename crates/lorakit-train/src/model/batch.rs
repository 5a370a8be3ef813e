//! Packed documents, and what all layers of a pass share.

use std::borrow::Cow;
use std::ops::Range;

use super::attention::Places;
use super::head::Target;
use super::how::Dropout;
use super::real::Real;
use super::shape::Shape;
use crate::kernel::Products;

/// Documents, one after another. None sees another, and each begins at position 0; there are no pad tokens.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The tokens of all documents; each must be less than the vocabulary.
    pub tokens: &'a [u32],
    /// The lengths of the documents, which add up to the number of tokens.
    pub lengths: &'a [usize],
    /// How much the loss of predicting each token counts: 0 if it is not trained. That of a document's first token,
    /// which nothing predicts, is not used.
    pub weights: &'a [f32],
}

impl Batch<'_> {
    pub(super) fn documents(&self) -> Vec<Range<usize>> {
        let mut end = 0;
        let next = |length: &usize| {
            end += length;
            end - length..end
        };
        self.lengths.iter().map(next).collect()
    }

    /// The tokens that have a trained one behind them, and what is predicted there: target `i` at row `i`.
    pub(super) fn targets(&self) -> (Vec<usize>, Vec<Target>) {
        let predicted = self.documents().into_iter().flat_map(|document| document.skip(1));
        let trained: Vec<usize> = predicted.filter(|at| self.weights[*at] != 0.0).collect();
        let target = |(row, at): (usize, &usize)| Target {
            row,
            token: self.tokens[*at],
            weight: self.weights[*at].into(),
        };
        let targets = trained.iter().enumerate().map(target).collect();
        (trained.iter().map(|at| at - 1).collect(), targets)
    }

    /// The sum of the weights that are used: what a loss is divided by.
    pub fn weight(&self) -> f64 {
        self.targets().1.iter().map(|target| target.weight).sum()
    }
}

/// Which tokens of a layer are queries: all that attend, or some.
pub(super) struct Queries<R> {
    /// The tokens, if not all.
    pub(super) rows: Option<Vec<usize>>,
    /// Who attends to whom.
    pub(super) places: Places,
    /// Of each of the model's rotary positions.
    pub(super) tables: Vec<Vec<R>>,
}

impl<R: Real> Queries<R> {
    /// The queries' rows of `x`, whose rows are of all tokens.
    pub(super) fn of<'a>(&self, x: &'a [R], width: usize) -> Cow<'a, [R]> {
        match &self.rows {
            None => Cow::Borrowed(x),
            Some(rows) => rows.iter().flat_map(|row| &x[row * width..][..width]).copied().collect(),
        }
    }

    /// `x`, whose rows are of the queries, with zeros for the other of `tokens` tokens.
    pub(super) fn spread(&self, x: Vec<R>, width: usize, tokens: usize) -> Vec<R> {
        let Some(rows) = &self.rows else { return x };
        let mut all = vec![R::ZERO; tokens * width];
        for (row, x) in rows.iter().zip(x.chunks_exact(width)) {
            all[row * width..][..width].copy_from_slice(x);
        }
        all
    }
}

/// What all layers of a pass share.
pub(super) struct Context<'a, R> {
    pub(super) shape: &'a Shape,
    pub(super) all: Queries<R>,
    /// In the last layer, if those are fewer.
    pub(super) last: Option<Queries<R>>,
    pub(super) products: Products,
    pub(super) dropout: Option<Dropout>,
}

impl<'a, R: Real> Context<'a, R> {
    /// Of `documents`, whose tokens `rows` are what the last layer is for, or all.
    pub(super) fn new(
        shape: &'a Shape,
        documents: &[Range<usize>],
        rows: Option<Vec<usize>>,
        products: Products,
    ) -> Self {
        let tables = shape.ropes.iter().map(|rope| rope.table(shape.head_dim, documents)).collect();
        let all = Queries { rows: None, places: Places::all(documents), tables };
        let last = rows.map(|rows| {
            let some = |table: &Vec<R>| -> Vec<R> {
                rows.iter()
                    .flat_map(|row| &table[row * shape.head_dim..][..shape.head_dim])
                    .copied()
                    .collect()
            };
            let tables = all.tables.iter().map(some).collect();
            Queries { places: Places::some(documents, &rows), rows: Some(rows), tables }
        });
        Self { shape, all, last, products, dropout: None }
    }

    /// The queries of layer `index`.
    pub(super) fn queries(&self, index: usize) -> &Queries<R> {
        let last = self.last.as_ref().filter(|_| index + 1 == self.shape.layers.len());
        last.unwrap_or(&self.all)
    }
}
