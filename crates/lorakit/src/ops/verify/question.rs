//! What the merged model is compared with.

use lorakit_tensor::Reader;

use super::VerifyOptions;
use super::compare::{Compared, compare};
use super::pair::{Pair, is_touched};
use crate::arch::names;
use crate::fit::Resolver;
use crate::ops::merge::{self, Form, Sum, Sums, Tied};
use crate::plan::{OutputTensor, Progress, Stretch, go_on, in_order};
use crate::{ErrorKind, Model, Result};

/// The merged model, and how to find what it should be.
pub(super) struct Question<'q> {
    pub(super) options: &'q VerifyOptions,
    pub(super) merged: &'q Model,
    pub(super) view: Resolver<'q>,
    pub(super) reader: &'q Reader,
    pub(super) progress: &'q dyn Progress,
}

/// The tensors of a sum with their counterparts, and the places of those that have none.
pub(super) struct Paired<'s> {
    pub(super) pairs: Vec<Option<Pair<'s>>>,
    pub(super) extra: Vec<usize>,
}

impl Question<'_> {
    /// Stops if the caller wants to.
    pub(super) fn go_on(&self) -> Result<()> {
        go_on(self.progress, "every tensor was compared")
    }

    /// Plans the merge of `sum`, with one tensor for both sides of a tied pair if the merged model has one.
    ///
    /// # Errors
    /// Every refusal of a merge.
    pub(super) fn sums(&self, sum: &Sum) -> Result<Sums> {
        let sums = merge::sums(sum, &Form::default(), self.reader, self.progress)?;
        // PEFT keeps one tensor where our merge makes two.
        let base_view = Resolver::new(sums.base.tensors(), sums.base.config.as_ref());
        let split = |t: &OutputTensor| {
            base_view.in_place_of(&t.info.name).is_some() && self.view.in_place_of(&t.info.name).is_some()
        };
        if !sums.tensors.iter().any(split) {
            drop(base_view);
            return Ok(sums);
        }
        let share = sum.clone().with_tied(Tied::Share);
        merge::sums(&share, &Form::default(), self.reader, self.progress)
    }

    /// The same at weights that nobody asked for: `None` if such a merge is refused, so that it was not made.
    ///
    /// # Errors
    /// [`ErrorKind::Interrupted`].
    pub(super) fn perhaps_sums(&self, sum: &Sum) -> Result<Option<Sums>> {
        match self.sums(sum) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
            sums => Ok(sums.ok()),
        }
    }

    /// Finds the counterpart of every tensor.
    ///
    /// # Errors
    /// As [`Pair::new`].
    pub(super) fn pairs<'s>(&self, sums: &'s Sums) -> Result<Paired<'s>> {
        let expected: Vec<&str> = sums.tensors.iter().map(|t| t.info.name.as_str()).collect();
        let there: Vec<&str> = self.merged.tensors().iter().map(|t| t.name.as_str()).collect();
        let paired = names::pairs(&expected, &there);
        let (counterparts, extra) = paired.split_at(expected.len());
        let pairs = sums.tensors.iter().zip(counterparts).map(|(tensor, (_, index))| {
            self.go_on()?;
            let index = index.or_else(|| self.view.in_place_of(&tensor.info.name));
            index.map(|index| Pair::new(sums, tensor, self.merged, index)).transpose()
        });
        let pairs = pairs.collect::<Result<_>>()?;
        Ok(Paired { pairs, extra: extra.iter().filter_map(|(_, index)| *index).collect() })
    }

    /// Compares every tensor.
    ///
    /// # Errors
    /// As [`compare`], and [`crate::ErrorKind::Interrupted`].
    pub(super) fn compare(&self, sums: &Sums, pairs: &[Option<Pair<'_>>]) -> Result<Vec<Compared>> {
        let one = |(tensor, pair): (&OutputTensor, &Option<Pair<'_>>)| {
            self.go_on()?;
            let stretch = Stretch::new(self.progress, tensor.info.byte_len());
            let found = match pair {
                Some(pair) => compare(pair, tensor, &stretch)?,
                // What follows from the configuration need not be stored.
                None if names::is_buffer(&tensor.info.name) && !is_touched(sums, tensor) => {
                    Compared::kept(&tensor.info.name)
                }
                None => Compared::absent(tensor, is_touched(sums, tensor)),
            };
            stretch.finish();
            Ok(found)
        };
        self.progress.begin(sums.tensors.iter().map(|tensor| tensor.info.byte_len()).sum());
        in_order(sums.tensors.iter().zip(pairs), one)
    }

    /// Whether tensor `index` of the merged model adds nothing: it follows from the configuration, or holds the same
    /// values as another one that models of this class tie it to.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn adds_nothing(&self, index: usize) -> Result<bool> {
        if names::is_buffer(&self.merged.tensors()[index].name) {
            return Ok(true);
        }
        for other in self.view.may_copy(index) {
            if self.merged.tensor(other).same_values(&self.merged.tensor(index))? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
