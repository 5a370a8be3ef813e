//! What headers and configuration say about parameters that are stored whole.

use std::collections::HashSet;

use crate::adapter::{Adapter, module_of_parameter};
use crate::arch::names::{after_dots, is_embedding, is_head};
use crate::{Finding, Severity};

/// Whole parameters.
pub(super) fn findings(adapter: &Adapter) -> Vec<Finding> {
    let mut findings = Vec::new();
    let listed = &adapter.config.modules_to_save;
    let total: u64 = adapter.tensors().iter().map(|t| t.info().byte_len()).sum::<u64>().max(1);
    let share = |bytes: u64| bytes as f64 / total as f64 * 100.0;
    let copies: Vec<u64> =
        adapter.modules.iter().filter_map(|m| Some(m.base_weight.as_ref()?.info().byte_len())).collect();
    if !copies.is_empty() {
        let message = format!(
            "brings the base weight of {} of its modules along ({:.0} % of the file), as PEFT does for adapted \
             embeddings",
            copies.len(),
            share(copies.iter().sum())
        );
        findings.push(Finding::new(Severity::Note, "base-copies", "", message));
    }
    if !adapter.saved.is_empty() {
        let share = share(adapter.saved.iter().map(|s| s.tensor.info().byte_len()).sum());
        let n = adapter.saved.len();
        let message = format!(
            "{n} whole {} saved ({share:.0} % of the file): merging replaces the base's, and weights do not scale them",
            if n == 1 { "parameter is" } else { "parameters are" }
        );
        findings.push(Finding::new(Severity::Note, "modules-to-save", "", message));
    }
    findings.extend(saved_unnamed(adapter));
    if !adapter.deltas.is_empty() {
        let (n, share) =
            (adapter.deltas.len(), share(adapter.deltas.iter().map(|d| d.tensor.info().byte_len()).sum()));
        let are = if n == 1 { "tensor is a full delta" } else { "tensors are full deltas" };
        let message =
            format!("{n} {are} ({share:.0} % of the file): merging adds them as they are, times the weight");
        findings.push(Finding::new(Severity::Note, "full-delta", "", message));
    }
    // Most are a path, or the last name of one; others may be any part of a name.
    let known: HashSet<&str> =
        adapter.saved.iter().filter_map(|s| s.name.rsplit_once('.')).map(|(path, _)| path).collect();
    let there = |name: &str| known.contains(name) || adapter.saved.iter().any(|s| s.name.contains(name));
    for name in listed.iter().filter(|name| !there(name)) {
        let message = format!("`modules_to_save` names `{name}`, and the file does not have it");
        findings.push(Finding::new(Severity::Warning, "saved-missing", "", message));
    }
    findings
}

/// Parameters saved whole that nothing in the configuration asks for. PEFT saves both embeddings by itself if their size
/// changed, never one of them.
fn saved_unnamed(adapter: &Adapter) -> Option<Finding> {
    let config = &adapter.config;
    let by_bias = config.raw.get("bias").is_some_and(|bias| bias != "none");
    let named = |name: &str| {
        let by_task = || is_classifier(config.task_type.as_deref(), module_of_parameter(name));
        config.modules_to_save.iter().any(|entry| name.contains(entry.as_str()))
            || (by_bias && name.ends_with("bias"))
            || config.modules_to_save.is_empty() && by_task()
    };
    let has = |is: fn(&str) -> bool| adapter.saved.iter().any(|saved| is(module_of_parameter(&saved.name)));
    let both = has(is_embedding) && has(is_head);
    let of_peft = |name: &str| both && [is_embedding, is_head].iter().any(|is| is(module_of_parameter(name)));
    let mut unnamed = adapter.saved.iter().filter(|s| !named(&s.name) && !of_peft(&s.name));
    // Other methods save what they are made of under the names of the model.
    let method = config.raw.get("peft_type").and_then(|method| method.as_str());
    let of_lora = adapter.format == "peft" && method.is_none_or(|method| method == "LORA");
    let first = unnamed.next().filter(|_| of_lora)?;
    let more = match unnamed.count() {
        0 => String::new(),
        n => format!(" (and {n} more)"),
    };
    let message = format!(
        "is saved whole{more}, and `modules_to_save` does not name it: PEFT loads it in place of the base's all the same"
    );
    Some(Finding::new(Severity::Warning, "saved-unnamed", &first.name, message))
}

/// Whether PEFT saves the layer at `path` for a task by itself.
fn is_classifier(task: Option<&str>, path: &str) -> bool {
    let by_itself = matches!(task, Some("SEQ_CLS" | "TOKEN_CLS"));
    by_itself
        && ["classifier", "score"].iter().any(|name| after_dots(path).any(|rest| rest.starts_with(name)))
}
