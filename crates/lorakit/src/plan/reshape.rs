//! Recipes of tensors that another format stores in another shape: rows in another order, tensors stacked, a
//! constant added, another dtype.
//!
//! Each works on a recipe as it works on a tensor: what an adapter adds is moved along with the rows it is added to,
//! and a copy stays a copy as long as its bytes stay the same.
//!
//! ```text
//!            rows           rows             r                   r
//!          ┌──────┐      ┌────────┐        ┌───┐              ┌────────┐
//!  permute │ W+BA │  =   │ perm W │  +  s· │   │ perm B  ·  A │        │
//!          └──────┘      └────────┘        └───┘              └────────┘
//! ```

use std::ops::Range;

use lorakit_tensor::{DType, TensorInfo};

use super::{Axis, Compute, Initial, LowRank, Multiplied, OutputTensor, Problem, Recipe, ReplacedRows};
use crate::tensor::RowOrder;
use crate::{Error, Result, TensorRef};

impl OutputTensor {
    /// The same tensor under another name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.info.name = name.to_string();
        self
    }

    /// The same values in another dtype, still rounded once.
    #[must_use]
    pub fn with_dtype(self, dtype: DType) -> Self {
        let info = TensorInfo { dtype, ..self.info };
        match self.recipe {
            Recipe::Copy(tensor) if tensor.info().dtype != dtype => {
                OutputTensor { info, recipe: Recipe::Compute(Box::new(Compute::cast(tensor))) }
            }
            recipe => OutputTensor { info, recipe },
        }
    }

    /// The same tensor, if its values are computed, as the matrix of all its rows: what the last dimension holds is
    /// encoded together, whatever is stacked above it.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if an adapter changes it as another matrix.
    pub(crate) fn row_by_row(self) -> Result<Self> {
        let Recipe::Compute(compute) = self.recipe else { return Ok(self) };
        let cols = self.info.shape.last().copied().unwrap_or(1);
        let rows = (self.info.elements() as usize).checked_div(cols).unwrap_or(0);
        let compute = seen_as(*compute, rows, cols).map_err(|e| e.tensor(&self.info.name))?;
        Ok(OutputTensor { info: self.info, recipe: Recipe::Compute(Box::new(compute)) })
    }

    /// The same tensor with `value` added to each of its values, in f32.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a tensor that is given as bytes.
    pub fn plus(self, value: f32) -> Result<Self> {
        let mut compute = self.recipe.into_compute().map_err(|e| e.tensor(&self.info.name))?;
        compute.plus += value;
        Ok(OutputTensor { info: self.info, recipe: Recipe::Compute(compute) })
    }

    /// The tensor, seen as `rows` rows, rearranged: row `n` of the result is row `order[n]`. `shape`, whose product is
    /// the number of rows of the result, replaces its first dimensions.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if an adapter changes the tensor in a way that cannot
    /// be moved along: a norm over columns some of whose rows are dropped, deltas of a matrix with other rows.
    pub fn gather_rows(self, rows: usize, order: &RowOrder, shape: &[usize]) -> Result<Self> {
        debug_assert_eq!(order.len(), shape.iter().product::<usize>());
        let cols = (self.info.elements() as usize).checked_div(rows).unwrap_or(0);
        let shape =
            if cols == 1 && self.info.shape.len() == 1 { shape.to_vec() } else { [shape, &[cols]].concat() };
        let info = TensorInfo { shape: shape.clone(), ..self.info };
        let gather = |tensor: TensorRef| {
            if order.keeps(rows) && tensor.info().shape == shape {
                Ok(tensor)
            } else {
                TensorRef::of_rows(vec![(tensor, order.clone())], cols, shape.clone())
            }
        };
        let recipe = match self.recipe {
            Recipe::Copy(tensor) => Recipe::Copy(gather(tensor)?),
            Recipe::Compute(compute) => {
                let compute = seen_as(*compute, rows, cols).map_err(|e| e.tensor(&info.name))?;
                let base = gather(compute.base.clone())?;
                let compute = moved(compute, order).map_err(|e| e.tensor(&info.name))?;
                Recipe::Compute(Box::new(Compute { base, ..compute }))
            }
            Recipe::Bytes(_) | Recipe::Part { .. } => {
                return Err(Error::from(Problem::Bytes).tensor(&info.name));
            }
        };
        Ok(OutputTensor { info, recipe })
    }

    /// Stacks tensors of one shape and dtype along a new first dimension.
    ///
    /// # Errors
    /// [`ErrorKind::File`](crate::ErrorKind::File) if shapes differ;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if dtypes do, or for DoRA, whose norms belong to a
    /// single tensor.
    pub fn stack(name: &str, parts: Vec<OutputTensor>) -> Result<Self> {
        let Some(first) = parts.first().map(|part| part.info.clone()) else {
            return Err(Error::from(Problem::EmptyStack).tensor(name));
        };
        if let Some(other) = parts.iter().find(|part| part.info.shape != first.shape) {
            let (shape, first_shape) = (other.info.shape.clone(), first.shape);
            let problem = Problem::StackShape { shape, first: first.name, first_shape };
            return Err(Error::from(problem).tensor(&other.info.name));
        }
        let (rows, cols) = first.rows_cols();
        let shape = [&[parts.len()], first.shape.as_slice()].concat();
        let copied = parts.iter().all(|part| matches!(part.recipe, Recipe::Copy(_)));
        let mut stacked: Option<Compute> = None;
        let mut bases = Vec::with_capacity(parts.len());
        for (n, part) in parts.into_iter().enumerate() {
            let part_name = part.info.name;
            let compute = part
                .recipe
                .into_compute()
                .and_then(|compute| seen_as(*compute, rows, cols))
                .map_err(|e| e.tensor(&part_name))?;
            if compute.dora.is_some() {
                return Err(Error::from(Problem::StackedDora).tensor(&part_name));
            }
            if compute.multiplied.is_some() {
                return Err(Error::from(Problem::StackedFactors).tensor(&part_name));
            }
            bases.push((compute.base.clone(), RowOrder::of_rows(0..rows)));
            let at = n * rows;
            let shifted = |mut term: LowRank| {
                term.rows = term.rows.start + at..term.rows.end + at;
                term
            };
            let replaced = compute.replaced.into_iter().map(|mut replaced| {
                replaced.rows.iter_mut().for_each(|row| *row += at);
                replaced
            });
            let all = stacked.get_or_insert_with(|| Compute {
                terms: Vec::new(),
                replaced: Vec::new(),
                ..Compute::cast(compute.base)
            });
            (all.rounding, all.plus) = (compute.rounding, compute.plus);
            all.original = compute.original.or(all.original);
            let initial = compute.initial.into_iter();
            all.initial
                .extend(initial.map(|one| Initial { rows: one.rows.start + at..one.rows.end + at, ..one }));
            all.terms.extend(compute.terms.into_iter().map(shifted));
            all.replaced.extend(replaced);
        }
        let count = shape[0];
        let base = TensorRef::of_rows(bases, cols, shape.clone())?;
        let info = TensorInfo { name: name.to_string(), dtype: first.dtype, shape };
        let recipe = match stacked {
            Some(compute) if !copied => {
                Recipe::Compute(Box::new(Compute { base, rows: count * rows, cols, ..compute }))
            }
            _ => Recipe::Copy(base),
        };
        Ok(OutputTensor { info, recipe })
    }
}

