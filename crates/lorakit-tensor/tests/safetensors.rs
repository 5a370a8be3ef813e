//! Safetensors headers against the reference crate, and every refusal by name.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;

use lorakit_tensor::format::safetensors::{Header, layout, read_header};
use lorakit_tensor::{DType, Error, ErrorKind, ReadMode, Reader, TensorInfo};
use proptest::prelude::*;

fn read(bytes: &[u8]) -> Result<Header, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    fs::write(&path, bytes).unwrap();
    let mapped = Reader::new(ReadMode::Mapped).open(&path).and_then(|s| read_header(&s));
    let positioned = Reader::new(ReadMode::Positioned).open(&path).and_then(|s| read_header(&s));
    let outcome =
        |r: &Result<Header, Error>| r.as_ref().map(|h| h.tensors.len()).map_err(ToString::to_string);
    assert_eq!(outcome(&mapped), outcome(&positioned));
    mapped
}

fn file(json: &str, data: usize) -> Vec<u8> {
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn refusals_name_what_is_wrong() {
    use ErrorKind::{Corrupt, Limit, Truncated, Unsupported};
    let w = r#""w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;
    let one = |entry: &str| format!("{{{entry}}}");
    for (json, data, kind, part) in [
        (one(&format!("{w},{w}")), 8, Corrupt, "`w` appears twice"),
        (one(w), 7, Truncated, "is cut short"),
        (one(w), 9, Corrupt, "1 bytes follow the last tensor"),
        (one(r#""w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}"#), 8, Corrupt, "needs 12 bytes"),
        (one(r#""w":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}"#), 8, Unsupported, "dtype `F33`"),
        (one(r#""w":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}"#), 2, Corrupt, "does not fit its dtype"),
        (
            one(r#""w":{"dtype":"F32","shape":[1099511627776,0],"data_offsets":[0,0]}"#),
            0,
            Limit,
            "sizes are beyond what is read",
        ),
        (
            one(r#""w":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}"#),
            1,
            Limit,
            "9 dimensions",
        ),
        (
            one(r#""w":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,1]}"#),
            1,
            Limit,
            "shape",
        ),
        (
            one(r#""w":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}"#),
            1,
            Corrupt,
            "unknown field `x`",
        ),
        (one(r#""w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}"#), 2, Corrupt, "leaves a hole"),
        (one(r#""w":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}"#), 1, Corrupt, "not valid"),
        (one(r#""":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#), 1, Corrupt, "a name must have"),
        (
            one(r#""a\u0000":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#),
            1,
            Corrupt,
            "control characters",
        ),
        (one(r#""__metadata__":{"a":1}"#), 0, Corrupt, "not valid"),
        (format!("{} x", one(w)), 8, Corrupt, "not valid"),
        ("[1,2,3]".into(), 8, Corrupt, "does not begin with"),
        (
            one(&format!("{w},{}", r#""v":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}"#)),
            8,
            Corrupt,
            "overlaps",
        ),
    ] {
        let error = read(&file(&json, data)).unwrap_err();
        assert_eq!(error.kind(), kind, "{json}: {error}");
        assert!(error.to_string().contains(part), "{json}: {error}");
    }
    let mut huge = file("{}", 0);
    huge[..8].copy_from_slice(&200_000_000u64.to_le_bytes());
    assert_eq!(read(&huge).unwrap_err().kind(), Limit);
}

#[test]
fn a_file_cut_at_any_byte_is_cut_short() {
    let whole = file(r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 8);
    assert_eq!(read(&whole).unwrap().tensors.len(), 1);
    for end in 1..whole.len() {
        assert_eq!(read(&whole[..end]).unwrap_err().kind(), ErrorKind::Truncated, "cut at {end}");
    }
}

fn tensors() -> impl Strategy<Value = Vec<TensorInfo>> {
    let dtype =
        prop::sample::select(vec![DType::F32, DType::BF16, DType::F16, DType::U8, DType::I64, DType::BOOL]);
    let shape = prop::collection::vec(0usize..5, 0..4);
    prop::collection::btree_map("[a-z.0-9é]{1,20}", (dtype, shape), 0..12).prop_map(|map| {
        map.into_iter().map(|(name, (dtype, shape))| TensorInfo { name, dtype, shape }).collect()
    })
}

proptest! {
    #[test]
    fn the_reference_reads_what_is_written(
        tensors in tensors(),
        metadata in prop::collection::btree_map("[a-z]{1,8}", ".{0,20}", 0..4),
    ) {
        let layout = layout(&metadata, &tensors).unwrap();
        let mut bytes = layout.header;
        prop_assert_eq!(bytes.len() % 8, 0);
        bytes.resize(layout.len as usize, 7);

        let header = read(&bytes).unwrap();
        prop_assert_eq!(&header.metadata, &metadata);
        for (info, offset) in tensors.iter().zip(&layout.offsets) {
            let stored = header.tensors.iter().find(|s| s.info.name == info.name).unwrap();
            prop_assert_eq!(&stored.info, info);
            prop_assert!(info.byte_len() == 0 || stored.offset == *offset);
        }
        let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        prop_assert_eq!(reference.len(), tensors.len());
        for info in &tensors {
            let view = reference.tensor(&info.name).unwrap();
            prop_assert_eq!(view.shape(), &info.shape[..]);
            prop_assert_eq!(view.data().len() as u64, info.byte_len());
        }
    }

    /// The reference accepts everything we accept, with the same tensors, and no damage makes us panic.
    #[test]
    fn what_is_accepted_the_reference_accepts(
        tensors in tensors(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let layout = layout(&BTreeMap::new(), &tensors).unwrap();
        let mut bytes = layout.header;
        bytes.resize(layout.len as usize, 0);
        for (index, value) in damage {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(header) = read(&bytes) {
            let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            prop_assert_eq!(reference.len(), header.tensors.len());
        }
    }
}
