//! What the values of one module show, computed once for norms, spectra and the findings on strength.

use lorakit_linalg::random::philox4x32;
use lorakit_linalg::{from_f32, product_singular_values, rank};
use ndarray::Array1;

/// Numbers about `scale * B * A`.
#[derive(Debug, Clone)]
pub(super) struct Traits {
    /// Its singular values, descending.
    pub values: Vec<f64>,
    /// Its Frobenius norm.
    pub norm: f64,
    /// `(out, r, in)`.
    pub shape: (usize, usize, usize),
    /// How many output rows carry its energy: `(sum e)^2 / sum e^2` of the rows' energies `e`, which is the number of
    /// rows if all are alike, and 1 if one has everything.
    pub rows: f64,
    /// The fewest rows that hold half of the energy.
    pub half: usize,
    /// The root mean square of `A` divided by that of `B`.
    pub balance: f64,
    /// `|u^T B A v|` in units of its norm, for some pairs of vectors of signs: what copies have in common whatever their
    /// scale, and other matrices of the shape have not. Each is about 1.
    pub seen: [f64; VIEWS],
}

/// Pairs of vectors that a delta is seen through.
pub(super) const VIEWS: usize = 6;

impl Traits {
    /// From the values of `A (r, in)` and `B (out, r)`, finite.
    ///
    /// # Errors
    /// If the decomposition does not converge.
    pub(super) fn of(
        scale: f64,
        (r, inputs, a): (usize, usize, &[f32]),
        (outputs, b): (usize, &[f32]),
    ) -> lorakit_linalg::Result<Self> {
        let scale = scale.abs();
        let square = |values: &[f32]| values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        let balance = ((square(a) / a.len() as f64) / (square(b) / b.len() as f64)).sqrt();
        let (a, b) = (from_f32(r, inputs, a)?, from_f32(outputs, r, b)?);
        let seen = std::array::from_fn(|view| {
            let from = Array1::from_shape_fn(inputs, |input| sign(input, view));
            let to = Array1::from_shape_fn(outputs, |output| sign(output, VIEWS + view));
            (to.dot(&b).dot(&a.dot(&from)) * scale).abs()
        });
        let values: Vec<f64> =
            product_singular_values(b.view(), a.view())?.into_iter().map(|v| v * scale).collect();
        // The energy of row `i` of `B A` is `b_i (A A^T) b_i^T`.
        let gram = a.dot(&a.t());
        let mut energies: Vec<f64> =
            b.dot(&gram).rows().into_iter().zip(b.rows()).map(|(x, y)| x.dot(&y).max(0.0)).collect();
        energies.sort_by(|x, y| y.total_cmp(x));
        let total: f64 = energies.iter().sum();
        let squares: f64 = energies.iter().map(|e| e * e).sum();
        let mut sum = 0.0;
        let half = energies.iter().take_while(|e| {
            let before = sum;
            sum += **e;
            before < total / 2.0
        });
        let norm = values.iter().map(|v| v * v).sum::<f64>().sqrt();
        Ok(Traits {
            norm,
            seen: seen.map(|seen: f64| seen / norm),
            shape: (outputs, r, inputs),
            half: half.count(),
            rows: if squares > 0.0 { total * total / squares } else { 0.0 },
            balance,
            values,
        })
    }

    /// How many directions it can have.
    pub(super) fn directions(&self) -> usize {
        let (outputs, r, inputs) = self.shape;
        r.min(outputs).min(inputs)
    }

    /// The share of the energy in the strongest direction.
    pub(super) fn first(&self) -> f64 {
        self.values.first().map_or(0.0, |value| (value / self.norm).powi(2))
    }

    /// How far the spectrum is from flat: 0 if all directions are equally strong, nearly 1 if one dominates many.
    pub(super) fn slope(&self) -> f64 {
        1.0 - rank::effective(&self.values) / self.directions() as f64
    }

    /// [`Self::slope`] of a product of two matrices of independent noise in this shape. A fit to simulated products of
    /// ranks 4 to 16 in sides of 64 to 1536, good to a third.
    pub(super) fn slope_of_noise(&self) -> f64 {
        let (outputs, r, inputs) = self.shape;
        0.14 * r as f64 * (1.0 / outputs as f64 + 1.0 / inputs as f64)
    }
}

/// One of the random signs that a place has.
fn sign(place: usize, which: usize) -> f64 {
    let [bits, ..] = philox4x32([place as u32, (place >> 32) as u32, 0, 0], [0; 2]);
    if (bits >> which) & 1 == 0 { 1.0 } else { -1.0 }
}

#[cfg(test)]
mod tests {
    use lorakit_linalg::random::gaussian;

    use super::*;

    #[test]
    fn rows_and_directions() {
        // Two rows of three, equally strong, in one direction each.
        let (a, b) = ([1.0, 0.0, 0.0, 1.0], [2.0, 0.0, 0.0, 2.0, 0.0, 0.0]);
        let traits = Traits::of(-0.5, (2, 2, &a), (3, &b)).unwrap();
        assert_eq!(traits.values, [1.0, 1.0]);
        assert!((traits.norm - 2f64.sqrt()).abs() < 1e-15 && (traits.first() - 0.5).abs() < 1e-15);
        assert_eq!((traits.rows, traits.half, traits.directions()), (2.0, 1, 2));
        assert!(traits.slope().abs() < 1e-15);
        assert!((traits.balance - (0.5f64 / (8.0 / 6.0)).sqrt()).abs() < 1e-15);
    }

    #[test]
    fn the_slope_of_noise_is_that_of_noise() {
        for (outputs, r, inputs) in [(64, 4, 64), (64, 8, 64), (192, 16, 576), (1536, 16, 576)] {
            let noise = |rows, cols, seed| -> Vec<f32> {
                gaussian(rows, cols, seed).iter().map(|v| *v as f32).collect()
            };
            let (a, b) = (noise(r, inputs, 1), noise(outputs, r, 2));
            let traits = Traits::of(1.0, (r, inputs, &a), (outputs, &b)).unwrap();
            let ratio = traits.slope() / traits.slope_of_noise();
            assert!((0.4..1.5).contains(&ratio), "{outputs} {r} {inputs}: {ratio}");
        }
    }
}
