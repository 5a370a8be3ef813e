//! What headers and configuration say about an adapter.

use std::collections::{BTreeSet, HashSet};

use super::{ModuleReport, imports, saved};
use crate::adapter::{Adapter, Module, ModuleKind, is_local_path};
use crate::arch::names::{after_dots, ends, ends_in, is_embedding, is_head};
use crate::units::number;
use crate::{Finding, Severity};

/// The code of the finding that the initialisation changed the base.
pub(super) const MUTATED_BASE: &str = "mutated-base";
/// The code of the warning that the configuration contradicts the ranks of factors.
pub(super) const OTHER_RANK: &str = "rank-mismatch";

/// Scales above this are told; alphas of twice the rank give 2, and rsLoRA at rank 256 gives 32.
const LARGE_SCALE: f64 = 64.0;

/// The findings of reading the adapter, and those of comparing its tensors with its configuration.
pub(super) fn headers(adapter: &Adapter, modules: &[ModuleReport]) -> Vec<Finding> {
    let mut findings = tensors(adapter);
    findings.extend(method(adapter));
    findings.extend(ranks(adapter, modules));
    findings.extend(configuration(adapter));
    findings.extend(saved::findings(adapter));
    findings.extend(imports::findings(adapter));
    findings
}

fn whole(severity: Severity, code: &'static str, message: impl Into<String>) -> Finding {
    Finding::new(severity, code, "", message)
}

/// Faults of single tensors; many empty ones are one fault with one remedy.
fn tensors(adapter: &Adapter) -> Vec<Finding> {
    let empty: Vec<&Finding> = adapter.findings.iter().filter(|f| f.code == "zero-size-tensor").collect();
    let total = adapter.tensors().len();
    let zero3 = empty.len() > 1 && empty.len() * 2 >= total;
    let kept = |f: &&Finding| match f.code {
        "zero-size-tensor" => !zero3,
        _ => true,
    };
    let mut findings: Vec<Finding> = Vec::new();
    if zero3 {
        let message = format!(
            "{} of {total} tensors are empty: DeepSpeed ZeRO-3 saved them without gathering its shards. Recover them \
             with `zero_to_fp32.py` from the training checkpoint, or train with \
             `stage3_gather_16bit_weights_on_model_save`",
            empty.len()
        );
        findings.push(whole(Severity::Error, "zero3-remnants", message));
    }
    findings.extend(adapter.findings.iter().filter(kept).cloned());
    if adapter.modules.is_empty()
        && adapter.saved.is_empty()
        && adapter.token_rows.is_empty()
        && adapter.multiplied.is_empty()
        && adapter.deltas.is_empty()
        && findings.is_empty()
    {
        findings.push(whole(Severity::Error, "empty", "holds no low-rank factors and no saved tensors"));
    }
    findings
}

/// Options that change what the factors mean.
fn method(adapter: &Adapter) -> Vec<Finding> {
    let config = &adapter.config;
    let mut findings = Vec::new();
    let mut add = |severity, code, message: String| findings.push(whole(severity, code, message));
    if !config.peft_type.is_empty() && config.peft_type != "LORA" {
        add(
            Severity::Error,
            "foreign-method",
            format!("is an adapter of the method {}, which is not merged", config.peft_type),
        );
    }
    for option in &config.unmergeable {
        add(
            Severity::Error,
            "unmergeable",
            format!("`{option}`: its delta is not scale * B * A, so it cannot be merged"),
        );
    }
    if config.layer_replication {
        add(Severity::Error, "unmergeable", "repeats layers of the base (`layer_replication`)".into());
    }
    if config.mutates_base() {
        let init = &config.init;
        let (severity, message) = if config.is_olora() {
            let message = format!(
                "was initialised with `{init}`: PEFT takes its initial product out of the published model when it loads \
                 it, and so does a merge; whatever only adds it to that model gets a wrong result"
            );
            (Severity::Warning, message)
        } else {
            let message = format!(
                "was initialised with `{init}`, which changed the base weights: it fits the residual model that training \
                 saved, not the published one"
            );
            (Severity::Error, message)
        };
        add(severity, MUTATED_BASE, message);
    }
    if config.use_dora && !adapter.modules.is_empty() && adapter.modules.iter().all(|m| m.magnitude.is_none())
    {
        add(
            Severity::Warning,
            "missing-magnitude",
            "`use_dora` is true, and no module has magnitudes: it acts as LoRA".into(),
        );
    }
    let mut layers = HashSet::new();
    if adapter.modules.iter().filter_map(Module::layer).any(|layer| !layers.insert(layer)) {
        let message = "expert parameters are nested, and no name tells which is which: the innermost is taken to be the \
                       first one that the model's class defines, usually gate_up_proj, as PEFT nests them";
        add(Severity::Note, "experts", message.into());
    }
    if config.use_rslora {
        let message =
            "rsLoRA: the scale is alpha / sqrt(r). Tools that overlook `use_rslora` apply too little";
        add(Severity::Note, "rslora", message.into());
    }
    findings
}

