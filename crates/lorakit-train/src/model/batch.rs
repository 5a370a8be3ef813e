//! Packed documents, and what all layers of a pass share.

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

    pub(super) fn targets(&self) -> Vec<Target> {
        let predicted = self.documents().into_iter().flat_map(|document| document.skip(1));
        let target =
            |at: usize| Target { row: at - 1, token: self.tokens[at], weight: self.weights[at].into() };
        predicted.map(target).filter(|target| target.weight != 0.0).collect()
    }

    /// The sum of the weights that are used: what a loss is divided by.
    pub fn weight(&self) -> f64 {
        self.targets().iter().map(|target| target.weight).sum()
    }
}

/// What all layers of a pass share.
pub(super) struct Context<'a, R> {
    pub(super) shape: &'a Shape,
    /// Who attends to whom.
    pub(super) places: Places,
    /// Of each of the model's rotary positions.
    pub(super) tables: Vec<Vec<R>>,
    pub(super) products: Products,
    pub(super) dropout: Option<Dropout>,
}

impl<'a, R: Real> Context<'a, R> {
    pub(super) fn new(shape: &'a Shape, documents: &[Range<usize>], products: Products) -> Self {
        let tables = shape.ropes.iter().map(|rope| rope.table(shape.head_dim, documents)).collect();
        Self { shape, places: Places::all(documents), tables, products, dropout: None }
    }
}
