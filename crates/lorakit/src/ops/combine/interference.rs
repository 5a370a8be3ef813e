//! How much adapters get in each other's way, before they are combined.

use lorakit_linalg::{Coordinates, Signs, Term, compare_signs, inner_product, product_norm};
use ndarray::{Axis, Slice};

use super::input::Aligned;
use super::stack::Stack;
use crate::Result;
use crate::adapter::factors::of_linalg;

/// Rows and columns of a delta whose signs are compared; evenly spaced if there are more.
const ROWS: usize = 256;
const COLUMNS: usize = 1024;

/// What two adapters do to one module. Weights are included where they matter: in signs and norms.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Interference {
    /// The module.
    #[serde(rename = "module")]
    pub path: String,
    /// Which adapters, in the order given.
    pub pair: (usize, usize),
    /// Cosine between the weighted deltas, `<D, E> / (||D|| ||E||)`, -1 to 1.
    pub cosine: f64,
    /// Principal angles between what they write (the columns of `B`), in radians, ascending.
    pub output_angles: Vec<f64>,
    /// Principal angles between what they read (the rows of `A`), in radians, ascending.
    pub input_angles: Vec<f64>,
    /// Share of the entries in which the weighted deltas have different signs, 0 to 1. Only entries that neither leaves
    /// at zero count, in at most 256 rows and 1024 columns.
    pub sign_conflict: f64,
    /// `||E|| / ||D||` of the weighted deltas, second over first; not finite if the first is zero.
    pub norm_ratio: f64,
}

impl Interference {
    /// Whether one undoes the other.
    pub(super) fn cancels(&self) -> bool {
        const ROUNDING: f64 = 1e-9;
        self.cosine < ROUNDING - 1.0 && (self.norm_ratio - 1.0).abs() < ROUNDING
    }

    /// The share of the smaller space that is in the larger, `mean cos²`, outputs and inputs; 0 to 1.
    pub fn overlap(&self) -> (f64, f64) {
        let of = |angles: &[f64]| {
            let sum: f64 = angles.iter().map(|angle| angle.cos().powi(2)).sum();
            if angles.is_empty() { 0.0 } else { sum / angles.len() as f64 }
        };
        (of(&self.output_angles), of(&self.input_angles))
    }
}

/// All pairs of adapters in one module. Their products are those of `coordinates` times `scales`, and those of `stack`.
pub(super) fn of_module(
    aligned: &Aligned,
    stack: &Stack,
    coordinates: &Coordinates,
    scales: &[f64],
) -> Result<Vec<Interference>> {
    let mut pairs = Vec::new();
    for i in 0..scales.len() {
        for j in i + 1..scales.len() {
            let found = of_pair(stack, coordinates, scales, (i, j));
            let found = found.map_err(|e| of_linalg(&e, &aligned.first().path))?;
            let path = aligned.first().path.clone();
            let pair = (aligned.parts[i].0, aligned.parts[j].0);
            pairs.push(Interference { path, pair, ..found });
        }
    }
    Ok(pairs)
}

fn of_pair(
    stack: &Stack,
    coordinates: &Coordinates,
    scales: &[f64],
    (i, j): (usize, usize),
) -> lorakit_linalg::Result<Interference> {
    let (x, y) = (coordinates.term(i, scales[i]), coordinates.term(j, scales[j]));
    let norm = |(scale, b, a): Term<'_>| product_norm(b, a).map(|norm| scale.abs() * norm);
    let (one, two) = (norm(x)?, norm(y)?);
    let inner = inner_product(x, y)?;
    let cosine = if one * two == 0.0 { 0.0 } else { (inner / (one * two)).clamp(-1.0, 1.0) };
    let (output_angles, input_angles) = coordinates.angles(i, j)?;
    Ok(Interference {
        path: String::new(),
        pair: (i, j),
        cosine,
        output_angles,
        input_angles,
        sign_conflict: sign_conflict(stack.term(i), stack.term(j))?,
        norm_ratio: two / one,
    })
}

fn sign_conflict((s, b, a): Term<'_, f32>, (t, d, c): Term<'_, f32>) -> lorakit_linalg::Result<f64> {
    let spaced = |count: usize, most: usize| Slice::new(0, None, count.div_ceil(most).max(1) as isize);
    let (rows, columns) = (spaced(b.nrows(), ROWS), spaced(a.ncols(), COLUMNS));
    let (b, d) = (b.slice_axis(Axis(0), rows), d.slice_axis(Axis(0), rows));
    let [a, c] = [a, c].map(|a| a.slice_axis(Axis(1), columns).as_standard_layout().into_owned());
    let Signs { both, against } = compare_signs((s, b, a.view()), (t, d, c.view()))?;
    Ok(if both == 0 { 0.0 } else { against as f64 / both as f64 })
}
