//! Steps in words, and names and numbers as Markdown.

use super::super::{Ancestry, Parent, Record, Role};
use crate::units::scaled;

/// Sentences about earlier steps; the record has the others.
const MAX_STEPS: usize = 20;
/// Options that say nothing to people, or are in the sentence anyway.
const QUIET: &[&str] = &["to", "pre", "max_shard", "moe_layout", "method", "type"];
/// Options at their default.
const DEFAULT: &[(&str, &str)] =
    &[("rounding", "once"), ("tied", "untie"), ("rank", "auto"), ("embeddings", "whole")];

/// What was done, as the end of a sentence: "`a` and `b` merged into `base`".
pub(super) fn of_step(record: &Record) -> String {
    let list = |role: Role| {
        let named: Vec<String> = record.parents.iter().filter(|p| p.role == role).map(named).collect();
        joined(&named)
    };
    let adapters = || {
        let many = record.parents.iter().filter(|parent| parent.role == Role::Adapter).count() > 1;
        format!("the adapter{} {}", if many { "s" } else { "" }, list(Role::Adapter))
    };
    let option = |name: &str| record.options.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
    let said = match record.verb.as_str() {
        "merge" => match option("type") {
            Some(name) => {
                format!("{} merged into {} and quantised to {}", adapters(), list(Role::Base), plain(&name))
            }
            None => format!("{} merged into {}", adapters(), list(Role::Base)),
        },
        "quantize" => {
            format!("{} quantised to {}", list(Role::Model), plain(&option("type").unwrap_or_default()))
        }
        "convert" => {
            let what = if record.parents.iter().any(|p| p.role == Role::Model) {
                list(Role::Model)
            } else {
                adapters()
            };
            format!("{what} converted to {}", format_name(&option("to").unwrap_or_default()))
        }
        "reduce" => format!("{} reduced in rank", adapters()),
        "combine" => {
            let chosen = if option("chosen").is_some() { ", with weights chosen by measuring" } else { "" };
            let method = option("method").map_or(String::new(), |method| format!(" by {}", plain(&method)));
            format!("{} combined{method}{chosen}", adapters())
        }
        "extract" => {
            format!("the difference between {} and its base {}", list(Role::Tuned), list(Role::Base))
        }
        "train" => {
            let quant = record.parents.iter().find_map(|parent| parent.trained_as.as_ref());
            let form = quant.map(|form| format!(" as {}", plain(&form.quant)));
            let start = record.parents.iter().any(|parent| parent.role == Role::Adapter);
            let start = if start { format!(", starting from {}", adapters()) } else { String::new() };
            format!("trained on {}{}{start}", list(Role::Base), form.unwrap_or_default())
        }
        verb => {
            let named: Vec<String> = record.parents.iter().map(named).collect();
            format!("made from {} by {}", joined(&named), code(verb))
        }
    };
    let told = |(name, value): &(&str, String)| {
        !QUIET.contains(name) && !DEFAULT.contains(&(name, value.as_str())) && value.len() < 60
    };
    let options = record.options.iter().filter(told);
    let options: Vec<String> = options
        .map(|(name, value)| format!("{} {}", plain(&name.replace('_', " ")), plain(&value)))
        .collect();
    if options.is_empty() { said } else { format!("{said} ({})", options.join(", ")) }
}

/// A format as a sentence says it.
fn format_name(to: &str) -> String {
    match to {
        "hf" => "a Hugging Face folder".into(),
        "gguf" => "GGUF".into(),
        "peft" => "PEFT".into(),
        "mlx" => "MLX".into(),
        other => plain(other),
    }
}

/// One sentence for each earlier step, from the last to the first.
pub(super) fn of_ancestors(record: &Record) -> Vec<String> {
    let mut sentences = Vec::new();
    gather(record, &mut sentences);
    let more = sentences.len().saturating_sub(MAX_STEPS);
    sentences.truncate(MAX_STEPS);
    if more > 0 {
        let steps = if more == 1 { "step is" } else { "steps are" };
        sentences.push(format!("{more} earlier {steps} in `lorakit.json`."));
    }
    sentences
}

fn gather(record: &Record, sentences: &mut Vec<String>) {
    for parent in &record.parents {
        let Some(ancestry) = &parent.lineage else { continue };
        match Ancestry::record(ancestry) {
            Some(earlier) => {
                sentences.push(format!("{} is {}.", code(&parent.name), of_step(&earlier)));
                gather(&earlier, sentences);
            }
            None => sentences.push(format!("{} has a record of a later version.", code(&parent.name))),
        }
    }
}

fn named(parent: &Parent) -> String {
    match parent.weight {
        Some(weight) if weight != 1.0 => format!("{} (weight {})", code(&parent.name), number(weight)),
        _ => code(&parent.name),
    }
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn joined(items: &[String]) -> String {
    match items {
        [] => "nothing".into(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Text from elsewhere as code, in which nothing is markup.
pub(super) fn code(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() || c == '`' { ' ' } else { c }).collect();
    // Bars would end the cell of a table.
    let text = text.trim().replace('|', "\\|");
    if text.is_empty() { "(no name)".into() } else { format!("`{text}`") }
}

/// A word of our own as it is, anything else as code.
pub(super) fn plain(text: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || " .-+%".contains(c);
    if !text.is_empty() && text.chars().all(harmless) { text.to_string() } else { code(text) }
}

/// At most six digits, none of them useless.
pub(super) fn number(value: f64) -> String {
    let rounded: f64 = format!("{value:.5e}").parse().unwrap_or(value);
    rounded.to_string()
}

/// `123,456`.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.23 MB`: three digits.
pub(super) fn bytes(bytes: u64) -> String {
    scaled(bytes as f64, &["bytes", "kB", "MB", "GB", "TB"])
}

/// `98.76 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{} %", number((share * 1e4).round() / 1e2))
}
