//! Planned tensors in another shape: rows in another order, several stacked into one, a constant added.
//!
//! A converter that reorders the rows of a weight reorders its low-rank terms with it, since
//! `permute(W + s·B·A) = permute(W) + s·permute(B)·A`. So tensors that adapters edit can be reshaped like any other.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use lorakit_tensor::{Extent, TensorInfo, TensorSource};

use super::recipe::{Axis, Compute, Dora, OutputTensor, Recipe, ReplacedRows};
use super::{Factor, LowRank};
use crate::{Error, ErrorKind, Result, TensorRef};

impl OutputTensor {
    /// The tensor with other dimensions of the same product, and another name.
    #[must_use]
    pub fn renamed(self, name: String, shape: Vec<usize>) -> Self {
        OutputTensor { info: TensorInfo { name, shape, ..self.info }, recipe: self.recipe }
    }

    /// The tensor whose row `n` is row `order[n]` of this one; rows may be left out. `shape` is the shape of the
    /// result: its last dimension is a row, or a single value if there is no other.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a tensor that is given as bytes.
    pub fn with_rows(self, order: Arc<[usize]>, shape: Vec<usize>) -> Result<Self> {
        let info = TensorInfo { shape, ..self.info };
        let recipe = match self.recipe {
            Recipe::Copy(tensor) => Recipe::Copy(gathered(&tensor, &order, &info)),
            Recipe::Compute(compute) => Recipe::Compute(Box::new(reorder(*compute, &order, &info)?)),
            Recipe::Bytes(_) | Recipe::Part { .. } => return Err(fixed(&info.name)),
        };
        Ok(OutputTensor { info, recipe })
    }

    /// Tensors of one shape and type, one after another along a new first dimension.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] if they differ; [`ErrorKind::Unmergeable`] if one is edited in a way that a stack cannot
    /// express (DoRA).
    pub fn stacked(name: &str, tensors: Vec<OutputTensor>) -> Result<Self> {
        let Some(first) = tensors.first().map(|t| t.info.clone()) else {
            return Err(Error::new(ErrorKind::Shape, "is a stack of nothing").tensor(name));
        };
        if let Some(other) =
            tensors.iter().find(|t| (&t.info.shape, t.info.dtype) != (&first.shape, first.dtype))
        {
            let message = format!(
                "is {} {:?}, and `{}`, which is stacked with it, {} {:?}",
                other.info.dtype, other.info.shape, first.name, first.dtype, first.shape
            );
            return Err(Error::new(ErrorKind::Shape, message).tensor(&other.info.name));
        }
        let (rows, cols) = first.rows_cols();
        let shape: Vec<usize> = std::iter::once(tensors.len()).chain(first.shape.iter().copied()).collect();
        let info = TensorInfo { name: name.to_string(), dtype: first.dtype, shape };
        let mut parts = Vec::with_capacity(tensors.len());
        let (mut terms, mut replaced, mut edited) = (Vec::new(), Vec::new(), false);
        for (i, tensor) in tensors.into_iter().enumerate() {
            match tensor.recipe {
                Recipe::Copy(source) => parts.push(source),
                Recipe::Compute(compute) if compute.dora.is_none() && compute.plus == 0.0 => {
                    edited = true;
                    terms.extend(compute.terms.into_iter().map(|term| LowRank {
                        rows: term.rows.start + i * rows..term.rows.end + i * rows,
                        ..term
                    }));
                    replaced.extend(compute.replaced.into_iter().map(|part| ReplacedRows {
                        rows: part.rows.iter().map(|row| row + i * rows).collect(),
                        ..part
                    }));
                    parts.push(compute.base);
                }
                Recipe::Compute(_) => {
                    let message =
                        "has a DoRA edit, and is stored as part of a stack, which cannot express it";
                    return Err(Error::new(ErrorKind::Unmergeable, message).tensor(&tensor.info.name));
                }
                Recipe::Bytes(_) | Recipe::Part { .. } => return Err(fixed(&tensor.info.name)),
            }
        }
        let types: Vec<_> = parts.iter().map(|part| part.info().dtype).collect();
        if types.iter().any(|dtype| *dtype != types[0]) {
            let message = format!("is stacked with {} tensors, and they differ in dtype", parts.len() - 1);
            return Err(Error::new(ErrorKind::Shape, message).tensor(name));
        }
        let stored = TensorInfo { dtype: types[0], ..info.clone() };
        let base = Rearranged::of(parts, None, cols, stored);
        let recipe = match edited || types[0] != info.dtype {
            true => {
                let rows = rows * info.shape[0];
                let cast = Compute::cast(base);
                Recipe::Compute(Box::new(Compute { rows, cols, terms, replaced, ..cast }))
            }
            false => Recipe::Copy(base),
        };
        Ok(OutputTensor { info, recipe })
    }

    /// The tensor with `plus` added to each value after everything else.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a tensor that is given as bytes.
    pub fn plus(self, plus: f32) -> Result<Self> {
        let compute = match self.recipe {
            Recipe::Copy(tensor) => Compute::cast(tensor),
            Recipe::Compute(compute) => *compute,
            Recipe::Bytes(_) | Recipe::Part { .. } => return Err(fixed(&self.info.name)),
        };
        let plus = compute.plus + plus;
        Ok(OutputTensor { info: self.info, recipe: Recipe::Compute(Box::new(Compute { plus, ..compute })) })
    }
}

fn fixed(name: &str) -> Error {
    Error::new(ErrorKind::Unsupported, "is given as bytes, which cannot be rearranged").tensor(name)
}

