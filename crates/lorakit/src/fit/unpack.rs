//! Experts that PEFT packs in one module (`target_parameters`), as a module for each.

use std::collections::HashMap;

use crate::adapter::{Adapter, Module, ModuleKind, Scaling};
use crate::fit::{self, BaseView, Change, FitOptions, Fitting, Problem};
use crate::plan::LowRank;
use crate::tensor::Factor;
use crate::{Base, Error, Result};

/// Names of one expert's layers: gate, up, down.
type Names = [&'static str; 3];

const USUAL: Names = ["gate_proj", "up_proj", "down_proj"];
const MIXTRAL: Names = ["w1", "w3", "w2"];

impl Adapter {
    /// The adapter with a module for each expert and projection, as other formats have them. `base` decides how the
    /// factors lie where their shapes do not.
    ///
    /// # Errors
    /// `NeedsBase` where only the base can tell; what [`fit::fit`] refuses.
    pub(crate) fn unpacked(mut self, base: Option<&Base>) -> Result<Self> {
        if !self.modules.iter().any(Module::is_packed) {
            return Ok(self);
        }
        let (packed, plain): (Vec<Module>, Vec<Module>) =
            std::mem::take(&mut self.modules).into_iter().partition(Module::is_packed);
        self.modules = plain;
        let mut layers: Vec<(String, Vec<Module>)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for module in packed {
            let path = module.path.replace(".base_layer", "");
            let place = *places.entry(path.clone()).or_insert(layers.len());
            if place == layers.len() {
                layers.push((path, Vec::new()));
            }
            layers[place].1.push(module);
        }
        let view = base.filter(|base| !base.tensors.is_empty());
        let view = view.map(|base| BaseView::new(&base.tensors, base.config.as_ref()));
        let rest = self.with_modules(Vec::new());
        let fitting = Fitting::new(&rest, FitOptions::default());
        for (path, of_layer) in &layers {
            self.modules.extend(separate(&fitting, &rest, path, of_layer, (base, view.as_ref()))?);
        }
        self.sort();
        Ok(self)
    }
}

/// The modules of the experts at `path`, whose packed ones are `packed`.
///
/// They are fitted to the stacked weights that such an adapter belongs to: with a base to its own, else to those
/// whose shapes follow from the factors.
fn separate(
    fitting: &Fitting<'_>,
    adapter: &Adapter,
    path: &str,
    packed: &[Module],
    (base, view): (Option<&Base>, Option<&BaseView<'_>>),
) -> Result<Vec<Module>> {
    let place = |problem: Problem| Error::from(problem).tensor(path).at(&adapter.path);
    let names = if path.contains("block_sparse_moe") { MIXTRAL } else { USUAL };
    let transposed = base.and_then(|base| base.config.as_ref()?.model_type());
    if let Some(family @ ("gpt_oss" | "llama4" | "llama4_text")) = transposed {
        return Err(place(Problem::StackedFamily { family: family.to_string() }));
    }
    let (assumed, of_assumed);
    let view = match view {
        Some(view) => view,
        None => {
            assumed =
                fit::stacked_shapes(fitting, packed, path).ok_or_else(|| place(Problem::PackedExperts))?;
            of_assumed = BaseView::new(&assumed, None);
            &of_assumed
        }
    };
    let mut modules = Vec::new();
    for edit in fitting.modules(view, packed)? {
        let Change::LowRank { terms, .. } = edit.change else { continue };
        let Some(info) = edit.base.map(|index| &view.tensors[index]) else { continue };
        for term in terms {
            modules.extend(of_term(path, &info.name, &info.shape, &term, names)?);
        }
    }
    Ok(modules)
}

/// The modules that one term on a weight called `name` stands for.
fn of_term(path: &str, name: &str, shape: &[usize], term: &LowRank, names: Names) -> Result<Vec<Module>> {
    let module = |path: String, b: Factor| {
        let a = term.a.to_tensor(vec![term.a.rows, term.a.cols])?;
        let b = b.to_tensor(vec![b.rows, b.cols])?;
        Ok(Module::new(path, ModuleKind::Linear, a, b, Scaling::Fixed(term.scale)))
    };
    let &[_, rows, _] = shape else {
        // One tensor for each expert: its name is the module's.
        return Ok(vec![module(name.trim_end_matches(".weight").to_string(), term.b.clone())?]);
    };
    let expert = term.rows.start / rows.max(1);
    let parts: &[&str] = if name.contains("gate_up_proj") { &names[..2] } else { &names[2..] };
    let each = term.b.rows / parts.len();
    let of_part = |(i, part): (usize, &&str)| {
        module(format!("{path}.{expert}.{part}"), term.b.clone().take_rows(i * each, each, 1))
    };
    parts.iter().enumerate().map(of_part).collect()
}
