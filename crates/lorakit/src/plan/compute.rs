//! Producing rows of a computed tensor.

use std::ops::Range;

use lorakit_quant::fp8;
use lorakit_tensor::DType;

use super::factor::LoadedTerm;
use super::largest::Largest;
use super::recipe::{Axis, Compute, Rounding};
use super::retention::Retention;
use super::store::Store;
use super::{LowRank, kernel};
use crate::{Error, ErrorKind, Result};

/// Values worked on at once; three such buffers of f32 fit a second-level cache.
const PIECE: usize = 1 << 14;
/// Rows longer than this are worked on one by one, to bound the memory.
const WIDE: usize = 1 << 17;

/// A recipe with its factors in memory.
pub(super) struct Prepared<'a> {
    compute: &'a Compute,
    name: &'a str,
    store: Store<'a>,
    terms: Vec<LoadedTerm>,
    dora_terms: Vec<LoadedTerm>,
    magnitude: Vec<f32>,
    column_factor: Vec<f32>,
    /// Replacement values by target row, sorted by row.
    replaced: Vec<(usize, Vec<f32>)>,
}

/// Working memory of one thread.
#[derive(Default)]
pub(super) struct Scratch {
    before: Vec<f32>,
    delta: Vec<f32>,
    sum: Vec<f32>,
    pub(super) bytes: Vec<u8>,
    /// The scales of the rows in `bytes`, where those are packed.
    pub(super) scales: Vec<f32>,
}

impl Scratch {
    /// Bytes a thread needs for panels of `values` values of a tensor, and more where rows stay together.
    pub(super) fn bytes_for(values: usize, compute: &Compute) -> u64 {
        let (cols, together) = (compute.cols, compute.rows_together());
        let piece = rows_of_piece(cols, together) * cols;
        let rows = kernel::ROWS.max(compute.rows_of_panel());
        let encoded = match rows > together.max(kernel::ROWS) {
            // A byte for two values, and a scale for 32, once more while they are arranged.
            true => 2 * (rows * cols / 2 + rows * cols / 32 * size_of::<f32>()),
            false => values.max(rows * cols) * size_of::<f32>(),
        };
        (3 * piece * size_of::<f32>() + encoded.max(values)) as u64
    }
}

impl<'a> Prepared<'a> {
    pub(super) fn new(compute: &'a Compute, name: &'a str, out_dtype: DType) -> Result<Self> {
        let load = |terms: &[LowRank]| terms.iter().map(LowRank::load).collect::<Result<Vec<_>>>();
        let mut prepared = Prepared {
            compute,
            name,
            store: Store::new(compute, out_dtype, name)?,
            terms: load(&compute.terms)?,
            dora_terms: Vec::new(),
            magnitude: Vec::new(),
            column_factor: Vec::new(),
            replaced: Vec::new(),
        };
        if let Some(dora) = &compute.dora {
            prepared.dora_terms = load(&dora.terms)?;
            prepared.magnitude = dora.magnitude.values()?;
            if dora.axis == Axis::Column {
                prepared.column_factor = prepared.column_factors()?;
            }
        }
        for replaced in &compute.replaced {
            let values = replaced.tensor.values()?;
            let rows = replaced.rows.iter().zip(values.chunks_exact(compute.cols.max(1)));
            prepared.replaced.extend(rows.map(|(&row, values)| (row, values.to_vec())));
        }
        prepared.replaced.sort_by_key(|(row, _)| *row);
        Ok(prepared)
    }

    /// `m / norm` for each column of `W + delta`; one sequential pass, so that sums have one order.
    fn column_factors(&self) -> Result<Vec<f32>> {
        let cols = self.compute.cols;
        let mut squares = vec![0f64; cols];
        let mut scratch = Scratch::default();
        for rows in self.pieces(0..self.compute.rows) {
            self.add_deltas(&self.dora_terms, &rows, &mut scratch)?;
            let Scratch { before, delta, .. } = &scratch;
            for (w, d) in before.chunks_exact(cols).zip(delta.chunks_exact(cols)) {
                for ((square, w), d) in squares.iter_mut().zip(w).zip(d) {
                    *square += f64::from(w + d).powi(2);
                }
            }
        }
        Ok(self.magnitude.iter().zip(&squares).map(|(&m, s)| m / s.sqrt() as f32).collect())
    }

