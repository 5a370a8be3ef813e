//! Two adapters: delta against delta, from the factors.

use std::path::{Path, PathBuf};

use lorakit_linalg::{Term, difference_norm, inner_product, product_norm};
use lorakit_tensor::DType;
use rayon::prelude::*;

use super::{DiffOptions, FieldDiff, State, Sums, TensorDiff, config, go_on, pairs};
use crate::adapter::factors::{Factors, of_linalg};
use crate::adapter::{Adapter, Base, Module, ModuleKind};
use crate::ops::convert::adapter::copies;
use crate::plan::Progress;
use crate::{ErrorKind, Result, TensorRef};

/// Deltas that differ by less, relative to their norm, are the same but for the rounding of f32.
const EXACT: f64 = 1e-6;

/// What two adapters have in common, and what not.
#[derive(Debug, Clone)]
pub struct AdapterDiff {
    /// The first.
    pub a: AdapterSide,
    /// The second.
    pub b: AdapterSide,
    /// Low-rank modules, each expert one; in the order of A, then those that only B has.
    pub modules: Vec<ModuleDiff>,
    /// What is stored whole: magnitudes of DoRA, biases, saved parameters, token rows.
    pub parameters: Vec<TensorDiff>,
    /// Differences of the configurations that matter.
    pub config: Vec<FieldDiff>,
    /// Of all low-rank deltas together; where one adapter has none, or one of another shape, that is zero.
    pub total: Sums,
}

/// One of the adapters.
#[derive(Debug, Clone)]
pub struct AdapterSide {
    /// Its path.
    pub path: PathBuf,
    /// Its format, e.g. `peft`.
    pub format: &'static str,
    /// Number of its low-rank modules.
    pub modules: usize,
}

/// The modules of one path.
#[derive(Debug, Clone)]
pub struct ModuleDiff {
    /// The path, in A if A has it.
    pub path: String,
    /// What became of the delta `scale B A`.
    pub state: State,
    /// What A has.
    pub a: Option<ModuleSide>,
    /// What B has.
    pub b: Option<ModuleSide>,
    /// Of the two deltas, zero where there is none; `None` if factors hold values that are no numbers.
    pub sums: Option<Sums>,
}

/// A module of one adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct ModuleSide {
    /// Its rank.
    pub rank: usize,
    /// What the product is multiplied by.
    pub scale: f64,
    /// The dtypes of its factors `A` and `B`.
    pub dtypes: (DType, DType),
    /// Outputs and inputs of its delta, as the weight has them.
    pub shape: (usize, usize),
}

impl ModuleDiff {
    /// Whether both adapters have it, and of one shape.
    pub fn shared(&self) -> bool {
        matches!((&self.a, &self.b), (Some(a), Some(b)) if a.shape == b.shape)
    }
}

impl AdapterDiff {
    /// Whether the adapters do not do the same to a model.
    pub fn differs(&self) -> bool {
        let parameters = self.parameters.iter().map(|p| p.state);
        self.modules.iter().map(|m| m.state).chain(parameters).any(State::differs)
    }

    /// The number that all of A's deltas were multiplied by, if that is all there is.
    pub fn rescaled(&self) -> Option<f64> {
        let of = |m: &ModuleDiff| match m.state {
            State::Rescaled(factor) => Some(factor),
            _ => None,
        };
        let all = self.total.factor()?;
        let near = |m| of(m).is_some_and(|f| (f - all).abs() <= 1e-3 * all.abs());
        let only = !self.modules.is_empty() && self.modules.iter().all(near);
        (only && !self.parameters.iter().any(|p| p.state.differs())).then_some(all)
    }
}

impl ModuleSide {
    fn of(module: &Module) -> Self {
        let (outputs, inputs) = (module.b.info().rows_cols().0, module.a.info().rows_cols().1);
        ModuleSide {
            rank: module.rank(),
            scale: module.scale(module.rank()),
            dtypes: (module.a.info().dtype, module.b.info().dtype),
            shape: match module.kind {
                ModuleKind::Linear => (outputs, inputs),
                ModuleKind::Embedding => (inputs, outputs),
            },
        }
    }
}

