//! The record of an input: in its header, or in the file next to its tensors.

use std::path::Path;

use lorakit_tensor::format::gguf::Value as Gguf;
use lorakit_tensor::{Checkpoint, Reader, json};
use serde_json::Value;

use super::record::{Ancestry, VERSION};
use crate::plan::{PROVENANCE_FILE, PROVENANCE_KEY};
use crate::{Finding, Severity};

/// Size limit of a record, for reading and for writing, in bytes.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// Size limit of the file that holds a record and the names of files, with the spaces that make it readable.
const MAX_PAGE: u64 = 32 << 20;
/// How deep a record may be nested. The reader of JSON gives up at 128, and each step adds three.
const MAX_DEPTH: usize = 120;

/// The record of a checkpoint, if it has one, and the problem with a record that cannot be used. `reader` remembers the
/// file next to the tensors as one that was read.
///
/// A single file says in its header where it came from. Each of several files says only a part, and `lorakit.json` next
/// to them says all of it; that file speaks for the tensor files it names, and for a single file whose header says
/// nothing.
pub fn read(checkpoint: &Checkpoint, reader: &Reader) -> (Option<Ancestry>, Vec<Finding>) {
    let mut notes: Vec<Finding> = Vec::new();
    let page = checkpoint.path().with_file_name(PROVENANCE_FILE);
    let mut keep = |found: Option<Result<Ancestry, String>>, file: &Path| match found? {
        Ok(ancestry) => Some(ancestry),
        Err(why) => {
            let message = format!("its record of where the tensors came from is left out: {why}");
            // A header and the file next to it may say the same.
            if notes.iter().all(|note| note.message != message) {
                notes.push(Finding::new(Severity::Note, "lineage", &file.display().to_string(), message));
            }
            None
        }
    };
    let ancestry = if checkpoint.files().len() == 1 {
        keep(in_header(checkpoint), checkpoint.path())
            .or_else(|| keep(beside(checkpoint, &page, reader), &page))
    } else {
        keep(beside(checkpoint, &page, reader), &page)
            .or_else(|| keep(in_header(checkpoint), checkpoint.path()))
    };
    (ancestry, notes)
}

fn in_header(checkpoint: &Checkpoint) -> Option<Result<Ancestry, String>> {
    let text = match checkpoint.gguf() {
        Some(metadata) => match metadata.get(PROVENANCE_KEY)? {
            Gguf::String(text) => text.as_str(),
            Gguf::Bytes(_) => return Some(Err("it is not UTF-8 text".into())),
            _ => return Some(Err("it is not text".into())),
        },
        None => checkpoint.metadata().get(PROVENANCE_KEY)?,
    };
    Some(parse(text.as_bytes()))
}

fn beside(checkpoint: &Checkpoint, path: &Path, reader: &Reader) -> Option<Result<Ancestry, String>> {
    match reader.has(path) {
        Ok(true) => {}
        Ok(false) => return None,
        Err(error) => return Some(Err(error.to_string())),
    }
    let page = match reader.bytes(path, MAX_PAGE).map(|text| json::parse_object(&text)) {
        Ok(Ok(page)) => page,
        Ok(Err(error)) => return Some(Err(format!("it {error}"))),
        Err(error) => return Some(Err(error.to_string())),
    };
    let named = page["files"].as_array()?;
    let own = |file: &lorakit_tensor::Storage| {
        let name = file.path().file_name().and_then(|name| name.to_str());
        named.iter().any(|one| one.as_str().is_some() && one.as_str() == name)
    };
    if !checkpoint.files().iter().all(own) {
        return None;
    }
    let mut record = page;
    if let Some(map) = record.as_object_mut() {
        map.shift_remove("files");
    }
    Some(within(record.to_string().len()).and_then(|()| checked(record)))
}

fn parse(text: &[u8]) -> Result<Ancestry, String> {
    within(text.len())?;
    checked(json::parse_object(text).map_err(|error| format!("it {error}"))?)
}

fn within(bytes: usize) -> Result<(), String> {
    if bytes > MAX_BYTES {
        return Err(format!("it has {bytes} bytes, and at most {MAX_BYTES} are read"));
    }
    Ok(())
}

fn checked(value: Value) -> Result<Ancestry, String> {
    let depth = depth(&value);
    if depth > MAX_DEPTH {
        return Err(format!("it is nested {depth} deep, and at most {MAX_DEPTH} are read"));
    }
    let ancestry = Ancestry(value);
    match ancestry.version() {
        Some(version) if version > VERSION => Ok(ancestry),
        Some(VERSION) if ancestry.record().is_some() => Ok(ancestry),
        Some(VERSION) => Err("it lacks `lorakit`, `verb`, `options` or `parents`".into()),
        _ => Err("its `version` is missing, or not a whole number from 1 on".into()),
    }
}

/// Removes the earliest steps of the longest chain of `record` until it can be read again. Whether any were removed.
pub(super) fn shorten(record: &mut Value) -> bool {
    let mut removed = false;
    while depth(record) > MAX_DEPTH && remove_earliest(record) {
        removed = true;
    }
    removed
}

fn remove_earliest(record: &mut Value) -> bool {
    let parents = record["parents"].as_array_mut().into_iter().flatten();
    let longest = parents.filter(|parent| parent.get("lineage").is_some()).max_by_key(|parent| depth(parent));
    let Some(parent) = longest.and_then(Value::as_object_mut) else { return false };
    parent.get_mut("lineage").is_some_and(remove_earliest) || parent.shift_remove("lineage").is_some()
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_records_are_records() {
        let refused = |text: &str| parse(text.as_bytes()).expect_err("it is refused");
        assert!(refused("{").contains("EOF"), "{}", refused("{"));
        assert_eq!(refused("{}"), "its `version` is missing, or not a whole number from 1 on");
        assert_eq!(refused(r#"{"version": 1}"#), "it lacks `lorakit`, `verb`, `options` or `parents`");
        assert_eq!(refused(&" ".repeat(MAX_BYTES + 1)), "it has 1048577 bytes, and at most 1048576 are read");
        let nested = |n: usize| format!(r#"{{"version":2,"x":{}{}}}"#, "[".repeat(n), "]".repeat(n));
        assert_eq!(refused(&nested(120)), "it is nested 121 deep, and at most 120 are read");
        assert!(refused(&nested(200)).contains("recursion"));
        assert!(parse(nested(119).as_bytes()).is_ok());
    }

    #[test]
    fn a_long_chain_loses_its_beginning() {
        let mut record = json!({ "verb": "first", "parents": [] });
        for step in 0..60 {
            let other = json!({ "name": "other" });
            record = json!({ "verb": step, "parents": [{ "name": step, "lineage": record }, other] });
        }
        assert!(shorten(&mut record));
        assert!(depth(&record) <= MAX_DEPTH && depth(&record) > MAX_DEPTH - 3);
        assert_eq!((&record["verb"], &record["parents"][0]["lineage"]["verb"]), (&json!(59), &json!(58)));
        assert!(!shorten(&mut record));
    }

    #[test]
    fn a_newer_record_is_kept_as_it_is() {
        let text = r#"{"verb":["other"],"version":2}"#;
        let ancestry = parse(text.as_bytes()).expect("it is kept");
        assert_eq!((ancestry.version(), ancestry.record()), (Some(2), None));
        assert_eq!(serde_json::to_string(&ancestry).expect("it is JSON"), text);
    }
}
