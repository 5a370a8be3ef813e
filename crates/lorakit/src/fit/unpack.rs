//! Experts that PEFT packs in one module (`target_parameters`), as one module each.

use std::collections::HashMap;
use std::ops::Range;

use crate::adapter::{Adapter, Module, ModuleKind, Scaling};
use crate::arch::names;
use crate::fit::{self, Change, FitOptions, Fitting, Problem, Resolver};
use crate::plan::LowRank;
use crate::tensor::Factor;
use crate::{Base, Error, Result};

impl Adapter {
    /// Returns the adapter with one module per expert and projection, as other formats have them. `base` decides the
    /// layout of the factors where their shapes do not.
    ///
    /// # Errors
    /// `NeedsBase` where only the base can tell; the errors of [`fit::fit`].
    pub(crate) fn unpacked(mut self, base: Option<&Base>) -> Result<Self> {
        // A layer is the same to other formats, whether PEFT wraps it or its weight.
        let wrapped =
            |module: &&mut Module| module.experts.is_none() && module.parameter.as_deref() == Some("weight");
        self.modules.iter_mut().filter(wrapped).for_each(|module| module.parameter = None);
        if !self.modules.iter().any(Module::is_packed) {
            return Ok(self);
        }
        let (packed, plain): (Vec<Module>, Vec<Module>) =
            std::mem::take(&mut self.modules).into_iter().partition(Module::is_packed);
        self.modules = plain;
        let mut layers: Vec<(String, Vec<Module>)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for module in packed {
            let path = module.layer().unwrap_or_else(|| module.path.clone());
            let place = *places.entry(path.clone()).or_insert(layers.len());
            if place == layers.len() {
                layers.push((path, Vec::new()));
            }
            layers[place].1.push(module);
        }
        let view = base.filter(|base| !base.tensors.is_empty());
        let view = view.map(|base| Resolver::new(&base.tensors, base.config.as_ref()));
        let rest = self.with_modules(Vec::new());
        let fitting = Fitting::new(&rest, FitOptions::default());
        for (path, of_layer) in &layers {
            self.modules.extend(separate(&fitting, &rest, path, of_layer, (base, view.as_ref()))?);
        }
        self.sort();
        Ok(self)
    }
}

/// The separate modules of the experts at `path`, whose packed modules are `packed`.
///
/// They are fitted to the stacked weights that such an adapter belongs to: those of the base if there is one, else
/// weights whose shapes follow from the factors.
fn separate(
    fitting: &Fitting<'_>,
    adapter: &Adapter,
    path: &str,
    packed: &[Module],
    (base, view): (Option<&Base>, Option<&Resolver<'_>>),
) -> Result<Vec<Module>> {
    let place = |problem: Problem| Error::from(problem).tensor(path).at(&adapter.path);
    let family = base.and_then(|base| base.config.as_ref()?.model_type());
    if let Some(family) = family.filter(|family| names::stacks_transposed(family)) {
        return Err(place(Problem::StackedFamily { family: family.to_string() }));
    }
    let (assumed, of_assumed);
    let view = match view {
        Some(view) => view,
        None => {
            assumed =
                fit::stacked_shapes(fitting, packed, path).ok_or_else(|| place(Problem::PackedExperts))?;
            of_assumed = Resolver::new(&assumed, None);
            &of_assumed
        }
    };
    let mut modules = Vec::new();
    // Strengths are no part of the scales; the separate modules take them over.
    let plain: Vec<Module> = packed.iter().map(|module| Module { strength: 1.0, ..module.clone() }).collect();
    for edit in fitting.modules(view, &plain)? {
        let strength = packed.iter().find(|module| module.path == edit.origin).map_or(1.0, |m| m.strength);
        let from = modules.len();
        let Change::LowRank { terms, .. } = edit.change else { continue };
        let Some(info) = edit.base.map(|index| &view.tensors[index]) else { continue };
        let name = info.name.trim_end_matches(".weight");
        match fit::modules_of_stack(path, names::last(name), &info.shape) {
            Some(of_stack) => {
                for term in &terms {
                    modules.extend(in_term(&of_stack, term)?);
                }
            }
            // One tensor per expert: the tensor gives the module its name.
            None => {
                for term in &terms {
                    modules.push(module_of(name, term, term.b.clone())?);
                }
            }
        }
        modules[from..].iter_mut().for_each(|module: &mut Module| module.strength = strength);
    }
    Ok(modules)
}

/// The modules of a stack, in the order of their rows, that one term on the stack stands for.
fn in_term(of_stack: &[(String, Range<usize>)], term: &LowRank) -> Result<Vec<Module>> {
    let first = of_stack.partition_point(|(_, rows)| rows.start < term.rows.start);
    let inside = of_stack[first..].iter().take_while(|(_, rows)| rows.end <= term.rows.end);
    let module = |(path, rows): &(String, Range<usize>)| {
        module_of(path, term, term.b.clone().take_rows(rows.start - term.rows.start, rows.len(), 1))
    };
    inside.map(module).collect()
}

/// The module at `path` with the `A` of `term`, and with `b`.
fn module_of(path: &str, term: &LowRank, b: Factor) -> Result<Module> {
    let a = term.a.to_tensor(vec![term.a.rows, term.a.cols])?;
    let b = b.to_tensor(vec![b.rows, b.cols])?;
    Ok(Module::new(path.to_string(), ModuleKind::Linear, a, b, Scaling::Fixed(term.scale)))
}
