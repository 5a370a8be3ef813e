//! Whole files: round trips, prefixes, mutations, and a file of the reference implementation.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::{DType, ErrorKind, ReadMode, Result, Storage, TensorInfo};

/// Reads a header in both modes, which must agree.
pub(super) fn header_of(file: &[u8]) -> Result<Header> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.gguf");
    fs::write(&path, file).unwrap();
    let [mapped, positioned] = [ReadMode::Mapped, ReadMode::Positioned]
        .map(|mode| read_header(&Storage::open(&path, mode).unwrap()));
    assert_eq!(format!("{mapped:?}"), format!("{positioned:?}"));
    mapped
}

/// The file that `layout` describes, with 0xA5 for every tensor byte.
fn file_of(metadata: &Metadata, tensors: &[TensorInfo]) -> Vec<u8> {
    let laid = layout(metadata, tensors).unwrap();
    let mut file = laid.header;
    file.resize(laid.len as usize, 0);
    for (info, offset) in tensors.iter().zip(laid.offsets) {
        file[offset as usize..][..info.byte_len() as usize].fill(0xA5);
    }
    file
}

fn value() -> impl Strategy<Value = Value> {
    fn of<T: Arbitrary + Clone + 'static>(
        one: fn(T) -> Value,
        many: fn(Vec<T>) -> Array,
    ) -> BoxedStrategy<Value> {
        let array = prop::collection::vec(any::<T>(), 0..6);
        prop_oneof![any::<T>().prop_map(one), array.prop_map(move |v| Value::Array(many(v)))].boxed()
    }
    prop_oneof![
        of(Value::U8, Array::U8),
        of(Value::I8, Array::I8),
        of(Value::U16, Array::U16),
        of(Value::I16, Array::I16),
        of(Value::U32, Array::U32),
        of(Value::I32, Array::I32),
        of(Value::F32, Array::F32),
        of(Value::Bool, Array::Bool),
        of(Value::String, Array::String),
        of(Value::U64, Array::U64),
        of(Value::I64, Array::I64),
        of(Value::F64, Array::F64),
    ]
}

fn metadata() -> impl Strategy<Value = Metadata> {
    prop::collection::vec(("[a-z][a-z0-9_.]{0,20}", value()), 0..12).prop_map(|entries| {
        let mut metadata = Metadata::default();
        entries.into_iter().for_each(|(key, value)| metadata.set(&key, value));
        metadata
    })
}

fn tensors() -> impl Strategy<Value = Vec<TensorInfo>> {
    let storable: Vec<DType> = DType::ALL.iter().copied().filter(|d| d.ggml_id().is_some()).collect();
    let tensor = (prop::sample::select(storable), prop::collection::vec(1..4usize, 1..5));
    prop::collection::vec(tensor, 0..6).prop_map(|tensors| {
        let info = |(number, (dtype, mut shape)): (usize, (DType, Vec<usize>))| {
            *shape.last_mut().unwrap() *= dtype.block().elements;
            TensorInfo { name: format!("blk.{number}.weight"), dtype, shape }
        };
        tensors.into_iter().enumerate().map(info).collect()
    })
}

/// One key of every kind of length and two tensors.
fn small_file() -> Vec<u8> {
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", Value::String("llama".into()));
    metadata.set("rope", Value::F32(1e4));
    metadata.set("ok", Value::Bool(true));
    metadata.set("tokens", Value::Array(Array::String(vec!["<s>".into(), String::new(), "é".into()])));
    metadata.set("types", Value::Array(Array::I32(vec![3, 1, 1])));
    let tensor =
        |name: &str, dtype, shape: &[usize]| TensorInfo { name: name.into(), dtype, shape: shape.into() };
    file_of(&metadata, &[tensor("a", DType::F32, &[3, 2]), tensor("b", DType::Q8_0, &[2, 32])])
}

proptest! {
    #[test]
    fn what_is_laid_out_is_read_back(metadata in metadata(), tensors in tensors()) {
        let laid = layout(&metadata, &tensors).unwrap();
        let header = header_of(&file_of(&metadata, &tensors)).unwrap();
        prop_assert_eq!(header.data_start, laid.header.len() as u64);
        let (infos, offsets): (Vec<_>, Vec<_>) = header.tensors.into_iter().map(|t| (t.info, t.offset)).unzip();
        prop_assert_eq!(&infos, &tensors);
        prop_assert_eq!(offsets, laid.offsets);
        // Bytes rather than values: a NaN differs from itself.
        prop_assert_eq!(layout(&header.metadata, &infos).unwrap().header, laid.header);
    }

    #[test]
    fn mutations_are_read_or_refused(edits in prop::collection::vec((any::<Index>(), any::<u8>()), 1..8)) {
        let mut file = small_file();
        for (index, byte) in edits {
            let at = index.index(file.len());
            file[at] = byte;
        }
        if let Ok(header) = header_of(&file) {
            for tensor in header.tensors {
                prop_assert!(tensor.offset + tensor.info.byte_len() <= file.len() as u64);
            }
        }
    }
}