/// Ranks and alphas against the configuration and the shapes.
fn ranks(adapter: &Adapter, reports: &[ModuleReport]) -> Vec<Finding> {
    let config = &adapter.config;
    let mut findings = Vec::new();
    let pairs = || adapter.modules.iter().zip(reports);
    let differs = |(m, r): &(&Module, &ModuleReport)| {
        r.experts.is_none() && m.config_rank.is_some_and(|rank| rank != m.rank() as f64)
    };
    let wrong: Vec<_> = pairs().filter(differs).collect();
    if let Some((module, _)) = wrong.first() {
        let rank = module.config_rank.unwrap_or_default();
        let message = format!(
            "its factors have rank {}, and the configuration says {rank:.0}: the factors decide, scale {}",
            module.rank(),
            module.scale(module.rank())
        );
        findings.push(about(Severity::Warning, OTHER_RANK, &wrong, message));
    }
    let large = |(m, r): &(&Module, &ModuleReport)| {
        let inputs: usize = r.a.iter().skip(1).product();
        // Exact products of other methods may have any rank.
        let of_lora = m.expanded.is_none() && r.experts.is_none();
        of_lora && r.rank > inputs.min(r.b.first().copied().unwrap_or(0))
    };
    let large: Vec<_> = pairs().filter(large).collect();
    if let Some((_, report)) = large.first() {
        let message = format!(
            "rank {} is more than its matrix can have (B {:?}, A {:?})",
            report.rank, report.b, report.a
        );
        findings.push(about(Severity::Warning, "rank-too-large", &large, message));
    }
    findings.extend(scales(adapter, reports));
    findings.extend(negative(adapter, reports));
    // Modules of other methods have the scales of their own methods.
    let of_lora = adapter.modules.iter().any(|module| module.expanded.is_none());
    if !of_lora || adapter.format != "peft" {
        return findings;
    }
    if config.alpha.is_none() {
        let message = "`lora_alpha` is missing from the configuration; PEFT's default, 8, is used";
        findings.push(whole(Severity::Warning, "alpha-missing", message));
    }
    if config.alpha == Some(0.0) {
        let message = "`lora_alpha` is 0, so every scale is 0 and the adapter changes nothing";
        findings.push(whole(Severity::Warning, "alpha-zero", message));
    }
    if config.r.is_none() {
        findings.push(whole(
            Severity::Note,
            "rank-missing",
            "`r` is missing from the configuration; the factors' own is used",
        ));
    }
    findings
}

/// Scales that no recipe gives.
fn scales(adapter: &Adapter, reports: &[ModuleReport]) -> Option<Finding> {
    let pairs = adapter.modules.iter().zip(reports);
    let large: Vec<_> = pairs
        .filter(|(m, r)| m.expanded.is_none() && r.scale.is_finite() && r.scale.abs() > LARGE_SCALE)
        .collect();
    let (_, report) = large.first()?;
    let message = format!(
        "its scale is {} (alpha {}, rank {}), and training usually has 0.1 to 16: if alpha or the rank is wrong, the \
         adapter is too strong by the same factor",
        number(report.scale),
        number(report.alpha),
        report.rank
    );
    Some(about(Severity::Warning, "large-scale", &large, message))
}

/// Scales that take away what was trained.
fn negative(adapter: &Adapter, reports: &[ModuleReport]) -> Option<Finding> {
    let pairs = adapter.modules.iter().zip(reports);
    let negative: Vec<_> = pairs.filter(|(m, r)| m.expanded.is_none() && r.scale < 0.0).collect();
    let (_, report) = negative.first()?;
    let message = format!(
        "its scale is {} (alpha {}, rank {}): the product of its factors is taken away instead of added, and training has \
         no such scales",
        number(report.scale),
        number(report.alpha),
        report.rank
    );
    Some(about(Severity::Warning, "negative-scale", &negative, message))
}

/// A finding about some modules, in the words of the first.
fn about(
    severity: Severity,
    code: &'static str,
    modules: &[(&Module, &ModuleReport)],
    message: String,
) -> Finding {
    let first = modules.first().map_or("", |(m, _)| m.path.as_str());
    match modules.len() {
        0 | 1 => Finding::new(severity, code, first, message),
        n => Finding::new(severity, code, first, format!("{message} (and {})", more_modules(n - 1))),
    }
}

