//! Settings in the making: the keys of a configuration, what was taken over, what is noted and what is refused.

use crate::settings::problem::nearest;
use crate::settings::value::Value;
use crate::settings::yaml::Member;
use crate::settings::{Settings, key};

/// What a key of another program means here.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// The same as this key.
    Same(&'static str),
    /// It is read with others.
    Read,
    /// Nothing: it does not decide the adapter. What to say.
    Idle(&'static str),
    /// Nothing, and there is nothing to say.
    Quiet,
    /// It decides the adapter, and there is no equivalent, unless it is off. Why.
    Refused(&'static str),
}

/// What became of a key that was not taken over as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// It was taken over, and means something else here.
    Changed,
    /// It was left out, and does not decide the adapter.
    LeftOut,
}

/// A key that was not taken over as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Its name; empty if the configuration does not have it.
    pub key: String,
    /// Its line; 0 if the configuration does not have it.
    pub line: u64,
    /// What became of it.
    pub noted: Noted,
    /// Why, and what to do.
    pub text: String,
}

/// Settings in the making.
pub(super) struct Draft<'e> {
    members: Vec<(String, u64, Value)>,
    /// Keys of ours that are set otherwise.
    elsewhere: &'e [&'e str],
    settings: Settings,
    notes: Vec<Note>,
    refused: Vec<(u64, String)>,
}

impl<'e> Draft<'e> {
    pub(super) fn new(members: Vec<Member>, elsewhere: &'e [&'e str]) -> Self {
        let members =
            members.into_iter().map(|member| (member.key, member.line, member.value.into())).collect();
        Draft { members, elsewhere, settings: Settings::new(), notes: Vec::new(), refused: Vec::new() }
    }

    /// Does with every key what its rule says.
    pub(super) fn check(&mut self, program: &str, rules: &[(&'static str, Rule)]) {
        for (name, line, value) in self.members.clone() {
            let exact = rules.iter().find(|(known, _)| *known == name);
            let of_prefix = || rules.iter().find(|(known, _)| is_prefix(known, &name));
            let Some((_, rule)) = exact.or_else(of_prefix) else {
                let known = rules.iter().map(|(known, _)| (*known, *known));
                let near = nearest(&name, known.filter(|(known, _)| !known.ends_with('*')));
                let near = near.map_or(String::new(), |near| format!("; the nearest is `{near}`"));
                self.refuse_at(line, &name, &format!("{program} has no such key that is known here{near}"));
                continue;
            };
            match rule {
                Rule::Read | Rule::Quiet => {}
                _ if is_off(&value) && !matches!(rule, Rule::Same(_)) => {}
                Rule::Same(_) if value == Value::Null => {}
                Rule::Same(ours) => self.set(&name, ours, value),
                Rule::Idle(text) => self.note(&name, Noted::LeftOut, *text),
                Rule::Refused(why) => self.refuse(&name, why),
            }
        }
    }

    /// The value of a key, if it has one.
    pub(super) fn get(&self, name: &str) -> Option<Value> {
        let found = self.members.iter().find(|(known, ..)| known == name);
        found.map(|(.., value)| value.clone()).filter(|value| *value != Value::Null)
    }

    /// The text of a key.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name)?.as_text().map(str::to_string)
    }

    /// Whether a key is set to something that is not off.
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !is_off(&value))
    }

    /// Whether a key of ours is set otherwise.
    pub(super) fn is_elsewhere(&self, ours: &str) -> bool {
        self.elsewhere.contains(&ours)
    }

    /// Takes over the value of `name` as that of `ours`.
    pub(super) fn set(&mut self, name: &str, ours: &str, value: Value) {
        if self.is_elsewhere(ours) {
            return;
        }
        let fits = key(ours).is_some_and(|key| (key.set)(&mut self.settings, &value));
        if !fits {
            let expected = key(ours).map_or(String::new(), |key| key.expected());
            let text = format!("it is {}; as `{ours}` it must be {expected}", value.flow());
            self.refuse(name, &text);
        }
    }

    /// Gives a key of ours the value that the program has by default.
    pub(super) fn default(&mut self, ours: &str, value: &str) {
        self.set("", ours, Value::scalar(value.to_string(), true));
    }

    /// Gives a key of ours the value of `name`, or what the program has by default.
    pub(super) fn set_or(&mut self, name: &str, ours: &str, default: &str) {
        match self.get(name) {
            Some(value) => self.set(name, ours, value),
            None => self.default(ours, default),
        }
    }

    fn line(&self, name: &str) -> u64 {
        self.members.iter().find(|(known, ..)| known == name).map_or(0, |(_, line, _)| *line)
    }

    pub(super) fn note(&mut self, name: &str, noted: Noted, text: impl Into<String>) {
        let line = self.line(name);
        self.notes.push(Note { key: name.to_string(), line, noted, text: text.into() });
    }

    pub(super) fn refuse(&mut self, name: &str, why: &str) {
        self.refuse_at(self.line(name), name, why);
    }

    fn refuse_at(&mut self, line: u64, name: &str, why: &str) {
        let place = if line > 0 { format!("line {line}: ") } else { String::new() };
        self.refused.push((line, format!("{place}`{}`: {why}", name.escape_debug())));
    }

    /// What came of it: settings, notes, and lines for what is refused.
    pub(super) fn finish(mut self) -> (Settings, Vec<Note>, Vec<String>) {
        self.notes.sort_by_key(|note| note.line);
        self.refused.sort_by_key(|(line, _)| *line);
        (self.settings, self.notes, self.refused.into_iter().map(|(_, line)| line).collect())
    }
}

