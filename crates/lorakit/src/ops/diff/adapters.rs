//! Two adapters: delta against delta, from the factors.

use std::path::{Path, PathBuf};

use lorakit_tensor::Reader;

use super::delta::{EXACT, compare};
use super::{DiffOptions, FieldDiff, ModuleDiff, State, Sums, TensorDiff, config, go_on};
use crate::adapter::{Adapter, Module};
use crate::arch::names::pairs;
use crate::ops::convert::adapter::copies;
use crate::plan::{Progress, in_order};
use crate::{Base, Result, TensorRef};

/// What two adapters have in common, and what they do not.
#[derive(Debug, Clone)]
pub struct AdapterDiff {
    /// The first.
    pub a: AdapterSide,
    /// The second.
    pub b: AdapterSide,
    /// Low-rank modules, each expert counting as one; in the order of A, then those that only B has.
    pub modules: Vec<ModuleDiff>,
    /// Parameters that are stored whole: magnitudes of DoRA, biases, saved parameters, token rows.
    pub parameters: Vec<TensorDiff>,
    /// Differences of the configurations that matter.
    pub config: Vec<FieldDiff>,
    /// Of all low-rank deltas together; a delta that one adapter lacks, or has in another shape, counts as zero there.
    pub total: Sums,
}

/// One of the adapters.
#[derive(Debug, Clone, serde::Serialize)]
pub struct AdapterSide {
    /// Its path.
    #[serde(serialize_with = "crate::report::path")]
    pub path: PathBuf,
    /// Its format, e.g. `peft`.
    pub format: &'static str,
    /// Number of its low-rank modules.
    pub modules: usize,
}

impl AdapterDiff {
    /// Whether the adapters do different things to a model.
    pub fn differs(&self) -> bool {
        let parameters = self.parameters.iter().map(|p| p.state);
        self.modules.iter().map(|m| m.state).chain(parameters).any(State::differs)
    }

    /// The factor that all of A's deltas were multiplied by, if that is the only difference.
    pub fn rescaled(&self) -> Option<f64> {
        let all = self.total.factor()?;
        let near = |m: &ModuleDiff| match m.state {
            State::Rescaled(factor) => (factor - all).abs() <= 1e-3 * all.abs(),
            // A module of zeros is any multiple of itself.
            _ => m.sums.is_some_and(|s| s.a == 0.0 && s.b == 0.0),
        };
        let changed = self.modules.iter().any(|m| m.state.differs()) && self.modules.iter().all(near);
        (changed && !self.parameters.iter().any(|p| p.state.differs())).then_some(all)
    }
}

pub(super) fn diff(options: &DiffOptions, reader: &Reader, progress: &dyn Progress) -> Result<AdapterDiff> {
    let base = options.base.as_deref().map(|base| Base::open(base, reader)).transpose()?;
    let open = |path: &Path| {
        let mut adapter = Adapter::open(path, reader, base.as_ref())?;
        adapter.check()?;
        copies::drop(&mut adapter, options.base.as_deref(), reader)?;
        adapter.unpacked(base.as_ref())
    };
    let (a, b) = (open(&options.a)?, open(&options.b)?);
    let one = |(i, j): (Option<usize>, Option<usize>)| {
        go_on(progress)?;
        let (x, y) = (i.map(|i| &a.modules[i]), j.map(|j| &b.modules[j]));
        let compared = compare(x, y)?;
        progress.advance(x.map_or(0, Module::factor_bytes));
        Ok(compared)
    };
    progress.begin(a.modules.iter().map(Module::factor_bytes).sum());
    let modules = in_order(pairs(&paths(&a), &paths(&b)), one)?;
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

/// What adapters store whole, with the names that pair it up.
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
            // A bias belongs to `B`, and is scaled with it.
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
        all.extend(
            adapter.deltas.iter().map(|d| whole(format!("{} (full delta)", d.name()), &d.tensor, 1.0)),
        );
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
    progress.begin(a.iter().map(|whole| whole.tensor.info().byte_len()).sum());
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
    in_order(pairs(&names(&a), &names(&b)), one)
}
