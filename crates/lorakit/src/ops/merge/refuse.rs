//! What a merge refuses, and why.

use std::collections::HashSet;
use std::path::Path;

use lorakit_quant::{codec, encoder};
use lorakit_tensor::DType;

use super::Problem;
use super::group::{Group, Groups};
use crate::adapter::key::is_unmerged;
use crate::adapter::{Adapter, Module, ModuleKind, Strength, module_of_parameter};
use crate::ops;
use crate::plan::{Progress, TensorRetention, by_type, go_on, in_order, overall};
use crate::{Error, Finding, Model, Result, Severity, TensorRef};

/// Refuses methods and options for which `W + scale * B * A` is not what was trained.
pub(in crate::ops) fn unmergeable(adapter: &Adapter, residual_base: bool) -> Result<()> {
    let config = &adapter.config;
    let problem = if config.peft_type.is_empty() {
        Problem::NoMethod
    } else if let Some(option) = config.unmergeable.first().cloned() {
        match option.split(':').next().unwrap_or_default() {
            "alora_invocation_tokens" => Problem::Activated { option },
            "arrow_config" => Problem::Routed { option },
            "kasa_config" => Problem::Truncated { option },
            _ => return Err(Error::from(ops::Problem::NotAProduct { option }).at(&adapter.path)),
        }
    } else if config.layer_replication {
        Problem::Replicated
    } else if config.mutates_base() && !config.is_olora() && !residual_base {
        let init = config.init.to_string();
        match config.init.as_str() {
            pissa if pissa.starts_with("pissa_niter") => Problem::RandomPissa { init },
            pissa if pissa.starts_with("pissa") => Problem::Pissa { init },
            _ => Problem::Mutated { init },
        }
    } else {
        return Ok(());
    };
    Err(Error::from(problem).at(&adapter.path))
}

/// Refuses a base into which another adapter was not merged before it was saved.
pub(super) fn unmerged(base: &Model) -> Result<()> {
    let mut names = base.tensors().iter().map(|info| info.name.as_str()).filter(|name| is_unmerged(name));
    let Some(first) = names.next().map(str::to_string) else { return Ok(()) };
    let problem = Problem::UnmergedBase { tensors: names.count() + 1, first };
    Err(Error::from(problem).at(&base.path))
}

/// Refuses weights for parts that have no strength: DoRA at any but 1, and what replaces tensors at a negative one,
/// which is meant to take an adapter out again.
pub(super) fn strength(adapter: &Adapter, weight: f64, own: &Strength, residual_base: bool) -> Result<()> {
    let of_module = |module: &Module| weight * module.strength;
    // A weight that was given to the module alone is not the adapter's fault.
    let told = |problem: Problem, module: &Module| {
        let error = Error::from(problem).at(&adapter.path);
        if module.strength == 1.0 { error } else { error.tensor(&module.path) }
    };
    let dora = adapter.modules.iter().filter(|module| module.magnitude.is_some());
    if let Some(module) = dora.clone().find(|module| of_module(module) != 1.0) {
        let weight = of_module(module);
        let problem =
            if weight < 0.0 { Problem::UndoneDora { weight } } else { Problem::WeightedDora { weight } };
        return Err(told(problem, module));
    }
    // Out of embeddings nothing is taken.
    let initialised = |module: &&Module| module.kind == ModuleKind::Linear && module.base_weight.is_none();
    let mut initialised = adapter.modules.iter().filter(initialised);
    if adapter.config.is_olora()
        && !residual_base
        && let Some(module) = initialised.find(|module| of_module(module) != 1.0)
    {
        let weight = of_module(module);
        let problem = if weight < 0.0 {
            Problem::UndoneInitial { weight }
        } else {
            Problem::WeightedInitial { weight }
        };
        return Err(told(problem, module));
    }
    let of_path = |path: &str| weight * own.of(path);
    if let Some(layer) = adapter.multiplied.iter().find(|layer| of_path(&layer.path) != 1.0) {
        let problem = Problem::WeightedFactors { method: layer.method, weight: of_path(&layer.path) };
        return Err(Error::from(problem).at(&adapter.path));
    }
    let whole =
        adapter.modules.iter().filter(|module| module.base_weight.is_some() && of_module(module) < 0.0);
    let whole = whole.map(|module| module.path.clone());
    let saved = adapter.saved.iter().filter(|saved| of_path(module_of_parameter(&saved.name)) < 0.0);
    let rows = adapter.token_rows.iter().filter(|rows| of_path(&rows.path) < 0.0);
    let whole: Vec<String> = whole
        .chain(saved.map(|saved| saved.name.clone()))
        .chain(rows.map(|rows| rows.path.clone()))
        .collect();
    if whole.is_empty() {
        return Ok(());
    }
    Err(Error::from(Problem::UndoneWhole { tensors: whole.len() }).at(&adapter.path).details(whole))
}

