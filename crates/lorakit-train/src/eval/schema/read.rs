//! Schemas as JSON writes them.

use std::collections::BTreeMap;
use std::path::Path;

use fancy_regex::Regex;
use serde_json::{Map, Value};

use super::{At, Counted, Kind, Node, Rule, Schema};
use crate::eval::problem::Problem;
use crate::{Error, Result};

/// Keywords that say nothing about validity, or hold schemas that are only referred to.
const PASSED_OVER: &[&str] = &[
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "deprecated",
    "readOnly",
    "writeOnly",
    "example",
    "examples",
    "format",
];

/// How deep schemas may lie in each other.
const DEEPEST: usize = 64;

impl Schema {
    /// Reads a schema: an object, or true or false.
    ///
    /// # Errors
    /// `Usage` for a keyword that is not known here, with its place; for one whose value is of the wrong kind; for a
    /// reference that leads nowhere, or out of the schema.
    pub fn new(value: &Value) -> Result<Self> {
        let mut reader = Reader { whole: value, nodes: Vec::new(), known: BTreeMap::new() };
        reader.referred("")?;
        Ok(Schema { nodes: reader.nodes })
    }

    /// Reads the schema in a file.
    ///
    /// # Errors
    /// If the file cannot be read, or is not JSON; as [`Self::new`].
    pub fn open(path: &Path) -> Result<Self> {
        let bytes =
            crate::files::read(path).map_err(|error| lorakit_tensor::Error::io("read", path, error))?;
        let wrong = |error: serde_json::Error| Error::from(Problem::NotJson { reason: error.to_string() });
        let value = serde_json::from_slice(&bytes).map_err(|error| wrong(error).at(path))?;
        Self::new(&value).map_err(|error| error.at(path))
    }
}

/// A schema that is being read.
struct Reader<'v> {
    whole: &'v Value,
    nodes: Vec<Node>,
    /// Where the schema at each pointer that is referred to has its node.
    known: BTreeMap<String, At>,
}

impl<'v> Reader<'v> {
    /// The node of the schema at a pointer, which may refer to itself.
    fn referred(&mut self, pointer: &str) -> Result<At> {
        if let Some(at) = self.known.get(pointer) {
            return Ok(*at);
        }
        let whole = self.whole;
        let found =
            whole.pointer(pointer).ok_or_else(|| Problem::Reference { found: format!("#{pointer}") })?;
        let at = self.reserve();
        self.known.insert(pointer.to_string(), at);
        self.fill(at, found, pointer)?;
        Ok(at)
    }

    fn reserve(&mut self) -> At {
        self.nodes.push(Node::default());
        self.nodes.len() - 1
    }

    fn node(&mut self, value: &'v Value, place: &str) -> Result<At> {
        if place.matches('/').count() > DEEPEST {
            return Err(Problem::DeepSchema { deepest: DEEPEST }.into());
        }
        let at = self.reserve();
        self.fill(at, value, place)?;
        Ok(at)
    }

    fn fill(&mut self, at: At, value: &'v Value, place: &str) -> Result<()> {
        let rules = match value {
            Value::Bool(true) => Vec::new(),
            Value::Bool(false) => vec![Rule::Never],
            Value::Object(object) => self.rules(object, place)?,
            _ => return Err(wrong(place, value, "a schema: an object, true or false")),
        };
        self.nodes[at].rules = rules;
        Ok(())
    }

    fn rules(&mut self, object: &'v Map<String, Value>, place: &str) -> Result<Vec<Rule>> {
        let mut rules = Vec::new();
        for (keyword, value) in object {
            let own = format!("{place}/{keyword}");
            let rule = match keyword.as_str() {
                "$ref" => Rule::Reference(self.reference(value, &own)?),
                "type" => Rule::Types(kinds(value, &own)?),
                "enum" => Rule::OneOfValues(list(value, &own)?.to_vec()),
                "const" => Rule::OneOfValues(vec![value.clone()]),
                "minimum" => Rule::Minimum(number(value, &own)?),
                "maximum" => Rule::Maximum(number(value, &own)?),
                "exclusiveMinimum" => Rule::Above(number(value, &own)?),
                "exclusiveMaximum" => Rule::Below(number(value, &own)?),
                "multipleOf" => Rule::MultipleOf(positive(value, &own)?),
                "minLength" => Rule::AtLeast(Counted::Characters, size(value, &own)?),
                "maxLength" => Rule::AtMost(Counted::Characters, size(value, &own)?),
                "minItems" => Rule::AtLeast(Counted::Items, size(value, &own)?),
                "maxItems" => Rule::AtMost(Counted::Items, size(value, &own)?),
                "minProperties" => Rule::AtLeast(Counted::Properties, size(value, &own)?),
                "maxProperties" => Rule::AtMost(Counted::Properties, size(value, &own)?),
                "pattern" => Rule::Pattern(pattern(text(value, &own)?)?),
                "required" => Rule::Required(texts(value, &own)?),
                "propertyNames" => Rule::Names(self.node(value, &own)?),
                "uniqueItems" => match value {
                    Value::Bool(true) => Rule::Unique,
                    Value::Bool(false) => continue,
                    _ => return Err(wrong(&own, value, "true or false")),
                },
                "anyOf" => Rule::AnyOf(self.nodes(value, &own)?),
                "oneOf" => Rule::OneOf(self.nodes(value, &own)?),
                "allOf" => Rule::AllOf(self.nodes(value, &own)?),
                "not" => Rule::Not(self.node(value, &own)?),
                // These speak together.
                "properties" | "patternProperties" | "additionalProperties" | "prefixItems" | "items" => {
                    continue;
                }
                known if PASSED_OVER.contains(&known) => continue,
                _ => return Err(Problem::Keyword { keyword: keyword.clone(), place: shown(place) }.into()),
            };
            rules.push(rule);
        }
        rules.extend(self.properties(object, place)?);
        rules.extend(self.items(object, place)?);
        Ok(rules)
    }

