//! Producing rows of a computed tensor.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use lorakit_quant::{Codec, Encoder, all_finite, codec, encoder, fp8};
use lorakit_tensor::{DType, Origin};

use super::largest::Largest;
use super::low_rank::LoadedTerm;
use super::multiply::{Loaded, Multiplied};
use super::recipe::{Axis, Compute, Rounding};
use super::residue::Residue;
use super::retention::Retention;
use super::store::{Store, rows_of_piece};
use super::{LowRank, Problem, kernel};
use crate::tensor::first_bad;
use crate::{Error, Result};

/// A recipe with its factors in memory.
pub(super) struct Prepared<'a> {
    compute: &'a Compute,
    store: Store<'a>,
    /// What initialisations took out of the base, with negative scales.
    initial: Vec<LoadedTerm>,
    multiplied: Option<Loaded>,
    terms: Vec<LoadedTerm>,
    dora_terms: Vec<LoadedTerm>,
    magnitude: Vec<f32>,
    column_factor: Vec<f32>,
    /// Replacement values by target row, sorted by row.
    replaced: Vec<(usize, Vec<f32>)>,
    /// What sums are rounded to before anything else is done with them.
    through: Option<Through>,
    /// Whether a value other than zero was computed.
    given: AtomicBool,
    /// Whether a value other than zero was stored.
    held: AtomicBool,
}

/// How values are rounded to a dtype.
type Through = (&'static dyn Encoder, &'static dyn Codec);

/// Working memory of one thread.
#[derive(Default)]
pub(super) struct Scratch {
    /// The base, without what initialisations took out of it.
    before: Vec<f32>,
    /// The base, if initialisations took something out of it; its encoded rest.
    whole: Vec<f32>,
    rest: Vec<u8>,
    delta: Vec<f32>,
    sum: Vec<f32>,
    pub(super) bytes: Vec<u8>,
    /// The scales of the rows in `bytes`, if those are packed.
    pub(super) scales: Vec<f32>,
}

impl Scratch {
    /// Bytes a thread needs for panels of `values` values of a tensor; more if rows stay together.
    pub(super) fn bytes_for(values: usize, compute: &Compute) -> u64 {
        let cols = compute.cols;
        let together = compute.rows_together();
        let piece = rows_of_piece(cols, together) * cols;
        let rows = kernel::ROWS.max(compute.rows_of_panel());
        let encoded = if rows > together.max(kernel::ROWS) {
            // A byte for two values and a scale for 32, twice because they are arranged in a copy.
            2 * (rows * cols / 2 + rows * cols / 32 * size_of::<f32>())
        } else {
            values.max(rows * cols) * size_of::<f32>()
        };
        let pieces = if compute.initial.is_empty() { 3 } else { 5 };
        (pieces * piece * size_of::<f32>() + encoded.max(values)) as u64
    }
}

