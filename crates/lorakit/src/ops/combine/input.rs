//! Adapters side by side: which of their modules belong together, and what forbids combining them.

use lorakit_tensor::{DType, Reader};

use super::Problem;
use super::{CombineOptions, Method, Mix};
use crate::adapter::{Adapter, Delta, Module, ModuleKind, format, natural};
use crate::arch::names::pairs;
use crate::ops;
use crate::{Base, Choice, Error, Finding, Result, Severity};

/// The modules of one path, and the adapters they belong to.
#[derive(Debug)]
pub(super) struct Aligned {
    /// Number of the adapter, in the order given, and its module.
    pub(super) parts: Vec<(usize, Module)>,
}

impl Aligned {
    /// Bytes of all factors.
    pub(super) fn bytes(&self) -> u64 {
        self.parts.iter().map(|(_, module)| module.factor_bytes()).sum()
    }

    /// The dtype of computed factors: that of all parts if they have one, else F32, whatever their order.
    pub(super) fn dtype(&self) -> DType {
        let own = self.first().dtype();
        if self.parts.iter().all(|(_, module)| module.dtype() == own) { own } else { DType::F32 }
    }

    /// The first adapter's module.
    pub(super) fn first(&self) -> &Module {
        &self.parts[0].1
    }
}

/// Opens an adapter with all that it holds; experts that share a module stay together.
pub(super) fn open(path: &std::path::Path, reader: &Reader, base: Option<&Base>) -> Result<Adapter> {
    let adapter = format::read(&format::open(path, reader)?, base)?;
    adapter.check()?;
    Ok(adapter)
}

/// Refuses adapters that are not sums of plain products.
///
/// # Errors
/// [`ErrorKind::Unmergeable`](crate::ErrorKind::Unmergeable),
/// [`ErrorKind::MutatedBase`](crate::ErrorKind::MutatedBase), with one line for each module.
pub(super) fn refuse(adapters: &[(Adapter, f64)]) -> Result<()> {
    for (adapter, _) in adapters {
        if !adapter.deltas.is_empty() {
            let problem = Problem::FullDeltas { count: adapter.deltas.len() };
            let names = adapter.deltas.iter().map(Delta::name).collect();
            return Err(Error::from(problem).at(&adapter.path).details(names));
        }
        let dora: Vec<String> =
            adapter.modules.iter().filter(|m| m.magnitude.is_some()).map(|m| m.path.clone()).collect();
        if !dora.is_empty() {
            let problem = Problem::Dora { modules: dora.len(), of: adapter.modules.len() };
            return Err(Error::from(problem).at(&adapter.path).details(dora));
        }
        if let Some(module) = adapter.modules.iter().find(|m| m.is_attention_output() && m.strength != 1.0) {
            return Err(Error::from(Problem::AppliedTwice).tensor(&module.path).at(&adapter.path));
        }
        if let Some(option) = adapter.config.unmergeable.first() {
            let problem = ops::Problem::NotAProduct { option: option.clone() };
            return Err(Error::from(problem).at(&adapter.path));
        }
        if adapter.config.mutates_base() && adapters.len() > 1 {
            let problem = Problem::Mutated { init: adapter.config.init.to_string() };
            return Err(Error::from(problem).at(&adapter.path));
        }
        ops::refuse_repeated(adapter)?;
    }
    Ok(())
}

