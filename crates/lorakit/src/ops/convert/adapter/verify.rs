//! Proof that a written adapter changes a model as the one it was made from.

use std::collections::HashMap;

use rayon::prelude::*;

use crate::adapter::{Adapter, Module, ModuleKind};
use crate::{Error, ErrorKind, Result, TensorRef};

/// How far a module of the output is from that of the input.
#[derive(Debug, Clone)]
pub struct ModuleError {
    /// Its path in the input.
    pub path: String,
    /// `||D' - D|| / ||D||`, Frobenius, of the delta before (`D`) and after (`D'`); 0 if every factor is the same.
    pub error: f64,
}

/// Compares two unpacked adapters module by module.
///
/// # Errors
/// [`ErrorKind::Verification`] if one has a delta that the other lacks; if values cannot be read.
pub(super) fn compare(before: &Adapter, after: &Adapter) -> Result<Vec<ModuleError>> {
    let mut by_path: HashMap<&str, &Module> = after.modules.iter().map(|m| (bare(&m.path), m)).collect();
    let mut pairs = Vec::with_capacity(before.modules.len());
    for module in &before.modules {
        match by_path.remove(bare(&module.path)) {
            Some(other) => pairs.push((module, Some(other))),
            None => pairs.push((module, None)),
        }
    }
    let errors = pairs.into_par_iter().map(|(module, other)| {
        let error = match other {
            Some(other) => distance(module, other)?,
            None if norm_sq(&load(module)?) == 0.0 => 0.0,
            None => return Err(lost(&module.path, "is not in the output")),
        };
        Ok(ModuleError { path: module.path.clone(), error })
    });
    let errors = errors.collect::<Result<Vec<_>>>()?;
    // A format may need more modules than the adapter has; they must do nothing.
    let mut more: Vec<&Module> = by_path.into_values().collect();
    more.sort_by(|a, b| a.path.cmp(&b.path));
    for module in more {
        if norm_sq(&load(module)?) != 0.0 {
            return Err(lost(
                &module.path,
                "is in the output and changes the model, and is not in the input",
            ));
        }
    }
    same_tensors(before, after)?;
    Ok(errors)
}

fn lost(name: &str, message: &str) -> Error {
    Error::new(ErrorKind::Verification, message).tensor(name)
}

/// The path without what wrappers and containers put in front.
fn bare(path: &str) -> &str {
    const PREFIXES: &[&str] =
        &["language_model.", "model.language_model.", "transformer.", "unet.", "model."];
    let stripped =
        PREFIXES.iter().filter_map(|prefix| path.strip_prefix(prefix)).min_by_key(|rest| rest.len());
    match stripped {
        Some(rest) if rest.len() < path.len() => bare(rest),
        _ => path,
    }
}

/// Whatever is saved whole must be there, value for value.
fn same_tensors(before: &Adapter, after: &Adapter) -> Result<()> {
    for saved in &before.saved {
        let other = after.saved.iter().find(|other| bare(&other.name) == bare(&saved.name));
        let other = other.ok_or_else(|| lost(&saved.name, "is not in the output"))?;
        same(&saved.tensor, &other.tensor, &saved.name)?;
    }
    for rows in &before.token_rows {
        let other = after.token_rows.iter().find(|other| bare(&other.path) == bare(&rows.path));
        let other = other.filter(|other| other.rows == rows.rows);
        let other = other.ok_or_else(|| lost(&rows.path, "has token rows that are not in the output"))?;
        same(&rows.tensor, &other.tensor, &rows.path)?;
    }
    Ok(())
}

fn same(before: &TensorRef, after: &TensorRef, name: &str) -> Result<()> {
    match before.values()? == after.values()? {
        true => Ok(()),
        false => Err(lost(name, "has other values in the output")),
    }
}

/// A delta by its factors: `scale * B * A`, with `A` as rows and `B` as columns.
struct Loaded {
    scale: f64,
    a: Vec<Vec<f64>>,
    b: Vec<Vec<f64>>,
}

