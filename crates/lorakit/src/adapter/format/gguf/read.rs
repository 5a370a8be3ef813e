//! Reading a GGUF adapter.

use std::collections::BTreeMap;

use lorakit_tensor::{DType, TensorSource};

use super::Problem;
use super::header::{self, Header};
use super::names::HALVES;
use crate::adapter::{Adapter, Files, Module, ModuleKind, ROW_ORDER, Scaling};
use crate::arch::{self, Architecture, Heads, Match, Role};
use crate::tensor::{Factor, RowOrder};
use crate::{Base, Error, Finding, Result, Severity, TensorRef};

pub(super) fn adapter(format: &'static str, files: &Files, base: Option<&Base>) -> Result<Adapter> {
    let path = files.source.path();
    let metadata = files.source.gguf().ok_or_else(|| files.no_adapter())?;
    let name = header::text(metadata, header::ARCHITECTURE)
        .ok_or_else(|| Error::from(Problem::NoArchitecture).at(path))?;
    let family = arch::by_gguf(name).ok_or_else(|| {
        let known = arch::architectures().iter().map(Architecture::gguf).collect();
        Error::from(Problem::Family { name: name.escape_debug().to_string(), known }).at(path)
    })?;
    let heads = base.map(|base| heads_of(base, family)).transpose().map_err(|e| match e.path() {
        Some(_) => e,
        None => e.at(path),
    })?;
    let header = Header::of(metadata);
    let mut adapter = Adapter {
        config: header.config,
        metadata: header.strings,
        findings: header.findings,
        ..Adapter::empty(format, files)
    };
    let reader = Reader { family, heads, alpha: header.alpha };
    for (target, halves) in pair(&mut adapter, files) {
        reader.add(&mut adapter, &target, &halves);
    }
    if heads.is_none() && adapter.modules.iter().any(|module| reader.is_permuted(module)) {
        let base = header::base_model(metadata).map_or(String::new(), |id| format!(" (`{id}`)"));
        let message = format!(
            "holds the rows of q and k in the order of `{name}` models in GGUF, and only the heads of its base{base} \
             say how to put them back"
        );
        adapter.findings.push(Finding::new(Severity::Note, ROW_ORDER, "", message));
    }
    adapter.sort();
    Ok(adapter)
}

/// The heads of the base, which must belong to the adapter's family.
fn heads_of(base: &Base, family: &'static Architecture) -> Result<Heads> {
    let (own, _) = base.family()?;
    if own.gguf() != family.gguf() {
        return Err(Problem::BaseFamily { own: family.gguf(), base: own.gguf() }.into());
    }
    base.heads()
}

/// The halves of each target; any other tensor becomes a finding.
fn pair(adapter: &mut Adapter, files: &Files) -> BTreeMap<String, [Option<Half>; 2]> {
    let mut pairs: BTreeMap<String, [Option<Half>; 2]> = BTreeMap::new();
    for (index, info) in files.source.tensors().iter().enumerate() {
        let mut fault = |code, message: String| {
            adapter.findings.push(Finding::new(Severity::Error, code, &info.name, message));
        };
        let half = HALVES.iter().enumerate().find_map(|(n, end)| Some((n, info.name.strip_suffix(end)?)));
        let Some((half, target)) = half else {
            if info.shape.len() == 1 && info.name.ends_with("_norm.weight") {
                fault("ignored-norm", "is a norm, which llama.cpp loads and ignores".into());
            } else {
                fault("unexpected-suffix", "ends in neither `.lora_a` nor `.lora_b`".into());
            }
            continue;
        };
        match Half::of(files.tensor(index)) {
            Ok(read) => pairs.entry(target.to_string()).or_default()[half] = Some(read),
            Err(error) => fault("undecodable", error.to_string()),
        }
    }
    pairs
}

/// One factor, with single values: views would cut blocks.
struct Half {
    tensor: TensorRef,
    /// Its dtype in the file, if that has blocks.
    blocks: Option<DType>,
}

impl Half {
    fn of(tensor: TensorRef) -> Result<Self> {
        let dtype = tensor.info().dtype;
        let blocks = Some(dtype).filter(|dtype| dtype.block().elements > 1);
        Ok(Half { tensor: tensor.single_values()?, blocks })
    }
}

struct Reader {
    family: &'static Architecture,
    heads: Option<Heads>,
    alpha: Option<f64>,
}

impl Reader {
    fn is_permuted(&self, module: &Module) -> bool {
        let found = self.family.match_hf(&format!("{}.weight", module.path));
        found.is_some_and(|found| found.rule.is_permuted())
    }