impl<'a> Prepared<'a> {
    pub(super) fn new(compute: &'a Compute, name: &'a str, out_dtype: DType) -> Result<Self> {
        let load = |terms: &[LowRank]| terms.iter().map(LowRank::load).collect::<Result<Vec<_>>>();
        let initial = compute.initial.iter().map(|initial| initial.load(&compute.base, compute.cols));
        let mut prepared = Prepared {
            compute,
            store: Store::new(compute, out_dtype, name)?,
            initial: initial.collect::<Result<_>>()?,
            multiplied: compute.multiplied.as_ref().map(Multiplied::load).transpose()?,
            terms: load(&compute.terms)?,
            dora_terms: Vec::new(),
            magnitude: Vec::new(),
            column_factor: Vec::new(),
            replaced: Vec::new(),
            through: None,
            given: AtomicBool::new(false),
            held: AtomicBool::new(false),
        };
        if let Some(dora) = &compute.dora {
            prepared.dora_terms = load(&dora.terms)?;
            prepared.magnitude = dora.magnitude.finite_values()?;
            if dora.axis == Axis::Column {
                prepared.column_factor = prepared.column_factors()?;
            }
        }
        for replaced in &compute.replaced {
            let values = replaced.tensor.finite_values()?;
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
            // Here the place of the value is known; in the norm of a whole column it no longer is.
            if !all_finite(before) {
                return Err(self.no_number(&rows, before));
            }
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
        self.take_out(rows, scratch)?;
        scratch.delta.clear();
        scratch.delta.resize(n, 0.0);
        add_terms(terms, rows, cols, &mut scratch.delta);
        Ok(())
    }

    /// Takes out of `scratch.before` what initialisations took out of the base, and rounds what is left to the dtype of
    /// the base, as PEFT does; the base goes to `scratch.whole`.
    fn take_out(&self, rows: &Range<usize>, scratch: &mut Scratch) -> Result<()> {
        if self.initial.is_empty() {
            return Ok(());
        }
        let Scratch { before, whole, rest, .. } = scratch;
        whole.clone_from(before);
        add_terms(&self.initial, rows, self.compute.cols, before);
        let base = &self.compute.base;
        let dtype = base.info().dtype;
        if dtype == DType::F32 || !all_finite(before) {
            return Ok(());
        }
        let encoder = encoder(dtype).ok_or_else(|| Error::from(Problem::NoEncoder { dtype }))?;
        let decoder = codec(dtype).ok_or_else(|| base.no_decoder())?;
        rest.resize(dtype.byte_len(before.len() as u64).unwrap_or(0) as usize, 0);
        encoder.encode(before, rest);
        decoder.decode(rest, before);
        Ok(())
    }

    /// Splits rows into ranges of about as many values as are worked on at a time.
    fn pieces(&self, rows: Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let cols = self.compute.cols;
        let step = rows_of_piece(cols, self.store.rows_together(cols));
        let end = rows.end;
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

    /// Refuses a tensor of which nothing is left but zeros: its values are below what the stored type can hold. For
    /// after the last row.
    pub(super) fn check_held(&self) -> Result<()> {
        if self.held.load(Ordering::Relaxed) || !self.given.load(Ordering::Relaxed) {
            return Ok(());
        }
        let stored_as = self.store.description();
        let Compute { base, importance, .. } = self.compute;
        let unweighted = importance.as_ref().is_some_and(|of| of.values.iter().all(|value| *value == 0.0));
        let problem =
            if unweighted { Problem::Unweighted { stored_as } } else { Problem::Vanishes { stored_as } };
        Err(Error::from(problem).tensor(&base.info().name).at(base.path()))
    }

    /// The largest magnitude of the output, if it was needed.
    pub(super) fn largest(&self) -> f32 {
        self.store.largest().map_or(0.0, Largest::so_far)
    }

    /// Takes part in the search for the largest magnitude of the output, if it is needed, until it is known.
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
    ///
    /// Every recipe's values pass through here, and none that is NaN or infinite gets through.
    fn sum(&self, rows: &Range<usize>, scratch: &mut Scratch, room: &mut [u8]) -> Result<()> {
        let compute = self.compute;
        let cols = self.compute.cols;
        let first = if compute.dora.is_some() { &self.dora_terms } else { &self.terms };
        self.add_deltas(first, rows, scratch)?;
        let Scratch { before, whole, rest, delta, sum, .. } = scratch;
        if compute.rounding == Rounding::DeltaFirst && compute.dora.is_none() {
            self.store.round(delta, room);
        }
        sum.resize(before.len(), 0.0);
        // A pure change of dtype keeps the sign of zero, which adding zero would not.
        let finite = if let Some(multiplied) = &self.multiplied {
            multiplied.apply(rows, cols, before, sum);
            sum.iter_mut().zip(&*delta).for_each(|(sum, delta)| *sum += delta);
            all_finite(sum)
        } else if compute.edits() {
            kernel::add(sum, before, delta)
        } else {
            sum.copy_from_slice(before);
            all_finite(before)
        };
        if !finite {
            return Err(self.no_number(rows, sum));
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
        // A norm may be zero, and an addition may overflow f32.
        if (compute.dora.is_some() || compute.plus != 0.0) && !all_finite(sum) {
            return Err(self.no_number(rows, sum));
        }
        let old = if self.initial.is_empty() { before } else { whole };
        if self.delta_is_difference() {
            delta.iter_mut().zip(&*sum).zip(&*old).for_each(|((d, v), w)| *d = v - w);
        }
        if let Some((encoder, decoder)) = self.through {
            rest.resize(encoder.dtype().byte_len(sum.len() as u64).unwrap_or(0) as usize, 0);
            encoder.encode(sum, rest);
            decoder.decode(rest, sum);
        }
        Ok(())
    }

    fn piece(&self, rows: &Range<usize>, scratch: &mut Scratch, out: &mut [u8]) -> Result<Retention> {
        let compute = self.compute;
        let cols = self.compute.cols;
        self.sum(rows, scratch, out)?;
        let Scratch { before, whole, delta, sum, scales, .. } = &mut *scratch;
        let before = if self.initial.is_empty() { before } else { whole };
        note(&self.given, sum);
        self.store.put(rows, cols, sum, out, scales);
        note(&self.held, sum);
        let retention = if compute.edits() {
            let mut retention = kernel::retained(before, sum, delta);
            if !retention.is_finite() && all_finite(sum) {
                kernel::retained_wide(before, sum, delta, &mut retention);
            }
            if let Some(original) = compute.original.filter(|_| compute.times == 1.0 && compute.plus == 0.0) {
                retention.residue = Residue::of(original, before, delta, sum);
            }
            retention
        } else {
            Retention::default()
        };
        // A value that is not finite makes the sums so; only then (or without sums) is every value checked.
        if (!compute.edits() || !retention.is_finite()) && !all_finite(sum) {
            return Err(self.not_storable(rows, scratch, out)?);
        }
        Ok(retention)
    }

    /// Whether what is added is only known as a difference.
    fn delta_is_difference(&self) -> bool {
        let added = self.initial.is_empty() && self.multiplied.is_none() && self.replaced.is_empty();
        self.compute.dora.is_some() || !added
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

    /// The error about a NaN or an infinity in `sum`, the rows `rows`: it was in the base, or came of what was added.
    #[cold]
    fn no_number(&self, rows: &Range<usize>, sum: &[f32]) -> Error {
        let base = &self.compute.base;
        let first = (rows.start * self.compute.cols) as u64;
        let mut values = vec![0.0; sum.len()];
        let read = base.decode(first..first + sum.len() as u64, &mut values);
        if let Err(of_base) = read.and_then(|()| base.refuse_non_finite(first, &values)) {
            return of_base;
        }
        let (at, value) = first_bad(sum).unwrap_or_default();
        self.comes_to(first + at, |shape, element| {
            if self.compute.edits() {
                Problem::LargeDeltas { value, shape, element }
            } else {
                Problem::LargeFactor { value, shape, element, factor: self.compute.times }
            }
        })
    }

    /// The error about the rows `rows`, where the stored type turns a value of `scratch.sum` into a NaN or an infinity.
    #[cold]
    fn not_storable(&self, rows: &Range<usize>, scratch: &mut Scratch, room: &mut [u8]) -> Result<Error> {
        let stored = std::mem::take(&mut scratch.sum);
        self.sum(rows, scratch, room)?;
        // Of values that share a scale, the largest is to blame.
        let bad = stored.iter().zip(&scratch.sum).enumerate().filter(|(_, (stored, _))| !stored.is_finite());
        let largest = bad.max_by(|(_, (_, x)), (_, (_, y))| x.abs().total_cmp(&y.abs()));
        let (at, value) = largest.map_or((0, 0.0), |(at, (_, value))| (at as u64, *value));
        let compute = self.compute;
        let stored_as = self.store.description();
        let as_stored = !compute.edits() && compute.times == 1.0 && compute.plus == 0.0;
        let first = (rows.start * compute.cols) as u64;
        Ok(self.comes_to(first + at, |shape, element| {
            if as_stored {
                Problem::LargeValue { value, shape, element, stored_as }
            } else {
                Problem::LargeSum { value, shape, element, stored_as }
            }
        }))
    }

    /// An error about value `element` of the output, with the file, name and place that it comes from.
    fn comes_to(&self, element: u64, problem: impl FnOnce(Vec<usize>, u64) -> Problem) -> Error {
        let Origin { path, info, element } = self.compute.base.origin(element);
        Error::from(problem(info.shape.clone(), element)).tensor(&info.name).at(path)
    }
}

/// Sets `seen` if one of `values` is not zero; in all but odd tensors that is known at the first value.
fn note(seen: &AtomicBool, values: &[f32]) {
    if !seen.load(Ordering::Relaxed) && values.iter().any(|v| *v != 0.0) {
        seen.store(true, Ordering::Relaxed);
    }
}

/// Rows of a computed tensor before they are stored.
pub(crate) struct Panel<'a> {
    /// Which rows.
    pub(crate) rows: Range<usize>,
    /// The base.
    pub(crate) before: &'a [f32],
    /// The base without what initialisations took out of it: what is added to.
    pub(crate) left: &'a [f32],
    /// What is added; with DoRA, initialisations and replaced rows, the difference.
    pub(crate) delta: &'a [f32],
    /// The sum, in f32, or rounded as was asked for.
    pub(crate) sum: &'a [f32],
    /// What a reader gets of the sum once it is packed; empty if it is not.
    pub(crate) packed: &'a [f32],
    prepared: &'a Prepared<'a>,
}

impl Panel<'_> {
    /// Calls `each` with what one term after another adds to the panel: its place among the terms, the values it falls
    /// on, and what it adds to them.
    pub(crate) fn each_term(&self, mut each: impl FnMut(usize, Range<usize>, &[f32])) {
        let cols = self.prepared.compute.cols;
        let mut delta = Vec::new();
        for (index, term) in self.prepared.terms.iter().enumerate() {
            let (start, end) = (self.rows.start.max(term.rows.start), self.rows.end.min(term.rows.end));
            if start < end {
                delta.clear();
                delta.resize((end - start) * cols, 0.0);
                add_terms(std::slice::from_ref(term), &(start..end), cols, &mut delta);
                each(index, (start - self.rows.start) * cols..(end - self.rows.start) * cols, &delta);
            }
        }
    }

    /// The sum of the magnitudes of all products that make up value `at` of the panel: of factors for a delta, of
    /// weights and factors where the weight is multiplied. An order of summands makes a difference relative to this,
    /// however small their sum is.
    pub(crate) fn summands(&self, at: usize) -> f32 {
        let Prepared { compute, initial, terms, dora_terms, multiplied, .. } = self.prepared;
        let cols = compute.cols;
        let (row, col) = (self.rows.start + at / cols, at % cols);
        let of_term = |term: &LoadedTerm| {
            let b = &term.b[(row - term.rows.start) * term.rank..][..term.rank];
            let a = |k: usize| {
                term.a[(col / kernel::LANES * term.rank + k) * kernel::LANES + col % kernel::LANES]
            };
            term.scale.abs() * b.iter().enumerate().map(|(k, b)| (b * a(k)).abs()).sum::<f32>()
        };
        let of_terms = |terms: &[LoadedTerm]| -> f32 {
            terms.iter().filter(|term| term.rows.contains(&row)).map(of_term).sum()
        };
        let weights = &self.before[at / cols * cols..][..cols];
        let of_dora = compute.dora.as_ref().map(|dora| {
            // The norm of the weights alone: deltas change it little.
            let factor = match dora.axis {
                Axis::Column => self.prepared.column_factor[col],
                Axis::Row => {
                    let square: f64 = weights.iter().map(|w| f64::from(*w).powi(2)).sum();
                    self.prepared.magnitude[row] / square.sqrt() as f32
                }
            };
            factor.abs() * (weights[col].abs() + of_terms(dora_terms))
        });
        let of_multiplied = multiplied.as_ref().map(|factors| factors.summands(row, col, weights));
        of_terms(terms) + of_terms(initial) + of_dora.unwrap_or(0.0) + of_multiplied.unwrap_or(0.0)
    }
}

impl Compute {
    /// Calls `each` with one panel of rows after another, in order; sums are those of [`Rounding::Once`], rounded to
    /// `through` before they are packed.
    ///
    /// # Errors
    /// As for a run, and what `each` returns.
    pub(crate) fn for_each_panel(
        &self,
        name: &str,
        through: Option<DType>,
        mut each: impl FnMut(Panel<'_>) -> Result<()>,
    ) -> Result<()> {
        let compute = Compute { rounding: Rounding::Once, ..self.clone() };
        let mut prepared = Prepared::new(&compute, name, DType::F32)?;
        prepared.through = through.and_then(|dtype| encoder(dtype).zip(codec(dtype)));
        let (mut scratch, mut packed) = (Scratch::default(), Vec::new());
        prepared.find_largest(&mut scratch)?;
        for rows in prepared.pieces(0..compute.rows) {
            prepared.sum(&rows, &mut scratch, &mut [])?;
            let Scratch { before: left, whole, delta, sum, bytes, scales, .. } = &mut scratch;
            let before = if prepared.initial.is_empty() { &*left } else { &*whole };
            packed.clear();
            if compute.packing.is_some() {
                packed.extend_from_slice(sum);
                bytes.resize(prepared.store.bytes(sum.len()), 0);
                scales.clear();
                prepared.store.put(&rows, compute.cols, &mut packed, bytes, scales);
            }
            each(Panel { rows, before, left, delta, sum, packed: &packed, prepared: &prepared })?;
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
