//! Metadata of whole folders, against what llama.cpp's converter wrote for them.

use std::path::{Path, PathBuf};

use lorakit_tensor::ReadMode;
use lorakit_tensor::format::gguf::Array;
use serde_json::{Value as Json, json};

use super::*;
use crate::arch::by_model_type;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

fn metadata_of(folder: &Path, pre: Option<&str>, notes: &mut Vec<Finding>) -> Result<Metadata> {
    let model = Model::open(folder, ReadMode::default())?;
    let family = model.config.as_ref().and_then(ModelConfig::model_type).and_then(by_model_type);
    of(&model, family.unwrap(), pre, notes)
}

/// A value as the goldens write it: its type, and the value.
fn golden_value(value: &Value) -> (String, Json) {
    let array = |kind: &str, values: Json| (format!("[{kind}]"), values);
    match value {
        Value::U32(v) => ("uint32".into(), (*v).into()),
        Value::I32(v) => ("int32".into(), (*v).into()),
        Value::F32(v) => ("float32".into(), f64::from(*v).into()),
        Value::Bool(v) => ("bool".into(), (*v).into()),
        Value::String(v) => ("string".into(), v.as_str().into()),
        Value::Array(Array::String(v)) => array("string", v.as_slice().into()),
        Value::Array(Array::I32(v)) => array("int32", v.as_slice().into()),
        Value::Array(Array::F32(v)) => array("float32", v.as_slice().into()),
        other => panic!("{other:?}"),
    }
}

fn golden(name: &str) -> Vec<Json> {
    let text = std::fs::read_to_string(fixture("golden/convert").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[track_caller]
fn compare(folder: &Path, golden: &[Json]) {
    let metadata = metadata_of(folder, None, &mut Vec::new()).unwrap();
    let found = metadata.iter().map(|(key, value)| {
        let (kind, value) = golden_value(value);
        json!([key, kind, value])
    });
    for (found, expected) in found.zip(golden) {
        assert_eq!(found, *expected, "{}", folder.display());
    }
    assert_eq!(metadata.len(), golden.len(), "{}", folder.display());
}

#[test]
fn metadata_are_those_of_the_converter() {
    compare(&fixture("tiny-orders"), &golden("tiny-orders.json"));
}

#[test]
fn metadata_of_variants_are_those_of_the_converter() {
    let base = golden("tiny-orders.json");
    for variant in golden("variants.json") {
        let temporary = tempfile::tempdir().unwrap();
        let folder = copy(temporary.path(), variant["name"].as_str().unwrap(), &variant["files"]);
        let mut expected = variant["metadata"].as_array().unwrap().clone();
        for entry in expected.iter_mut().filter(|entry| entry[2].is_null()) {
            *entry = base.iter().find(|known| known[0] == entry[0]).unwrap().clone();
        }
        compare(&folder, &expected);
    }
}

/// A copy of `tiny-orders` with other files.
fn copy(parent: &Path, name: &str, files: &Json) -> PathBuf {
    let folder = parent.join(name);
    std::fs::create_dir(&folder).unwrap();
    for entry in std::fs::read_dir(fixture("tiny-orders")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    for (file, patch) in files.as_object().unwrap() {
        let path = folder.join(file);
        match patch {
            Json::Null => std::fs::remove_file(&path).unwrap(),
            Json::Object(_) => {
                let mut value = lorakit_tensor::json::read(&path).unwrap();
                merge(&mut value, patch);
                std::fs::write(&path, value.to_string()).unwrap();
            }
            text if file == "tokenizer.model" => {
                std::fs::write(&path, unhex(text.as_str().unwrap())).unwrap()
            }
            text => std::fs::write(&path, text.as_str().unwrap()).unwrap(),
        }
    }
    folder
}

fn unhex(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
}

/// A JSON merge patch (RFC 7386).
fn merge(value: &mut Json, patch: &Json) {
    let Json::Object(members) = patch else {
        *value = patch.clone();
        return;
    };
    if !value.is_object() {
        *value = json!({});
    }
    for (key, member) in members {
        match member {
            Json::Null => drop(value.as_object_mut().unwrap().shift_remove(key)),
            member => merge(&mut value[key], member),
        }
    }
}

fn refusal(files: Json) -> Error {
    let temporary = tempfile::tempdir().unwrap();
    metadata_of(&copy(temporary.path(), "model", &files), None, &mut Vec::new()).unwrap_err()
}

#[test]
fn what_is_missing_or_unknown_is_named() {
    let cases = [
        (json!({"tokenizer.json": null}), ErrorKind::Unsupported, "tokenizer.json", "is not there"),
        (
            json!({"tokenizer.json": {"model": {"type": "WordPiece"}}}),
            ErrorKind::Unsupported,
            "tokenizer.json",
            "WordPiece",
        ),
        (
            json!({"tokenizer.json": {"model": {"merges": null}}}),
            ErrorKind::Config,
            "tokenizer.json",
            "merges",
        ),
        (
            json!({"tokenizer.json": {"pre_tokenizer": null}}),
            ErrorKind::Unsupported,
            "tokenizer.json",
            "--pre NAME",
        ),
        (
            json!({"tokenizer.json": {"model": {"vocab": {"ab cd": 512}}}}),
            ErrorKind::Shape,
            "tokenizer.json",
            "512 rows",
        ),
        (
            json!({"config.json": {"num_hidden_layers": null}}),
            ErrorKind::Config,
            "config.json",
            "num_hidden_layers",
        ),
        (json!({"config.json": {"hidden_size": 1u64 << 32}}), ErrorKind::Config, "config.json", "4294967296"),
    ];
    for (files, kind, file, message) in cases {
        let error = refusal(files);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.path().is_some_and(|path| path.ends_with(file)), "{error:?}");
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn the_name_of_the_pre_tokenizer_can_be_given() {
    let mut notes = Vec::new();
    let pre = |metadata: &Metadata| metadata.get("tokenizer.ggml.pre").unwrap().as_str().unwrap().to_string();
    let given = metadata_of(&fixture("tiny-orders"), Some("mine"), &mut notes).unwrap();
    assert_eq!((pre(&given).as_str(), notes.len()), ("mine", 0));
    let found = metadata_of(&fixture("tiny-orders"), None, &mut notes).unwrap();
    assert_eq!((pre(&found).as_str(), notes[0].code), ("gpt-2", "pre-tokenizer-by-rule"));
}

#[test]
fn a_gguf_file_keeps_its_metadata() {
    let path = fixture("gguf/reference.gguf");
    let model = Model::open(&path, ReadMode::default()).unwrap();
    let found = of(&model, by_model_type("llama").unwrap(), None, &mut Vec::new()).unwrap();
    let source = model.checkpoint().gguf().unwrap();
    assert!(source.iter().all(|(key, value)| found.get(key) == Some(value)));
    assert_eq!(found.len(), source.len() + 1);
    assert!(found.get("general.file_type").is_some());
}
