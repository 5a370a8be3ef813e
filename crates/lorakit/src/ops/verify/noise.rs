//! What encoding into blocks leaves of a sum, and whether a tensor is further from the sum than that.
//!
//! Every error is measured next to that of the sum encoded here: in runs of 32 values, which share a scale in nearly
//! every format, in rows, and in the whole tensor. What an importance matrix adds was measured with llama.cpp's
//! `llama-quantize` on a model with weights like real ones and importances of three kinds: squares of normal numbers,
//! `exp(2.5 x)` of such numbers, and one column in a hundred that counts 10,000 times.

use lorakit_tensor::DType;

use super::step::step;

/// Values that have one scale in nearly every block format, and those that have one in K-quants.
const RUN: usize = 32;
const BLOCK: usize = 256;

/// How the values of a tensor are encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) enum Encoding {
    /// One by one.
    #[default]
    Values,
    /// As every program encodes them.
    Alike,
    /// With an importance matrix, perhaps.
    Weighted,
    /// By nothing that is known here; the usual error, relative to the values.
    Unknown(f64),
}

impl Encoding {
    /// The error of a type that nothing here encodes: twice what the bits could come to for normal numbers. With the
    /// importances above, it was 1.7 times that (IQ1_S) to 2.2 times (IQ3_XXS).
    pub(super) fn unknown(dtype: DType, packed: bool) -> Self {
        // Float8 with scales that are not written here: half of its four-bit mantissa's last digit, uniformly.
        const PACKED: f64 = 0.03;
        let block = dtype.block();
        let bits = 8.0 * block.bytes as f64 / block.elements.max(1) as f64;
        Encoding::Unknown(if packed { PACKED } else { 2.0 * (-bits).exp2() })
    }

    /// How many times the error of the sum encoded here that of a run may be, that of a row, and that of a tensor.
    ///
    /// Where every program encodes alike, only the sum may be another kernel's: a code or a scale goes up or down by one.
    /// Importances came to 16.0 times in a run, 2.8 times in a row and 1.37 times in a tensor (Q5_0; else 1.23). The run of
    /// a row that was exchanged is 9 (Q3_K) to 80 (Q6_K) times as far away, its row 4.7 (Q2_K) and more.
    fn most(self) -> [f64; 3] {
        match self {
            Encoding::Values | Encoding::Alike => [4.0, 2.0, 1.01],
            Encoding::Weighted => [16.0, 4.0, 1.4],
            Encoding::Unknown(_) => [16.0, 2.5, 1.4],
        }
    }

    /// How many times that of the sum encoded here the error of a tensor may be.
    pub(super) fn most_of_tensor(self) -> f64 {
        self.most()[2]
    }

    /// Whether another encoder may have made another choice.
    pub(super) fn is_free(self) -> bool {
        matches!(self, Encoding::Weighted | Encoding::Unknown(_))
    }

    /// What encoding here leaves of one value.
    pub(super) fn error(self, sum: f64, rounded: f64) -> f64 {
        if let Encoding::Unknown(share) = self { share * sum } else { rounded - sum }
    }
}

/// Sums over runs and rows of one tensor.
#[derive(Debug, Clone, Default)]
pub(super) struct Noise {
    /// What a factor for each run of values would explain of `<M - S, M - S>`.
    pub(super) scaled_runs: f64,
    /// Number of runs.
    pub(super) runs: u64,
    /// Values in runs and rows that are too far from the sum.
    pub(super) off: u64,
    /// The value in the worst of them that is furthest away, with how many times too far that is.
    pub(super) worst: Option<(u64, f64)>,
}

/// Errors of some values, squared: the merged model's, and that of the sum encoded here; and the room for the order of
/// summands.
#[derive(Clone, Copy, Default)]
struct Errors {
    found: f64,
    own: f64,
    room: f64,
}

impl Errors {
    /// How many times more than `most` times its own error this is.
    fn excess(self, own: f64, most: f64) -> f64 {
        let allowed = most * own.sqrt() + self.room.sqrt();
        if self.found <= allowed * allowed { 0.0 } else { self.found.sqrt() / allowed.max(f64::MIN_POSITIVE) }
    }
}

impl Noise {
    /// Adds a row whose first value is value `start` of the tensor; `rounded` is the sum encoded here, `grid` the dtype it
    /// was computed in.
    pub(super) fn add_row(
        &mut self,
        encoding: Encoding,
        grid: DType,
        start: u64,
        [found, sum, rounded]: [&[f32]; 3],
    ) {
        let [of_run, of_row, _] = encoding.most();
        let (mut row, mut off) = (Errors::default(), 0);
        for block in (0..sum.len()).step_by(BLOCK) {
            let end = (block + BLOCK).min(sum.len());
            let mut runs = [Errors::default(); BLOCK / RUN];
            for (run, errors) in (block..end).step_by(RUN).zip(&mut runs) {
                let place = run..(run + RUN).min(end);
                *errors =
                    self.run(encoding, grid, [&found[place.clone()], &sum[place.clone()], &rounded[place]]);
                row = Errors {
                    found: row.found + errors.found,
                    own: row.own + errors.own,
                    room: row.room + errors.room,
                };
            }
            let count = (end - block).div_ceil(RUN);
            // A run may be encoded with next to no error by chance.
            let usual = runs[..count].iter().map(|errors| errors.own).sum::<f64>() / count as f64 / 4.0;
            for (at, errors) in runs[..count].iter().enumerate() {
                let place = block + at * RUN..(block + (at + 1) * RUN).min(end);
                let excess = errors.excess(errors.own.max(usual), of_run);
                if excess > 0.0 {
                    off += place.len() as u64;
                    self.blame(excess, start, place, found, sum);
                }
            }
        }
        let excess = row.excess(row.own, of_row);
        if excess > 0.0 {
            off = sum.len() as u64;
            self.blame(excess, start, 0..sum.len(), found, sum);
        }
        self.off += off;
    }