/// The rows of `tensor` in `order`, as a tensor of its own.
fn gathered(tensor: &TensorRef, order: &Arc<[usize]>, info: &TensorInfo) -> TensorRef {
    let cols = if info.shape.len() > 1 { info.shape[info.shape.len() - 1] } else { 1 };
    let stored = TensorInfo { dtype: tensor.info().dtype, ..info.clone() };
    Rearranged::of(vec![tensor.clone()], Some(Arc::clone(order)), cols, stored)
}

fn reorder(compute: Compute, order: &Arc<[usize]>, info: &TensorInfo) -> Result<Compute> {
    // A vector is a matrix of one row: what is reordered are its columns.
    let vector = info.shape.len() < 2;
    let (rows, cols) = match vector {
        true => (1, order.len()),
        false => (order.len(), compute.cols),
    };
    let term = |term: LowRank| match vector {
        true => {
            LowRank { a: term.a.transposed().in_order(order.iter().map(|&n| Some(n))).transposed(), ..term }
        }
        false => {
            let place = |&n: &usize| term.rows.contains(&n).then(|| n - term.rows.start);
            LowRank { rows: 0..rows, b: term.b.in_order(order.iter().map(place)), ..term }
        }
    };
    let mut replaced = Vec::with_capacity(compute.replaced.len());
    for part in compute.replaced {
        let places = part.rows.iter().map(|row| order.iter().position(|n| n == row));
        match places.collect::<Option<Vec<usize>>>() {
            Some(rows) => replaced.push(ReplacedRows { rows, ..part }),
            None => {
                let message = "has replaced rows that the other format leaves out";
                return Err(Error::new(ErrorKind::Unmergeable, message).tensor(&info.name));
            }
        }
    }
    let dora = compute.dora.map(|dora| {
        let magnitude = match (dora.axis, vector) {
            (Axis::Row, false) => {
                let info = TensorInfo { shape: vec![order.len()], ..dora.magnitude.info().clone() };
                gathered(&dora.magnitude, order, &info)
            }
            _ => dora.magnitude.clone(),
        };
        Dora { terms: dora.terms.into_iter().map(term).collect(), magnitude, axis: dora.axis }
    });
    Ok(Compute {
        base: gathered(&compute.base, order, info),
        rows,
        cols,
        dora,
        terms: compute.terms.into_iter().map(term).collect(),
        replaced,
        ..compute
    })
}

impl Factor {
    /// The rows that `order` names; `None` is a row of zeros.
    fn in_order(self, order: impl Iterator<Item = Option<usize>>) -> Factor {
        self.with_row_order(order.collect())
    }
}

/// One tensor out of the rows of several that have equally many.
#[derive(Debug)]
struct Rearranged {
    info: [TensorInfo; 1],
    parts: Vec<TensorRef>,
    rows_each: usize,
    row_bytes: u64,
    /// Row `n` is row `order[n]` of the parts one after another.
    order: Option<Arc<[usize]>>,
}

impl Rearranged {
    fn of(parts: Vec<TensorRef>, order: Option<Arc<[usize]>>, cols: usize, info: TensorInfo) -> TensorRef {
        let row_bytes = info.dtype.byte_len(cols as u64).unwrap_or(0);
        let rows_each = (parts[0].info().elements() / cols.max(1) as u64) as usize;
        TensorRef::new(Arc::new(Rearranged { info: [info], parts, rows_each, row_bytes, order }), 0)
    }

    /// How many of the `rows`, from the first on, lie behind one another in one part: that part, the row there, and
    /// their number.
    fn run(&self, rows: Range<usize>) -> (usize, usize, usize) {
        let row_of = |n: usize| self.order.as_ref().map_or(n, |order| order[n]);
        let first = row_of(rows.start);
        let (part, row) = (first / self.rows_each, first % self.rows_each);
        let room = rows.len().min(self.rows_each - row);
        let count = match &self.order {
            None => room,
            Some(order) => {
                let follows = |i: &usize| order[rows.start + i] == first + i;
                (1..room).take_while(follows).count() + 1
            }
        };
        (part, row, count)
    }
}

impl TensorSource for Rearranged {
    fn tensors(&self) -> &[TensorInfo] {
        &self.info
    }

    fn find(&self, name: &str) -> Option<usize> {
        (name == self.info[0].name).then_some(0)
    }

    fn read(&self, _: usize, bytes: Range<u64>) -> lorakit_tensor::Result<Cow<'_, [u8]>> {
        if bytes.is_empty() || self.row_bytes == 0 {
            return Ok(Cow::Owned(Vec::new()));
        }
        // Whole rows that cover the range, then cut.
        let first = (bytes.start / self.row_bytes) as usize;
        let end = bytes.end.div_ceil(self.row_bytes) as usize;
        let skip = bytes.start - first as u64 * self.row_bytes;
        let len = (bytes.end - bytes.start) as usize;
        let (part, row, count) = self.run(first..end);
        if count == end - first {
            let start = row as u64 * self.row_bytes + skip;
            return self.parts[part].read_stored(start..start + len as u64);
        }
        let mut gathered = Vec::with_capacity(((end - first) as u64 * self.row_bytes) as usize);
        let mut at = first;
        while at < end {
            let (part, row, count) = self.run(at..end);
            let start = row as u64 * self.row_bytes;
            gathered.extend_from_slice(
                &self.parts[part].read_stored(start..start + count as u64 * self.row_bytes)?,
            );
            at += count;
        }
        gathered.drain(..skip as usize);
        gathered.truncate(len);
        Ok(Cow::Owned(gathered))
    }

    fn extent(&self, _: usize) -> Option<Extent<'_>> {
        None
    }

    fn path_of(&self, _: usize) -> &Path {
        self.parts[0].path()
    }
}
