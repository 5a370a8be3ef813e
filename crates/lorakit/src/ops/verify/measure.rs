//! Adding up all values of one tensor: what the merged model holds against base and adapters.

use lorakit_tensor::DType;

use super::noise::Encoding;
use super::pair::{Pair, Rows, is_float};
use super::storing::Storing;
use super::sums::Measured;
use super::turns::InTurn;
use crate::Result;
use crate::plan::Stretch;

impl Pair<'_> {
    /// How the merged model's tensor is encoded, and what encodes it.
    fn encoding(&self) -> (Encoding, Option<Storing>) {
        let dtype = self.merged.info().dtype;
        let storing = Storing::new(dtype).filter(|_| dtype != DType::F64);
        let encoding = match storing {
            _ if !self.quantised => Encoding::Values,
            // What is packed is seen as decoded values.
            _ if is_float(dtype) && self.compute.packing.is_none() => Encoding::unknown(dtype, true),
            None => Encoding::unknown(dtype, false),
            Some(storing) if storing.uses_importance() => Encoding::Weighted,
            Some(_) => Encoding::Alike,
        };
        (encoding, storing)
    }

    /// Compares the merged model's tensor with what it should be.
    ///
    /// # Errors
    /// As [`Self::for_each`].
    pub(super) fn measure(&self, stretch: &Stretch<'_>) -> Result<Measured> {
        let compute = &self.compute;
        let (stored_as, grid) = (self.merged.info().dtype, self.grid());
        let (encoding, storing) = self.encoding();
        let float = is_float(grid) && storing.is_some();
        let mut m =
            Measured { once: true, twice: float, again: float, copy: true, encoding, ..Measured::default() };
        m.fits = [true; 2];
        m.turns = self.in_turn().max(1);
        let mut turns = InTurn::new(grid, stored_as, m.turns);
        let (mut rounded, mut encoded, mut halfway) = (Vec::new(), Vec::new(), Vec::new());
        let rounds_delta = compute.dora.is_none()
            && !compute.terms.is_empty()
            && compute.replaced.is_empty()
            && compute.initial.is_empty()
            && self.base.is_none();
        let rounding = Storing::new(grid).filter(|_| float);
        let blocks = encoding != Encoding::Values;
        // Blocks say less about single values, so there each rule that applies is followed to the end.
        let mut differing = [0; 3];
        let by_twice = blocks && rounds_delta && rounding.is_some() && compute.packing.is_none();
        self.for_each(stretch, |rows| {
            let Rows { base, delta, sum, found, bytes, panel } = rows;
            let count = |rounded: &[f32]| found.iter().zip(rounded).filter(|(x, r)| x != r).count() as u64;
            turns.add(panel, bytes);
            rounded.clear();
            rounded.extend_from_slice(sum);
            if let Some(storing) = storing {
                if m.copy {
                    rounded.copy_from_slice(base);
                    if let Some(through) = rounding.filter(|_| self.through.is_some()) {
                        through.store(&mut rounded, &mut encoded);
                    }
                    storing.encode(&rounded, &mut encoded);
                    m.copy = *bytes == *encoded;
                }
                rounded.copy_from_slice(if panel.packed.is_empty() { sum } else { panel.packed });
                storing.store(&mut rounded, &mut encoded);
                m.once &= *bytes == *encoded;
                m.twice &= panel.packed.is_empty();
                if let Some(rounding) = rounding {
                    if m.twice || by_twice {
                        // The same rule as in a merge that follows PEFT's `safe_merge=True`.
                        halfway.clear();
                        halfway.extend_from_slice(delta);
                        rounding.store(&mut halfway, &mut encoded);
                        halfway.iter_mut().zip(base).for_each(|(d, w)| *d += w);
                        if !rounds_delta {
                            halfway.copy_from_slice(sum);
                        }
                        if self.through.is_some() {
                            rounding.store(&mut halfway, &mut encoded);
                        }
                        storing.store(&mut halfway, &mut encoded);
                        m.twice &= *bytes == *encoded;
                        differing[1] += if by_twice { count(&halfway) } else { 0 };
                    }
                    if m.again {
                        halfway.clear();
                        halfway.extend(rounded.iter().zip(delta).map(|(r, d)| r + d));
                        rounding.store(&mut halfway, &mut encoded);
                        storing.encode(&halfway, &mut encoded);
                        m.again = *bytes == *encoded;
                    }
                }
            } else {
                (m.copy, m.once, m.twice, m.again) = (false, false, false, false);
            }
            differing[2] += turns.stored().filter(|_| blocks).map_or(0, count);
            m.values += sum.len() as u64;
            for (fits, dtype) in m.fits.iter_mut().zip([DType::BF16, DType::F16]) {
                let Some(narrow) = Storing::new(dtype).filter(|_| *fits) else { continue };
                halfway.clear();
                halfway.extend_from_slice(found);
                narrow.store(&mut halfway, &mut encoded);
                // F16 loses digits of small numbers, whatever they were rounded to before.
                let lost = |x: &f32| !x.is_finite() || stored_as == DType::F16 && x.abs() < F16_NORMAL;
                *fits = found.iter().zip(&halfway).all(|(x, r)| x == r || lost(x));
            }
            let cols = compute.cols.max(1);
            for start in (0..sum.len()).step_by(cols) {
                let off = m.off;
                let first = (panel.rows.start * compute.cols + start) as u64;
                if blocks {
                    let row = start..start + cols;
                    m.noise.add_row(
                        encoding,
                        grid,
                        first,
                        [&found[row.clone()], &sum[row.clone()], &rounded[row]],
                    );
                    m.off = m.noise.off;
                    m.place = m.noise.worst.map(|(at, _)| at);
                }
                for at in start..start + cols {
                    let (found, w, d, s, r) = (found[at], base[at], delta[at], sum[at], rounded[at]);
                    if found != r {
                        differing[0] += 1;
                        if !blocks {
                            let steps = turns.steps(
                                grid,
                                at,
                                (found - r).abs(),
                                w.abs().max(d.abs()).max(s.abs()).max(r.abs()).max(panel.left[at].abs()),
                                panel,
                            );
                            let is_off = !found.is_finite() || steps > 1.0;
                            m.off += u64::from(is_off);
                            m.far += u64::from(steps > FAR);
                            if is_off && m.place.is_none() {
                                m.place = Some(first + (at - start) as u64);
                            }
                        }
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
                    m.norm += x * x;
                    m.with_sum += x * s;
                    m.error += (x - s) * (x - s);
                    m.rounded_along += (r - w) * d;
                    m.rounding += encoding.error(s, r).powi(2);
                    m.in_turn_along += (f64::from(turns.value(at).unwrap_or(rounded[at])) - w) * d;
                }
                if m.off > off {
                    let row = m.rows;
                    m.rows_off += 1;
                    m.rows_from_to = Some((m.rows_from_to.map_or(row, |(first, _)| first), row));
                }
                m.rows += 1;
            }
        })?;
        m.in_turn = turns.are_exact();
        let rules = [true, by_twice, blocks && turns.are_many()];
        m.differing =
            differing.into_iter().zip(rules).filter(|(_, is)| *is).map(|(n, _)| n).min().unwrap_or(0);
        Ok(m)
    }
}

/// The smallest number that F16 holds with all digits.
const F16_NORMAL: f32 = 6.103_515_6e-5;

/// Steps beyond which a value is not the sum, whatever the order of the summands.
const FAR: f32 = 8.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorRef;
    use crate::plan::{Compute, Silent};
    use crate::tensor::tests::tensor;

    fn measure(base: &TensorRef, new: &TensorRef, merged: &TensorRef) -> Measured {
        let (base, merged) = (Some(base.clone()), merged.clone());
        let compute = Compute::cast(new.clone());
        Pair { name: "w", compute, base, merged, touched: true, quantised: false, through: None }
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
        assert_eq!((m.place, m.rows_off, m.rows_from_to), (Some(0), 2, Some((0, 1))));
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
