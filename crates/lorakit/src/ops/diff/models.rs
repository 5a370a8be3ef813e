//! Two models: tensor against tensor, with what each adds to a base if there is one.

use std::path::{Path, PathBuf};

use lorakit_tensor::{Format, Reader};

use super::tensor::is_base_of;
use super::{ChangedTensors, DiffOptions, FieldDiff, KindDiff, Sums, TensorDiff, config, go_on, kinds};
use crate::arch::names::pairs;
use crate::fit::Resolver;
use crate::ops::Problem;
use crate::plan::{Progress, in_order};
use crate::{Model, Result, TensorRef};

/// What two models have in common, and what they do not.
#[derive(Debug, Clone)]
pub struct ModelDiff {
    /// The first.
    pub a: ModelSide,
    /// The second.
    pub b: ModelSide,
    /// The base that both come from, if it was named.
    pub base: Option<PathBuf>,
    /// Tensors that A and B have in the same shape but the base lacks: what is added to them is unknown.
    pub lacking: usize,
    /// Every tensor, in the order of A, then those that only B has.
    pub tensors: Vec<TensorDiff>,
    /// The tensors that could be measured, by kind of layer; those that changed most come first.
    pub kinds: Vec<KindDiff>,
    /// Scalar fields of `config.json` that differ.
    pub config: Vec<FieldDiff>,
    /// Of the tensors that differ.
    pub changed: ChangedTensors,
    /// Of all values of the tensors that could be measured.
    pub total: Sums,
    /// Of what A and B add to the base, all tensors together; `None` without a base.
    pub deltas: Option<Sums>,
}

/// One of the models.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ModelSide {
    /// Its path.
    #[serde(serialize_with = "crate::report::path")]
    pub path: PathBuf,
    /// The container of its tensors.
    #[serde(skip)]
    pub format: Format,
    /// How its weights are packed, e.g. `bitsandbytes NF4`.
    pub packing: Option<String>,
    /// Number of its tensors.
    pub tensors: usize,
    /// Number of their values.
    pub parameters: u64,
}

impl ModelDiff {
    /// Whether the models compute different things.
    pub fn differs(&self) -> bool {
        self.tensors.iter().any(|t| t.state.differs()) || self.config.iter().any(|f| !f.record)
    }
}

pub(super) fn diff(options: &DiffOptions, reader: &Reader, progress: &dyn Progress) -> Result<ModelDiff> {
    let open = |path: &Path| Model::open_as_hf(path, reader, None);
    let (a, b) = (open(&options.a)?, open(&options.b)?);
    let base = options.base.as_deref().map(open).transpose()?;
    let order = pairs(&names(&a), &names(&b));
    let name_of = |(i, j): &(Option<usize>, Option<usize>)| {
        let info = i.map(|i| &a.tensors()[i]).or(j.map(|j| &b.tensors()[j]));
        info.map_or("", |info| info.name.as_str())
    };
    let all: Vec<&str> = order.iter().map(name_of).collect();
    let of_base = base.as_ref().map_or_else(Vec::new, |base| pairs(&all, &names(base)));
    let view = |model| Resolver::new(Model::tensors(model), model.config.as_ref());
    let (view_a, view_b, view_w) = (view(&a), view(&b), base.as_ref().map(view));
    let three = |place: usize| {
        let ((i, j), name) = (order[place], all[place]);
        let w = base.as_ref().zip(view_w.as_ref());
        let w = w.and_then(|(base, view)| tensor((base, view), of_base[place].1, name));
        (tensor((&a, &view_a), i, name), tensor((&b, &view_b), j, name), w)
    };
    let lacking = match &options.base {
        Some(path) => lacking(&all, three).map_err(|e| e.at(path))?,
        None => 0,
    };
    let one = |place: usize| {
        go_on(progress)?;
        let (x, y, w) = three(place);
        TensorDiff::of(all[place], x.as_ref(), y.as_ref(), w.as_ref(), progress)
    };
    progress.begin((0..order.len()).filter_map(|place| Some(three(place).0?.info().byte_len())).sum());
    let tensors = in_order(0..order.len(), one)?;
    let (mut total, mut deltas) = (Sums::default(), base.as_ref().map(|_| Sums::default()));
    for change in tensors.iter().filter_map(|t| t.change.as_ref()) {
        total += change.whole;
        if let (Some(all), Some(of_tensor)) = (&mut deltas, change.deltas) {
            *all += of_tensor;
        }
    }
    let config = match (&a.config, &b.config) {
        // GGUF metadata says less than a `config.json`.
        (Some(x), Some(y)) => config::of_models(x, y, a.is_gguf() || b.is_gguf()),
        _ => Vec::new(),
    };
    Ok(ModelDiff {
        a: ModelSide::of(&a),
        b: ModelSide::of(&b),
        base: options.base.clone(),
        lacking,
        kinds: kinds::by_kind(&tensors),
        changed: ChangedTensors::of(&tensors),
        tensors,
        config,
        total,
        deltas,
    })
}

/// A tensor of A, its counterpart in B, and the one in the base.
type Three = (Option<TensorRef>, Option<TensorRef>, Option<TensorRef>);

/// How many tensors A and B have in the same shape, but the base lacks.
///
/// # Errors
/// [`ErrorKind::Unmatched`](crate::ErrorKind::Unmatched) if the base has none of them.
fn lacking(names: &[&str], three: impl Fn(usize) -> Three) -> Result<usize> {
    let (mut shared, mut missing) = (0, Vec::new());
    for (place, name) in names.iter().enumerate() {
        let (Some(x), Some(y), w) = three(place) else { continue };
        if x.info().shape != y.info().shape {
            continue;
        }
        shared += 1;
        if !w.as_ref().is_some_and(|w| is_base_of(w, &x)) {
            missing.push((*name, x, w));
        }
    }
    // A tensor that exists says most.
    let telling = missing.iter().find(|(_, _, w)| w.is_some()).or(missing.first());
    match telling {
        Some((name, x, w)) if missing.len() == shared => {
            let here = w.as_ref().map_or("is not there".into(), |w| format!("is {}", shape(w)));
            let name = name.escape_debug().to_string();
            let there = shape(x);
            Err(Problem::OtherBase { shared, name, here, there }.into())
        }
        _ => Ok(missing.len()),
    }
}

fn shape(tensor: &TensorRef) -> String {
    let info = tensor.info();
    format!("{} {:?}", info.dtype, info.shape)
}

impl ModelSide {
    fn of(model: &Model) -> Self {
        ModelSide {
            path: model.path.clone(),
            format: model.checkpoint().format(),
            packing: model.packing.as_ref().map(|packing| packing.scheme.to_string()),
            tensors: model.tensors().len(),
            parameters: model.parameters(),
        }
    }
}

fn names(model: &Model) -> Vec<&str> {
    model.tensors().iter().map(|t| t.name.as_str()).collect()
}

/// Tensor `index`; without an index, the one that the model has in place of `name`.
fn tensor((model, view): (&Model, &Resolver<'_>), index: Option<usize>, name: &str) -> Option<TensorRef> {
    index.or_else(|| view.in_place_of(name)).map(|index| model.tensor(index))
}
