//! The test after saving: what was written is read again, and computes what was trained.

use std::path::Path;

use lorakit_quant::{codec, encoder};
use lorakit_tensor::DType;

use super::problem::Problem;
use super::read;
use crate::base::Base;
use crate::kernel::Products;
use crate::model::Adapter;
use crate::{Error, Result};

/// How the logits of an adapter that was read again differ, at the most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reloaded {
    /// From those in memory, with factors rounded to the type of the file: 0 if it holds what was trained.
    pub off: f64,
    /// What that rounding does to the logits.
    pub rounding: f64,
    /// From those of the base alone: 0 if the adapter has no effect.
    pub effect: f64,
}

impl Reloaded {
    /// Whether the file holds what was trained, and that has an effect.
    pub fn holds(&self) -> bool {
        self.off == 0.0 && self.effect > 0.0
    }
}

/// Reads the adapter in `folder` again, and compares the logits after each of `tokens` with those of `adapter`, whose
/// factors were written as `dtype`, and with those of the base alone.
///
/// # Errors
/// If it cannot be read; [`Verification`](lorakit::ErrorKind::Verification) if it has other parts than `adapter`.
pub fn reload(
    folder: &Path,
    adapter: &Adapter<f32>,
    dtype: DType,
    base: &Base,
    tokens: &[u32],
    products: Products,
) -> Result<Reloaded> {
    let (_, read) = read(folder, base)?;
    let parts = |adapter: &Adapter<f32>| adapter.layers.iter().flatten().flatten().count();
    if parts(&read) != parts(adapter) {
        let problem = Problem::OtherParts { found: parts(&read), expected: parts(adapter) };
        return Err(Error::from(problem).at(folder));
    }
    let logits = |adapter: &Adapter<f32>| base.model.logits(adapter, tokens, 0..tokens.len(), products);
    let (found, stored) = (logits(&read), logits(&rounded(adapter, dtype)));
    let alone = logits(&Adapter::none(&base.model.shape));
    Ok(Reloaded {
        off: distance(&found, &stored),
        rounding: distance(&stored, &logits(adapter)),
        effect: distance(&found, &alone),
    })
}

/// The adapter as a file of that type holds it.
fn rounded(adapter: &Adapter<f32>, dtype: DType) -> Adapter<f32> {
    let mut rounded = adapter.clone();
    if let (Some(codec), Some(encoder)) = (codec(dtype), encoder(dtype)) {
        for factor in rounded.factors_mut() {
            let mut bytes = vec![0; factor.len() * dtype.block().bytes];
            encoder.encode(factor, &mut bytes);
            codec.decode(&bytes, factor);
        }
    }
    rounded
}

/// The largest difference; NaN if there is one.
fn distance(x: &[f32], y: &[f32]) -> f64 {
    let mut most: f64 = 0.0;
    for (x, y) in x.iter().zip(y) {
        let difference = (f64::from(*x) - f64::from(*y)).abs();
        if difference.is_nan() || difference > most {
            most = difference;
        }
    }
    most
}