    /// Adds the modules of one target, or a finding that explains why there are none.
    fn add(&self, adapter: &mut Adapter, target: &str, halves: &[Option<Half>; 2]) {
        let modules = match halves {
            [Some(a), Some(b)] => self.modules(adapter, target, a, b),
            [Some(_), None] => Err(("missing-half", "has lora_a, but lora_b is missing".into())),
            _ => Err(("missing-half", "has lora_b, but lora_a is missing".into())),
        };
        match modules {
            Ok(modules) => adapter.modules.extend(modules),
            Err((code, message)) => {
                adapter.findings.push(Finding::new(Severity::Error, code, target, message));
            }
        }
    }

    fn modules(
        &self,
        adapter: &Adapter,
        target: &str,
        Half { tensor: a, blocks: a_blocks }: &Half,
        Half { tensor: b, blocks: b_blocks }: &Half,
    ) -> std::result::Result<Vec<Module>, (&'static str, String)> {
        let unknown = || {
            let message =
                format!("is not a tensor that a LoRA of the family `{}` can change", self.family.gguf());
            ("unknown-target", message)
        };
        let found =
            self.family.match_gguf(target).filter(|_| target.ends_with(".weight")).ok_or_else(unknown)?;
        if found.rule.role == Role::Norm || found.rule.dropped().is_some() {
            return Err(unknown());
        }
        let stacked = found.rule.is_stacked();
        let (a_shape, b_shape) = (dimensions(a, stacked), dimensions(b, stacked));
        let disagree = || {
            let (a, b) = (&a.info().shape, &b.info().shape);
            ("shape", format!("has factors of shapes {a:?} and {b:?}, which do not belong together"))
        };
        let ([experts, a_rows, a_cols], [b_experts, b_rows, rank]) =
            a_shape.zip(b_shape).ok_or_else(disagree)?;
        let embedding = found.rule.role == Role::Embed;
        if experts != b_experts || rank != if embedding { a_cols } else { a_rows } {
            return Err(disagree());
        }
        let broken = |e: Error| ("shape", e.to_string());
        let whole =
            |tensor: &TensorRef, rows| Factor::matrix(tensor.clone(), experts * rows, tensor_cols(tensor));
        let (all_a, all_b) = (whole(a, a_rows), whole(b, b_rows));
        let order = match self.heads {
            Some(heads) => found.rule.permutation(b_rows, heads).map_err(broken)?,
            None => None,
        };
        (0..experts)
            .map(|expert| {
                let path =
                    Match { expert: stacked.then_some(expert), ..found }.hf_name().ok_or_else(unknown)?;
                let path = path.trim_end_matches(".weight").to_string();
                let own_a = all_a.clone().take_rows(expert * a_rows, a_rows, 1);
                let own_a = if embedding { own_a.transposed() } else { own_a };
                let own_b = all_b.clone().take_rows(expert * b_rows, b_rows, 1);
                let own_b = match order {
                    Some(order) => {
                        own_b.gather_rows(&RowOrder::of_rows((0..b_rows).map(|row| order.gguf_row(row))))
                    }
                    None => own_b,
                };
                let tensor = |view: Factor| view.to_tensor(vec![view.rows, view.cols]).map_err(broken);
                let kind = if embedding { ModuleKind::Embedding } else { ModuleKind::Linear };
                let (config_rank, scaling) = self.scaling(adapter, &path, rank);
                let blocks = [*a_blocks, *b_blocks];
                let module = Module::new(path, kind, tensor(own_a)?, tensor(own_b)?, scaling);
                Ok(Module { config_rank, blocks, ..module })
            })
            .collect()
    }

    /// Rank and scaling of a module: those of the configuration that travelled along if they equal the file's, up to
    /// the rounding to f32, else the file's.
    fn scaling(&self, adapter: &Adapter, path: &str, rank: usize) -> (Option<f64>, Scaling) {
        let own = self.alpha.map_or(Scaling::Fixed(1.0), Scaling::Alpha);
        let (said_rank, said) = adapter.config.of_module(path);
        let (scale, other) = (own.scale(rank), said.scale(rank));
        let close = (scale - other).abs() <= f64::from(f32::EPSILON) * scale.abs();
        if said_rank == Some(rank as f64) && close { (said_rank, said) } else { (None, own) }
    }
}

/// The shape as experts, rows and columns. ggml's tools drop outer dimensions of 1.
fn dimensions(tensor: &TensorRef, stacked: bool) -> Option<[usize; 3]> {
    match *tensor.info().shape.as_slice() {
        [cols] => Some([1, 1, cols]),
        [rows, cols] => Some([1, rows, cols]),
        [experts, rows, cols] if stacked => Some([experts, rows, cols]),
        _ => None,
    }
}

fn tensor_cols(tensor: &TensorRef) -> usize {
    tensor.info().shape.last().copied().unwrap_or(1)
}