impl Recipe {
    fn into_compute(self) -> Result<Box<Compute>> {
        match self {
            Recipe::Copy(tensor) => Ok(Box::new(Compute::cast(tensor))),
            Recipe::Compute(compute) => Ok(compute),
            Recipe::Bytes(_) | Recipe::Part { .. } => Err(Problem::Bytes.into()),
        }
    }
}

/// The recipe for the same values as a matrix of `rows` rows: a recipe that adds nothing can be divided in any way, and
/// a vector, which is one row, can become one column.
pub(crate) fn seen_as(compute: Compute, rows: usize, cols: usize) -> Result<Compute> {
    if (compute.rows, compute.cols) == (rows, cols) {
        return Ok(compute);
    }
    if !compute.edits() {
        return Ok(Compute { rows, cols, ..compute });
    }
    if compute.rows != 1 || cols != 1 || compute.dora.is_some() || !compute.initial.is_empty() {
        let (stored_rows, stored_cols) = (rows, cols);
        let Compute { rows, cols, .. } = compute;
        return Err(Problem::OtherMatrix { rows, cols, stored_rows, stored_cols }.into());
    }
    let (count, (stored_rows, stored_cols)) = ((compute.rows, compute.cols), (rows, cols));
    let multiplied = match compute.multiplied.map(Multiplied::of_column) {
        Some(None) => {
            let (rows, cols) = count;
            return Err(Problem::OtherMatrix { rows, cols, stored_rows, stored_cols }.into());
        }
        multiplied => multiplied.flatten(),
    };
    let turned = |term: LowRank| LowRank {
        rows: 0..rows,
        b: term.a.transposed(),
        a: term.b.transposed(),
        scale: term.scale,
    };
    let whole = |replaced: ReplacedRows| ReplacedRows { tensor: replaced.tensor, rows: (0..rows).collect() };
    Ok(Compute {
        rows,
        cols,
        multiplied,
        terms: compute.terms.into_iter().map(turned).collect(),
        replaced: compute.replaced.into_iter().map(whole).collect(),
        ..compute
    })
}

