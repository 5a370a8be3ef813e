//! OFT (Qiu et al. 2023): inputs are rotated block by block, `x R`; for a weight, `W R^T`.
//!
//! The rotation of a block is the Cayley transform `(I - Q) (I + Q)^-1` of a skew-symmetric matrix, or the first terms of
//! its Neumann series.

use super::interface::{Layer, Method};
use crate::TensorRef;
use crate::adapter::format::assemble::{Outcome, fault};
use crate::adapter::{Adapter, Multiplied, Multiplier};

pub(super) struct Oft;

/// Terms of the Neumann series that a configuration may ask for; PEFT takes 5.
const TERMS: (u64, &str) = (1000, "a whole number from 1 to 1000");
const LINEAR: &str = "oft_R";
const EMBEDDING: &str = "oft_embedding_R";

impl Method for Oft {
    fn peft_type(&self) -> &'static str {
        "OFT"
    }

    fn name(&self) -> &'static str {
        "OFT"
    }

    fn read_as(&self) -> &'static str {
        "rotations of inputs, which only a merge can apply"
    }

    fn marks(&self) -> &'static [&'static str] {
        &[LINEAR, EMBEDDING]
    }

    fn read(&self, layer: &Layer<'_>, adapter: &mut Adapter) -> Outcome<()> {
        let settings = layer.settings;
        let refuse = |message: &str| Err(fault("foreign-method", message));
        if settings.get("oft_block_size").is_none() {
            return refuse(
                "is an OFT of PEFT before 0.14, whose rotations are others; PEFT refuses it as well",
            );
        }
        if settings.get("use_cayley_neumann").is_none() {
            return refuse("is an OFT whose configuration does not say `use_cayley_neumann`");
        }
        let neumann = settings.flag("use_cayley_neumann")?;
        if neumann && adapter.config.peft_version.is_none() {
            return refuse("is an OFT with the Neumann series of PEFT before 0.18, which were others");
        }
        let embedding = layer.place(LINEAR).is_none();
        if !embedding && layer.place(EMBEDDING).is_some() {
            return Err(fault("repeated-key", format!("has `{LINEAR}` and `{EMBEDDING}`")));
        }
        let tensor = layer.need(if embedding { EMBEDDING } else { LINEAR })?;
        let &[blocks, elements] = tensor.info().shape.as_slice() else {
            let message =
                format!("has rotations of shape {:?}, which are not rows of angles", tensor.info().shape);
            return Err(fault("shape", message));
        };
        let Some(size) = (2..=elements + 1).find(|size| size * (size - 1) / 2 >= elements) else {
            return Err(fault("shape", "has rotations of no size"));
        };
        if size * (size - 1) / 2 != elements {
            let message =
                format!("has {elements} values for each block, which are not a skew-symmetric matrix");
            return Err(fault("shape", message));
        }
        let eps = settings.number("eps", 6e-5)? / (blocks as f64).sqrt();
        let terms = settings.count("num_cayley_neumann_terms", TERMS, 5)? as usize;
        let cayley = Cayley {
            size,
            terms: neumann.then_some(terms),
            most: settings.flag("coft")?.then_some(eps),
            turned: !embedding,
        };
        let shape = vec![blocks, size, size];
        let rotations = TensorRef::computed(vec![tensor], shape, move |given, block, out| {
            let angles = &given[0][block * elements..][..elements];
            out.iter_mut().zip(cayley.rotation(angles)).for_each(|(out, value)| *out = value as f32);
        })?;
        let by = if settings.flag("block_share")? {
            Multiplier::SharedBlock(rotations)
        } else {
            Multiplier::Blocks(rotations)
        };
        adapter.multiplied.push(Multiplied { path: layer.path.to_string(), method: self.name(), by });
        Ok(())
    }

    fn is_low_rank(&self) -> bool {
        false
    }
}