pub(super) fn diff(options: &DiffOptions, progress: &dyn Progress) -> Result<AdapterDiff> {
    let base = options.base.as_deref().map(|base| Base::open(base, options.mode)).transpose()?;
    let open = |path: &Path| {
        let mut adapter = Adapter::open(path, options.mode, base.as_ref())?;
        adapter.check()?;
        copies::drop(&mut adapter, options.base.as_deref(), options.mode)?;
        adapter.unpacked(base.as_ref())
    };
    let (a, b) = (open(&options.a)?, open(&options.b)?);
    let one = |(i, j): (Option<usize>, Option<usize>)| {
        go_on(progress)?;
        let (x, y) = (i.map(|i| &a.modules[i]), j.map(|j| &b.modules[j]));
        progress.advance(x.map_or(0, |m| m.a.info().byte_len() + m.b.info().byte_len()));
        compare(x, y)
    };
    let modules = pairs(&paths(&a), &paths(&b)).into_par_iter().map(one).collect::<Result<Vec<_>>>()?;
    let mut total = Sums::default();
    modules.iter().filter_map(|m| m.sums).for_each(|sums| total += sums);
    let side = |adapter: &Adapter| AdapterSide {
        path: adapter.path.clone(),
        format: adapter.format,
        modules: adapter.modules.len(),
    };
    Ok(AdapterDiff {
        a: side(&a),
        b: side(&b),
        parameters: parameters(&a, &b, progress)?,
        config: config::of_adapters(&a.config, &b.config),
        modules,
        total,
    })
}

fn paths(adapter: &Adapter) -> Vec<&str> {
    adapter.modules.iter().map(|m| m.path.as_str()).collect()
}

/// Compares the modules of one path.
fn compare(a: Option<&Module>, b: Option<&Module>) -> Result<ModuleDiff> {
    let sides = (a.map(ModuleSide::of), b.map(ModuleSide::of));
    let same = match (a, b) {
        (Some(a), Some(b)) => same(a, b)?,
        _ => false,
    };
    let sums = match if same { sums(a, None).map(|s| Sums::alike(s.a)) } else { sums(a, b) } {
        Ok(sums) => Some(sums),
        Err(e) if e.kind() == ErrorKind::NonFinite => None,
        Err(e) => return Err(e),
    };
    // Some formats have a module for every layer, and those that were not trained are zero.
    let nothing = sums.is_some_and(|s| s.off == 0.0);
    let state = match (a, b, &sides) {
        (Some(_), None, _) | (None, Some(_), _) if nothing => State::Equal,
        (Some(_), None, _) => State::OnlyA,
        (None, _, _) => State::OnlyB,
        (_, _, (Some(x), Some(y))) if x.shape != y.shape => State::Reshaped,
        (_, _, (Some(x), Some(y))) => match sums {
            _ if same => State::Same,
            None => State::NonFinite,
            Some(sums) => of_deltas(&sums, x, y),
        },
        _ => State::Different,
    };
    let path = a.or(b).map_or(String::new(), |m| m.path.clone());
    Ok(ModuleDiff { path, state, a: sides.0, b: sides.1, sums })
}

/// Whether every stored byte of the factors is the same, and the scale.
fn same(a: &Module, b: &Module) -> Result<bool> {
    let alike = a.kind == b.kind && a.scale(a.rank()) == b.scale(b.rank());
    Ok(alike && a.a.same_values(&b.a)? && a.b.same_values(&b.b)?)
}

fn sums(a: Option<&Module>, b: Option<&Module>) -> Result<Sums> {
    let path = a.or(b).map_or("", |m| m.path.as_str());
    let place = |e: lorakit_linalg::Error| of_linalg(&e, path);
    let (one, two) = (a.map(Factors::load).transpose()?, b.map(Factors::load).transpose()?);
    let (x, y) = (a.zip(one.as_ref()).map(term), b.zip(two.as_ref()).map(term));
    let norm = |t: &Option<Term<'_>>| match t {
        Some((scale, b, a)) => product_norm(*b, *a).map(|norm| (scale * norm).powi(2)).map_err(place),
        None => Ok(0.0),
    };
    let (one, two) = (norm(&x)?, norm(&y)?);
    match (x, y) {
        (Some(x), Some(y)) if (x.1.nrows(), x.2.ncols()) == (y.1.nrows(), y.2.ncols()) => Ok(Sums {
            a: one,
            b: two,
            ab: inner_product(x, y).map_err(place)?,
            off: difference_norm(x, y).map_err(place)?.powi(2),
        }),
        _ => Ok(Sums::apart(one, two)),
    }
}

