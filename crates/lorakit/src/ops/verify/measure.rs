//! Sums over all values of one tensor: what the merged model holds against base and adapters.

use lorakit_quant::{codec, encoder};
use lorakit_tensor::DType;

use super::pair::{Pair, Rows, is_float};
use super::step::step;
use super::turns::InTurn;
use crate::Result;
use crate::plan::Stretch;

/// Sums over the values of a tensor, with `W` the base's, `D` what the adapters add, `S = W + D` in f32 and `M` the
/// merged model's.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    /// Number of values.
    pub(super) values: u64,
    /// `<D, D>`.
    pub(super) delta: f64,
    /// `<M - W, D>`.
    pub(super) along: f64,
    /// `<M - W, M - W>`.
    pub(super) moved: f64,
    /// `<W, W>`.
    pub(super) base: f64,
    /// `<S, S>`.
    pub(super) sum: f64,
    /// `<M - S, M - S>`.
    pub(super) error: f64,
    /// `<R - W, D>`, with `R` the sum rounded to the stored dtype; the sum itself where rounding takes too long.
    pub(super) rounded_along: f64,
    /// `<R - S, R - S>`.
    pub(super) rounding: f64,
    /// What a factor for each [`RUN`] of values would explain of `<M - S, M - S>`.
    pub(super) scaled_runs: f64,
    /// Number of these runs.
    pub(super) runs: u64,
    /// Values further than a step of the stored dtype from the rounded sum.
    pub(super) off: u64,
    /// Values many steps from the rounded sum, which no order of summands explains.
    pub(super) far: u64,
    /// Values that are not the rounded sum, by however little.
    pub(super) differing: u64,
    /// Rows with a value further than a step from it.
    pub(super) rows_off: u64,
    /// Number of rows.
    pub(super) rows: u64,
    /// Values that are NaN or infinite; they are left out of all sums.
    pub(super) bad: u64,
    /// `<M, S>`.
    pub(super) with_sum: f64,
    /// Values that are the base's although they have a delta.
    pub(super) same: u64,
    /// Whether every stored byte is that of the sum rounded once; of a packed tensor, whether every value is.
    pub(super) once: bool,
    /// Whether every stored byte is that of the sum of the base and the rounded delta, rounded.
    pub(super) twice: bool,
    /// Whether every stored byte is that of the base with one delta after another added, rounded after each, as PEFT
    /// merges several adapters; or the same of rounded deltas.
    pub(super) in_turn: bool,
    /// Number of adapters whose deltas are added in turn to most values; at least 1.
    pub(super) turns: usize,
    /// `<T - W, D>`, with `T` what comes of adding them in turn.
    pub(super) in_turn_along: f64,
    /// Whether every stored byte is that of the sum rounded once, with the delta added again and rounded again.
    pub(super) again: bool,
    /// Whether every stored byte is that of the base.
    pub(super) copy: bool,
}

impl Measured {
    /// The factor of `D` that comes nearest to `M - W`.
    pub(super) fn scale(&self) -> f64 {
        self.along / self.delta
    }

    /// `||M - W - f D||` for that factor `f`, squared.
    pub(super) fn residual(&self) -> f64 {
        (self.moved - self.along * self.along / self.delta).max(0.0)
    }

    /// The standard error of [`Self::scale`], if what is left is noise.
    pub(super) fn uncertainty(&self) -> f64 {
        (self.residual() / self.delta / self.values.max(1) as f64).sqrt()
    }

    /// The factor of `D` that is left where the sum is stored.
    pub(super) fn usual(&self) -> f64 {
        self.rounded_along / self.delta
    }

    /// The same where several adapters were added in turn.
    pub(super) fn usual_in_turn(&self) -> f64 {
        self.in_turn_along / self.delta
    }

    /// The cosine between `M - W` and `D`.
    pub(super) fn cosine(&self) -> f64 {
        self.along / (self.moved * self.delta).sqrt()
    }

