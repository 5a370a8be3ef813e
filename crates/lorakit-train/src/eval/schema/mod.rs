//! A subset of JSON Schema (draft 2020-12), by which answers are judged.
//!
//! Keywords are those that describe one answer: types, values, sizes, properties, items, combinations, and references
//! within the schema. A keyword that is not among them is refused by its name, so that no rule is overlooked in silence;
//! annotations, `format` among them, say nothing about validity and are passed over. There are libraries with all of
//! the standard; they bring some sixty crates, for references across a network and formats such as e-mail addresses.

mod read;
#[cfg(test)]
mod tests;
mod valid;

use fancy_regex::Regex;
use serde_json::Value;

/// A schema, ready to judge.
#[derive(Debug, Clone)]
pub struct Schema {
    /// All schemas within it; the first is the whole.
    nodes: Vec<Node>,
}

/// One schema among those of a [`Schema`].
#[derive(Debug, Clone, Default)]
struct Node {
    rules: Vec<Rule>,
}

/// The place of a node.
type At = usize;

/// One keyword with what it asks for.
#[derive(Debug, Clone)]
enum Rule {
    /// Nothing is valid.
    Never,
    /// What a schema elsewhere says.
    Reference(At),
    Types(Vec<Kind>),
    OneOfValues(Vec<Value>),
    Minimum(f64),
    Maximum(f64),
    Above(f64),
    Below(f64),
    MultipleOf(f64),
    /// Characters, items or properties.
    AtLeast(Counted, u64),
    AtMost(Counted, u64),
    Pattern(Regex),
    Required(Vec<String>),
    Properties {
        named: Vec<(String, At)>,
        patterns: Vec<(Regex, At)>,
        others: Option<At>,
    },
    /// Schemas of names.
    Names(At),
    Items {
        first: Vec<At>,
        others: Option<At>,
    },
    Unique,
    AnyOf(Vec<At>),
    OneOf(Vec<At>),
    AllOf(Vec<At>),
    Not(At),
}

/// What sizes are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    Characters,
    Items,
    Properties,
}

/// The types of JSON Schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
    const ALL: [Self; 7] =
        [Self::Null, Self::Boolean, Self::Integer, Self::Number, Self::String, Self::Array, Self::Object];

    fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::String => "string",
            Self::Array => "array",
            Self::Object => "object",
        }
    }
}
