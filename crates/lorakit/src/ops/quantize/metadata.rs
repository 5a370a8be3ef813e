//! The metadata of a quantised model, key for key in the order of llama-quantize.

use lorakit_quant::mix::FileType;
use lorakit_tensor::format::gguf::{Metadata, Value};

use super::imatrix::Imatrix;
use crate::model::gguf::QUANTIZATION_VERSION;

/// Keys that describe how the source was split.
const SPLIT_KEYS: [&str; 3] = ["split.no", "split.count", "split.tensors.count"];

/// Longest text of a `quantize.imatrix.*` key, in bytes.
const MAX_TEXT: usize = 127;

/// The keys of `source` without those about splits, then the version of the formats, the mix and what is known about
/// the importance matrix. Keys that `source` already has move to the end.
pub(super) fn metadata(source: &Metadata, mix: FileType, imatrix: Option<&Imatrix>) -> Metadata {
    let mut added = vec![
        ("general.quantization_version", Value::U32(QUANTIZATION_VERSION)),
        ("general.file_type", Value::U32(mix.id())),
    ];
    if let Some(imatrix) = imatrix {
        let path = imatrix.path().to_string_lossy();
        added.push(("quantize.imatrix.file", text(&path)));
        if let Some(dataset) = imatrix.datasets().first() {
            added.push(("quantize.imatrix.dataset", text(dataset)));
        }
        added.push(("quantize.imatrix.entries_count", Value::U32(imatrix.len() as u32)));
        if imatrix.chunks() > 0 {
            added.push(("quantize.imatrix.chunks_count", Value::U32(imatrix.chunks())));
        }
    }

    let moved = |key: &str| SPLIT_KEYS.contains(&key) || added.iter().any(|(added, _)| *added == key);
    let mut metadata = Metadata::default();
    for (key, value) in source.iter().filter(|(key, _)| !moved(key)) {
        metadata.set(key, value.clone());
    }
    for (key, value) in added {
        metadata.set(key, value);
    }
    metadata
}

/// What fits into a key of the tool, cut between characters.
fn text(text: &str) -> Value {
    Value::String(text[..text.floor_char_boundary(MAX_TEXT)].to_string())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn golden() -> serde_json::Value {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/llama-quantize/policy.json");
        serde_json::from_slice(&std::fs::read(path).expect("the golden is readable")).expect("it is JSON")
    }

    fn texts(value: &serde_json::Value) -> Vec<&str> {
        value.as_array().into_iter().flatten().filter_map(|text| text.as_str()).collect()
    }

    #[test]
    fn keys_and_values_are_those_of_the_tool() {
        for file in golden()["files"].as_array().expect("there are files") {
            let mut source = Metadata::default();
            for key in texts(&file["source_keys"]).into_iter().chain(SPLIT_KEYS) {
                let kept = file["values"][key].as_str().unwrap_or("any");
                source.set(key, Value::String(kept.to_string()));
            }
            let imatrix = file["imatrix"].as_bool().expect("a bool").then(|| {
                Imatrix::of_entries(
                    Path::new(file["values"]["quantize.imatrix.file"].as_str().expect("a file")),
                    file["values"]["quantize.imatrix.entries_count"].as_u64().expect("a count") as usize,
                    vec!["a.txt".to_string(), "b.txt".to_string()],
                    7,
                )
            });

            let ours = metadata(&source, FileType::Q4_K_M, imatrix.as_ref());
            assert_eq!(ours.iter().map(|(key, _)| key).collect::<Vec<_>>(), texts(&file["keys"]));
            for (key, value) in file["values"].as_object().expect("there are values") {
                let same = match ours.get(key) {
                    Some(Value::U32(number)) => value == number,
                    Some(Value::String(text)) => value == text,
                    _ => false,
                };
                assert!(same, "{key}: {value}, ours is {:?}", ours.get(key));
            }
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(text(&"é".repeat(100)), Value::String("é".repeat(63)));
        assert_eq!(text("short"), Value::String("short".to_string()));
    }
}
