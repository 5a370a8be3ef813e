//! Whether a value is as a schema asks for.

use serde_json::Value;

use super::{At, Counted, Kind, Rule, Schema};

/// References that may be followed without going into the value.
const DEEPEST: usize = 128;

/// Why a value is not valid: where in it, and what is wrong there.
type Fault = Option<String>;

impl Schema {
    /// Why `value` is not as the schema asks for, with the place in it; none if it is.
    pub fn failure(&self, value: &Value) -> Option<String> {
        self.node(0, value, "", 0)
    }

    fn node(&self, at: At, value: &Value, place: &str, depth: usize) -> Fault {
        if depth > DEEPEST {
            return fault(place, "cannot be judged: the schema refers to itself without end");
        }
        self.nodes[at].rules.iter().find_map(|rule| self.rule(rule, value, place, depth + 1))
    }

    fn is_valid(&self, at: At, value: &Value, depth: usize) -> bool {
        self.node(at, value, "", depth).is_none()
    }

    fn rule(&self, rule: &Rule, value: &Value, place: &str, depth: usize) -> Fault {
        let unless = |holds: bool, why: String| if holds { None } else { fault(place, &why) };
        let number = |holds: &dyn Fn(f64) -> bool, why: String| {
            unless(value.as_f64().is_none_or(holds), format!("is {}, {why}", shortened(value)))
        };
        match rule {
            Rule::Never => fault(place, "must not be there"),
            Rule::Reference(at) => self.node(*at, value, place, depth),
            Rule::Types(kinds) => {
                let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
                let why = format!("is of the type {}, not {}", kind(value).name(), names.join(" or "));
                unless(kinds.iter().any(|kind| is_of(value, *kind)), why)
            }
            Rule::OneOfValues(values) => {
                let known: Vec<String> = values.iter().map(shortened).collect();
                let why = format!("is {}, not {}", shortened(value), known.join(" or "));
                unless(values.iter().any(|known| equal(known, value)), why)
            }
            Rule::Minimum(least) => number(&|found| found >= *least, format!("below {least}")),
            Rule::Maximum(most) => number(&|found| found <= *most, format!("above {most}")),
            Rule::Above(least) => number(&|found| found > *least, format!("not above {least}")),
            Rule::Below(most) => number(&|found| found < *most, format!("not below {most}")),
            Rule::MultipleOf(step) => {
                number(&|found| (found / step).fract() == 0.0, format!("not a multiple of {step}"))
            }
            Rule::AtLeast(counted, least) => match counted.count(value) {
                Some(found) => {
                    unless(found >= *least, format!("has {found} {}, fewer than {least}", counted.noun()))
                }
                None => None,
            },
            Rule::AtMost(counted, most) => match counted.count(value) {
                Some(found) => {
                    unless(found <= *most, format!("has {found} {}, more than {most}", counted.noun()))
                }
                None => None,
            },
            Rule::Pattern(pattern) => match value.as_str() {
                Some(text) => unless(
                    pattern.is_match(text).unwrap_or(false),
                    format!("is {}, which does not match `{}`", shortened(value), pattern.as_str()),
                ),
                None => None,
            },
            Rule::Required(names) => {
                let object = value.as_object()?;
                let missing = names.iter().find(|name| !object.contains_key(*name))?;
                fault(place, &format!("has no `{missing}`"))
            }
            Rule::Properties { named, patterns, others } => {
                value.as_object()?.iter().find_map(|(name, value)| {
                    let place = format!("{place}/{name}");
                    let exact = named.iter().filter(|(known, _)| known == name).map(|(_, at)| *at);
                    let matching = patterns.iter().filter(|(known, _)| known.is_match(name).unwrap_or(false));
                    let mut own: Vec<At> = exact.chain(matching.map(|(_, at)| *at)).collect();
                    if own.is_empty() {
                        own.extend(others);
                    }
                    own.into_iter().find_map(|at| self.node(at, value, &place, depth))
                })
            }
            Rule::Names(at) => value.as_object()?.keys().find_map(|name| {
                self.node(*at, &Value::String(name.clone()), &format!("{place}/{name}"), depth)
            }),
            Rule::Items { first, others } => value.as_array()?.iter().enumerate().find_map(|(i, value)| {
                let at = first.get(i).or(others.as_ref())?;
                self.node(*at, value, &format!("{place}/{i}"), depth)
            }),
            Rule::Unique => {
                let items = value.as_array()?;
                let twice =
                    (1..items.len()).find(|i| items[..*i].iter().any(|other| equal(other, &items[*i])))?;
                fault(place, &format!("has {} twice", shortened(&items[twice])))
            }
            Rule::AnyOf(each) => {
                let any = each.iter().any(|at| self.is_valid(*at, value, depth));
                unless(any, "is as none of `anyOf` asks for".into())
            }
            Rule::OneOf(each) => {
                let found = each.iter().filter(|at| self.is_valid(**at, value, depth)).count();
                unless(found == 1, format!("is as {found} of `oneOf` ask for, not as one"))
            }
            Rule::AllOf(each) => each.iter().find_map(|at| self.node(*at, value, place, depth)),
            Rule::Not(at) => unless(!self.is_valid(*at, value, depth), "is as `not` must not be".into()),
        }
    }
}

impl Counted {
    /// How many a value has, if it is of a type that has any.
    fn count(self, value: &Value) -> Option<u64> {
        let count = match self {
            Counted::Characters => value.as_str()?.chars().count(),
            Counted::Items => value.as_array()?.len(),
            Counted::Properties => value.as_object()?.len(),
        };
        Some(count as u64)
    }

    fn noun(self) -> &'static str {
        match self {
            Counted::Characters => "characters",
            Counted::Items => "items",
            Counted::Properties => "properties",
        }
    }
}

fn fault(place: &str, why: &str) -> Fault {
    Some(if place.is_empty() { why.to_string() } else { format!("`{place}` {why}") })
}

fn kind(value: &Value) -> Kind {
    match value {
        Value::Null => Kind::Null,
        Value::Bool(_) => Kind::Boolean,
        Value::Number(_) if is_of(value, Kind::Integer) => Kind::Integer,
        Value::Number(_) => Kind::Number,
        Value::String(_) => Kind::String,
        Value::Array(_) => Kind::Array,
        Value::Object(_) => Kind::Object,
    }
}

/// Numbers without a fraction are integers, however they are written.
fn is_of(value: &Value, kind: Kind) -> bool {
    match kind {
        Kind::Null => value.is_null(),
        Kind::Boolean => value.is_boolean(),
        Kind::Integer => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|x| x.fract() == 0.0),
        Kind::Number => value.is_number(),
        Kind::String => value.is_string(),
        Kind::Array => value.is_array(),
        Kind::Object => value.is_object(),
    }
}

/// Whether two values mean the same: `1` and `1.0` do, and the order of properties does not matter.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => {
            let whole = |x: &serde_json::Number| x.as_i64().map(i128::from).or(x.as_u64().map(i128::from));
            match (whole(x), whole(y)) {
                (Some(x), Some(y)) => x == y,
                _ => x.as_f64() == y.as_f64(),
            }
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

/// A value in a message.
fn shortened(value: &Value) -> String {
    lorakit_tensor::problem::excerpt(&value.to_string())
}
