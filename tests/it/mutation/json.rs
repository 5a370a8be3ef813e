//! Changes to JSON: values of other types, keys that are missing, renamed or repeated, numbers beyond any range.

use serde_json::Value;

use super::random::Random;

/// Replacements of a value, as text: some are not JSON, some are not numbers that a program can hold.
const VALUES: &[&str] = &[
    "null",
    "true",
    "false",
    "[]",
    "{}",
    "[null]",
    "[[]]",
    "[-1]",
    "{\"a\": 1}",
    "\"\"",
    "\"x\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"a\\nb\"",
    "\"..\"",
    "\"../x\"",
    "\"/etc/passwd\"",
    "\"sub/x.safetensors\"",
    "0",
    "1",
    "-1",
    "2",
    "7",
    "0.5",
    "-0.0",
    "1e-300",
    "1e30",
    "1e400",
    "-1e400",
    "4294967295",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "-9223372036854775808",
    "99999999999999999999999999999",
    "NaN",
    "Infinity",
    "nonsense",
];
/// Placeholder for such text.
const PLACE: &str = "@@a value@@";
/// Prefix of a key that repeats another one.
const AGAIN: &str = "@@again@@";

/// Changes one place of `text`, which must be JSON, and says how.
pub(super) fn spoil(text: &[u8], random: &mut Random) -> Option<(Vec<u8>, String)> {
    let mut root: Value = serde_json::from_slice(text).ok()?;
    let raw = value(random);
    let path = place(&root, random);
    let donor = root.pointer(&place(&root, random)).cloned()?;
    let node = root.pointer_mut(&path)?;
    let how = match (random.below(10), &mut *node) {
        (0 | 1, Value::Object(map)) if !map.is_empty() => {
            let key = key(map, random);
            map.shift_remove(&key);
            format!("`{path}` without `{key}`")
        }
        (2, Value::Object(map)) if !map.is_empty() => {
            let key = key(map, random);
            map.insert(format!("{AGAIN}{key}"), PLACE.into());
            format!("`{path}` with `{key}` twice, the second {}", shortened(&raw))
        }
        (3, Value::Object(map)) if !map.is_empty() => {
            let key = key(map, random);
            let name = random.one(&["", "x", "..", "a\nb", "\u{0}", "__metadata__", "é"]).to_string();
            let value = map.shift_remove(&key)?;
            let how = format!("`{path}` with `{key}` as {name:?}");
            map.insert(name, value);
            how
        }
        (0..=3, Value::Array(items)) if !items.is_empty() => {
            let at = random.below(items.len());
            match random.chance(50) {
                true => drop(items.remove(at)),
                false => items.insert(at, items[at].clone()),
            }
            format!("`{path}` with {} items", items.len())
        }
        (4, _) => {
            *node = donor;
            format!("`{path}` as another value of the file")
        }
        _ => {
            *node = PLACE.into();
            format!("`{path}` as {}", shortened(&raw))
        }
    };
    let text = root.to_string();
    Some((text.replace(&format!("\"{PLACE}\""), &raw).replace(AGAIN, "").into_bytes(), how))
}

fn value(random: &mut Random) -> String {
    match random.below(20) {
        0 => format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)),
        1 => format!("{}1{}", "{\"a\":".repeat(300), "}".repeat(300)),
        2 => format!("\"{}\"", "x".repeat(70_000)),
        3 => format!("[{}0]", "0,".repeat(50_000)),
        4 => random.next().to_string(),
        _ => random.one(VALUES).to_string(),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

fn key(map: &serde_json::Map<String, Value>, random: &mut Random) -> String {
    map.keys().nth(random.below(map.len())).cloned().unwrap_or_default()
}

/// The pointer of some node; each level is as likely as the next.
fn place(root: &Value, random: &mut Random) -> String {
    let (mut node, mut path) = (root, String::new());
    loop {
        let step = match node {
            Value::Object(map) if !map.is_empty() => key(map, random),
            Value::Array(items) if !items.is_empty() => random.below(items.len()).to_string(),
            _ => return path,
        };
        if random.chance(if path.is_empty() { 8 } else { 30 }) {
            return path;
        }
        path.push('/');
        path.push_str(&step.replace('~', "~0").replace('/', "~1"));
        match root.pointer(&path) {
            Some(next) => node = next,
            None => return path,
        }
    }
}