/// Everything but the base, in the new order of rows.
fn moved(compute: Compute, order: &RowOrder) -> Result<Compute> {
    let permuted = order.len() == compute.rows;
    let dora = match compute.dora {
        Some(dora) if dora.axis == Axis::Column && !permuted => {
            return Err(Problem::DroppedRows.into());
        }
        Some(mut dora) => {
            if dora.axis == Axis::Row && !order.keeps(compute.rows) {
                let shape = vec![order.len()];
                dora.magnitude = TensorRef::of_rows(vec![(dora.magnitude, order.clone())], 1, shape)?;
            }
            dora.terms = moved_terms(dora.terms, order);
            Some(dora)
        }
        None => None,
    };
    let multiplied = compute.multiplied.map(|by| by.gathered(order, compute.rows)).transpose()?;
    let replaced = compute.replaced.into_iter().map(|replaced| moved_rows(replaced, compute.cols, order));
    Ok(Compute {
        rows: order.len(),
        initial: moved_initial(compute.initial, order)?,
        multiplied,
        dora,
        terms: moved_terms(compute.terms, order),
        replaced: replaced.collect::<Result<_>>()?,
        ..compute
    })
}

/// What initialisations took out of each weight: rows may change places within it.
fn moved_initial(initial: Vec<Initial>, order: &RowOrder) -> Result<Vec<Initial>> {
    let moved = |one: Initial| match order.targets(&one.rows).as_slice() {
        [(rows, within)] if within.len() == one.rows.len() => Ok(Initial { rows: rows.clone(), ..one }),
        _ => Err(Problem::ScatteredInitial.into()),
    };
    initial.into_iter().map(moved).collect()
}

fn moved_terms(terms: Vec<LowRank>, order: &RowOrder) -> Vec<LowRank> {
    let moved = |term: LowRank| {
        let targets = order.targets(&term.rows);
        let part = move |(rows, order): (Range<usize>, RowOrder)| LowRank {
            rows,
            b: term.b.clone().gather_rows(&order),
            a: term.a.clone(),
            scale: term.scale,
        };
        targets.into_iter().map(part)
    };
    terms.into_iter().flat_map(moved).collect()
}

/// The replaced rows that remain, at their new places.
fn moved_rows(replaced: ReplacedRows, cols: usize, order: &RowOrder) -> Result<ReplacedRows> {
    let targets = |row: usize| order.targets(&(row..row + 1)).into_iter().flat_map(|(rows, _)| rows);
    let placed =
        replaced.rows.iter().enumerate().flat_map(|(from, &row)| targets(row).map(move |to| (from, to)));
    let (from, rows): (Vec<usize>, Vec<usize>) = placed.unzip();
    let kept = RowOrder::of_rows(from);
    let tensor = if kept.keeps(replaced.rows.len()) {
        replaced.tensor
    } else {
        TensorRef::of_rows(vec![(replaced.tensor, kept)], cols, vec![rows.len(), cols])?
    };
    Ok(ReplacedRows { tensor, rows })
}