/// Refuses NaN and infinity in an adapter; notes factors that were never trained.
pub(super) fn non_finite_or_untrained(adapter: &Adapter, progress: &dyn Progress) -> Result<Vec<Finding>> {
    let tensors = adapter.numbers();
    progress.begin(tensors.iter().map(|tensor| tensor.info().byte_len()).sum());
    let all_zero = in_order(&tensors, |tensor| {
        go_on(progress, "anything was written")?;
        let scan = tensor.scan()?;
        progress.advance(tensor.info().byte_len());
        match scan.first_bad {
            None => Ok(scan.zero),
            Some((element, value)) => Err(tensor.holds(element, value)),
        }
    })?;
    let zeros = tensors.iter().zip(all_zero).filter(|(_, zero)| *zero);
    let zeros: HashSet<&str> = zeros.map(|(tensor, _)| tensor.info().name.as_str()).collect();
    let zero = |tensor: &TensorRef| zeros.contains(tensor.info().name.as_str());
    let modules = &adapter.modules;
    let untrained = modules.iter().filter(|m| zero(&m.a) || zero(&m.b)).count();
    if untrained == 0 {
        return Ok(Vec::new());
    }
    let message = if untrained == modules.len() {
        "every module has an all-zero factor: it was never trained, and the merge changes nothing".into()
    } else {
        format!("{untrained} of {} modules have an all-zero factor and change nothing", modules.len())
    };
    let subject = adapter.path.display().to_string();
    Ok(vec![Finding::new(Severity::Warning, "untrained", &subject, message)])
}

/// Warns of a weight that leaves nothing of an adapter's deltas.
pub(super) fn weighted_away(adapter: &Adapter, weight: f64) -> Option<Finding> {
    (weight == 0.0 && !adapter.modules.is_empty()).then(|| {
        let message = "weight 0 adds nothing: its deltas are left out";
        Finding::new(Severity::Warning, "weight-zero", &adapter.path.display().to_string(), message)
    })
}

/// Notes that a weight does not reach what an adapter replaces outright.
pub(super) fn weighted_replacements(adapter: &Adapter, weight: f64, own: &Strength) -> Option<Finding> {
    let replaced = if weight == 1.0 { own.replacing } else { adapter.saved.len() + adapter.token_rows.len() };
    (replaced > 0).then(|| {
        let weights = if weight == 1.0 { "weights apply".into() } else { format!("weight {weight} applies") };
        let message = format!("{weights} to its deltas; {replaced} saved tensors are taken over whole");
        Finding::new(Severity::Warning, "weight-ignored", &adapter.path.display().to_string(), message)
    })
}

/// Whether values of that dtype can be calculated with. Float8 codes alone cannot: they need their scales, and where
/// those are known, the tensor is [packed](crate::model::packed) and seen as another dtype.
pub(super) fn holds_numbers(dtype: DType) -> bool {
    let float8 = matches!(dtype, DType::F8_E4M3 | DType::F8_E5M2 | DType::F8_E8M0);
    codec(dtype).is_some() && !float8
}

/// Why an adapter does not fit a base whose weights are packed: its shapes and names are not the model's.
pub(super) fn packed(base: &Model) -> Option<Error> {
    let method = base.config.as_ref()?.quantization()?;
    let packed = base.tensors().iter().filter(|t| t.shape.len() > 1 && !holds_numbers(t.dtype)).count();
    let problem = Problem::Packed { method: method.to_string(), tensors: packed };
    (packed > 0).then(|| Error::from(problem).at(&base.path))
}

