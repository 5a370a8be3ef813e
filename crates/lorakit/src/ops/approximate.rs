//! The best low-rank approximation of deltas that have no small factors: DoRA's, and products of a higher rank than
//! wanted.

use std::collections::HashMap;

use lorakit_linalg::projection_residual;
use ndarray::{Array2, ArrayView2, Axis as Dimension};

use crate::adapter::factors::{Factors, matrix};
use crate::adapter::{Adapter, Module};
use crate::fit::{self, Change, Edit, FitOptions, Resolver};
use crate::ops::Problem;
use crate::ops::panels::{EachPanel, PANEL, Panels, Told, leading, norm};
use crate::ops::truncate::{self, Truncated};
use crate::plan::{Axis, LowRank, Progress, Stretch, go_on, in_order};
use crate::tensor::Shelf;
use crate::{Error, Model, Result, TensorRef};

/// Vectors beyond the rank of the randomised decomposition.
const OVERSAMPLING: usize = 10;

/// How well a module was approximated.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Approximated {
    /// Its path.
    #[serde(rename = "module")]
    pub path: String,
    /// The rank of its delta before; the smaller dimension if the rank is not known.
    pub rank_before: usize,
    /// The rank after.
    pub rank: usize,
    /// `||D' - D|| / ||D||`, Frobenius.
    pub error: f64,
    /// `||D||`.
    pub norm: f64,
}

/// The error of all modules together, relative to the norm of all their deltas.
pub fn overall_error(modules: &[Approximated]) -> f64 {
    truncate::overall_error(modules.iter().map(|m| (m.error, m.norm)))
}

/// Replaces the factors of each module that `chosen` picks with the best ones of rank `rank`, which go on the shelf.
///
/// # Errors
/// If factors cannot be read; [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted).
pub(crate) fn truncate(
    adapter: &mut Adapter,
    rank: usize,
    chosen: impl Fn(&Module) -> bool + Sync,
    (shelf, progress): (&Shelf, &dyn Progress),
) -> Result<Vec<Approximated>> {
    let wanted = |module: &Module| chosen(module) && module.rank() > rank;
    progress.begin(adapter.modules.iter().filter(|m| wanted(m)).map(Module::factor_bytes).sum());
    let truncated = |module: &mut Module| -> Result<Option<Approximated>> {
        if !wanted(module) {
            return Ok(None);
        }
        go_on(progress, "anything was written")?;
        let factors = Factors::load(module)?;
        let rank_before = module.rank();
        let bytes = module.factor_bytes();
        let Truncated { module: nearest, error, norm, .. } =
            truncate::truncate(module, &factors, (module.dtype(), shelf), |_| rank)?;
        *module = nearest;
        progress.advance(bytes);
        let path = module.path.clone();
        Ok(Some(Approximated { path, rank_before, rank: module.rank(), error, norm }))
    };
    let done = in_order(&mut adapter.modules, truncated)?;
    Ok(done.into_iter().flatten().collect())
}

