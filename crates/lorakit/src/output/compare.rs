//! Proof that a written adapter changes a model in the same way as the one it was made from.

use lorakit_linalg::{difference_norm, product_norm};
use ndarray::Array2;
use serde::Serialize;

use super::Problem;
use super::rounding::{Rounding, norm as frobenius, of_blocks, of_product};
use crate::adapter::factors::{Factors, of_linalg};
use crate::adapter::{Adapter, Module, ModuleKind};
use crate::arch::names::pairs;
use crate::plan::{Progress, go_on, in_order};
use crate::{Error, Result, TensorRef};

/// How far a module of the output is from the same module of the input.
#[derive(Debug, Clone, Serialize)]
pub struct ModuleError {
    /// Its path in the input.
    #[serde(rename = "module")]
    pub path: String,
    /// `||D' - D|| / ||D||`, Frobenius, of the delta before (`D`) and after (`D'`); 0 if every factor is the same.
    pub error: f64,
}

/// Compares two unpacked adapters module by module.
///
/// # Errors
/// `Verification` if one has a delta that the other lacks, or one that is further off than rounding explains; if values cannot be read; `Interrupted`.
pub(crate) fn compare(
    before: &Adapter,
    after: &Adapter,
    progress: &dyn Progress,
) -> Result<Vec<ModuleError>> {
    let [own, others] = [before, after].map(|adapter| paths(&adapter.modules, |module| &module.path));
    let paired = pairs(&own, &others);
    let (known, more) = paired.split_at(own.len());
    progress.begin(before.modules.iter().map(Module::factor_bytes).sum());
    let errors = in_order(known, |(module, other)| {
        go_on(progress, "anything was published")?;
        let other = other.map(|other| &after.modules[other]);
        let module = &before.modules[module.unwrap_or_default()];
        let error = match other {
            Some(other) => distance(module, other)?,
            None if norm(module)? == 0.0 => 0.0,
            None => return Err(of(&module.path, Problem::Lost)),
        };
        progress.advance(module.factor_bytes());
        Ok(ModuleError { path: module.path.clone(), error })
    })?;
    // A format may need more modules than the adapter has; they must do nothing.
    let mut more: Vec<&Module> =
        more.iter().filter_map(|(_, other)| Some(&after.modules[(*other)?])).collect();
    more.sort_by(|a, b| a.path.cmp(&b.path));
    for module in more {
        go_on(progress, "anything was published")?;
        if norm(module)? != 0.0 {
            return Err(of(&module.path, Problem::Added));
        }
    }
    same_additions(before, after)?;
    same_tensors(before, after, progress)?;
    Ok(errors)
}

fn paths<T>(parts: &[T], path: impl Fn(&T) -> &String) -> Vec<&str> {
    parts.iter().map(|part| path(part).as_str()).collect()
}

fn of(name: &str, problem: Problem) -> Error {
    Error::from(problem).tensor(name)
}

/// What is added to parameters without factors: full deltas, and biases of `B`, which are full deltas of the bias as soon
/// as they are scaled. A file may store the one as the other.
fn additions(adapter: &Adapter) -> Vec<(String, &TensorRef, f64)> {
    let deltas = adapter.deltas.iter().map(|delta| (delta.name(), &delta.tensor, 1.0));
    let bias = |module: &'_ Module| module.scale(module.rank());
    let biases =
        adapter.modules.iter().filter_map(|m| Some((format!("{}.bias", m.path), m.bias.as_ref()?, bias(m))));
    deltas.chain(biases).collect()
}

