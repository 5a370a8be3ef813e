//! How `tokenizer.json` writes a merge: `"left right"` or `["left", "right"]`.

use serde_json::Value;

/// `left right`; spaces inside a side are spelled in the byte-level alphabet.
pub(in crate::model) fn pair(merge: &Value) -> Option<String> {
    match merge {
        Value::String(merge) => Some(merge.clone()),
        Value::Array(sides) => match &sides[..] {
            [left, right] => {
                let side = |side: &Value| side.as_str().map(|side| side.replace(' ', "\u{120}"));
                Some(format!("{} {}", side(left)?, side(right)?))
            }
            _ => None,
        },
        _ => None,
    }
}
