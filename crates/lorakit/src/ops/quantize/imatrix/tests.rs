use lorakit_tensor::ErrorKind::{Corrupt, Empty, Truncated};
use lorakit_tensor::format::gguf::{Array, Metadata, Value, layout};
use lorakit_tensor::{DType, TensorInfo};

use super::*;
use crate::ErrorKind;

const COLUMNS: usize = 256;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/imatrix").join(name)
}

fn open_bytes(bytes: &[u8]) -> Result<Imatrix> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("imatrix");
    std::fs::write(&path, bytes).expect("it is written");
    Imatrix::open(&path, &Reader::default())
}

#[track_caller]
fn refused(bytes: &[u8], kind: ErrorKind, message: &str) {
    let error = open_bytes(bytes).expect_err(message);
    assert!(error.to_string().contains(message), "{error}");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.path().is_some());
}

fn tensor(name: &str, shape: &[usize]) -> TensorInfo {
    TensorInfo { name: name.to_string(), dtype: DType::F16, shape: shape.to_vec() }
}

/// A file of version "legacy" with one entry and whatever follows.
fn legacy(name: &[u8], calls: i32, values: &[f32], rest: &[u8]) -> Vec<u8> {
    let numbers = |numbers: &[i32]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
    let values_bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    [&numbers(&[1, name.len() as i32]), name, &numbers(&[calls, values.len() as i32]), &values_bytes, rest]
        .concat()
}

