//! Two tensors side by side, a piece at a time.

use lorakit_quant::{all_finite, codec, encoder};
use lorakit_tensor::DType;
use multiversion::multiversion;
use std::ops::Range;

use super::{Sums, go_on};
use crate::plan::{Progress, in_order};
use crate::{Result, TensorRef};

/// Values that one task compares; a multiple of every block.
const CHUNK: u64 = 1 << 20;
/// Values in memory of each tensor and task; a multiple of every block.
const PIECE: usize = 1 << 16;
/// Independent sums.
const LANES: usize = 8;

/// What all values of two tensors `A` and `B` of one shape show, and those of a base `W` if there is one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    /// Number of values.
    pub(super) values: u64,
    /// Values that differ.
    pub(super) differing: u64,
    /// The largest `|B - A|`.
    pub(super) largest: f64,
    /// Values of `A`, `B` and `W` that are NaN or infinite; their places are left out of all sums.
    pub(super) non_finite: [u64; 3],
    /// Of `A` and `B`.
    pub(super) whole: Sums,
    /// Of `A - W` and `B - W`; zero without a base.
    pub(super) deltas: Sums,
    /// Whether every stored byte is the same.
    pub(super) same: bool,
    /// Whether one is the other, rounded to its dtype.
    pub(super) recast: bool,
}

/// Compares two tensors of one shape. Values are decoded to f32; differences are taken and summed in f64.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a dtype without a decoder;
/// [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted); if a file cannot be read.
pub(super) fn measure(
    a: &TensorRef,
    b: &TensorRef,
    base: Option<&TensorRef>,
    progress: &dyn Progress,
) -> Result<Measured> {
    let values = a.info().elements();
    let chunk = |start: u64| {
        go_on(progress)?;
        let range = start..(start + CHUNK).min(values);
        let bytes = a.info().dtype.byte_len(range.end - range.start);
        let found = Chunk::new(a, b, base).run(range)?;
        progress.advance(bytes.unwrap_or(0));
        Ok(found)
    };
    let found = in_order((0..values).step_by(CHUNK as usize), chunk)?;
    let mut all = Chunk::new(a, b, base);
    found.iter().for_each(|chunk| all.add(chunk));
    let recast = all.recast[0] || all.recast[1];
    Ok(Measured { values, recast, ..all.measured })
}

/// The work of one task.
struct Chunk<'a> {
    tensors: [Option<&'a TensorRef>; 3],
    measured: Measured,
    /// Whether A is B rounded to A's dtype, and the other way round.
    recast: [bool; 2],
    encoded: Vec<u8>,
}

impl<'a> Chunk<'a> {
    fn new(a: &'a TensorRef, b: &'a TensorRef, base: Option<&'a TensorRef>) -> Self {
        let (x, y) = (a.info().dtype, b.info().dtype);
        let zero = Sums::default();
        let recast = x != y && is_float(x) && is_float(y);
        Chunk {
            tensors: [Some(a), Some(b), base],
            measured: Measured {
                values: 0,
                differing: 0,
                largest: 0.0,
                non_finite: [0; 3],
                whole: zero,
                deltas: zero,
                same: x == y,
                recast: false,
            },
            recast: [recast; 2],
            encoded: Vec::new(),
        }
    }

    fn run(mut self, range: Range<u64>) -> Result<Self> {
        let tensors = self.tensors;
        let mut decoded: [Vec<f32>; 3] = Default::default();
        for start in range.clone().step_by(PIECE) {
            let piece = start..(start + PIECE as u64).min(range.end);
            let len = (piece.end - piece.start) as usize;
            let mut stored = [const { None }; 3];
            for ((tensor, stored), values) in tensors.iter().zip(&mut stored).zip(&mut decoded) {
                let Some(tensor) = tensor else { continue };
                let dtype = tensor.info().dtype;
                let codec = codec(dtype).ok_or_else(|| tensor.no_decoder())?;
                let byte = |element| dtype.byte_len(element).unwrap_or(0);
                let bytes = tensor.read(byte(piece.start)..byte(piece.end))?;
                values.resize(len, 0.0);
                codec.decode(&bytes, values);
                *stored = Some(bytes);
            }
            if let [Some(a), Some(b), _] = &stored {
                self.compare_bytes(a, b, &decoded);
            }
            self.add_piece(&mut decoded);
        }
        Ok(self)
    }

    fn compare_bytes(&mut self, a: &[u8], b: &[u8], decoded: &[Vec<f32>; 3]) {
        self.measured.same &= a == b;
        for (i, stored) in [a, b].into_iter().enumerate().filter(|_| !self.measured.same) {
            let dtype = self.tensors[i].map(|t| t.info().dtype);
            let Some(encoder) = dtype.and_then(encoder).filter(|_| self.recast[i]) else { continue };
            self.encoded.resize(stored.len(), 0);
            encoder.encode(&decoded[1 - i], &mut self.encoded);
            self.recast[i] = self.encoded == stored;
        }
    }

