//! The section that people read.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::facts::{AdapterFacts, ModelFacts};
use super::licence::Licence;
use super::words::{bytes, code, count, joined, number, of_ancestors, of_step, percent, plain};
use super::{Sheet, Subject, has};
use crate::card::Card;
use crate::lineage::Role;
use crate::lineage::identity::is_id;
use crate::plan::{Held, TypeRetention};

const PROGRAM: &str = "[lorakit](https://github.com/lorakit/lorakit)";

impl Sheet {
    /// The section, for a card that is otherwise complete.
    pub(super) fn section(&self, card: &Card, held: &Held<'_>) -> String {
        let alone = !card.has_text();
        let mut text = format!("{} {}\n", if alone { "#" } else { "##" }, self.title());
        if self.tells {
            let _ = write!(text, "\nMade with {PROGRAM}: {}.\n", of_step(&self.record));
            for sentence in of_ancestors(&self.record) {
                let _ = write!(text, "\n- {sentence}");
            }
            if text.ends_with('.') {
                text.push('\n');
            }
        } else {
            let _ = write!(text, "\nMade with {PROGRAM}.\n");
        }
        let _ = write!(text, "\n| | |\n|---|---|\n");
        for (name, value) in self.rows(held) {
            let _ = writeln!(text, "| {name} | {value} |");
        }
        if let Some(lines) = self.loading(held) {
            let _ = write!(text, "\nTo load it:\n\n```python\n{}\n```\n", lines.trim_end());
        }
        if let Licence::Differ(stated) = self.licence() {
            let told = |(name, licence): &(String, String)| {
                if self.tells { format!("{} ({})", plain(licence), code(name)) } else { plain(licence) }
            };
            let stated: Vec<String> = stated.iter().map(told).collect();
            let _ = write!(
                text,
                "\nIts inputs have different licences, all of which apply: {}.\n",
                joined(&stated)
            );
        }
        if !alone {
            let _ = write!(text, "\n{}\n", self.about_the_rest(card));
        }
        text
    }

    /// What the text below is, which somebody else wrote about something else.
    fn about_the_rest(&self, card: &Card) -> String {
        let whose = match self.carried() {
            Some((parent, _)) if self.tells => format!("the card of {}", code(&parent.name)),
            _ => "the card of what this was made from".into(),
        };
        // The same weights in another form.
        if self.record.verb == "convert" {
            return format!("The text below is {whose}.");
        }
        let results = if card.get("model-index").is_some() {
            " So are the evaluation results in the metadata."
        } else {
            ""
        };
        format!("The text below is {whose}, and describes that.{results}")
    }

    fn title(&self) -> String {
        let shown = |name: String| if is_id(&name) { name } else { code(&name) };
        let of = |role: Role| {
            let named = self.record.parents.iter().filter(|parent| self.tells && parent.role == role);
            named.map(|parent| shown(parent.name.clone())).collect::<Vec<_>>()
        };
        match &self.subject {
            Subject::Adapter(adapter) => {
                let kind = if adapter.dora { "DoRA" } else { "LoRA" };
                match self.base_name() {
                    Some(base) => format!("{kind} adapter for {}", shown(base)),
                    None => format!("{kind} adapter"),
                }
            }
            Subject::Model(_) => {
                let (base, model, adapters) = (of(Role::Base), of(Role::Model), of(Role::Adapter));
                match (self.record.verb.as_str(), base.first().or(model.first())) {
                    ("merge", Some(base)) => format!("{base} with {}", joined(&adapters)),
                    ("merge", None) => "Merged model".into(),
                    ("quantize", Some(model)) => {
                        format!("{model}, quantised to {}", plain(&self.option("type").unwrap_or_default()))
                    }
                    ("quantize", None) => "Quantised model".into(),
                    (_, Some(model)) => model.clone(),
                    (_, None) => "Model".into(),
                }
            }
        }
    }

    /// The id of the base, else the name of its folder, if that may be told.
    fn base_name(&self) -> Option<String> {
        let folder =
            || self.base().map(|(base, _)| base.name.clone()).filter(|name| self.tells && !name.is_empty());
        let said = || match &self.subject {
            Subject::Adapter(adapter) => adapter.base.clone(),
            Subject::Model(_) => None,
        };
        self.base_id().or_else(said).or_else(folder)
    }

