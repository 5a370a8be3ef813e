//! Metadata of whole folders, against what llama.cpp's converter wrote for them.

use std::path::{Path, PathBuf};

use lorakit_tensor::ReadMode;
use lorakit_tensor::format::gguf::Array;
use serde_json::Value as Json;

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

/// Folder and golden, in `fixtures`.
const FOLDERS: &[&str] = &["tiny-orders"];

#[test]
fn metadata_are_those_of_the_converter() {
    for folder in FOLDERS {
        let golden = std::fs::read_to_string(fixture(&format!("golden/convert/{folder}.json"))).unwrap();
        compare(&fixture(folder), &serde_json::from_str(&golden).unwrap());
    }
}

fn compare(folder: &Path, golden: &Json) {
    let metadata = metadata_of(folder, None, &mut Vec::new()).unwrap();
    let found: Vec<_> = metadata
        .iter()
        .map(|(key, value)| {
            let (kind, value) = golden_value(value);
            serde_json::json!([key, kind, value])
        })
        .collect();
    for (found, expected) in found.iter().zip(golden.as_array().unwrap()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), golden.as_array().unwrap().len());
}