/// Replaces each DoRA module with the LoRA of rank `rank` that is nearest to what it does to `base`: the leading
/// triplets of `W' - W`, with `W' = m / ||W + s B A|| (W + s B A)`.
///
/// # Errors
/// What [`fit::fit`] refuses; [`ErrorKind::Inexpressible`](crate::ErrorKind::Inexpressible) for norms over columns
/// (embeddings, `Conv1D`); if values cannot be read.
pub(crate) fn dora_to_lora(
    adapter: &mut Adapter,
    base: &Model,
    rank: usize,
    (shelf, progress): (&Shelf, &dyn Progress),
) -> Result<Vec<Approximated>> {
    let view = Resolver::new(base.tensors(), base.config.as_ref());
    let dora = |module: &Module| module.magnitude.is_some();
    let of_dora = adapter.with_modules(adapter.modules.iter().filter(|m| dora(m)).cloned().collect());
    let edits = fit::fit(&view, &of_dora, FitOptions::default())?;
    let low_rank = edits.iter().rev().filter(|edit| matches!(edit.change, Change::LowRank { .. }));
    // Of several edits of a module, the first: that of its weight.
    let by_origin: HashMap<&str, &Edit> = low_rank.map(|edit| (edit.origin.as_str(), edit)).collect();
    let bytes_of = |module: &Module| {
        let weight = by_origin.get(module.path.as_str()).and_then(|edit| edit.base);
        weight.map_or(0, |index| base.tensors()[index].byte_len())
    };
    progress.begin(of_dora.modules.iter().map(bytes_of).sum());
    let approximate = |module: &mut Module| -> Result<Option<Approximated>> {
        if module.magnitude.is_none() {
            return Ok(None);
        }
        go_on(progress, "anything was written")?;
        let edit = by_origin.get(module.path.as_str());
        let delta =
            edit.map(|edit| DoraDelta::new(edit, base)).transpose()?.flatten().ok_or_else(|| {
                Error::from(Problem::DoraOverColumns).tensor(&module.path).at(&adapter.path)
            })?;
        let stretch = Stretch::new(progress, bytes_of(module));
        let told = Told { matrix: &delta, stretch: &stretch, bytes: bytes_of(module) };
        let norm = norm(&told)?;
        let svd = leading(&told, rank, OVERSAMPLING.max(rank), &module.path)?;
        let error = if norm == 0.0 { 0.0 } else { projection_residual(norm, &svd.s) / norm };
        let (b, a) = svd.balanced_factors();
        let (rows, cols) = delta.dim();
        stretch.finish();
        *module = Module { magnitude: None, ..module.with_factors(1.0, &b, &a, module.dtype(), shelf)? };
        Ok(Some(Approximated {
            path: module.path.clone(),
            rank_before: rows.min(cols),
            rank: b.ncols(),
            error,
            norm,
        }))
    };
    let done = in_order(&mut adapter.modules, approximate)?;
    adapter.config.use_dora = false;
    adapter.config.raw.remove("use_dora");
    Ok(done.into_iter().flatten().collect())
}

/// `W' - W` of a DoRA module. Only a panel of its rows is in memory at a time.
struct DoraDelta {
    weight: TensorRef,
    scale: f64,
    b: Array2<f64>,
    a: Array2<f64>,
    magnitude: Vec<f64>,
}

impl DoraDelta {
    /// `None` for anything but DoRA over whole rows.
    fn new(edit: &Edit, base: &Model) -> Result<Option<Self>> {
        let Change::LowRank { terms, dora: Some((magnitude, Axis::Row)), .. } = &edit.change else {
            return Ok(None);
        };
        let ([LowRank { b, a, scale, .. }], Some(index)) = (terms.as_slice(), edit.base) else {
            return Ok(None);
        };
        let load =
            |factor: &crate::tensor::Factor| matrix(&factor.to_tensor(vec![factor.rows, factor.cols])?);
        Ok(Some(DoraDelta {
            weight: base.tensor(index),
            scale: *scale,
            b: load(b)?,
            a: load(a)?,
            magnitude: magnitude.finite_values()?.into_iter().map(f64::from).collect(),
        }))
    }
}

impl Panels for DoraDelta {
    fn dim(&self) -> (usize, usize) {
        self.weight.info().rows_cols()
    }

    fn for_each_panel(&self, each: &mut EachPanel<'_>) -> Result<()> {
        let (rows, cols) = self.dim();
        let mut values = vec![0f32; PANEL.min(rows) * cols];
        for start in (0..rows).step_by(PANEL) {
            let end = (start + PANEL).min(rows);
            let values = &mut values[..(end - start) * cols];
            self.weight.decode((start * cols) as u64..(end * cols) as u64, values)?;
            self.weight.refuse_non_finite((start * cols) as u64, values)?;
            let w = ArrayView2::from_shape((end - start, cols), values)
                .map_err(|_| Error::from(Problem::NotAMatrix).tensor(&self.weight.info().name))?
                .mapv(f64::from);
            let mut panel =
                &w + &(self.scale * self.b.slice_axis(Dimension(0), (start..end).into()).dot(&self.a));
            for (mut row, magnitude) in panel.rows_mut().into_iter().zip(&self.magnitude[start..end]) {
                let norm = row.dot(&row).sqrt();
                row *= if norm == 0.0 { 0.0 } else { magnitude / norm };
            }
            panel -= &w;
            each(start..end, panel.view())?;
        }
        Ok(())
    }
}