    fn run(&mut self, encoding: Encoding, grid: DType, [found, sum, rounded]: [&[f32]; 3]) -> Errors {
        let (mut errors, mut along, mut square) = (Errors::default(), 0.0, 0.0);
        for ((x, s), r) in found.iter().zip(sum).zip(rounded).filter(|((x, _), _)| x.is_finite()) {
            let room = f64::from(step(grid, *s));
            let (x, s, r) = (f64::from(*x), f64::from(*s), f64::from(*r));
            errors.found += (x - s) * (x - s);
            errors.own += encoding.error(s, r).powi(2);
            errors.room += room * room;
            along += (x - s) * s;
            square += s * s;
        }
        self.runs += 1;
        self.scaled_runs += if square > 0.0 { along * along / square } else { 0.0 };
        errors
    }

    /// Notes that the values of a row in `place` are too far away.
    fn blame(&mut self, excess: f64, start: u64, place: std::ops::Range<usize>, found: &[f32], sum: &[f32]) {
        if self.worst.is_some_and(|(_, worst)| worst >= excess) {
            return;
        }
        let far = |at: &usize| (found[*at] - sum[*at]).abs();
        let furthest = place.max_by(|a, b| far(a).total_cmp(&far(b)));
        self.worst = furthest.map(|at| (start + at as u64, excess));
    }
}

#[cfg(test)]
mod tests {
    use super::super::storing::Storing;
    use super::*;

    fn values(seed: usize, scale: f32) -> Vec<f32> {
        (0..512).map(|i| (((i * 7919 + seed * 104_729) % 1009) as f32 / 504.0 - 1.0) * scale).collect()
    }

    fn noise(dtype: DType, encoding: Encoding, found: &[f32], sum: &[f32]) -> Noise {
        let (mut rounded, mut bytes) = (sum.to_vec(), Vec::new());
        Storing::new(dtype).unwrap().store(&mut rounded, &mut bytes);
        let mut noise = Noise::default();
        noise.add_row(encoding, DType::F32, 512, [found, sum, &rounded]);
        noise
    }

    /// What an importance matrix leaves is within the bounds.
    #[test]
    fn what_importances_leave() {
        for dtype in [DType::Q5_0, DType::Q4_K, DType::Q6_K, DType::IQ4_XS] {
            let importance: Vec<f32> = values(3, 2.5).into_iter().map(f32::exp).collect();
            let encoder = lorakit_quant::encoder(dtype).unwrap();
            let (mut all, mut own) = (0.0, 0.0);
            for row in 0..16 {
                let sum = values(row, 1.0);
                let (mut found, mut rounded, mut bytes) = (sum.clone(), sum.clone(), Vec::new());
                Storing::new(dtype).unwrap().store(&mut rounded, &mut bytes);
                encoder.encode_weighted(&sum, &importance, &mut bytes);
                lorakit_quant::codec(dtype).unwrap().decode(&bytes, &mut found);
                let noise = noise(dtype, Encoding::Weighted, &found, &sum);
                assert_eq!(noise.off, 0, "{dtype} {row} {noise:?}");
                let error =
                    |of: &[f32]| of.iter().zip(&sum).map(|(x, s)| f64::from(x - s).powi(2)).sum::<f64>();
                (all, own) = (all + error(&found), own + error(&rounded));
            }
            let times = (all / own).sqrt();
            assert!(times != 1.0 && times < Encoding::Weighted.most_of_tensor(), "{dtype} {times}");
        }
    }

    /// A value, a run and a row that are something else are found wherever the sum itself is not.
    #[test]
    fn what_is_no_noise() {
        let sum = values(1, 1.0);
        for (dtype, encoding) in [
            (DType::Q8_0, Encoding::Alike),
            (DType::Q6_K, Encoding::Weighted),
            (DType::Q4_K, Encoding::Weighted),
            (DType::Q3_K, Encoding::Weighted),
        ] {
            let stored = |sum: &[f32]| {
                let (mut found, mut bytes) = (sum.to_vec(), Vec::new());
                Storing::new(dtype).unwrap().store(&mut found, &mut bytes);
                noise(dtype, encoding, &found, &self::values(1, 1.0))
            };
            assert_eq!((stored(&sum).off, stored(&sum).worst), (0, None), "{dtype}");
            let mut spoiled = sum.clone();
            spoiled[300] += 12.0;
            let found = stored(&spoiled);
            assert!(found.off >= 32 && found.worst.unwrap().0 == 512 + 300, "{dtype} {found:?}");
            let exchanged = stored(&values(2, 1.0));
            assert_eq!(exchanged.off, 512, "{dtype} {exchanged:?}");
        }
    }
}