    fn add_piece(&mut self, decoded: &mut [Vec<f32>; 3]) {
        let m = &mut self.measured;
        if decoded.iter().any(|values| !all_finite(values)) {
            m.differing += set_aside(decoded, &mut m.non_finite);
        }
        let [a, b, w] = decoded;
        let (whole, differing, largest) = compare(a, b);
        m.whole += whole;
        m.differing += differing;
        m.largest = m.largest.max(largest);
        if self.tensors[2].is_some() {
            m.deltas += compare_deltas(a, b, w);
        }
    }

    fn add(&mut self, other: &Chunk<'_>) {
        let (m, o) = (&mut self.measured, &other.measured);
        m.differing += o.differing;
        m.largest = m.largest.max(o.largest);
        m.non_finite.iter_mut().zip(o.non_finite).for_each(|(sum, n)| *sum += n);
        m.whole += o.whole;
        m.deltas += o.deltas;
        m.same &= o.same;
        self.recast.iter_mut().zip(other.recast).for_each(|(all, one)| *all &= one);
    }
}

/// Whether values of this dtype are rounded one by one.
fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F64 | DType::F32 | DType::F16 | DType::BF16)
}

/// Sets values to zero wherever one of the tensors is not finite; counts the values that are not, and returns how many
/// of A's and B's values there differ.
fn set_aside(decoded: &mut [Vec<f32>; 3], non_finite: &mut [u64; 3]) -> u64 {
    let [a, b, w] = decoded;
    let mut differing = 0;
    for i in 0..a.len() {
        let mut place = [Some(&mut a[i]), Some(&mut b[i]), w.get_mut(i)];
        let bad = |v: &Option<&mut f32>| v.as_ref().is_some_and(|v| !v.is_finite());
        if !place.iter().any(bad) {
            continue;
        }
        non_finite.iter_mut().zip(&place).for_each(|(n, v)| *n += u64::from(bad(v)));
        if let [Some(a), Some(b), _] = &place {
            differing += u64::from(a.to_bits() != b.to_bits() && a != b);
        }
        place.iter_mut().flatten().for_each(|v| **v = 0.0);
    }
    differing
}

/// Sums, values that differ, the largest difference.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn compare(a: &[f32], b: &[f32]) -> (Sums, u64, f64) {
    let mut sums = [[0f64; LANES]; 4];
    let (mut largest, mut differing) = ([0f64; LANES], [0u64; LANES]);
    let mut add = |a: &[f32; LANES], b: &[f32; LANES]| {
        for i in 0..LANES {
            let (x, y) = (f64::from(a[i]), f64::from(b[i]));
            let d = y - x;
            sums[0][i] += x * x;
            sums[1][i] += y * y;
            sums[2][i] += x * y;
            sums[3][i] += d * d;
            largest[i] = if d.abs() > largest[i] { d.abs() } else { largest[i] };
            differing[i] += u64::from(d != 0.0);
        }
    };
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        add(a, b);
    }
    add(&padded(a_rest), &padded(b_rest));
    let [a, b, ab, off] = sums.map(|lanes| lanes.iter().sum());
    let largest = largest.iter().fold(0.0, |max: f64, v| max.max(*v));
    (Sums { a, b, ab, off }, differing.iter().sum(), largest)
}

/// The sums of `a - w` and `b - w`.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn compare_deltas(a: &[f32], b: &[f32], w: &[f32]) -> Sums {
    let mut sums = [[0f64; LANES]; 4];
    let mut add = |a: &[f32; LANES], b: &[f32; LANES], w: &[f32; LANES]| {
        for i in 0..LANES {
            let (a, b, w) = (f64::from(a[i]), f64::from(b[i]), f64::from(w[i]));
            let (x, y, d) = (a - w, b - w, b - a);
            sums[0][i] += x * x;
            sums[1][i] += y * y;
            sums[2][i] += x * y;
            sums[3][i] += d * d;
        }
    };
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let (w, w_rest) = w.as_chunks::<LANES>();
    for ((a, b), w) in a.iter().zip(b).zip(w) {
        add(a, b, w);
    }
    add(&padded(a_rest), &padded(b_rest), &padded(w_rest));
    let [a, b, ab, off] = sums.map(|lanes| lanes.iter().sum());
    Sums { a, b, ab, off }
}

fn padded(rest: &[f32]) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    lanes[..rest.len()].copy_from_slice(rest);
    lanes
}

#[cfg(test)]
mod tests;