    fn reference(&mut self, value: &Value, place: &str) -> Result<At> {
        let found = text(value, place)?;
        let pointer =
            found.strip_prefix('#').filter(|pointer| pointer.is_empty() || pointer.starts_with('/'));
        let pointer = pointer.ok_or_else(|| Problem::Reference { found: found.to_string() })?;
        self.referred(pointer)
    }

    fn nodes(&mut self, value: &'v Value, place: &str) -> Result<Vec<At>> {
        let each = list(value, place)?.iter().enumerate();
        each.map(|(at, value)| self.node(value, &format!("{place}/{at}"))).collect()
    }

    fn properties(&mut self, object: &'v Map<String, Value>, place: &str) -> Result<Option<Rule>> {
        let (mut named, mut patterns, mut others) = (Vec::new(), Vec::new(), None);
        for keyword in ["properties", "patternProperties"] {
            let Some(value) = object.get(keyword) else { continue };
            let own = format!("{place}/{keyword}");
            let Value::Object(schemas) = value else {
                return Err(wrong(&own, value, "an object of schemas"));
            };
            for (name, schema) in schemas {
                let at = self.node(schema, &format!("{own}/{name}"))?;
                match keyword {
                    "properties" => named.push((name.clone(), at)),
                    _ => patterns.push((pattern(name)?, at)),
                }
            }
        }
        if let Some(value) = object.get("additionalProperties") {
            others = Some(self.node(value, &format!("{place}/additionalProperties"))?);
        }
        let any = !named.is_empty() || !patterns.is_empty() || others.is_some();
        Ok(any.then_some(Rule::Properties { named, patterns, others }))
    }

    fn items(&mut self, object: &'v Map<String, Value>, place: &str) -> Result<Option<Rule>> {
        let first = match object.get("prefixItems") {
            Some(value) => self.nodes(value, &format!("{place}/prefixItems"))?,
            None => Vec::new(),
        };
        let others = match object.get("items") {
            Some(value) => Some(self.node(value, &format!("{place}/items"))?),
            None => None,
        };
        Ok((!first.is_empty() || others.is_some()).then_some(Rule::Items { first, others }))
    }
}

fn kinds(value: &Value, place: &str) -> Result<Vec<Kind>> {
    let expected = "a type, or a list of types: null, boolean, integer, number, string, array, object";
    let kind = |value: &Value| Kind::ALL.into_iter().find(|kind| value.as_str() == Some(kind.name()));
    let kinds = match value {
        Value::Array(several) => several.iter().map(kind).collect(),
        one => kind(one).map(|kind| vec![kind]),
    };
    kinds.ok_or_else(|| wrong(place, value, expected))
}

fn list<'v>(value: &'v Value, place: &str) -> Result<&'v [Value]> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| wrong(place, value, "a list"))
}

fn number(value: &Value, place: &str) -> Result<f64> {
    value.as_f64().ok_or_else(|| wrong(place, value, "a number"))
}

fn positive(value: &Value, place: &str) -> Result<f64> {
    Some(number(value, place)?)
        .filter(|found| *found > 0.0)
        .ok_or_else(|| wrong(place, value, "a number above 0"))
}

fn size(value: &Value, place: &str) -> Result<u64> {
    value.as_u64().ok_or_else(|| wrong(place, value, "a whole number from 0 on"))
}

fn text<'v>(value: &'v Value, place: &str) -> Result<&'v str> {
    value.as_str().ok_or_else(|| wrong(place, value, "a text"))
}

fn texts(value: &Value, place: &str) -> Result<Vec<String>> {
    let each = list(value, place)?.iter();
    each.map(|value| text(value, place).map(str::to_string)).collect()
}

fn pattern(text: &str) -> Result<Regex> {
    let wrong = |error: fancy_regex::Error| Problem::Pattern { text: text.into(), reason: error.to_string() };
    Ok(Regex::new(text).map_err(wrong)?)
}

fn wrong(place: &str, found: &Value, expected: &'static str) -> Error {
    Problem::SchemaValue { place: shown(place), found: found.to_string(), expected }.into()
}

/// A place in a schema, or in a value, as it is written in a reference.
pub(super) fn shown(place: &str) -> String {
    format!("#{place}")
}