    /// The figures.
    fn rows(&self, held: &Held<'_>) -> Vec<(String, String)> {
        let mut rows: Vec<(String, String)> = Vec::new();
        let mut row = |name: &str, value: String| rows.push((name.to_string(), value));
        if let Some(base) = self.base_name().filter(|_| self.relation().is_some()) {
            let link = format!("[{base}](https://huggingface.co/{base})");
            row("Base model", if is_id(&base) { link } else { code(&base) });
        }
        if let Subject::Adapter(adapter) = &self.subject {
            if let Some((low, high)) = adapter.ranks.first().zip(adapter.ranks.last()) {
                row("Rank", range(&low.to_string(), &high.to_string()));
            }
            if let Some((low, high)) = adapter.scales.first().zip(adapter.scales.last()) {
                row("Scale (alpha / rank)", range(&number(*low), &number(*high)));
            }
            row("Modules", count(adapter.modules as u64));
            if adapter.saved > 0 {
                row("Parameters saved whole", count(adapter.saved as u64));
            }
            row("Values in factors", count(adapter.parameters));
        }
        let files =
            if held.files.len() == 1 { String::new() } else { format!(" in {} files", held.files.len()) };
        row("Size", format!("{}{files}", bytes(held.bytes)));
        row("Stored as", types(held));
        for (stored_as, sums) in TypeRetention::by_type(held.retention) {
            if let Some(retention) = sums.retention {
                let name = format!("Retention of the adapters in {stored_as}");
                row(&name, percent(retention));
            }
        }
        rows.extend(self.figures.iter().cloned());
        rows
    }

    fn loading(&self, held: &Held<'_>) -> Option<String> {
        match &self.subject {
            Subject::Adapter(adapter) => self.loading_of_adapter(adapter),
            Subject::Model(model) => Some(loading_of_model(model, held)),
        }
    }

    fn loading_of_adapter(&self, adapter: &AdapterFacts) -> Option<String> {
        let base = self.base_name().unwrap_or_else(|| "BASE".into());
        let loading = adapter.loading?;
        let Some((library, class)) = adapter.class.as_ref().filter(|_| loading.code.contains("{class}"))
        else {
            return Some(loading.without_class.unwrap_or(loading.code).replace("{base}", &literal(&base)));
        };
        let tokenizer = if library == "transformers" { ", AutoTokenizer" } else { "" };
        let import = format!("from {library} import {class}{tokenizer}");
        let code =
            if tokenizer.is_empty() { without_tokenizer(loading.code) } else { loading.code.to_string() };
        // The base comes last: it is somebody else's text.
        Some(code.replace("{import}", &import).replace("{class}", class).replace("{base}", &literal(&base)))
    }
}

/// The lines that do not load a tokenizer.
fn without_tokenizer(code: &str) -> String {
    code.lines().filter(|line| !line.contains("AutoTokenizer")).map(|line| format!("{line}\n")).collect()
}

fn loading_of_model(model: &ModelFacts, held: &Held<'_>) -> String {
    let (Some(library), Some(class)) = (model.library, &model.class) else {
        let file = held.files.first().map_or("model.safetensors", |file| file.name.as_str());
        return format!("from safetensors.torch import load_file\n\nweights = load_file({})", literal(file));
    };
    let remote = if model.remote { ", trust_remote_code=True" } else { "" };
    let here = "  # this folder, or the repository that holds it";
    let load = format!("model = {class}.from_pretrained(\".\"{remote}){here}");
    let tokenizer = ["tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json"];
    if library == "transformers" && tokenizer.into_iter().any(|name| has(held, name)) {
        let tokens = format!("tokenizer = AutoTokenizer.from_pretrained(\".\"{remote})");
        return format!("from {library} import {class}, AutoTokenizer\n\n{load}\n{tokens}");
    }
    format!("from {library} import {class}\n\n{load}")
}

/// A Python literal.
fn literal(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn range(low: &str, high: &str) -> String {
    if low == high { low.to_string() } else { format!("{low} to {high}") }
}

/// The types of the tensors, the most frequent one first. Parts of packed weights are not tensors of their own.
fn types(held: &Held<'_>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, tensor) in held.files.iter().flat_map(|file| &file.tensors) {
        if !tensor.is_part() {
            *counts.entry(tensor.stored_as()).or_default() += 1;
        }
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    match counts.as_slice() {
        [(name, _)] => (*name).to_string(),
        many => many
            .iter()
            .map(|(name, n)| format!("{name} ({n} tensors)"))
            .collect::<Vec<_>>()
            .join(", ")
            .replace("(1 tensors)", "(1 tensor)"),
    }
}
