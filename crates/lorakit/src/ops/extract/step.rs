//! The steps that rounding to a float dtype left values on.

use std::ops::Range;

use lorakit_tensor::DType;

use crate::tensor::step;
use crate::{Result, TensorRef};

/// The distance between neighbouring values of a float dtype.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    stored: DType,
    /// A coarser dtype that has all values too, or the same.
    pub(super) seen: DType,
}

impl Step {
    /// Those of `dtype`; `None` if it is not of floats.
    pub(super) fn of(dtype: DType) -> Option<Self> {
        matches!(dtype, DType::F16 | DType::BF16 | DType::F32).then_some(Step { stored: dtype, seen: dtype })
    }

    /// Whether values of `dtype` may be stored in this one without another rounding: all, or (BF16 in F16) all but tiny
    /// and huge ones.
    fn contains(self, dtype: DType) -> bool {
        bits(dtype) < bits(self.stored)
    }

    /// The coarsest steps that have all of these values of `tensor`, of which `piece` are read at a time.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(super) fn seen(self, tensor: &TensorRef, values: Range<usize>, piece: usize) -> Result<Self> {
        let mut coarser: Vec<DType> =
            [DType::BF16, DType::F16].into_iter().filter(|&d| self.contains(d)).collect();
        let mut room = vec![0f32; piece.min(values.len())];
        for start in values.clone().step_by(piece.max(1)) {
            if coarser.is_empty() {
                break;
            }
            let end = (start + piece).min(values.end);
            let room = &mut room[..end - start];
            tensor.decode(start as u64..end as u64, room)?;
            coarser.retain(|&dtype| holds(dtype, room));
        }
        Ok(coarser.first().map_or(self, |&dtype| self.seen_as(dtype)))
    }

    fn seen_as(self, seen: DType) -> Self {
        Step { seen, ..self }
    }

    /// How much more than the energy of one rounding a tuned weight of these steps may have seen: for sixteen bits, that
    /// of the base or the delta; for F32, also those of the sums and products before.
    pub(super) fn slack(self) -> f64 {
        if self.seen == DType::F32 { 16.0 } else { 2.0 }
    }

    /// The energy of a rounding to these steps and one to those of `base`, relative to the former; 0 if the latter are
    /// no coarser.
    pub(super) fn coarser(self, base: Step) -> f64 {
        match bits(self.seen).saturating_sub(bits(base.seen)) {
            0 => 0.0,
            bits => 1.0 + 4f64.powi(bits as i32),
        }
    }

    /// The range of errors from rounding to `t`. A change that left a value `w` as it was is an error itself, and in a
    /// row where changes are `typical`, it is no larger than these.
    pub(super) fn reach(self, w: f32, t: f32, typical: f64) -> f64 {
        let size = self.size(t);
        if w == t { size.min(12f64.sqrt() * typical) } else { size }
    }

    /// The step at `value`.
    pub(super) fn size(self, value: f32) -> f64 {
        step(self.stored, value).max(step(self.seen, value))
    }
}

/// Stored bits of a significand.
fn bits(dtype: DType) -> u32 {
    match dtype {
        DType::BF16 => 7,
        DType::F16 => 10,
        _ => 23,
    }
}

/// The largest number of F16.
const LARGEST_F16: f32 = 65504.0;

/// Whether `dtype`, BF16 or F16, has all of these values.
fn holds(dtype: DType, values: &[f32]) -> bool {
    if dtype == DType::BF16 {
        return values.iter().all(|value| value.to_bits() & 0xffff == 0);
    }
    let is_multiple = |value: f32| (f64::from(value) / step(dtype, value)).fract() == 0.0;
    values.iter().all(|&value| value.abs() <= LARGEST_F16 && is_multiple(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps() {
        let size = |dtype, value| Step::of(dtype).map(|step| step.size(value));
        assert_eq!(size(DType::BF16, 1.5), Some(1.0 / 128.0));
        assert_eq!(size(DType::F16, -4.0), Some(4.0 / 1024.0));
        assert_eq!(size(DType::F16, 0.0), Some(2f64.powi(-24)));
        assert_eq!(size(DType::Q8_0, 1.0), None);
        let tiny = Step::of(DType::F16).unwrap().seen_as(DType::BF16);
        assert_eq!((tiny.size(1.5), tiny.size(1e-6)), (1.0 / 128.0, 2f64.powi(-24)));
        let step = Step::of(DType::BF16).unwrap();
        assert_eq!((step.reach(1.0, 1.5, 1e-9), step.reach(1.5, 1.5, 1.0)), (1.0 / 128.0, 1.0 / 128.0));
        assert_eq!(step.reach(1.5, 1.5, 1e-3), 12f64.sqrt() * 1e-3);
    }
}