/// Puts modules of the same path together, in the order of the model.
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) with one line for each module whose factors do not belong together.
pub(super) fn align(adapters: &[(Adapter, f64)], options: &CombineOptions) -> Result<Vec<Aligned>> {
    let mut aligned: Vec<Aligned> = Vec::new();
    for (i, (adapter, _)) in adapters.iter().enumerate() {
        // Paths that differ only in what wrappers put in front are one, unless one adapter has both.
        let known: Vec<&str> = aligned.iter().map(|a| a.first().path.as_str()).collect();
        let own: Vec<&str> = adapter.modules.iter().map(|module| module.path.as_str()).collect();
        for (place, module) in pairs(&known, &own) {
            let Some(module) = module.map(|module| adapter.modules[module].clone()) else { continue };
            match place {
                Some(place) => aligned[place].parts.push((i, module)),
                None => aligned.push(Aligned { parts: vec![(i, module)] }),
            }
        }
    }
    aligned.sort_by(|a, b| natural(&a.first().path).cmp(&natural(&b.first().path)));
    let misfits: Vec<String> = aligned.iter().filter_map(|a| misfit(a, adapters)).collect();
    if !misfits.is_empty() {
        let problem = Problem::Shapes { modules: misfits.len(), of: aligned.len() };
        return Err(Error::from(problem).details(misfits));
    }
    if let Method::Factors(mix) = options.method.in_style(options.style) {
        refuse_ranks(&aligned, adapters, mix, options.method.name())?;
    }
    Ok(aligned)
}

/// What keeps the modules of one path from being added.
fn misfit(aligned: &Aligned, adapters: &[(Adapter, f64)]) -> Option<String> {
    let shape = |module: &Module| {
        let (a, b) = (&module.a.info().shape, &module.b.info().shape);
        let kernel = a.get(1..).unwrap_or_default().to_vec();
        (module.kind == ModuleKind::Embedding, b.first().copied().unwrap_or(0), kernel)
    };
    let first = aligned.first();
    let other = aligned.parts.iter().find(|(_, module)| shape(module) != shape(first))?;
    let said = |i: usize, module: &Module| {
        let (embedding, rows, cols) = shape(module);
        let kind = if embedding { " embedding" } else { "" };
        let cols: Vec<String> = cols.iter().map(usize::to_string).collect();
        format!("{rows} x {}{kind} in `{}`", cols.join(" x "), adapters[i].0.path.display())
    };
    let (one, two) = (said(aligned.parts[0].0, first), said(other.0, &other.1));
    Some(format!("{}  {one}, {two}", first.path))
}

/// Refuses to add factors entry by entry if they differ in rank.
fn refuse_ranks(
    aligned: &[Aligned],
    adapters: &[(Adapter, f64)],
    mix: Mix,
    method: &'static str,
) -> Result<()> {
    let ranks = |a: &Aligned| a.parts.iter().map(|(_, m)| m.rank()).collect::<Vec<_>>();
    let differ = |a: &&Aligned| ranks(a).windows(2).any(|w| w[0] != w[1]);
    let lines: Vec<String> = aligned
        .iter()
        .filter(differ)
        .map(|a| {
            format!(
                "{}  ranks {}",
                a.first().path,
                ranks(a).iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
            )
        })
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    let (modules, of) = (lines.len(), aligned.len());
    let problem = match mix.of_deltas() {
        None => Problem::RanksDiffer { method, modules, of },
        Some((instead, _)) => Problem::RanksDifferOfFactors { method, modules, of, instead },
    };
    Err(Error::from(problem).at(&adapters[0].0.path).details(lines))
}

/// Things worth telling about the adapters as a whole.
pub(super) fn notes(adapters: &[(Adapter, f64)], aligned: &[Aligned]) -> Vec<Finding> {
    let mut notes = Vec::new();
    let mut bases: Vec<&str> = adapters.iter().filter_map(|(a, _)| a.config.public_base_model()).collect();
    bases.dedup();
    if bases.len() > 1 {
        let message = format!("the adapters name different base models: {}", bases.join(", "));
        notes.push(Finding::new(Severity::Warning, "base-models-differ", "", message));
    }
    for (i, (adapter, _)) in adapters.iter().enumerate() {
        let alone = aligned.iter().filter(|a| a.parts.len() == 1 && a.parts[0].0 == i).count();
        if alone > 0 && adapters.len() > 1 {
            let message = format!("{alone} of its {} modules are in no other adapter", adapter.modules.len());
            notes.push(Finding::new(
                Severity::Note,
                "modules-alone",
                &adapter.path.display().to_string(),
                message,
            ));
        }
    }
    notes
}
