//! What the model card of an output says: metadata for the hub, and a section for people.
//!
//! ```text
//!  cards of the inputs ─┐
//!  record of the step ──┼─► Sheet ─► metadata completed, section replaced, text kept
//!  figures, retention ──┘
//! ```
//!
//! Whatever is written is true of the output, or is not written: see `docs/explanation/cards.md`.

mod facts;
mod gguf;
mod licence;
mod metadata;
#[cfg(test)]
mod tests;
mod text;
mod words;

use std::path::Path;

pub(super) use gguf::card_of as card_of_gguf;
pub(crate) use words::percent;

use super::identity::{Identity, is_id, public_name, short};
use super::{Parent, Record, Role};
use crate::adapter::Adapter;
use crate::card::{Card, Loading};
use crate::plan::{Cover, Held};
use crate::{Finding, ModelConfig, Severity};
use facts::{AdapterFacts, ModelFacts};
use licence::Licence;

/// What a model card says.
#[derive(Debug, Clone)]
pub(crate) struct Sheet {
    record: Record,
    /// Whether the card may tell where the output came from.
    tells: bool,
    /// What is known of each parent, in the same order.
    inputs: Vec<Input>,
    figures: Vec<(String, String)>,
    subject: Subject,
}

/// What is known of a parent.
#[derive(Debug, Clone, Default)]
pub(super) struct Input {
    /// Its model card.
    pub(super) card: Option<Card>,
    /// What it is called here: by its id if that is certain, else by its folder or file.
    pub(super) name: String,
    /// Its id on the hub.
    pub(super) id: Option<String>,
    /// The id that its configuration names: its own, or that of the model from which training began.
    pub(super) claimed: Option<String>,
    /// Whether only its configuration was consulted.
    pub(super) consulted: bool,
    /// The configuration of a model.
    pub(super) config: Option<ModelConfig>,
}

impl Input {
    /// An input at `path`. Whether it lies in the hub's local cache decides whether its id is certain.
    pub(super) fn of_path(path: &Path) -> Self {
        let identity = Identity::of_path(path);
        Input { id: identity.id(), name: identity.name, ..Input::default() }
    }

    /// The same with what a configuration says. The name in it may be that of the model from which training began, so
    /// it is the model's own only if the folder has it too. An output of ours has the configuration of its base.
    pub(super) fn of_config(self, config: Option<&ModelConfig>, made_here: bool) -> Self {
        let claimed = public_name(config).filter(|name| is_id(name) && !made_here);
        let own = claimed.clone().filter(|id| short(id).eq_ignore_ascii_case(&self.name));
        let id = self.id.or(own);
        let name = id.clone().unwrap_or(self.name);
        Input { id, claimed, name, config: config.cloned(), ..self }
    }
}

/// What the card is about.
#[derive(Debug, Clone)]
enum Subject {
    Model(ModelFacts),
    Adapter(AdapterFacts),
}

impl Sheet {
    pub(super) fn new(mut record: Record, inputs: Vec<Input>, tells: bool) -> Self {
        for (parent, input) in record.parents.iter_mut().zip(&inputs) {
            parent.name.clone_from(&input.name);
        }
        let config = inputs.iter().find_map(|input| input.config.as_ref());
        let subject = Subject::Model(ModelFacts::of(config));
        Sheet { record, tells, inputs, figures: Vec::new(), subject }
    }

    /// Adds a row to the figures, or gives it another value.
    pub(super) fn figure(&mut self, name: &str, value: String) {
        match self.figures.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.figures.push((name.to_string(), value)),
        }
    }

    pub(super) fn of_adapter(self, adapter: &Adapter, loading: Option<Loading>) -> Self {
        Sheet { subject: Subject::Adapter(AdapterFacts::of(adapter, loading)), ..self }
    }

    /// What the user should know about the card.
    pub(super) fn notes(&self) -> Vec<Finding> {
        let Licence::Differ(stated) = self.licence() else { return Vec::new() };
        let stated: Vec<String> =
            stated.iter().map(|(name, licence)| format!("{licence} (`{name}`)")).collect();
        let message = format!(
            "what is made from inputs of different licences must comply with all of them: {}; a model card states none",
            stated.join(", ")
        );
        vec![Finding::new(Severity::Warning, "licences-differ", "", message)]
    }

    fn parents(&self) -> impl Iterator<Item = (&Parent, &Input)> {
        self.record.parents.iter().zip(&self.inputs)
    }

    /// The parent whose card goes on as that of the output: the model that is merged into or written in another form,
    /// or the one adapter.
    fn carried(&self) -> Option<(&Parent, &Input)> {
        let roles: &[Role] = match self.subject {
            Subject::Model(_) => &[Role::Base, Role::Model],
            Subject::Adapter(_) => &[Role::Adapter],
        };
        let mut candidates = self.parents().filter(|(parent, _)| roles.contains(&parent.role));
        let first = candidates.next()?;
        candidates.next().is_none().then_some(first)
    }

    /// The parent that is the base of the output.
    fn base(&self) -> Option<(&Parent, &Input)> {
        self.parents().find(|(parent, _)| matches!(parent.role, Role::Base | Role::Model))
    }

    fn licence(&self) -> Licence {
        licence::of(self.parents())
    }

    fn card(&self, held: &Held<'_>) -> Card {
        let mut card = self.carried().and_then(|(_, input)| input.card.clone()).unwrap_or_default();
        if card.is_template() {
            card.set_body("");
        }
        // A front matter that cannot be edited was noted when the card was read, and stays.
        if card.fault().is_none() {
            self.complete(&mut card);
        }
        let section = self.section(&card, held);
        card.set_section(&section);
        card
    }
}

impl Cover for Sheet {
    fn page(&self, held: &Held<'_>) -> Vec<u8> {
        self.card(held).bytes()
    }

    fn kept(&self) -> Option<Vec<u8>> {
        self.carried().and_then(|(_, input)| Some(input.card.as_ref()?.bytes()))
    }
}

/// Whether the output has a file of that name next to its tensors.
fn has(held: &Held<'_>, name: &str) -> bool {
    held.side_files.iter().any(|side| side.name == Path::new(name))
}
