//! Checks as files write them: `{"contains": ["a", "b"], "json": true, "max_len": 200}`.

use serde_json::{Map, Value};

use super::{Check, Pattern};
use crate::Result;
use crate::eval::problem::Problem;
use crate::eval::schema::Schema;

/// What checks are called, in the order of messages.
pub(super) const NAMES: [&str; 8] =
    ["exact", "contains", "not_contains", "regex", "json", "json_schema", "max_len", "stop"];

/// The checks of an object. Texts, patterns and schemas may also be lists, all of which must hold.
///
/// # Errors
/// `Usage` for a name that is not one of a check, and for a value of another kind.
pub(in crate::eval) fn checks(object: &Map<String, Value>) -> Result<Vec<Check>> {
    let mut found = Vec::new();
    for (name, value) in object {
        let wrong = |expected: &'static str| Problem::CheckValue {
            check: name.clone(),
            found: value.to_string(),
            expected,
        };
        let each = || match value {
            Value::Array(several) => several.iter().collect(),
            one => vec![one],
        };
        let texts = || -> Result<Vec<&str>> {
            let text = |value| Value::as_str(value).ok_or_else(|| wrong("a text, or a list of texts").into());
            each().into_iter().map(text).collect()
        };
        // Off is as if it were not there.
        let switch = |check: Check| -> Result<Option<Check>> {
            match value {
                Value::Bool(on) => Ok(on.then_some(check)),
                _ => Err(wrong("true or false").into()),
            }
        };
        match name.as_str() {
            "exact" => match value {
                Value::String(text) => found.push(Check::Exact(text.clone())),
                _ => return Err(wrong("a text").into()),
            },
            "contains" => found.extend(texts()?.into_iter().map(|text| Check::Contains(text.into()))),
            "not_contains" => found.extend(texts()?.into_iter().map(|text| Check::NotContains(text.into()))),
            "regex" => {
                for text in texts()? {
                    found.push(Check::Regex(Pattern::new(text)?));
                }
            }
            "json" => found.extend(switch(Check::Json)?),
            "json_schema" => {
                for schema in each() {
                    found.push(Check::JsonSchema(Schema::new(schema)?));
                }
            }
            "max_len" => {
                let most = value.as_u64().and_then(|most| usize::try_from(most).ok());
                found.push(Check::MaxLen(most.ok_or_else(|| wrong("a number of characters"))?));
            }
            "stop" => found.extend(switch(Check::Stop)?),
            _ => return Err(Problem::UnknownCheck { found: name.clone(), known: NAMES.to_vec() }.into()),
        }
    }
    Ok(found)
}