/// Whether a rule for names that begin so is one for this name.
fn is_prefix(rule: &str, name: &str) -> bool {
    rule.strip_suffix('*').is_some_and(|prefix| name.starts_with(prefix))
}

/// Whether a value asks for nothing.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Scalar { text, .. } => {
            let text = text.to_ascii_lowercase();
            let number = value.as_number();
            ["false", "none", "no", "off", ""].contains(&text.as_str()) || number == Some(0.0)
        }
        Value::List(items) => items.is_empty(),
        Value::Map(members) => members.is_empty(),
    }
}

/// What the programs have in common, because transformers lies below both.
impl Draft<'_> {
    /// The betas of AdamW, which are two keys there.
    pub(super) fn betas(&mut self) {
        let one = |name: &str, default: f64| {
            self.get(name).unwrap_or_else(|| crate::settings::value::number(default))
        };
        let betas = Value::List(vec![one("adam_beta1", 0.9), one("adam_beta2", 0.999)]);
        self.set("adam_beta1", "betas", betas);
    }

    /// Where to go on: at a checkpoint, or at the latest.
    pub(super) fn resume(&mut self) {
        const NAME: &str = "resume_from_checkpoint";
        match self.get(NAME) {
            Some(value) if value.as_switch() == Some(true) => self.default("resume", "auto"),
            Some(value) if value.as_switch().is_none() => self.set(NAME, "resume", value),
            _ => {}
        }
    }

    /// An optimiser, which must be a kind of AdamW.
    pub(super) fn adamw(&mut self, name: &str, default: &str) {
        let optimiser = self.text(name).unwrap_or_else(|| default.to_string());
        match optimiser.as_str() {
            "adamw_torch" | "adamw_torch_fused" | "adamw_hf" | "paged_adamw_32bit" => {}
            "adamw_bnb_8bit" | "adamw_8bit" | "paged_adamw_8bit" | "adamw_torch_8bit" => {
                self.note(name, Noted::Changed, "its moments have 8 bits there, and 32 here");
            }
            other => {
                self.refuse(name, &format!("`{}` is not there; the optimiser is AdamW", other.escape_debug()))
            }
        }
    }

    /// A schedule, by transformers' name.
    pub(super) fn course(&mut self, name: &str, default: &str) {
        let course = self.text(name).unwrap_or_else(|| default.to_string());
        match course.as_str() {
            "cosine" | "linear" | "constant" => self.default("schedule", &course),
            "constant_with_warmup" => self.default("schedule", "constant-with-warmup"),
            other => self.refuse(
                name,
                &format!(
                    "`{}` is not there; there are cosine, linear, constant and constant_with_warmup",
                    other.escape_debug()
                ),
            ),
        }
    }

    /// Rows for validation, as a share; transformers' programs take a number of rows too.
    pub(super) fn held(&mut self, name: &str) {
        match self.get(name).and_then(|value| value.as_number()) {
            None | Some(0.0) => {}
            Some(share) if share < 1.0 => self.set(name, "val", crate::settings::value::number(share)),
            Some(_) if self.is_elsewhere("val") => {}
            Some(_) => {
                self.refuse(name, "a number of rows; set the key `val` to a share such as 0.05, or to a file")
            }
        }
    }

    /// Steps, which there may be a share of all.
    pub(super) fn steps(&mut self, name: &str, ours: &str) {
        match self.get(name) {
            Some(steps) if steps.as_number().is_some_and(|steps| steps < 1.0) => self.note(
                name,
                Noted::Changed,
                format!("`{ours}` counts steps, and is an epoch if it is not set; a share of all steps is not taken"),
            ),
            Some(steps) => self.set(name, ours, steps),
            None => {}
        }
    }
}
