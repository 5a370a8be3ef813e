//! Chat templates, as transformers renders them.

mod python;
mod rewrite;

use std::fmt;
use std::ops::Range;

use jiff::ZonedDateTime;
use jiff::civil::{Date, DateTime};
use jiff::fmt::strtime::BrokenDownTime;
use minijinja::value::{Rest, ValueKind};
use minijinja::{AutoEscape, Environment, ErrorKind, State, Value};
use serde_json::{Map, Value as Json};

pub(super) use self::python::json;
use super::problem::Problem;
use crate::Result;

/// What encloses generated text until it is rendered: private-use characters that no text has.
pub(super) const MARKS: [char; 2] = ['\u{F0000}', '\u{F0001}'];

/// More than any template that ends needs for a conversation: loops may be nested, and templates are strangers' code.
const FUEL: u64 = 10_000_000;

/// What templates call the thoughts of a message.
pub(super) const THOUGHTS: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

const DEFAULT: &str = "default";
const TOOL_USE: &str = "tool_use";

/// What templates call for the date.
const NOW: &str = "strftime_now";
/// The name under which a rendering notes that it asked for the date.
const DATED: &str = "dated";

/// A day, as in 2026-11-30.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day(Date);

impl Day {
    /// The day that `text` names, as in `2026-11-30`.
    pub fn new(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }

    /// The day that it is here and now.
    pub fn today() -> Self {
        Self(ZonedDateTime::now().date())
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A chat template: a Jinja program that turns a conversation into text.
///
/// It runs in the environment of transformers' `apply_chat_template`: blocks are trimmed, loops have `break` and
/// `continue`, `tojson`, `raise_exception` and `strftime_now` are there, strings have Python's methods, and values are
/// printed as Python prints them. `{% generation %}` marks what the model writes.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    sources: Vec<(String, String)>,
    tags: bool,
}

/// What a template made of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rendered {
    pub(super) text: String,
    /// What generation tags enclose, in bytes of the text.
    pub(super) generated: Vec<Range<usize>>,
    /// Whether the template asked for the date.
    pub(super) dated: bool,
}

/// The variables of a template.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) messages: &'a [Json],
    pub(super) tools: Option<&'a Json>,
    /// Whether the text ends where the model answers.
    pub(super) prompt: bool,
    /// Special tokens, and what the user gives templates.
    pub(super) variables: &'a Map<String, Json>,
}

impl Template {
    /// A template from its source.
    ///
    /// # Errors
    ///
    /// It is not a Jinja program.
    pub fn new(source: &str) -> Result<Self> {
        Self::named(vec![(DEFAULT.to_string(), source.to_string())])
    }

    /// Templates by name, as `tokenizer_config.json` may list them: `default`, and `tool_use` for conversations with
    /// tools; others are not used.
    ///
    /// # Errors
    ///
    /// `default` is missing, or one is not a Jinja program.
    pub fn named(sources: Vec<(String, String)>) -> Result<Self> {
        if !sources.iter().any(|(name, _)| name == DEFAULT) {
            let found = sources.into_iter().map(|(name, _)| name).collect();
            return Err(Problem::NoDefaultTemplate { found }.into());
        }
        let mut template = Self { environment: environment(), sources, tags: false };
        template.compile()?;
        Ok(template)
    }

    /// Makes the template believe that it is `day`, at midnight. Templates may print the date (`strftime_now`), and then
    /// rows become other tokens every day; a day that is given stays.
    pub fn set_day(&mut self, day: Day) {
        self.environment.add_function(NOW, now(Some(day.0.at(0, 0, 0, 0))));
    }

    fn compile(&mut self) -> Result<()> {
        for (name, source) in &self.sources {
            // Jinja reads all line ends as one.
            let (source, tags) = rewrite::rewrite(&source.replace("\r\n", "\n").replace('\r', "\n"));
            self.tags |= tags;
            self.environment.add_template_owned(name.clone(), source).map_err(|error| broken(&error))?;
        }
        Ok(())
    }

    /// The sources, by name.
    pub fn sources(&self) -> &[(String, String)] {
        &self.sources
    }

    /// Whether a source says `word`.
    pub(super) fn says(&self, word: &str) -> bool {
        self.sources.iter().any(|(_, source)| source.contains(word))
    }