/// Every full delta must be there, up to the rounding of its dtype.
fn same_additions(before: &Adapter, after: &Adapter) -> Result<()> {
    let (own, others) = (additions(before), additions(after));
    let names = [&own, &others].map(|all| all.iter().map(|(name, ..)| name.as_str()).collect::<Vec<&str>>());
    for (mine, other) in pairs(&names[0], &names[1]) {
        let zero = |(_, tensor, _): &(String, &TensorRef, f64)| {
            Ok::<bool, Error>(tensor.values()?.iter().all(|v| *v == 0.0))
        };
        match (mine.map(|i| &own[i]), other.map(|i| &others[i])) {
            (Some(x), Some(y)) => {
                let (error, bound) = relative(x.1, y.1, (x.2, y.2))?;
                if error > bound {
                    return Err(of(&x.0, Problem::OtherValues));
                }
            }
            (Some(x), None) if !zero(x)? => return Err(of(&x.0, Problem::Lost)),
            (None, Some(y)) if !zero(y)? => return Err(of(&y.0, Problem::Added)),
            _ => {}
        }
    }
    Ok(())
}

/// Every tensor that is saved whole must be there, value for value, without NaN or infinity.
fn same_tensors(before: &Adapter, after: &Adapter, progress: &dyn Progress) -> Result<()> {
    let [own, others] = [before, after].map(|adapter| paths(&adapter.saved, |saved| &saved.name));
    let saved = pairs(&own, &others);
    let [own, others] = [before, after].map(|adapter| paths(&adapter.token_rows, |rows| &rows.path));
    let rows = pairs(&own, &others);
    let all = before.saved.iter().map(|saved| &saved.tensor);
    let all = all.chain(before.token_rows.iter().map(|rows| &rows.tensor));
    progress.begin(all.map(|tensor| tensor.info().byte_len()).sum());
    for (before, (_, other)) in before.saved.iter().zip(saved) {
        go_on(progress, "anything was published")?;
        let other = other.map(|other| &after.saved[other]);
        let other = other.ok_or_else(|| of(&before.name, Problem::Lost))?;
        same(&before.tensor, &other.tensor, &before.name)?;
        progress.advance(before.tensor.info().byte_len());
    }
    for (before, (_, other)) in before.token_rows.iter().zip(rows) {
        let other = other.map(|other| &after.token_rows[other]).filter(|other| other.rows == before.rows);
        let other = other.ok_or_else(|| of(&before.path, Problem::LostRows))?;
        same(&before.tensor, &other.tensor, &before.path)?;
        progress.advance(before.tensor.info().byte_len());
    }
    Ok(())
}

fn same(before: &TensorRef, after: &TensorRef, name: &str) -> Result<()> {
    if before.finite_values()? == after.values()? { Ok(()) } else { Err(of(name, Problem::OtherValues)) }
}

/// `||scale * B * A||`.
fn norm(module: &Module) -> Result<f64> {
    let factors = Factors::load(module)?;
    let norm = product_norm(factors.b.view(), factors.a.view());
    Ok(factors.scale.abs() * norm.map_err(|e| of_linalg(&e, &module.path))?)
}