/// The delta in the orientation of the weight: that of an embedding is the transposed product.
fn term<'a>((module, factors): (&Module, &'a Factors)) -> Term<'a> {
    match module.kind {
        ModuleKind::Linear => factors.term(),
        ModuleKind::Embedding => (factors.scale, factors.a.t(), factors.b.t()),
    }
}

/// What two deltas of one shape are to each other.
fn of_deltas(sums: &Sums, a: &ModuleSide, b: &ModuleSide) -> State {
    let distance = match sums.distance() {
        Some(distance) if distance <= EXACT => return State::Equal,
        Some(distance) => distance,
        None => return State::Different,
    };
    // Of other ranks, a near delta is an approximation, and not the same one rounded.
    let noise = if a.rank == b.rank { rounding(a).max(rounding(b)) } else { EXACT };
    if a.dtypes != b.dtypes && distance <= noise {
        return State::Recast;
    }
    let (factor, cosine) = (sums.factor().unwrap_or(0.0), sums.cosine().unwrap_or(0.0));
    let sine = (1.0 - cosine * cosine).max(0.0).sqrt();
    match sine <= noise.max(EXACT) && (factor - 1.0).abs() > noise {
        true => State::Rescaled(factor),
        false => State::Different,
    }
}

/// How far the product of two rounded factors is from that of the factors, relative to its norm; at most.
fn rounding(side: &ModuleSide) -> f64 {
    let half_step = |dtype: DType| match dtype {
        DType::F64 | DType::F32 => EXACT / 2.0,
        DType::F16 => 2f64.powi(-11),
        _ => 2f64.powi(-8),
    };
    half_step(side.dtypes.0) + half_step(side.dtypes.1)
}

/// What adapters store whole, with the names under which it belongs together.
struct Whole {
    name: String,
    tensor: TensorRef,
    scale: f64,
    rows: Vec<usize>,
}

impl Whole {
    fn all(adapter: &Adapter) -> Vec<Whole> {
        let whole = |name: String, tensor: &TensorRef, scale: f64| Whole {
            name,
            tensor: tensor.clone(),
            scale,
            rows: Vec::new(),
        };
        let mut all = Vec::new();
        for m in &adapter.modules {
            // A bias is that of `B`, and scaled with it.
            let parts = [
                ("DoRA magnitude", &m.magnitude, 1.0),
                ("bias of B", &m.bias, m.scale(m.rank())),
                ("base weight", &m.base_weight, 1.0),
            ];
            for (what, tensor, scale) in parts {
                all.extend(tensor.iter().map(|t| whole(format!("{} ({what})", m.path), t, scale)));
            }
        }
        all.extend(adapter.saved.iter().map(|s| whole(s.name.clone(), &s.tensor, 1.0)));
        all.extend(adapter.token_rows.iter().map(|t| Whole {
            rows: t.rows.clone(),
            ..whole(format!("{} (token rows)", t.path), &t.tensor, 1.0)
        }));
        all
    }
}

fn names(all: &[Whole]) -> Vec<&str> {
    all.iter().map(|w| w.name.as_str()).collect()
}

fn parameters(a: &Adapter, b: &Adapter, progress: &dyn Progress) -> Result<Vec<TensorDiff>> {
    let (a, b) = (Whole::all(a), Whole::all(b));
    let one = |(i, j): (Option<usize>, Option<usize>)| {
        let (x, y) = (i.map(|i| &a[i]), j.map(|j| &b[j]));
        let name = x.or(y).map_or("", |w| w.name.as_str());
        let mut found = TensorDiff::of(name, x.map(|w| &w.tensor), y.map(|w| &w.tensor), None, progress)?;
        let (Some(x), Some(y)) = (x, y) else { return Ok(found) };
        if x.rows != y.rows {
            found.state = State::Reshaped;
        }
        let scales = (x.scale, y.scale);
        if let Some(change) = found.change.as_mut().filter(|_| scales.0 != scales.1) {
            change.whole = change.whole.scaled(scales.0, scales.1);
            let equal = change.whole.distance().is_some_and(|distance| distance <= EXACT);
            found.state = if equal { State::Equal } else { State::Different };
        }
        Ok(found)
    };
    pairs(&names(&a), &names(&b)).into_par_iter().map(one).collect()
}

#[cfg(test)]
mod tests;