/// A GGUF file of F32 tensors, without `absent` among its keys.
fn gguf(tensors: &[(&str, &[usize], &[f32])], absent: &str) -> Vec<u8> {
    let mut metadata = Metadata::default();
    for (key, value) in [
        ("imatrix.datasets", Value::Array(Array::String(vec!["a.txt".into()]))),
        ("imatrix.chunk_count", Value::U32(7)),
        ("imatrix.chunk_size", Value::U32(512)),
    ] {
        if key != absent {
            metadata.set(key, value);
        }
    }
    let infos: Vec<_> = tensors
        .iter()
        .map(|(name, shape, _)| TensorInfo { dtype: DType::F32, ..tensor(name, shape) })
        .collect();
    let layout = layout(&metadata, &infos).expect("a layout");
    let mut file = layout.header;
    for ((_, _, values), offset) in tensors.iter().zip(&layout.offsets) {
        file.resize(*offset as usize, 0);
        file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    file.resize(layout.len as usize, 0);
    file
}

#[test]
fn both_formats_say_the_same() {
    for (file, datasets) in
        [("legacy.dat", &["orders.txt"][..]), ("current.gguf", &["orders.txt", "more.txt"])]
    {
        let imatrix = Imatrix::open(&fixture(file), &Reader::default()).expect(file);
        assert_eq!((imatrix.len(), imatrix.chunks()), (3, 7), "{file}");
        assert_eq!(imatrix.datasets(), datasets, "{file}");
        for (name, matrices, unused) in [
            ("blk.0.attn_q.weight", 1, None),
            ("blk.0.ffn_down_exps.weight", 3, Some(1)),
            ("output.weight", 1, None),
        ] {
            let importance = imatrix.get(name, COLUMNS, matrices).expect(name);
            for (i, value) in importance.iter().enumerate() {
                let mean_square = (i % 50 + 1) as f32 / 10.0;
                let expected = if unused == Some(i / COLUMNS) { 1.0 } else { mean_square };
                assert_eq!(*value, expected, "{file}: {name} {i}");
            }
            assert_eq!(imatrix.get(name, COLUMNS, matrices + 1), None);
        }
        assert_eq!(imatrix.get("blk.0.attn_k.weight", COLUMNS, 1), None);
        assert_eq!(imatrix.get("output.weight", usize::MAX, 2), None);
    }
}

#[test]
fn checks_what_a_model_needs() {
    let imatrix = Imatrix::open(&fixture("current.gguf"), &Reader::default()).expect("a fixture");
    let known = [tensor("output.weight", &[8, 256]), tensor("blk.0.ffn_down_exps.weight", &[3, 8, 256])];
    let unknown = [tensor("blk.1.attn_q.weight", &[8, 256])];

    let coverage = imatrix.check(&known, known.iter().chain(&unknown)).expect("it fits");
    assert_eq!(coverage.covered, ["output.weight", "blk.0.ffn_down_exps.weight"]);
    assert_eq!(coverage.missing, ["blk.1.attn_q.weight"]);
    assert_eq!(imatrix.check(&known, []).expect("nothing is asked"), Coverage::default());

    let error = imatrix.check(&unknown, []).expect_err("no tensor in common");
    assert_eq!(error.kind(), ErrorKind::Imatrix);
    assert!(
        error.to_string().contains("knows none of the model's 1 tensors, such as `blk.1.attn_q.weight`"),
        "{error}"
    );

    let other = [tensor("output.weight", &[8, 512]), tensor("blk.0.ffn_down_exps.weight", &[4, 8, 256])];
    let error = imatrix.check(&known, known.iter().chain(&other)).expect_err("other lengths");
    assert_eq!(error.kind(), ErrorKind::Imatrix);
    assert_eq!(
        error.detail_lines(),
        [
            "`output.weight`: 256 values, expected 512",
            "`blk.0.ffn_down_exps.weight`: 768 values, expected 4 times 256"
        ]
    );
}

#[test]
fn a_token_embedding_of_another_length_is_missing() {
    let imatrix = open_bytes(&legacy(b"token_embd.weight", 1, &[1.0; 3], b"")).expect("a file");
    let embedding = tensor("token_embd.weight", &[8, 256]);
    let all = [embedding.clone()];
    assert_eq!(imatrix.check(&all, [&embedding]).expect("it is of the model").missing, ["token_embd.weight"]);
    let fitting = tensor("token_embd.weight", &[8, 3]);
    let coverage = imatrix.check(&all, [&fitting, &embedding]).expect("one fits");
    assert_eq!((coverage.covered.len(), coverage.missing.len()), (1, 1));
}

#[test]
fn legacy_files_may_end_early() {
    let read = |rest: &[u8]| open_bytes(&legacy(b"w", 2, &[3.0, 5.0], rest)).expect("it is whole");
    for (rest, chunks, datasets) in [
        (&b""[..], 0, &[][..]),
        (b"\x05\0\0\0", 5, &[]),
        (b"\xff\xff\xff\xff", 0, &[]),
        (b"\x05\0\0\0\0\0\0\0", 5, &[]),
        (b"\x05\0\0\0\x01\0\0\0d", 5, &["d"]),
    ] {
        let imatrix = read(rest);
        assert_eq!(
            (imatrix.chunks(), imatrix.datasets()),
            (chunks, &datasets.iter().map(|d: &&str| d.to_string()).collect::<Vec<_>>()[..])
        );
        assert_eq!(imatrix.get("w", 2, 1), Some(&[1.5, 2.5][..]));
    }
    let imatrix = open_bytes(&legacy(b"w", 0, &[3.0], b"")).expect("no calls");
    assert_eq!(imatrix.get("w", 1, 1), Some(&[3.0][..]));
}

#[test]
fn a_cut_at_any_byte_is_an_error() {
    let old = legacy(b"w", 2, &[3.0, 5.0], b"\x05\0\0\0\x07\0\0\0dataset");
    let new = gguf(&[("w.counts", &[1, 1], &[2.0]), ("w.in_sum2", &[1, 8], &[1.0; 8])], "");
    // The count of chunks and the dataset after it may be absent.
    let optional = [old.len() - 15, old.len() - 11];
    for (bytes, whole) in [(old, &optional[..]), (new, &[])] {
        for len in 0..bytes.len() {
            let cut = open_bytes(&bytes[..len]);
            let kind = if len == 0 { Empty } else { Truncated };
            match cut {
                Ok(_) => assert!(whole.contains(&len), "{len} of {} bytes are taken", bytes.len()),
                Err(error) => assert_eq!(error.kind(), ErrorKind::File(kind), "{len}: {error}"),
            }
        }
        assert!(open_bytes(&bytes).is_ok());
    }
}

#[test]
fn refuses_damaged_legacy_files() {
    let corrupt = ErrorKind::File(Corrupt);
    let one = |name: &[u8], values: &[f32]| legacy(name, 1, values, b"");
    refused(&0i32.to_le_bytes(), corrupt, "is not an importance matrix: it announces 0 entries");
    refused(&(-1i32).to_le_bytes(), corrupt, "it announces -1 entries");
    refused(
        b"<html><body>Not found",
        ErrorKind::File(Truncated),
        "or not an importance matrix: it has room for 1 entries",
    );
    refused(&one(b"", &[1.0]), corrupt, "the name of a tensor has length 0 at byte 4");
    refused(&one(b"\xff", &[1.0]), corrupt, "the name of a tensor at byte 8 is not UTF-8 text");
    refused(&one(b"w\0", &[1.0]), corrupt, "is not UTF-8 text");
    refused(&one(b"w", &[]), corrupt, "`w`: the list of values has length 0 at byte 13");
    refused(&legacy(b"w", 1, &[1.0], &[0; 9]), corrupt, "ends at byte 29, and the file has 30");
    refused(&one(b"w", &[1.0, f32::NAN]), ErrorKind::Imatrix, "`w`: value 1 is NaN");
    refused(&one(b"w", &[f32::INFINITY]), ErrorKind::Imatrix, "`w`: value 0 is inf");
    refused(&one(b"w", &[-1.0]), ErrorKind::Imatrix, "`w`: value 0 is -1; an importance is finite");

    let mut huge = one(b"w", &[1.0]);
    huge[13..17].copy_from_slice(&i32::MAX.to_le_bytes());
    refused(&huge, ErrorKind::File(Truncated), "the list of values needs 8589934588 bytes at byte 17");
    let entry = &one(b"w", &[1.0])[4..];
    refused(&[&2i32.to_le_bytes(), entry, entry].concat(), corrupt, "`w`: entry 2 repeats an earlier one");
}

#[test]
fn refuses_damaged_gguf_files() {
    let corrupt = ErrorKind::File(Corrupt);
    let sums = ("w.in_sum2", &[1, 2][..], &[1.0, 2.0][..]);
    let counts = ("w.counts", &[1, 1][..], &[1.0][..]);
    assert!(open_bytes(&gguf(&[sums, counts], "")).is_ok());
    refused(&gguf(&[], ""), corrupt, "no tensor is called `….in_sum2`");
    refused(&gguf(&[sums], ""), corrupt, "`w.in_sum2`: has no `….counts` beside it");
    refused(&gguf(&[counts], ""), corrupt, "`w.counts`: has no `….in_sum2` beside it");
    for key in ["imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"] {
        refused(&gguf(&[sums, counts], key), corrupt, &format!("metadata key `{key}` is absent"));
    }
    let with_counts = |shape, values| gguf(&[sums, ("w.counts", shape, values)], "");
    refused(&with_counts(&[3, 1], &[1.0; 3]), corrupt, "`w`: has 2 sums for 3 matrices");
    refused(&with_counts(&[1, 1], &[-1.0]), corrupt, "`w`: has a count of -1");
    refused(&with_counts(&[1, 1], &[f32::NAN]), corrupt, "`w`: has a count of NaN");
    let negative = ("w.in_sum2", &[1, 2][..], &[1.0, -2.0][..]);
    refused(&gguf(&[negative, counts], ""), ErrorKind::Imatrix, "`w`: value 1 is -2");
}