/// `||D' - D|| / ||D||`. Magnitudes, biases and replaced weights are compared too, and the greatest distance counts.
fn distance(before: &Module, after: &Module) -> Result<f64> {
    if (before.kind == ModuleKind::Embedding) != (after.kind == ModuleKind::Embedding) {
        return Err(of(&before.path, Problem::OtherKind));
    }
    let explained = |part, error, bound| {
        if error <= bound {
            Ok(error)
        } else {
            Err(of(&before.path, Problem::OtherDelta { part, error, bound }))
        }
    };
    // A bias belongs to `B`, and is scaled with it.
    let scales = (before.scale(before.rank()), after.scale(after.rank()));
    let parts = [
        ("magnitude", &before.magnitude, &after.magnitude, (1.0, 1.0), true),
        // A bias on one side only may be a full delta on the other.
        ("bias", &before.bias, &after.bias, scales, false),
        ("weight", &before.base_weight, &after.base_weight, (1.0, 1.0), true),
    ];
    let mut worst = 0f64;
    for (part, x, y, scales, both) in parts {
        match (x, y) {
            (None, None) => {}
            (None, _) | (_, None) if !both => {}
            (Some(x), Some(y)) => {
                let (error, bound) = relative(x, y, scales)?;
                worst = worst.max(explained(part, error, bound)?);
            }
            _ => return Err(of(&before.path, Problem::OtherParts)),
        }
    }
    // Most conversions keep every byte, which is quicker to see than to compute.
    if scales.0 == scales.1 && before.a.same_values(&after.a)? && before.b.same_values(&after.b)? {
        before.a.check_finite()?;
        before.b.check_finite()?;
        return Ok(worst);
    }
    let (x, y) = (Factors::load(before)?, Factors::load(after)?);
    if (x.b.nrows(), x.a.ncols()) != (y.b.nrows(), y.a.ncols()) {
        return Err(of(&before.path, Problem::OtherShape));
    }
    if x.scale == y.scale && x.a == y.a && x.b == y.b {
        return Ok(worst);
    }
    let place = |e: lorakit_linalg::Error| of_linalg(&e, &before.path);
    let whole = x.scale.abs() * product_norm(x.b.view(), x.a.view()).map_err(place)?;
    let off = difference_norm(x.term(), y.term()).map_err(place)?;
    let rounded = |x: &Array2<f64>, y: &Array2<f64>, dtype| {
        let rounding = if x == y { Rounding::none() } else { Rounding::of(dtype) };
        let norm = frobenius(y);
        (norm, rounding.error(norm, y.len()))
    };
    let [blocks_a, blocks_b] = after.blocks;
    let b = match blocks_b {
        // One scale for the whole file is multiplied into B.
        Some(dtype) => (frobenius(&y.b), of_blocks(dtype, &(&x.b * (x.scale / y.scale)), y.b.dim())),
        None => rounded(&x.b, &y.b, after.b.info().dtype),
    };
    let a = match blocks_a {
        // A file with blocks holds an embedding's A transposed.
        Some(dtype) if after.kind == ModuleKind::Embedding => {
            let (rows, cols) = y.a.dim();
            (frobenius(&y.a), of_blocks(dtype, &x.a.t().to_owned(), (cols, rows)))
        }
        Some(dtype) => (frobenius(&y.a), of_blocks(dtype, &x.a, y.a.dim())),
        None => rounded(&x.a, &y.a, after.a.info().dtype),
    };
    let (unit, bound) = (if whole == 0.0 { 1.0 } else { whole }, of_product(y.scale, b, a));
    Ok(worst.max(explained("delta", off / unit, bound / unit)?))
}

/// `||y - x|| / ||x||`, each times its scale, and what rounding explains of it.
fn relative(before: &TensorRef, after: &TensorRef, scales: (f64, f64)) -> Result<(f64, f64)> {
    let dtype = after.info().dtype;
    let (before, after) = (before.finite_values()?, after.finite_values()?);
    if before.len() != after.len() {
        return Ok((f64::INFINITY, 0.0));
    }
    let square = |v: f64| v * v;
    let scaled = before.iter().zip(&after).map(|(x, y)| (scales.0 * f64::from(*x), scales.1 * f64::from(*y)));
    let off: f64 = scaled.clone().map(|(x, y)| square(x - y)).sum();
    let whole: f64 = scaled.map(|(x, _)| square(x)).sum::<f64>().sqrt();
    let same = scales.0 == scales.1 && before == after;
    let rounding = if same { Rounding::none() } else { Rounding::of(dtype) };
    let stored = after.iter().map(|y| square(scales.1 * f64::from(*y))).sum::<f64>().sqrt();
    let bound = rounding.error(stored, after.len()).max(scales.1.abs() * rounding.error(0.0, after.len()));
    let unit = if whole == 0.0 { 1.0 } else { whole };
    Ok((off.sqrt() / unit, bound / unit))
}

#[cfg(test)]
mod tests;