fn more_modules(n: usize) -> String {
    if n == 1 { "1 more module".into() } else { format!("{n} more modules") }
}

/// What the configuration names and the file does not have, and what it should not name.
fn configuration(adapter: &Adapter) -> Vec<Finding> {
    let config = &adapter.config;
    let mut findings = Vec::new();
    match config.base_model.as_deref() {
        Some(name) if is_local_path(name) => {
            let message =
                format!("`base_model_name_or_path` is `{name}`, a path on the machine that trained it");
            findings.push(whole(Severity::Warning, "local-path", message));
        }
        Some(_) => {}
        None if adapter.format != "peft" => {}
        None => findings.push(whole(
            Severity::Note,
            "no-base-model",
            "the configuration does not name its base model",
        )),
    }
    let plain = |name: &&String| {
        name.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c)) && *name != "all-linear"
    };
    let targeted = |name: &&String| plain(name) && !may_be_excluded(adapter, name);
    let names = config.target_modules.iter().filter(targeted).map(String::as_str);
    let targets: Vec<String> = absent(adapter, names).map(|name| format!("`{name}`")).collect();
    if !targets.is_empty() {
        let message =
            format!("`target_modules` names {}, for which there are no tensors", targets.join(", "));
        findings.push(whole(Severity::Warning, "target-without-tensors", message));
    }
    findings.extend(unnamed(adapter));
    findings
}

/// Modules that PEFT would not load.
fn unnamed(adapter: &Adapter) -> Option<Finding> {
    let lost = if adapter.format == "peft" { adapter.unnamed() } else { Vec::new() };
    let first = lost.first()?;
    let message = format!(
        "is {} that `target_modules` and `target_parameters` do not name: PEFT loads the adapter without them, and does \
         not say so",
        match (lost.len(), adapter.modules.len()) {
            (1, _) => "a module".to_string(),
            (count, all) => format!("the first of {count} modules, of {all},"),
        }
    );
    Some(Finding::new(Severity::Warning, "unnamed-modules", &first.path, message))
}

/// Whether `exclude_modules` may be why nothing was trained in the modules that a target names.
fn may_be_excluded(adapter: &Adapter, target: &str) -> bool {
    let excluded = &adapter.config.exclude_modules;
    // Which modules an expression excludes, only the base tells.
    let expression = adapter.config.raw.get("exclude_modules").is_some_and(serde_json::Value::is_string);
    expression || excluded.iter().any(|name| ends_in(target, name) || ends_in(name, target))
}

/// Those of `names` that no module's path ends in, and that no tensor's name contains.
fn absent<'a>(adapter: &Adapter, names: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    let paths: Vec<String> = adapter.modules.iter().map(|m| m.path.replace(".base_layer", "")).collect();
    let of_paths: HashSet<&str> = paths.iter().flat_map(|path| ends(path)).collect();
    let names: Vec<&str> = names.filter(|name| !of_paths.contains(name)).collect();
    let mut left: HashSet<&str> = names.iter().copied().collect();
    let lengths: BTreeSet<usize> = names.iter().map(|name| name.matches('.').count()).collect();
    for tensor in adapter.tensors().iter().take_while(|_| !lengths.is_empty()) {
        for rest in after_dots(&tensor.info().name) {
            let ends = rest.match_indices('.').map(|(dot, _)| &rest[..dot]).enumerate();
            for (_, inside) in ends.filter(|(dots, _)| lengths.contains(dots)) {
                left.remove(inside);
            }
        }
    }
    names.into_iter().filter(move |name| left.contains(name))
}

/// Which embeddings the adapter changes: `(input, output)`.
fn embeddings(adapter: &Adapter) -> (bool, bool) {
    let modules = adapter.modules.iter().map(|m| (m.path.as_str(), m.kind == ModuleKind::Embedding));
    let saved = adapter.saved.iter().map(|s| (s.name.trim_end_matches(".weight"), false));
    let rows = adapter.token_rows.iter().map(|t| (t.path.as_str(), false));
    let (mut input, mut output) = (false, false);
    for (path, embedding) in modules.chain(saved).chain(rows) {
        input |= embedding || is_embedding(path);
        output |= is_head(path);
    }
    (input, output)
}

/// Without the base it is not known whether its embeddings are tied: what to look out for if they are.
pub(super) fn untied_trap(adapter: &Adapter) -> Option<Finding> {
    let side = match embeddings(adapter) {
        (false, false) => return None,
        (true, true) => "the input and the output embedding",
        (true, false) => "the input embedding",
        (false, true) => "the output embedding",
    };
    let message = format!(
        "changes {side}: if the base ties the two, they may have to become two tensors (`--base` tells what a merge does)"
    );
    Some(whole(Severity::Note, "embeddings", message))
}