fn load(module: &Module) -> Result<Loaded> {
    let (rank, inputs) = module.a.info().rows_cols();
    let (_, columns) = module.b.info().rows_cols();
    let a = finite(&module.a)?;
    let b = finite(&module.b)?;
    let rows = (0..rank).map(|i| a[i * inputs..(i + 1) * inputs].iter().map(|&v| v.into()).collect());
    let columns = (0..columns).map(|j| b.iter().skip(j).step_by(columns).map(|&v| v.into()).collect());
    Ok(Loaded { scale: module.scale(module.rank()), a: rows.collect(), b: columns.collect() })
}

fn finite(tensor: &TensorRef) -> Result<Vec<f32>> {
    let values = tensor.values()?;
    match values.iter().find(|v| !v.is_finite()) {
        None => Ok(values),
        Some(value) => {
            let error = Error::new(ErrorKind::NonFinite, format!("holds {value}"));
            Err(error.tensor(&tensor.info().name).at(tensor.path()))
        }
    }
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// `||scale * B * A||^2` by Gram matrices.
fn norm_sq(delta: &Loaded) -> f64 {
    gram(&delta.a, &delta.b) * delta.scale * delta.scale
}

fn gram(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    let rank = a.len().min(b.len());
    (0..rank).map(|i| (0..rank).map(|j| dot(&a[i], &a[j]) * dot(&b[i], &b[j])).sum::<f64>()).sum()
}

/// `||D' - D|| / ||D||`, also for DoRA and biases: of those the parts are compared one by one, and the greatest
/// distance counts.
fn distance(before: &Module, after: &Module) -> Result<f64> {
    let kinds = (before.kind == ModuleKind::Embedding, after.kind == ModuleKind::Embedding);
    if kinds.0 != kinds.1 {
        return Err(lost(&before.path, "is an embedding on one side only"));
    }
    let parts = [(&before.magnitude, &after.magnitude), (&before.bias, &after.bias)];
    let mut worst = 0f64;
    for (x, y) in parts {
        match (x, y) {
            (None, None) => {}
            (Some(x), Some(y)) => worst = worst.max(relative(&finite(x)?, &finite(y)?)),
            _ => return Err(lost(&before.path, "has magnitudes or a bias on one side only")),
        }
    }
    let (x, y) = (load(before)?, load(after)?);
    if (x.a.first().map(Vec::len), x.b.first().map(Vec::len))
        != (y.a.first().map(Vec::len), y.b.first().map(Vec::len))
    {
        return Err(lost(&before.path, "has factors of another shape in the output"));
    }
    if x.scale == y.scale && x.a == y.a && x.b == y.b {
        return Ok(worst);
    }
    let whole = norm_sq(&x);
    // The difference as one product: [s B, -s' B'] * [A; A'].
    let mut a = x.a;
    a.extend(y.a);
    let scaled = |columns: Vec<Vec<f64>>, scale: f64| -> Vec<Vec<f64>> {
        columns.into_iter().map(|column| column.into_iter().map(|v| v * scale).collect()).collect()
    };
    let mut b = scaled(x.b, x.scale);
    b.extend(scaled(y.b, -y.scale));
    let difference = gram(&a, &b).max(0.0);
    Ok(worst.max(if whole == 0.0 { difference.sqrt() } else { (difference / whole).sqrt() }))
}

fn relative(before: &[f32], after: &[f32]) -> f64 {
    if before.len() != after.len() {
        return f64::INFINITY;
    }
    let square = |v: f64| v * v;
    let off: f64 = before.iter().zip(after).map(|(x, y)| square(f64::from(*x) - f64::from(*y))).sum();
    let whole: f64 = before.iter().map(|x| square(f64::from(*x))).sum();
    if whole == 0.0 { off.sqrt() } else { (off / whole).sqrt() }
}
