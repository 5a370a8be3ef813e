//! The report on a model as text.

use lorakit::ops::inspect::ModelReport;

use super::lineage;
use super::text::{self, field};
use crate::units;

/// Shards that are listed.
const MAX_FILES: usize = 8;

pub(super) fn render(report: &ModelReport) -> String {
    let mut text = text::title("model", &report.path);
    let architecture = match (&report.architecture, &report.model_type) {
        (Some(class), Some(family)) => format!("{class} ({family})"),
        (Some(name), None) | (None, Some(name)) => name.clone(),
        (None, None) => "unknown: there is no `config.json`".into(),
    };
    if let Some(name) = &report.name {
        field(&mut text, "name", name);
    }
    field(&mut text, "architecture", architecture);
    for (label, names) in [("dimensions", &DIMENSIONS[..5]), ("", &DIMENSIONS[5..])] {
        let get = |(key, unit): &(&str, &str)| {
            let (_, value) = report.dimensions.iter().find(|(name, _)| name == key)?;
            let unit = if *value == 1 { unit.trim_end_matches('s') } else { unit };
            Some(format!("{value} {unit}"))
        };
        let line: Vec<String> = names.iter().filter_map(get).collect();
        if !line.is_empty() {
            field(&mut text, label, line.join(", "));
        }
    }
    field(
        &mut text,
        "parameters",
        format!("{} in {}", units::count(report.parameters), units::plural(report.tensors, "tensor")),
    );
    field(&mut text, "dtype", text::dtypes(&report.dtypes));
    let data: u64 = report.dtypes.iter().map(|c| c.bytes).sum();
    let bits = data as f64 * 8.0 / report.parameters.max(1) as f64;
    let files = units::plural(report.files.len(), &format!("{} file", report.format));
    field(
        &mut text,
        "size",
        format!("{} in {files}, {} bits a value", units::size(report.bytes), text::number(bits)),
    );
    if report.files.len() > 1 {
        for file in report.files.iter().take(MAX_FILES) {
            field(
                &mut text,
                "",
                format!(
                    "{}  {}, {}",
                    file.name,
                    units::size(file.bytes),
                    units::plural(file.tensors, "tensor")
                ),
            );
        }
        if report.files.len() > MAX_FILES {
            field(&mut text, "", format!("... {} more (all with `--json`)", report.files.len() - MAX_FILES));
        }
    }
    field(&mut text, "quantised", report.quantization.as_deref().unwrap_or("no"));
    if let Some(tied) = report.tied {
        let words = if tied { "tied: input and output are one tensor" } else { "not tied" };
        field(&mut text, "embeddings", words);
    }
    field(&mut text, "tokenizer", report.tokenizer.as_deref().unwrap_or("none beside it"));
    lineage::render(&mut text, report.lineage.as_ref());
    if !report.findings.is_empty() {
        text::findings(&mut text, &report.findings, false);
    }
    text
}

/// Keys of the report with their printed labels.
const DIMENSIONS: &[(&str, &str)] = &[
    ("layers", "layers"),
    ("hidden", "wide"),
    ("intermediate", "inner"),
    ("heads", "heads"),
    ("kv_heads", "key/value heads"),
    ("experts", "experts"),
    ("vocabulary", "tokens"),
    ("context", "context"),
];
