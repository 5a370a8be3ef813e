//! Code that loaders would import because a configuration names it.

use lorakit_tensor::problem::excerpt;

use crate::adapter::Adapter;
use crate::{Finding, Severity};

/// Modules of Python that PEFT imports because the configuration names them: the key, the packages that today's PEFT
/// takes, and who imports.
const IMPORTS: &[(&str, &[&str], &str)] = &[
    (
        "auto_mapping.parent_library",
        &["diffusers", "lerobot", "megatron-core", "transformers"],
        "`AutoPeftModel` imports it",
    ),
    ("megatron_core", &["megatron"], "PEFT imports it beside a `megatron_config`"),
];

/// What the configuration makes PEFT import, other than what it needs.
pub(super) fn findings(adapter: &Adapter) -> Vec<Finding> {
    let named = |path: &str| {
        let mut keys = path.split('.');
        let first = adapter.config.raw.get(keys.next()?)?;
        keys.try_fold(first, |value, key| value.get(key))?.as_str()
    };
    let finding = |&(key, packages, who): &(&str, &[&str], &str)| {
        let name = named(key)?;
        let package = name.split('.').next().unwrap_or_default();
        let message = format!(
            "`{key}` is `{}`: {who} when it loads the adapter, today only from {} by default, and in older versions from \
             anywhere; an adapter needs no other code",
            excerpt(name),
            packages.join(", ")
        );
        (!packages.contains(&package)).then(|| Finding::new(Severity::Warning, "imports-code", "", message))
    };
    // With a task, PEFT takes the class of the task.
    let asked = |(key, ..): &&(&str, &[&str], &str)| {
        !key.starts_with("auto_mapping") || adapter.config.task_type.is_none()
    };
    IMPORTS.iter().filter(asked).filter_map(finding).collect()
}