    /// Fills `scratch.before` with the base rows and `scratch.delta` with the sum of `terms` on them.
    fn add_deltas(&self, terms: &[LoadedTerm], rows: &Range<usize>, scratch: &mut Scratch) -> Result<()> {
        let cols = self.compute.cols;
        let n = rows.len() * cols;
        scratch.before.resize(n, 0.0);
        self.compute
            .base
            .decode((rows.start * cols) as u64..(rows.end * cols) as u64, &mut scratch.before)?;
        if self.compute.times != 1.0 {
            let times = self.compute.times;
            scratch.before.iter_mut().for_each(|v| *v = (f64::from(*v) * times) as f32);
        }
        scratch.delta.clear();
        scratch.delta.resize(n, 0.0);
        add_terms(terms, rows, cols, &mut scratch.delta);
        Ok(())
    }

    /// Splits rows into ranges of about [`PIECE`] values.
    fn pieces(&self, rows: Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let cols = self.compute.cols;
        let (step, end) = (rows_of_piece(cols, self.store.rows_together(cols)), rows.end);
        rows.step_by(step).map(move |start| start..(start + step).min(end))
    }

    /// Encodes rows `rows` into `scratch.bytes`.
    pub(super) fn rows(&self, rows: Range<usize>, scratch: &mut Scratch) -> Result<Retention> {
        let cols = self.compute.cols;
        let size = |values| self.store.bytes(values);
        let mut bytes = std::mem::take(&mut scratch.bytes);
        bytes.resize(size(rows.len() * cols), 0);
        scratch.scales.clear();
        self.find_largest(scratch)?;
        let mut retention = Retention::default();
        for piece in self.pieces(rows.clone()) {
            let out = size((piece.start - rows.start) * cols)..size((piece.end - rows.start) * cols);
            retention.add(self.piece(&piece, scratch, &mut bytes[out])?);
        }
        self.store.arrange(cols, &mut bytes, &mut scratch.scales);
        scratch.bytes = bytes;
        Ok(retention)
    }

    /// The largest magnitude of the output, where it was needed.
    pub(super) fn largest(&self) -> f32 {
        self.store.largest().map_or(0.0, Largest::so_far)
    }

    /// Takes part in the search for the largest magnitude of the output, where it is needed, until it is known.
    fn find_largest(&self, scratch: &mut Scratch) -> Result<()> {
        let Some(search) = self.store.largest() else { return Ok(()) };
        let step = rows_of_piece(self.compute.cols, self.store.rows_together(self.compute.cols));
        search.find(|piece| {
            let start = piece * step;
            self.sum(&(start..(start + step).min(self.compute.rows)), scratch, &mut [])?;
            Ok(fp8::largest(&scratch.sum))
        })?;
        Ok(())
    }

    /// Fills `scratch.sum` with the rows of the output, and `before` and `delta` with what they come from. `room` is
    /// for their bytes.
    fn sum(&self, rows: &Range<usize>, scratch: &mut Scratch, room: &mut [u8]) -> Result<()> {
        let (compute, cols) = (self.compute, self.compute.cols);
        let first = if compute.dora.is_some() { &self.dora_terms } else { &self.terms };
        self.add_deltas(first, rows, scratch)?;
        let Scratch { before, delta, sum, .. } = scratch;
        if compute.rounding == Rounding::DeltaFirst && compute.dora.is_none() {
            self.store.round(delta, room);
        }
        sum.resize(before.len(), 0.0);
        // A pure change of dtype keeps the sign of zero, which adding zero would not.
        let finite = match compute.edits() {
            true => kernel::add(sum, before, delta),
            false => {
                sum.copy_from_slice(before);
                kernel::all_finite(before)
            }
        };
        if !finite {
            let error = self.non_finite(rows, before, compute.base.info().dtype.name(), "holds");
            return Err(error.at(compute.base.path()));
        }
        if let Some(dora) = &compute.dora {
            match dora.axis {
                Axis::Row => self.scale_rows(rows, sum),
                Axis::Column => {
                    for row in sum.chunks_exact_mut(cols) {
                        row.iter_mut().zip(&self.column_factor).for_each(|(v, f)| *v *= f);
                    }
                }
            }
            add_terms(&self.terms, rows, cols, sum);
        }
        self.replace(rows, sum);
        if compute.plus != 0.0 {
            sum.iter_mut().chain(&mut *before).for_each(|v| *v += compute.plus);
        }
        if compute.dora.is_some() || !self.replaced.is_empty() {
            delta.iter_mut().zip(&*sum).zip(&*before).for_each(|((d, v), w)| *d = v - w);
        }
        Ok(())
    }