/// How a block's rotation follows from its angles.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cayley {
    pub(super) size: usize,
    /// Terms of the Neumann series; the transform itself if `None`.
    pub(super) terms: Option<usize>,
    /// The largest norm of the skew-symmetric matrix (COFT).
    pub(super) most: Option<f64>,
    /// Whether the transpose is wanted.
    pub(super) turned: bool,
}

impl Cayley {
    /// The matrix by which rows are multiplied from the right, row-major.
    pub(super) fn rotation(self, angles: &[f32]) -> Vec<f64> {
        let n = self.size;
        let mut q = vec![0.0; n * n];
        let places = (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j)));
        for ((i, j), angle) in places.zip(angles) {
            q[i * n + j] = f64::from(*angle);
            q[j * n + i] = -f64::from(*angle);
        }
        let norm = q.iter().map(|value| value * value).sum::<f64>().sqrt();
        if let Some(most) = self.most.filter(|most| norm > *most) {
            q.iter_mut().for_each(|value| *value *= most / norm);
        }
        let rotation = match self.terms {
            Some(terms) => neumann(&q, n, terms),
            None => transform(&q, n),
        };
        if self.turned { transposed(&rotation, n) } else { rotation }
    }
}

/// `I + 2 Q + 2 Q^2 + ... + Q^last`, in PEFT's order.
fn neumann(q: &[f64], n: usize, terms: usize) -> Vec<f64> {
    let mut sum = identity(n);
    let mut add = |power: &[f64], times: f64| sum.iter_mut().zip(power).for_each(|(s, p)| *s += times * p);
    if terms > 1 {
        add(q, 2.0);
    }
    if terms > 2 {
        let mut power = product(q, q, n);
        add(&power, 2.0);
        for _ in 3..terms - 1 {
            power = product(&power, q, n);
            add(&power, 2.0);
        }
        add(&product(&power, q, n), 1.0);
    }
    sum
}

/// `(I - Q) (I + Q)^-1`. `I + Q` is never singular, since the eigenvalues of Q are imaginary.
fn transform(q: &[f64], n: usize) -> Vec<f64> {
    // Both are transposed, so that rows of `left` are eliminated: (I + Q)^T X^T = (I - Q)^T, and Q^T = -Q.
    let part = |sign: f64| -> Vec<f64> { identity(n).iter().zip(q).map(|(i, q)| i + sign * q).collect() };
    let (mut left, mut right) = (part(-1.0), part(1.0));
    for column in 0..n {
        let pivot =
            (column..n).max_by(|x, y| left[x * n + column].abs().total_cmp(&left[y * n + column].abs()));
        let pivot = pivot.unwrap_or(column);
        for k in 0..n {
            left.swap(column * n + k, pivot * n + k);
            right.swap(column * n + k, pivot * n + k);
        }
        let inverse = 1.0 / left[column * n + column];
        for row in (0..n).filter(|row| *row != column) {
            let factor = left[row * n + column] * inverse;
            for k in 0..n {
                left[row * n + k] -= factor * left[column * n + k];
                right[row * n + k] -= factor * right[column * n + k];
            }
        }
    }
    for row in 0..n {
        let inverse = 1.0 / left[row * n + row];
        right[row * n..(row + 1) * n].iter_mut().for_each(|value| *value *= inverse);
    }
    transposed(&right, n)
}

fn identity(n: usize) -> Vec<f64> {
    (0..n * n).map(|at| if at / n == at % n { 1.0 } else { 0.0 }).collect()
}

fn product(x: &[f64], y: &[f64], n: usize) -> Vec<f64> {
    let mut out = vec![0.0; n * n];
    for (row, x) in out.chunks_exact_mut(n).zip(x.chunks_exact(n)) {
        for (x, y) in x.iter().zip(y.chunks_exact(n)) {
            row.iter_mut().zip(y).for_each(|(out, y)| *out += x * y);
        }
    }
    out
}

fn transposed(x: &[f64], n: usize) -> Vec<f64> {
    (0..n * n).map(|at| x[at % n * n + at / n]).collect()
}
