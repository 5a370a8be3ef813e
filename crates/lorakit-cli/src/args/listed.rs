//! Values that are listed: in help pages, in errors and in completion scripts.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Error};

/// A misspelt value is as near as this to the one that was meant, as clap has it.
const NEAR: f64 = 0.7;

/// One of a list of values, in any case; for any other the nearest is suggested.
#[derive(Clone)]
pub(super) struct Listed<T> {
    values: Vec<(PossibleValue, T)>,
}

impl<T> Listed<T> {
    pub(super) fn new(values: Vec<(PossibleValue, T)>) -> Self {
        Listed { values }
    }

    fn nearest(&self, text: &str) -> Option<String> {
        let text = text.to_lowercase();
        let names = self.values.iter().flat_map(|(value, _)| value.get_name_and_aliases());
        let close = |name: &str| strsim::jaro(&name.to_lowercase(), &text);
        let nearest = names.map(|name| (close(name), name)).max_by(|a, b| a.0.total_cmp(&b.0));
        nearest.filter(|(how, _)| *how > NEAR).map(|(_, name)| name.to_string())
    }
}

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Listed<T> {
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, Error> {
        let text = StringValueParser::new().parse_ref(command, arg, value)?;
        if let Some((_, known)) = self.values.iter().find(|(known, _)| known.matches(&text, true)) {
            return Ok(known.clone());
        }
        let mut error = Error::new(ErrorKind::InvalidValue).with_cmd(command);
        let names = self.values.iter().filter(|(value, _)| !value.is_hide_set());
        let names = names.map(|(value, _)| value.get_name().to_string()).collect();
        if let Some(nearest) = self.nearest(&text) {
            error.insert(ContextKind::SuggestedValue, ContextValue::String(nearest));
        }
        error.insert(
            ContextKind::InvalidArg,
            ContextValue::String(arg.map_or("...".into(), ToString::to_string)),
        );
        error.insert(ContextKind::InvalidValue, ContextValue::String(text));
        error.insert(ContextKind::ValidValue, ContextValue::Strings(names));
        Err(error)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.values.iter().map(|(value, _)| value.clone())))
    }
}

/// A value that has a parser of its own, of which the usual ones are offered by completion scripts.
#[derive(Clone)]
pub(super) struct Offered<P> {
    parser: P,
    values: Vec<PossibleValue>,
}

impl<P> Offered<P> {
    pub(super) fn new(parser: P, values: Vec<PossibleValue>) -> Self {
        Offered { parser, values }
    }
}

impl<P: TypedValueParser> TypedValueParser for Offered<P>
where
    P::Value: Clone + Send + Sync + 'static,
{
    type Value = P::Value;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<P::Value, Error> {
        self.parser.parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.values.iter().cloned()))
    }
}
