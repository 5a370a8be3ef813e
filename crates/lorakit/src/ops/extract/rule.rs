//! How many triplets of a difference are worth keeping.

use super::difference::Measured;

/// How ranks are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// The same for every module.
    Rank(usize),
    /// The lowest that keeps this share of a module's energy, its squared norm.
    Energy(f64),
    /// What stands out from the noise that rounding to the tuned model's dtype left.
    ///
    /// In a matrix with independent errors of variance `v`, the singular values above `λ √(v max(m, n))` are worth
    /// keeping; `λ` is the hard threshold of Gavish and Donoho (2014), somewhat above the largest value of noise alone.
    /// `v` is that of rounding, or that of all the rest of the matrix if this is less: deltas below a step are
    /// swallowed rather than disturbed.
    Auto,
}

impl Rule {
    /// Triplets to compute first.
    pub(super) fn first(self) -> usize {
        match self {
            Rule::Rank(rank) => rank,
            _ => 32,
        }
    }

    /// The rank for a matrix `(rows, cols)` with the leading singular values `s`; `None` if these are too few to tell.
    pub(super) fn choose(self, s: &[f64], m: &Measured, (rows, cols): (usize, usize)) -> Option<usize> {
        let all = s.len() == rows.min(cols);
        match self {
            Rule::Rank(rank) => Some(rank.min(s.len())),
            Rule::Energy(share) => {
                let mut kept = 0.0;
                let enough = s.iter().position(|s| {
                    kept += s * s;
                    kept >= share * m.delta
                });
                enough.map(|last| last + 1).or(all.then_some(s.len()))
            }
            Rule::Auto => {
                let mut rest = m.delta;
                let noise = (0..s.len()).find(|&kept| {
                    let is_noise = s[kept] <= threshold(m, rest, kept, (rows, cols));
                    rest = (rest - s[kept] * s[kept]).max(0.0);
                    is_noise
                });
                noise.or(all.then_some(s.len()))
            }
        }
    }
}

/// The share of a matrix's energy below which a difference of sums of squares tells nothing.
const RESOLVED: f64 = 1e-14;

/// The threshold for a singular value, if `kept` are kept and `rest` is the energy of all others.
fn threshold(m: &Measured, rest: f64, kept: usize, (rows, cols): (usize, usize)) -> f64 {
    let (rows, cols, kept) = (rows as f64, cols as f64, kept as f64);
    // Each triplet takes up a row and a column of freedom.
    let rest = rest.max(RESOLVED * m.delta) / ((rows - kept) * (cols - kept));
    let variance = m.noise.map_or(rest, |noise| rest.min(noise / (rows * cols)));
    let beta = rows.min(cols) / rows.max(cols);
    let lambda =
        (2.0 * (beta + 1.0) + 8.0 * beta / (beta + 1.0 + (beta * beta + 14.0 * beta + 1.0).sqrt())).sqrt();
    lambda * (variance * rows.max(cols)).sqrt()
}

#[cfg(test)]
mod tests {
    use lorakit_linalg::random::gaussian;
    use lorakit_linalg::singular_values;
    use ndarray::Array2;

    use super::*;

    fn measured(matrix: &Array2<f64>, noise: Option<f64>) -> Measured {
        Measured { delta: matrix.iter().map(|v| v * v).sum(), base: 0.0, rounding: None, noise }
    }

    #[test]
    fn the_threshold_of_a_square_matrix_is_four_over_root_three() {
        let m = Measured { delta: 0.0, base: 0.0, rounding: None, noise: Some(10000.0) };
        assert!((threshold(&m, f64::MAX, 0, (100, 100)) - 10.0 * 4.0 / 3f64.sqrt()).abs() < 1e-9);
    }

    #[test]
    fn energy_is_that_of_the_whole_matrix() {
        let m = Measured { delta: 10.0, base: 0.0, rounding: None, noise: None };
        assert_eq!(Rule::Energy(0.9).choose(&[3.0, 0.5], &m, (9, 9)), Some(1));
        assert_eq!(Rule::Energy(0.95).choose(&[3.0, 0.5], &m, (9, 9)), None);
        assert_eq!(Rule::Energy(1.0).choose(&[3.0, 1.0], &m, (2, 9)), Some(2));
    }

    /// Eight directions in noise are found, whether its level is known or has to be estimated from the matrix.
    #[test]
    fn what_stands_out_of_noise() {
        let (rows, cols) = (120, 80);
        let noise = gaussian(rows, cols, 1) * 1e-3;
        let signal = gaussian(rows, 8, 2).dot(&gaussian(8, cols, 3)) * 1e-2;
        let known = 1e-6 * (rows * cols) as f64;
        for rounding in [None, Some(known), Some(100.0 * known)] {
            let rank = |matrix: &Array2<f64>| {
                let s = singular_values(matrix.view()).unwrap();
                Rule::Auto.choose(&s, &measured(matrix, rounding), (rows, cols))
            };
            assert_eq!((rank(&noise), rank(&(&noise + &signal))), (Some(0), Some(8)), "{rounding:?}");
        }
        // Noise above the floor of rounding is signal: a full fine-tune has no low rank.
        let s = singular_values(noise.view()).unwrap();
        let m = measured(&noise, Some(1e-4 * known));
        assert_eq!(Rule::Auto.choose(&s, &m, (rows, cols)), Some(80));
        assert_eq!(Rule::Auto.choose(&s[..40], &m, (rows, cols)), None);
    }
}