    /// Whether it has generation tags.
    pub fn has_generation_tags(&self) -> bool {
        self.tags
    }

    pub(super) fn render(&self, context: Context<'_>) -> Result<Rendered> {
        let tool_use = context.tools.is_some() && self.sources.iter().any(|(name, _)| name == TOOL_USE);
        let name = if tool_use { TOOL_USE } else { DEFAULT };
        let mut variables = context.variables.clone();
        let tools = context.tools.cloned().unwrap_or_default();
        // What a conversation has wins over what the user gives templates.
        let messages = context.messages.iter().map(with_thoughts).collect();
        variables.insert("messages".into(), messages);
        variables.insert("tools".into(), tools);
        variables.entry("documents").or_insert(Json::Null);
        variables.insert("add_generation_prompt".into(), context.prompt.into());
        let template = self.environment.get_template(name).map_err(|error| broken(&error))?;
        let captured = template.render_captured(Value::from_serialize(&variables));
        let captured = captured.map_err(|error| broken(&error))?;
        let dated = captured.state().get_temp(DATED).is_some();
        Ok(Rendered { dated, ..Rendered::new(captured.output()) })
    }
}

/// `message` with its thoughts under each name by which templates know them, as transformers gives them.
fn with_thoughts(message: &Json) -> Json {
    let mut message = message.clone();
    let thoughts =
        THOUGHTS.iter().find_map(|name| message.get(name)).filter(|thoughts| !thoughts.is_null()).cloned();
    if let (Some(thoughts), Some(fields)) = (thoughts, message.as_object_mut()) {
        fields.entry("thinking").or_insert_with(|| thoughts.clone());
        fields.insert("reasoning_content".into(), thoughts);
    }
    message
}

impl Rendered {
    /// Takes the marks out of `marked`.
    fn new(marked: &str) -> Self {
        let mut text = String::with_capacity(marked.len());
        let mut generated = Vec::new();
        let (mut depth, mut start) = (0_usize, 0);
        for character in marked.chars() {
            if character == MARKS[0] {
                if depth == 0 {
                    start = text.len();
                }
                depth += 1;
            } else if character == MARKS[1] {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    generated.push(start..text.len());
                }
            } else {
                text.push(character);
            }
        }
        Self { text, generated, dated: false }
    }
}

fn broken(error: &minijinja::Error) -> Problem {
    let reason = match error.detail() {
        Some(detail) if error.kind() == ErrorKind::InvalidOperation => detail.to_string(),
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    Problem::Template { line: error.line().unwrap_or_default(), reason }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_formatter(|out, _, value| {
        python::print(out, value).map_err(|_| minijinja::Error::from(ErrorKind::WriteFailure))
    });
    let [open, close] = MARKS;
    environment.add_filter(rewrite::FILTER, move |text: String| format!("{open}{text}{close}"));
    environment.add_filter("string", |value: &Value| {
        let mut text = String::new();
        python::print(&mut text, value)
            .map(|()| text)
            .map_err(|_| minijinja::Error::from(ErrorKind::WriteFailure))
    });
    environment.add_filter("tojson", |value: Value, options| python::tojson(&value, options));
    // In Python `none` cannot be iterated, and texts and objects are sequences.
    environment.add_test("iterable", |value: &Value| {
        value.is_undefined() || value.as_str().is_some() || (!value.is_none() && value.try_iter().is_ok())
    });
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String)
    });
    environment.add_function(
        "raise_exception",
        |message: String, _: Rest<Value>| -> std::result::Result<Value, _> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        },
    );
    environment.add_function(NOW, now(None));
    environment
}

/// The function that templates call for the date; without `time`, it is what it is at each call.
fn now(time: Option<DateTime>) -> impl Fn(&State, String) -> std::result::Result<String, minijinja::Error> {
    move |state, format| {
        state.set_temp(DATED, true.into());
        let time = time.unwrap_or_else(|| ZonedDateTime::now().datetime());
        let text = BrokenDownTime::from(time).to_string(&format);
        text.map_err(|error| minijinja::Error::new(ErrorKind::InvalidOperation, error.to_string()))
    }
}