/// Refuses to edit tensors that cannot be decoded, or cannot be encoded as `wanted` (or as they were).
pub(super) fn quantized(base: &Model, groups: &Groups, wanted: Option<DType>) -> Result<()> {
    let fixed = |dtype| !holds_numbers(dtype) || encoder(wanted.unwrap_or(dtype)).is_none();
    // What is replaced by values of the same dtype is copied.
    let copied = |group: &Group, dtype: DType| {
        group.only_replaces() && group.replace.as_ref().is_some_and(|new| new.info().dtype == dtype)
    };
    let edited = |(_, group): (_, &Group)| {
        let info = &base.tensors()[group.base?];
        (!copied(group, info.dtype)).then_some(info)
    };
    let blocked: Vec<_> = groups.iter().filter_map(edited).filter(|info| fixed(info.dtype)).collect();
    let Some(first) = blocked.first() else { return Ok(()) };
    let method = base.config.as_ref().and_then(|c| c.quantization());
    let how = method.map_or_else(String::new, |m| format!(" by {m}"));
    let problem = Problem::Opaque { how, tensors: blocked.len(), dtype: first.dtype };
    Err(Error::from(problem).at(&base.path))
}

/// Refuses an output in which less than `min` of the deltas is left.
pub(super) fn lost(tensors: &[TensorRetention], min: f64, output: &Path) -> Result<()> {
    let sum = overall(tensors);
    let Some(ratio) = sum.ratio().filter(|ratio| *ratio < min) else { return Ok(()) };
    let mut worst: Vec<(f64, &TensorRetention)> =
        tensors.iter().filter_map(|t| Some((t.retention.ratio()?, t))).collect();
    worst.sort_by(|a, b| a.0.total_cmp(&b.0));
    let line = |(ratio, t): &(f64, &TensorRetention)| {
        format!("{} ({}): {:.1} %", t.name, t.stored_as, ratio * 100.0)
    };
    let details = worst.iter().map(line).collect();
    let types = by_type(tensors).into_keys().collect::<Vec<_>>().join(" and ");
    let problem = Problem::Lost { percent: ratio * 100.0, needed: min * 100.0, types };
    Err(Error::from(problem).at(output).details(details))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::plan::Retention;

    fn refused(kept: &[(f64, f64)], min: f64) -> Option<Error> {
        let tensor = |(i, (kept, whole)): (usize, &(f64, f64))| TensorRetention {
            name: format!("t{i}"),
            stored_as: "Q4_0",
            retention: Retention { kept: *kept, whole: *whole, moved: 1, ..Retention::default() },
        };
        let tensors: Vec<TensorRetention> = kept.iter().enumerate().map(tensor).collect();
        lost(&tensors, min, Path::new("out")).err()
    }

    /// Everything below the least share is refused, and nothing that reaches it.
    #[test]
    fn the_gate_is_where_it_is_said_to_be() {
        for (kept, wanted) in
            [(0.0, true), (0.26, true), (0.4, true), (0.499, true), (0.5, false), (1.2, false)]
        {
            assert_eq!(refused(&[(kept, 1.0)], 0.5).is_some(), wanted, "{kept}");
        }
        assert!(refused(&[(0.1, 1.0)], 0.0).is_none(), "`--force`");
        assert!(refused(&[(0.0, 0.0)], 0.5).is_none(), "there is nothing to lose");
        assert!(refused(&[], 0.5).is_none());
    }

    /// The sums decide, not the mean of the shares: a large delta that is kept outweighs a small one that is not.
    #[test]
    fn tensors_count_by_their_deltas() {
        assert!(refused(&[(9.0, 10.0), (0.0, 1.0)], 0.5).is_none());
        let error = refused(&[(0.9, 1.0), (1.0, 10.0)], 0.5).unwrap();
        assert_eq!(error.kind(), ErrorKind::Retention);
        assert_eq!(error.detail_lines(), ["t1 (Q4_0): 10.0 %", "t0 (Q4_0): 90.0 %"]);
    }
}
