//! `gguf-rs-reads FILE...`: what the crate gguf-rs reads in GGUF files must be what lorakit reads: names, shapes, types,
//! places and sizes of tensors, keys and values of metadata.
//!
//! It reads a file from its first byte to its last tensor info, with code of its own. Where it errs, [`errs`] and
//! [`unknown`] say so.

use std::path::Path;
use std::process::ExitCode;

use gguf_rs::get_gguf_container_array_size;
use lorakit_tensor::format::gguf::{Array, Header, Value, read_header};
use lorakit_tensor::{DType, ReadMode, Reader};
use serde_json::Value as Json;

fn main() -> ExitCode {
    let mut differ = false;
    for file in std::env::args().skip(1) {
        for difference in differences(&file) {
            eprintln!("{file}: {difference}");
            differ = true;
        }
    }
    ExitCode::from(u8::from(differ))
}

fn differences(file: &str) -> Vec<String> {
    let ours = match Reader::new(ReadMode::Positioned).open(Path::new(file)).and_then(|s| read_header(&s)) {
        Ok(header) => header,
        Err(error) => return vec![format!("lorakit: {error}")],
    };
    if ours.tensors.iter().any(|tensor| unknown(tensor.info.dtype)) {
        return Vec::new();
    }
    let theirs = get_gguf_container_array_size(file, u64::MAX).and_then(|mut container| container.decode());
    match theirs {
        Ok(theirs) => compare(&ours, &theirs),
        Err(error) => vec![format!("gguf-rs: {error:#}")],
    }
}

/// It ends with a panic at types that ggml got after MXFP4.
fn unknown(dtype: DType) -> bool {
    dtype.ggml_id().is_none_or(|id| id > 39)
}

/// It takes these types for blocks of 256 values.
fn errs(dtype: DType) -> bool {
    matches!(dtype, DType::BF16 | DType::IQ4_NL | DType::MXFP4 | DType::F64)
        || dtype.ggml_id().is_some_and(|id| (24..=28).contains(&id))
}

fn compare(ours: &Header, theirs: &gguf_rs::GGUFModel) -> Vec<String> {
    let mut found = Vec::new();
    let mut differ = |what: &str, ours: String, theirs: String| {
        if ours != theirs {
            found.push(format!("{what}: lorakit {ours}, gguf-rs {theirs}"));
        }
    };
    differ("tensors", ours.tensors.len().to_string(), theirs.tensors().len().to_string());
    differ("keys", ours.metadata.len().to_string(), theirs.metadata().len().to_string());
    differ("data", ours.data_start.to_string(), theirs.data_offset().to_string());
    for (ours_, theirs_) in ours.tensors.iter().zip(theirs.tensors()) {
        let (info, name) = (&ours_.info, &theirs_.name);
        // Dimensions are innermost first in the file, and there.
        let shape: Vec<u64> = info.shape.iter().rev().map(|&d| d as u64).collect();
        differ("name", info.name.clone(), name.clone());
        differ(name, format!("{shape:?}"), format!("{:?}", theirs_.shape));
        differ(name, format!("type {:?}", info.dtype.ggml_id()), format!("type {:?}", Some(theirs_.kind)));
        differ(name, format!("at {}", ours_.offset), format!("at {}", theirs.data_offset() + theirs_.offset));
        if !errs(info.dtype) {
            differ(name, format!("{} bytes", info.byte_len()), format!("{} bytes", theirs_.size));
        }
    }
    for (key, value) in ours.metadata.iter() {
        match theirs.metadata().get(key) {
            Some(other) if same(value, other) => {}
            other => differ(key, value.to_string(), format!("{other:?}")),
        }
    }
    found
}

fn same(ours: &Value, theirs: &Json) -> bool {
    match ours {
        Value::Bool(v) => theirs == v,
        Value::String(v) => theirs == v,
        Value::Array(array) => theirs.as_array().is_some_and(|list| same_array(array, list)),
        Value::F32(v) => is_f32(*v, theirs),
        Value::F64(v) => theirs.as_f64() == Some(*v).filter(|v| v.is_finite()),
        Value::Bytes(_) => false,
        whole => theirs.to_string() == whole.to_string(),
    }
}

fn same_array(ours: &Array, theirs: &[Json]) -> bool {
    fn texts<T: std::fmt::Display>(ours: &[T], theirs: &[Json]) -> bool {
        ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| a.to_string() == b.to_string())
    }
    match ours {
        Array::U8(v) => texts(v, theirs),
        Array::I8(v) => texts(v, theirs),
        Array::U16(v) => texts(v, theirs),
        Array::I16(v) => texts(v, theirs),
        Array::U32(v) => texts(v, theirs),
        Array::I32(v) => texts(v, theirs),
        Array::U64(v) => texts(v, theirs),
        Array::I64(v) => texts(v, theirs),
        Array::Bool(v) => texts(v, theirs),
        Array::F32(v) => v.len() == theirs.len() && v.iter().zip(theirs).all(|(a, b)| is_f32(*a, b)),
        Array::F64(v) => v.len() == theirs.len() && v.iter().zip(theirs).all(|(a, b)| b.as_f64() == Some(*a)),
        Array::String(v) => v.iter().eq(theirs.iter().filter_map(|text| text.as_str())),
    }
}

/// JSON has no number for what is not finite.
fn is_f32(ours: f32, theirs: &Json) -> bool {
    match theirs.as_f64() {
        Some(number) => number as f32 == ours,
        None => theirs.is_null() && !ours.is_finite(),
    }
}