    fn piece(&self, rows: &Range<usize>, scratch: &mut Scratch, out: &mut [u8]) -> Result<Retention> {
        let (compute, cols) = (self.compute, self.compute.cols);
        self.sum(rows, scratch, out)?;
        let Scratch { before, delta, sum, scales, .. } = scratch;
        self.store.put(rows, cols, sum, out, scales);
        let retention = match compute.edits() {
            true => {
                let (mut kept, mut whole, moved, unchanged) = kernel::retained(before, sum, delta);
                if !(kept + whole).is_finite() && kernel::all_finite(sum) {
                    (kept, whole) = kernel::retained_wide(before, sum, delta);
                }
                Retention { kept, whole, moved, unchanged }
            }
            false => Retention::default(),
        };
        // A value that is not finite makes the sum so; only then (or without one) is every value looked at.
        if (!compute.edits() || !retention.kept.is_finite()) && !kernel::all_finite(sum) {
            return Err(self.non_finite(rows, sum, self.store.name(), "the output would hold"));
        }
        Ok(retention)
    }

    fn scale_rows(&self, rows: &Range<usize>, sum: &mut [f32]) {
        for (row, values) in rows.clone().zip(sum.chunks_exact_mut(self.compute.cols)) {
            let square: f64 = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
            let factor = self.magnitude[row] / square.sqrt() as f32;
            values.iter_mut().for_each(|v| *v *= factor);
        }
    }

    fn replace(&self, rows: &Range<usize>, sum: &mut [f32]) {
        let cols = self.compute.cols;
        let from = self.replaced.partition_point(|(row, _)| *row < rows.start);
        for (row, values) in self.replaced[from..].iter().take_while(|(row, _)| *row < rows.end) {
            sum[(row - rows.start) * cols..][..cols].copy_from_slice(values);
        }
    }

    fn non_finite(&self, rows: &Range<usize>, values: &[f32], stored: &str, who: &str) -> Error {
        let at = values.iter().position(|v| !v.is_finite()).unwrap_or(0);
        let cols = self.compute.cols.max(1);
        let (row, col, value) = (rows.start + at / cols, at % cols, values[at]);
        let message = format!("{who} {value} at row {row}, column {col} ({stored})");
        Error::new(ErrorKind::NonFinite, message).tensor(self.name)
    }
}

/// Rows of a computed tensor before they are stored.
pub(crate) struct Panel<'a> {
    /// Which rows.
    pub(crate) rows: Range<usize>,
    /// The base.
    pub(crate) before: &'a [f32],
    /// What is added; with DoRA and replaced rows the difference.
    pub(crate) delta: &'a [f32],
    /// The sum, in f32.
    pub(crate) sum: &'a [f32],
}

impl Compute {
    /// Calls `each` with one panel of rows after another, in order; sums are those of [`Rounding::Once`].
    ///
    /// # Errors
    /// As a run's, and what `each` returns.
    pub(crate) fn for_each_panel(
        &self,
        name: &str,
        mut each: impl FnMut(Panel<'_>) -> Result<()>,
    ) -> Result<()> {
        let compute = Compute { rounding: Rounding::Once, packing: None, ..self.clone() };
        let prepared = Prepared::new(&compute, name, DType::F32)?;
        let mut scratch = Scratch::default();
        for rows in prepared.pieces(0..compute.rows) {
            prepared.sum(&rows, &mut scratch, &mut [])?;
            let Scratch { before, delta, sum, .. } = &scratch;
            each(Panel { rows, before, delta, sum })?;
        }
        Ok(())
    }
}

/// Adds the parts of `terms` that fall on `rows`.
fn add_terms(terms: &[LoadedTerm], rows: &Range<usize>, cols: usize, delta: &mut [f32]) {
    for term in terms {
        let (start, end) = (rows.start.max(term.rows.start), rows.end.min(term.rows.end));
        if start < end {
            let b = (start - term.rows.start) * term.rank..(end - term.rows.start) * term.rank;
            let out = (start - rows.start) * cols..(end - rows.start) * cols;
            kernel::add_low_rank(&mut delta[out], &term.b[b], &term.a, term.rank, cols, term.scale);
        }
    }
}

/// As many rows as the product's kernel takes at once, except where a few rows are a tensor of their own; always
/// whole groups of rows that must be stored together.
pub(super) fn rows_of_piece(cols: usize, together: usize) -> usize {
    let rows = if cols > WIDE { 1 } else { (PIECE / cols.max(1)).max(1).next_multiple_of(kernel::ROWS) };
    rows.next_multiple_of(together)
}
