//! The metadata: what is missing is added, and what is not true of the output is corrected.

use super::licence::{KEYS, Licence};
use super::{Sheet, Subject};
use crate::adapter::format::FORMATS;
use crate::adapter::is_local_path;
use crate::card::{Card, Value};
use crate::lineage::identity::{is_id, short};

const BASE: &str = "base_model";
const RELATION: &str = "base_model_relation";

/// Names the library of an adapter's format. An adapter of PEFT may be called one of transformers, which loads both.
fn set_library(card: &mut Card, library: &'static str) {
    let mut libraries = FORMATS.iter().filter_map(|format| format.loading()).map(|loading| loading.library);
    let wrong = card.library().is_some_and(|known| {
        let of_another =
            libraries.any(|other| other == known) || known == "transformers" && library != "peft";
        known != library && of_another
    });
    let value = Value::text(library);
    let _ = if wrong { card.set("library_name", &value) } else { card.complete("library_name", &value) };
}

impl Sheet {
    /// Completes the metadata. An edit that is impossible, because other keys depend on the one in question, is left.
    pub(super) fn complete(&self, card: &mut Card) {
        match &self.subject {
            Subject::Adapter(adapter) => {
                let known = card.base_models().into_iter().map(str::to_string).collect::<Vec<_>>();
                match self.base_id() {
                    Some(id) if !known.contains(&id) => _ = card.set(BASE, &Value::text(id)),
                    // The hub takes no paths, and they say something about a machine.
                    None if known.iter().any(|name| is_local_path(name)) => _ = card.remove(BASE),
                    _ => {}
                }
                let _ = card.set(RELATION, &Value::text("adapter"));
                if let Some(loading) = adapter.loading {
                    set_library(card, loading.library);
                }
            }
            Subject::Model(model) => {
                self.complete_origin(card);
                if let Some(library) = model.library {
                    let _ = card.complete("library_name", &Value::text(library));
                }
            }
        }
        match self.licence() {
            // The keys belong together.
            Licence::Agreed(values) if card.get("license").is_none_or(|value| *value == Value::Empty) => {
                for (key, value) in values {
                    let _ = card.set(key, &value);
                }
            }
            Licence::Differ(_) => KEYS.into_iter().for_each(|key| _ = card.remove(key)),
            _ => {}
        }
        let _ = card.complete("tags", &Value::List(self.tags()));
    }

    /// The base of a model that was made from another one.
    fn complete_origin(&self, card: &mut Card) {
        let Some(relation) = self.relation() else { return };
        match self.base_id() {
            Some(id) => {
                let _ = card.set(BASE, &Value::text(id));
                let _ = card.set(RELATION, &Value::text(relation));
            }
            // A step before this one wrote it, and it is still true: of what it names, this was made.
            None if card.has_section() && !card.base_models().is_empty() => {
                let _ = card.complete(RELATION, &Value::text(relation));
            }
            // What the card of the base says is the base of the base.
            None => {
                let _ = card.remove(BASE);
                let _ = card.set(RELATION, &Value::text(relation));
            }
        }
    }

    /// What the output is to its base, in the hub's words.
    pub(super) fn relation(&self) -> Option<&'static str> {
        match (&self.subject, self.record.verb.as_str()) {
            (Subject::Adapter(_), _) => Some("adapter"),
            (_, "merge") => Some("merge"),
            (_, "quantize") => Some("quantized"),
            (_, "train") => Some("finetune"),
            _ => None,
        }
    }

    /// The id on the hub of the base. That which the adapters of a merge name counts if the folder has its name, or if
    /// the configuration of the base names it too; otherwise they may be merged into another model of the same shapes.
    pub(super) fn base_id(&self) -> Option<String> {
        let own = self.base().and_then(|(_, input)| input.id.clone());
        let Subject::Model(_) = &self.subject else {
            let Subject::Adapter(adapter) = &self.subject else { return own };
            return adapter.base.clone().filter(|name| is_id(name)).or(own);
        };
        own.or_else(|| {
            let (base, input) = self.base()?;
            let mut named = self.record.parents.iter().filter_map(|parent| parent.base_model.as_deref());
            let first = named.next().filter(|name| is_id(name))?;
            let known =
                short(first).eq_ignore_ascii_case(&base.name) || input.claimed.as_deref() == Some(first);
            (known && named.all(|name| name == first)).then(|| first.to_string())
        })
    }

    fn tags(&self) -> Vec<String> {
        let kind = match &self.subject {
            Subject::Adapter(adapter) if adapter.dora => Some("dora"),
            Subject::Adapter(_) => Some("lora"),
            Subject::Model(_) => self.relation(),
        };
        let mut tags: Vec<String> = kind.into_iter().map(str::to_string).collect();
        let of_type = self.option("type").map(|name| name.to_lowercase());
        tags.extend(of_type.filter(|_| matches!(self.subject, Subject::Model(_))));
        tags.push("lorakit".into());
        tags
    }

    /// An option of the step.
    pub(super) fn option(&self, name: &str) -> Option<String> {
        self.record.options.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}
