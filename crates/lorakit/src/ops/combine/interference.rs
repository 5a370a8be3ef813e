//! How much adapters get in each other's way, before they are combined.

use lorakit_linalg::{inner_product, principal_angles, product_norm};
use ndarray::{Array2, Axis};

use super::input::Aligned;
use crate::Result;
use crate::adapter::factors::{Factors, of_linalg};

/// Rows of a delta whose signs are compared; evenly spaced where there are more.
const ROWS: usize = 256;

/// What two adapters do to one module. Weights are included where they matter: in signs and norms.
#[derive(Debug, Clone)]
pub struct Interference {
    /// The module.
    pub path: String,
    /// Which adapters, in the order given.
    pub pair: (usize, usize),
    /// Cosine between the weighted deltas, `<D, E> / (||D|| ||E||)`, -1 to 1.
    pub cosine: f64,
    /// Principal angles between what they write (the columns of `B`), in radians, ascending.
    pub output_angles: Vec<f64>,
    /// Principal angles between what they read (the rows of `A`), in radians, ascending.
    pub input_angles: Vec<f64>,
    /// Share of the entries that neither leaves at zero in which the weighted deltas have different signs, 0 to 1;
    /// of at most 256 rows.
    pub sign_conflict: f64,
    /// `||E|| / ||D||` of the weighted deltas, second by first; not finite if the first is zero.
    pub norm_ratio: f64,
}

impl Interference {
    /// Whether the one undoes the other.
    pub(super) fn cancels(&self) -> bool {
        const ROUNDING: f64 = 1e-9;
        self.cosine < ROUNDING - 1.0 && (self.norm_ratio - 1.0).abs() < ROUNDING
    }

    /// The share of the smaller space that lies in the larger, `mean cos²`, outputs and inputs; 0 to 1.
    pub fn overlap(&self) -> (f64, f64) {
        let of = |angles: &[f64]| {
            let sum: f64 = angles.iter().map(|angle| angle.cos().powi(2)).sum();
            if angles.is_empty() { 0.0 } else { sum / angles.len() as f64 }
        };
        (of(&self.output_angles), of(&self.input_angles))
    }
}

/// All pairs of adapters in one module. `factors` are those of `aligned`, with the weights in their scales.
pub(super) fn of_module(aligned: &Aligned, factors: &[Factors]) -> Result<Vec<Interference>> {
    let mut pairs = Vec::new();
    for i in 0..factors.len() {
        for j in i + 1..factors.len() {
            let pair = (aligned.parts[i].0, aligned.parts[j].0);
            pairs.push(of_pair(&aligned.first().path, pair, &factors[i], &factors[j])?);
        }
    }
    Ok(pairs)
}

fn of_pair(path: &str, pair: (usize, usize), x: &Factors, y: &Factors) -> Result<Interference> {
    let place = |e: lorakit_linalg::Error| of_linalg(&e, path);
    let norm = |f: &Factors| product_norm(f.b.view(), f.a.view()).map(|norm| f.scale.abs() * norm);
    let (one, two) = (norm(x).map_err(place)?, norm(y).map_err(place)?);
    let inner = inner_product(x.term(), y.term()).map_err(place)?;
    let cosine = if one * two == 0.0 { 0.0 } else { (inner / (one * two)).clamp(-1.0, 1.0) };
    Ok(Interference {
        path: path.to_string(),
        pair,
        cosine,
        output_angles: principal_angles(x.b.view(), y.b.view()).map_err(place)?,
        input_angles: principal_angles(x.a.t(), y.a.t()).map_err(place)?,
        sign_conflict: sign_conflict(x, y),
        norm_ratio: two / one,
    })
}

fn sign_conflict(x: &Factors, y: &Factors) -> f64 {
    let step = x.b.nrows().div_ceil(ROWS).max(1);
    let rows: Vec<usize> = (0..x.b.nrows()).step_by(step).collect();
    let part = |f: &Factors| -> Array2<f64> { f.scale * f.b.select(Axis(0), &rows).dot(&f.a) };
    let (mut both, mut against) = (0u64, 0u64);
    for (x, y) in part(x).iter().zip(&part(y)) {
        if *x != 0.0 && *y != 0.0 {
            both += 1;
            against += u64::from((*x > 0.0) != (*y > 0.0));
        }
    }
    if both == 0 { 0.0 } else { against as f64 / both as f64 }
}