    /// The factor of the sum that comes nearest to `M`, if rounding to `dtype` explains what is left and not the factor.
    pub(super) fn times_sum(&self, dtype: DType) -> Option<f64> {
        let factor = self.with_sum / self.sum;
        let norm = self.error + 2.0 * self.with_sum - self.sum;
        let left = (norm - factor * self.with_sum).max(0.0).sqrt();
        // The errors of rounding twice are below a step, and a factor must show in most values.
        let noise = f64::from(step(dtype, 1.0)) * norm.sqrt();
        (self.bad == 0 && left <= noise && (factor - 1.0).abs() * self.sum.sqrt() > 2.0 * left)
            .then_some(factor)
    }

    /// Whether values are off and few others differ at all: kernels that differ do so in many values, and seldom by
    /// more than a step.
    pub(super) fn is_alone(&self) -> bool {
        self.off * CROWD > self.differing
    }

    /// The share of the delta that rounding the sum takes away or adds.
    pub(super) fn uneven(&self) -> f64 {
        if self.delta > 0.0 { (1.0 - self.rounded_along / self.delta).abs() } else { 0.0 }
    }

    /// Adds the sums of another tensor.
    pub(super) fn add(&mut self, other: &Measured) {
        self.values += other.values;
        self.delta += other.delta;
        self.along += other.along;
        self.moved += other.moved;
        self.base += other.base;
        self.rounded_along += other.rounded_along;
    }
}

impl Pair<'_> {
    /// Compares the merged model's tensor with what it should be.
    ///
    /// # Errors
    /// As [`Self::for_each`].
    pub(super) fn measure(&self, stretch: &Stretch<'_>) -> Result<Measured> {
        let compute = &self.compute;
        let dtype = self.merged.info().dtype;
        let float = is_float(dtype);
        let mut m = Measured { once: true, twice: float, again: float, copy: true, ..Measured::default() };
        let (mut rounded, mut encoded) = (Vec::new(), Vec::new());
        m.turns = self.in_turn().max(1);
        let mut turns = InTurn::new(dtype, m.turns);
        let rounds_delta = compute.dora.is_none()
            && !compute.terms.is_empty()
            && compute.replaced.is_empty()
            && compute.initial.is_empty()
            && self.base.is_none();
        let exact = encoder(dtype).zip(codec(dtype)).filter(|_| float || is_quick(dtype));
        self.for_each(stretch, |rows| {
            let Rows { base, delta, sum, found, bytes, panel } = rows;
            turns.add(panel, bytes);
            rounded.clear();
            rounded.extend_from_slice(sum);
            if let Some((encoder, decoder)) = exact {
                encoded.resize(bytes.len(), 0);
                if m.copy {
                    encoder.encode(base, &mut encoded);
                    m.copy = *bytes == *encoded;
                }
                encoder.encode(if panel.packed.is_empty() { sum } else { panel.packed }, &mut encoded);
                m.once &= *bytes == *encoded;
                decoder.decode(&encoded, &mut rounded);
                m.twice &= panel.packed.is_empty();
                if m.twice {
                    // The same rule as in a merge that follows PEFT's `safe_merge=True`.
                    let mut halfway = delta.to_vec();
                    encoder.encode(delta, &mut encoded);
                    decoder.decode(&encoded, &mut halfway);
                    halfway.iter_mut().zip(base).for_each(|(d, w)| *d += w);
                    encoder.encode(if rounds_delta { &halfway } else { sum }, &mut encoded);
                    m.twice = *bytes == *encoded;
                }
                if m.again {
                    let more: Vec<f32> = rounded.iter().zip(delta).map(|(r, d)| r + d).collect();
                    encoder.encode(&more, &mut encoded);
                    m.again = *bytes == *encoded;
                }
            } else {
                (m.copy, m.once, m.twice, m.again) = (false, false, false, false);
            }
            m.values += sum.len() as u64;
            for (found, sum) in found.chunks(RUN).zip(sum.chunks(RUN)) {
                m.scaled_runs += scaled(found, sum);
                m.runs += 1;
            }
            let cols = compute.cols.max(1);
            for start in (0..sum.len()).step_by(cols) {
                let off = m.off;
                for at in start..start + cols {
                    let (found, w, d, s, r) = (found[at], base[at], delta[at], sum[at], rounded[at]);
                    if found != r {
                        m.differing += 1;
                        let steps = turns.steps(
                            dtype,
                            at,
                            (found - r).abs(),
                            w.abs().max(d.abs()).max(s.abs()).max(r.abs()).max(panel.left[at].abs()),
                            panel,
                        );
                        m.off += u64::from(!found.is_finite() || steps > 1.0);
                        m.far += u64::from(steps > FAR);
                    }
                    m.bad += u64::from(!found.is_finite());
                    m.same += u64::from(found == w && d != 0.0);
                    let x = if found.is_finite() { f64::from(found) } else { f64::from(s) };
                    let (w, d, s, r) = (f64::from(w), f64::from(d), f64::from(s), f64::from(r));
                    m.delta += d * d;
                    m.along += (x - w) * d;
                    m.moved += (x - w) * (x - w);
                    m.base += w * w;
                    m.sum += s * s;
                    m.with_sum += x * s;
                    m.error += (x - s) * (x - s);
                    m.rounded_along += (r - w) * d;
                    m.rounding += (r - s) * (r - s);
                    m.in_turn_along += (f64::from(turns.value(at).unwrap_or(rounded[at])) - w) * d;
                }
                m.rows += 1;
                m.rows_off += u64::from(m.off > off);
            }
        })?;
        m.in_turn = turns.are_exact();
        Ok(m)
    }
}