#[test]
fn every_prefix_is_cut_short() {
    let file = small_file();
    assert!(header_of(&file).is_ok());
    let header = header_of(&file).unwrap();
    let last = header.tensors.last().unwrap();
    let end = (last.offset + last.info.byte_len()) as usize;
    for len in 1..end {
        let error = header_of(&file[..len]).expect_err("is a prefix");
        assert_eq!(error.kind(), ErrorKind::Truncated, "{len} bytes: {error}");
    }
    assert!(header_of(&file[..end]).is_ok(), "the padding after the last tensor may be missing");
}

#[test]
fn a_header_longer_than_the_window_is_read() {
    let tokens: Vec<String> = (0..150_000).map(|i| format!("token number {i}")).collect();
    let mut metadata = Metadata::default();
    metadata.set("scores", Value::Array(Array::F32(vec![0.5; 400_000])));
    metadata.set("tokens", Value::Array(Array::String(tokens)));
    let header = header_of(&file_of(&metadata, &[])).unwrap();
    assert!(header.metadata == metadata);
}

/// `fixtures/generate/gguf_reference.py` wrote the file.
#[test]
fn reads_what_the_reference_wrote() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/gguf/reference.gguf");
    let file = fs::read(path).unwrap();
    let header = header_of(&file).unwrap();
    assert_eq!((header.version, header.alignment), (3, 64));

    let strings = |texts: [&str; 2]| texts.map(str::to_string).to_vec();
    let expected = [
        ("general.architecture", Value::String("llama".into())),
        ("general.alignment", Value::U32(64)),
        ("scalar.uint8", Value::U8(8)),
        ("scalar.int8", Value::I8(-8)),
        ("scalar.uint16", Value::U16(16)),
        ("scalar.int16", Value::I16(-16)),
        ("scalar.uint32", Value::U32(32)),
        ("scalar.int32", Value::I32(-32)),
        ("scalar.uint64", Value::U64(64)),
        ("scalar.int64", Value::I64(-64)),
        ("scalar.float32", Value::F32(0.1)),
        ("scalar.float64", Value::F64(0.1)),
        ("scalar.bool", Value::Bool(true)),
        ("scalar.string", Value::String("Grüße, 世界".into())),
        ("array.uint8", Value::Array(Array::U8(vec![0, u8::MAX]))),
        ("array.int8", Value::Array(Array::I8(vec![i8::MIN, i8::MAX]))),
        ("array.uint16", Value::Array(Array::U16(vec![0, u16::MAX]))),
        ("array.int16", Value::Array(Array::I16(vec![i16::MIN, i16::MAX]))),
        ("array.uint32", Value::Array(Array::U32(vec![0, u32::MAX]))),
        ("array.int32", Value::Array(Array::I32(vec![i32::MIN, i32::MAX]))),
        ("array.uint64", Value::Array(Array::U64(vec![0, u64::MAX]))),
        ("array.int64", Value::Array(Array::I64(vec![i64::MIN, i64::MAX]))),
        ("array.float32", Value::Array(Array::F32(vec![0.1, -0.0]))),
        ("array.float64", Value::Array(Array::F64(vec![0.1, -0.0]))),
        ("array.bool", Value::Array(Array::Bool(vec![true, false]))),
        ("array.string", Value::Array(Array::String(strings(["", "▁the"])))),
    ];
    let found: Vec<(&str, &Value)> = header.metadata.iter().collect();
    assert_eq!(found, expected.iter().map(|(key, value)| (*key, value)).collect::<Vec<_>>());

    let (cube, typed) = header.tensors.split_last().unwrap();
    assert_eq!((cube.info.name.as_str(), cube.info.shape.as_slice()), ("cube", [2, 3, 5].as_slice()));
    assert_eq!(typed.len(), 33);
    for tensor in typed {
        let TensorInfo { name, dtype, shape } = &tensor.info;
        assert_eq!(name, &format!("{}.weight", dtype.name().to_lowercase()));
        assert_eq!(shape, &[3, dtype.block().elements], "{dtype}");
        let bytes = &file[tensor.offset as usize..][..tensor.info.byte_len() as usize];
        assert!(bytes.iter().enumerate().all(|(i, &byte)| byte as usize == i % 251), "{dtype}");
    }

    // Everything gguf-py decides - order, padding, offsets - is decided in the same way here.
    let infos: Vec<TensorInfo> = header.tensors.into_iter().map(|t| t.info).collect();
    let laid = layout(&header.metadata, &infos).unwrap();
    assert_eq!(laid.header, file[..header.data_start as usize]);
    assert_eq!(laid.len, file.len() as u64);
}
