//! Arithmetic on the entries of tensors that are combined place by place.
//!
//! Tensors come in consecutive runs of entries, so that a delta is never whole in memory. What depends on all its
//! entries (which are the largest, their L1 norm) is found first, in separate passes.

use lorakit_linalg::random::philox4x32;

/// Calls its argument with runs of entries in order, each with the place of its first entry.
pub(super) type Walk<'a> = &'a dyn Fn(&mut dyn FnMut(usize, &[f64]));

/// Which entries of a tensor remain, and what they are multiplied by.
#[derive(Debug)]
pub(super) struct Thinned {
    kept: Kept,
    times: f64,
}

#[derive(Debug)]
enum Kept {
    All,
    /// Magnitudes above `above`, and those equal to it up to the place `last`.
    Largest {
        above: f32,
        last: Option<usize>,
    },
    None,
    /// Each with the same probability.
    Random {
        seed: u64,
        stream: u64,
        density: f64,
    },
}

impl Thinned {
    /// All entries as they are.
    pub(super) fn all() -> Self {
        Thinned { kept: Kept::All, times: 1.0 }
    }

    /// The `count` entries of largest magnitude, compared as f32; among equal ones, the first.
    pub(super) fn largest(count: usize, walk: Walk<'_>) -> Self {
        Thinned { kept: largest(count, walk), times: 1.0 }
    }

    /// Each entry, with the probability `density`.
    pub(super) fn random(seed: u64, stream: u64, density: f64) -> Self {
        Thinned { kept: Kept::Random { seed, stream, density }, times: 1.0 }
    }

    /// The same entries, each times `times`.
    pub(super) fn times(self, times: f64) -> Self {
        Thinned { times, ..self }
    }

    /// The factor that gives the kept entries the L1 norm of all entries; mergekit's floor is 1e-7.
    pub(super) fn l1_ratio(&self, walk: Walk<'_>) -> f64 {
        let (mut before, mut after) = (0.0, 0.0);
        walk(&mut |first, values| {
            let mut kept = values.to_vec();
            self.apply(first, &mut kept);
            // One entry after the other: the sum of sums would depend on the length of runs, and its last bit decides
            // the sign of what cancels.
            for (value, kept) in values.iter().zip(kept) {
                (before, after) = (before + value.abs(), after + kept.abs());
            }
        });
        if before < 1e-7 || after < 1e-7 { 1.0 } else { before / after }
    }

    pub(super) fn apply(&self, first: usize, values: &mut [f64]) {
        match &self.kept {
            Kept::All => {}
            Kept::None => values.fill(0.0),
            Kept::Largest { above, last } => {
                for (i, value) in values.iter_mut().enumerate() {
                    let magnitude = value.abs() as f32;
                    let tie = magnitude == *above && last.is_some_and(|last| first + i <= last);
                    if !(magnitude > *above || tie) {
                        *value = 0.0;
                    }
                }
            }
            Kept::Random { seed, stream, density } => {
                let mut block = (u64::MAX, [0; 4]);
                for (i, value) in values.iter_mut().enumerate() {
                    let place = (first + i) as u64;
                    if block.0 != place / 4 {
                        block = (place / 4, words(*seed, *stream, place / 4));
                    }
                    let uniform = f64::from(block.1[(place % 4) as usize]) / 4_294_967_296.0;
                    *value = if uniform < *density { *value * self.times } else { 0.0 };
                }
            }
        }
    }
}

/// Four random words that depend only on the seed, the tensor and the place.
fn words(seed: u64, stream: u64, block: u64) -> [u32; 4] {
    let [low, high] = [block as u32, (block >> 32) as u32];
    philox4x32([low, high, stream as u32, (stream >> 32) as u32], [seed as u32, (seed >> 32) as u32])
}

/// See [`Thinned::largest`]. The smallest of them is found by its bits, the upper half in one pass and the lower in
/// another.
fn largest(count: usize, walk: Walk<'_>) -> Kept {
    const HALF: usize = 1 << 16;
    if count == 0 {
        return Kept::None;
    }
    let bits = |value: &f64| (value.abs() as f32).to_bits() as usize;
    // The digit at which that many are reached from above, and how many of it are wanted.
    let descend = |histogram: &[usize], wanted: usize| {
        let mut above = 0;
        for (digit, &here) in histogram.iter().enumerate().rev() {
            if above + here >= wanted {
                return (digit, wanted - above, here);
            }
            above += here;
        }
        (0, 0, 0)
    };
    let mut histogram = vec![0; HALF];
    walk(&mut |_, values| values.iter().for_each(|v| histogram[bits(v) >> 16] += 1));
    let (upper, wanted, _) = descend(&histogram, count);
    histogram.fill(0);
    walk(&mut |_, values| {
        values.iter().map(bits).filter(|b| b >> 16 == upper).for_each(|b| histogram[b & (HALF - 1)] += 1);
    });
    let (lower, wanted, there) = descend(&histogram, wanted);
    let least = upper << 16 | lower;
    let above = f32::from_bits(least as u32);
    if wanted == there {
        return Kept::Largest { above, last: Some(usize::MAX) };
    }
    let (mut last, mut seen) = (None, 0);
    walk(&mut |first, values| {
        for (i, value) in values.iter().enumerate() {
            if bits(value) == least && seen < wanted {
                (last, seen) = (Some(first + i), seen + 1);
            }
        }
    });
    Kept::Largest { above, last }
}

#[cfg(test)]
mod tests;