/// Values that have one scale in nearly every block format.
const RUN: usize = 32;

/// What a factor explains of the distance between `found` and `sum`, squared.
fn scaled(found: &[f32], sum: &[f32]) -> f64 {
    let finite = found.iter().zip(sum).filter(|(x, _)| x.is_finite());
    let (along, square) = finite.fold((0f64, 0f64), |(along, square), (x, s)| {
        let (x, s) = (f64::from(*x), f64::from(*s));
        (along + (x - s) * s, square + s * s)
    });
    if square > 0.0 { along * along / square } else { 0.0 }
}

/// Values that differ for each one that is off, if another order of summands is the reason.
const CROWD: u64 = 10;

/// Steps beyond which a value is not the sum, whatever the order of the summands.
const FAR: f32 = 8.0;

/// Whether blocks of this dtype are encoded about as fast as they are read.
fn is_quick(dtype: DType) -> bool {
    use DType::*;
    matches!(dtype, Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 | Q2_K | Q3_K | Q4_K | Q5_K | Q6_K | IQ4_NL | IQ4_XS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorRef;
    use crate::plan::{Compute, Silent};
    use crate::tensor::tests::tensor;

    fn measure(base: &TensorRef, new: &TensorRef, merged: &TensorRef) -> Measured {
        let (base, merged) = (Some(base.clone()), merged.clone());
        let compute = Compute::cast(new.clone());
        Pair { name: "w", compute, base, merged, touched: true, quantised: false }
            .measure(&Stretch::new(&Silent, 0))
            .unwrap()
    }

    #[test]
    fn a_scale_is_found() {
        let base = tensor("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let new = tensor("w", &[2, 2], &[1.5, 2.0, 4.0, 3.5]);
        // The recipe: the base replaced by `new`; the merged model went half the way.
        let m = measure(&base, &new, &tensor("w", &[2, 2], &[1.25, 2.0, 3.5, 3.75]));
        assert_eq!((m.scale(), m.residual(), m.values, m.off), (0.5, 0.0, 4, 3));
        // <M - S, S> = -1.5, <S, S> = 34.5.
        assert!((m.scaled_runs - 1.5 * 1.5 / 34.5).abs() < 1e-12 && m.runs == 1, "{m:?}");
        assert_eq!((m.once, m.twice, m.copy), (false, false, false));
        let m = measure(&base, &new, &new);
        assert_eq!((m.scale(), m.off, m.once, m.copy), (1.0, 0, true, false));
        let m = measure(&base, &new, &base);
        assert_eq!((m.scale(), m.once, m.copy), (0.0, false, true));
    }

    #[test]
    fn a_value_that_is_not_finite_is_off() {
        let base = tensor("w", &[1, 2], &[1.0, 2.0]);
        let m = measure(&base, &base, &tensor("w", &[1, 2], &[1.0, f32::NAN]));
        assert_eq!((m.off, m.copy), (1, false));
    }
}
