//! The reader against files that Torch wrote, and against files that nobody should write.

use std::collections::BTreeSet;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::format::safetensors;
use crate::{ErrorKind, ReadMode, Reader, TensorSource};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/torch")).join(name)
}

fn open(name: &str) -> Storage {
    Storage::open(&fixture(name), ReadMode::Mapped).unwrap()
}

fn refusal(name: &str) -> Error {
    let error = read_header(&open(name)).expect_err(name);
    assert_eq!(error.path(), Some(fixture(name).as_path()), "{error}");
    error
}

/// Parses `bytes` as a file.
fn read_bytes(bytes: &[u8]) -> Result<Vec<Stored>> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    read_header(&Storage::open(file.path(), ReadMode::Positioned).unwrap())
}

fn row_major(storage: &Storage, stored: &Stored) -> Vec<u8> {
    let bytes = storage.read(stored.offset, stored.info.byte_len() as usize).unwrap();
    if !stored.transposed {
        return bytes.into_owned();
    }
    let (rows, cols) = stored.info.rows_cols();
    let size = stored.info.dtype.block().bytes;
    let element = |row, col| &bytes[(col * rows + row) * size..][..size];
    (0..rows).flat_map(|row| (0..cols).flat_map(move |col| element(row, col))).copied().collect()
}

#[test]
fn torch_files_hold_what_their_safetensors_twins_hold() {
    for (name, count) in
        [("adapter_model", 6), ("protocol4", 6), ("dtypes", 21), ("module", 2), ("nested", 2)]
    {
        for mode in [ReadMode::Mapped, ReadMode::Positioned] {
            let file = Storage::open(&fixture(&format!("{name}.bin")), mode).unwrap();
            let twin = open(&format!("{name}.safetensors"));
            let tensors = read_header(&file).unwrap();
            let expected = safetensors::read_header(&twin).unwrap().tensors;
            assert_eq!((tensors.len(), expected.len()), (count, count), "{name}");
            assert!(tensors.is_sorted_by_key(|t| t.offset), "{name}");
            for expected in &expected {
                let found = tensors.iter().find(|t| t.info.name == expected.info.name).unwrap();
                assert_eq!(found.info, expected.info, "{name}");
                let what = format!("{name}: {}", found.info.name);
                assert_eq!(row_major(&file, found), row_major(&twin, expected), "{what}");
            }
        }
    }
}

#[test]
fn tied_tensors_share_an_offset_and_transposes_are_marked() {
    let tensors = read_header(&open("adapter_model.bin")).unwrap();
    let find = |end: &str| tensors.iter().find(|t| t.info.name.ends_with(end)).unwrap();
    assert_eq!(find("lm_head.weight").offset, find("embed_tokens.weight").offset);
    let transposed: Vec<_> = tensors.iter().filter(|t| t.transposed).map(|t| &t.info.name).collect();
    assert_eq!(transposed, [&find("k_proj.lora_B.weight").info.name]);
}

#[test]
fn other_kinds_of_torch_files_are_named() {
    for (name, words) in [
        ("legacy", "before 1.6"),
        ("script", "TorchScript"),
        ("compressed", "compressed"),
        ("strided", ".contiguous()"),
        ("bare", "no dict"),
        ("optimizer", "`optimizer`"),
        ("conjugate", "resolve_conj"),
    ] {
        let error = refusal(&format!("{name}.bin"));
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

/// Where the bytes of a zip entry are in `whole`.
fn entry(whole: &[u8], name: &str) -> std::ops::Range<usize> {
    let file = written(whole);
    let storage = Storage::open(file.path(), ReadMode::Positioned).unwrap();
    let span = Archive::open(&storage).unwrap().locate(name).unwrap().unwrap();
    span.offset as usize..(span.offset + span.len) as usize
}

fn written(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::with_suffix(".bin").unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

#[test]
fn a_flipped_bit_of_a_storage_is_found_when_it_is_read() {
    let mut bytes = std::fs::read(fixture("adapter_model.bin")).unwrap();
    let storage = entry(&bytes, "adapter_model/data/1");
    bytes[storage.start + 5] ^= 1;
    let file = written(&bytes);
    for mode in [ReadMode::Mapped, ReadMode::Positioned] {
        let checkpoint = crate::Checkpoint::open(file.path(), &Reader::new(mode)).unwrap();
        let places = read_header(&checkpoint.files()[0]).unwrap();
        let mut damaged = 0;
        for (index, (info, stored)) in checkpoint.tensors().iter().zip(places).enumerate() {
            let lies_in = storage.contains(&(stored.offset as usize));
            let read = checkpoint.read(index, 0..1);
            assert_eq!(read.is_err(), lies_in, "{}", info.name);
            if let Err(error) = read {
                damaged += 1;
                assert_eq!(error.kind(), ErrorKind::Corrupt);
                assert_eq!(error.tensor_name(), Some(info.name.as_str()));
                let text = error.to_string();
                let found = format!("{:08x}", crc32fast::hash(&bytes[storage.clone()]));
                for part in ["zip entry `adapter_model/data/1`", "957da3aa", &found] {
                    assert!(text.contains(part), "{text}");
                }
                assert!(checkpoint.extent(index).is_none(), "the kernel would copy what was damaged");
            }
        }
        assert_eq!(damaged, 1);
    }
}

#[test]
fn a_flipped_bit_of_the_pickle_is_found_when_the_file_is_opened() {
    let mut bytes = std::fs::read(fixture("adapter_model.bin")).unwrap();
    let pickle = entry(&bytes, "adapter_model/data.pkl");
    // One letter of a name: without the sum, the file would hold a tensor of another name.
    let at = bytes[pickle.clone()].windows(6).position(|w| w == b"q_proj").unwrap();
    bytes[pickle.start + at] ^= 2;
    let error = read_bytes(&bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("`adapter_model/data.pkl` has the CRC-32"), "{error}");
    assert!(error.to_string().contains("3a23e9e6"), "{error}");
}

#[test]
fn files_saved_without_sums_are_read() {
    let mut bytes = std::fs::read(fixture("adapter_model.bin")).unwrap();
    let storage = entry(&bytes, "adapter_model/data/1");
    // As `set_crc32_options(False)` writes them: every sum is 0.
    let entries: Vec<usize> =
        (0..bytes.len() - 4).filter(|&at| bytes[at..].starts_with(b"PK\x01\x02")).collect();
    assert_eq!(entries.len(), 11);
    for at in entries {
        bytes[at + 16..at + 20].fill(0);
    }
    bytes[storage.start] ^= 1;
    let file = written(&bytes);
    let checkpoint = crate::Checkpoint::open(file.path(), &Reader::default()).unwrap();
    for (index, info) in checkpoint.tensors().iter().enumerate() {
        checkpoint.read(index, 0..info.byte_len()).unwrap();
    }
}

const HOSTILE: &[(&str, ErrorKind, &str)] = &[
    ("os_system", ErrorKind::UnsafePickle, "`os.system`"),
    ("posix_system", ErrorKind::UnsafePickle, "`posix.system`"),
    ("pip_main", ErrorKind::UnsafePickle, "`pip.main`"),
    ("stack_global", ErrorKind::UnsafePickle, "`builtins.eval`"),
    ("inst", ErrorKind::UnsafePickle, "`os.system`"),
    ("getattr", ErrorKind::UnsafePickle, "`torch._utils._rebuild_tensor_v2.__globals__`"),
    ("obj", ErrorKind::UnsafePickle, "OBJ"),
    ("newobj", ErrorKind::UnsafePickle, "NEWOBJ"),
    ("ext1", ErrorKind::UnsafePickle, "EXT1"),
    ("persid", ErrorKind::UnsafePickle, "PERSID"),
    ("storage_call", ErrorKind::Corrupt, "calls `torch.FloatStorage`"),
    ("reduce_empty", ErrorKind::Corrupt, "0 arguments"),
    ("huge_string", ErrorKind::Corrupt, "needs 4294967295 bytes"),
    ("deep_marks", ErrorKind::Limit, "64 deep"),
    ("deep_lists", ErrorKind::Limit, "64 deep"),
    ("deep_tuples", ErrorKind::Limit, "64 deep"),
    ("memo_bomb", ErrorKind::Unsupported, "no tensor"),
    ("cycle", ErrorKind::Unsupported, "no tensor"),
    ("long1_255", ErrorKind::Unsupported, "no tensor"),
    ("no_stop", ErrorKind::Corrupt, "needs 1 bytes"),
    ("after_stop", ErrorKind::Corrupt, "left over"),
    ("empty_stack", ErrorKind::Corrupt, "stack is empty"),
    ("fake_storage", ErrorKind::Corrupt, "key is not a number"),
    ("short_storage", ErrorKind::Corrupt, "does not fit its storage"),
    ("same_name", ErrorKind::Corrupt, "twice"),
    ("big_endian", ErrorKind::Unsupported, "big-endian"),
];

#[test]
fn hostile_files_are_refused_and_nothing_runs() {
    for &(name, kind, words) in HOSTILE {
        let error = refusal(&format!("hostile/{name}.bin"));
        assert_eq!(error.kind(), kind, "{name}: {error}");
        assert!(error.to_string().contains(words), "{name}: {error}");
    }
    assert!(!PathBuf::from("lorakit-canary").exists());

    let listed: BTreeSet<String> = HOSTILE.iter().map(|(name, ..)| format!("{name}.bin")).collect();
    let files = std::fs::read_dir(fixture("hostile")).unwrap();
    let present: BTreeSet<String> = files.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(listed, present);
}

#[test]
fn a_file_cut_at_any_byte_is_refused() {
    let whole = std::fs::read(fixture("adapter_model.bin")).unwrap();
    for len in 1..whole.len() {
        let kind = read_bytes(&whole[..len]).map(|_| ()).map_err(|e| e.kind());
        assert!(matches!(kind, Err(ErrorKind::Truncated | ErrorKind::Corrupt)), "cut at {len}: {kind:?}");
    }
}

#[test]
fn a_pickle_cut_at_any_byte_is_refused() {
    for name in ["adapter_model", "protocol4", "dtypes", "nested"] {
        let bytes = pickle_of(name);
        for len in 0..bytes.len() {
            let kind = pickle::load(&bytes[..len]).map(|_| ()).map_err(|e| e.kind());
            assert!(
                matches!(kind, Err(ErrorKind::Corrupt | ErrorKind::UnsafePickle)),
                "{name} at {len}: {kind:?}"
            );
        }
    }
}

fn pickle_of(name: &str) -> Vec<u8> {
    let storage = open(&format!("{name}.bin"));
    let archive = Archive::open(&storage).unwrap();
    archive.read(&format!("{name}/data.pkl"), MAX_PICKLE_BYTES).unwrap().unwrap().into_owned()
}

/// Replaces bytes at positions drawn from the whole length.
fn damage(bytes: &mut [u8], changes: &[(prop::sample::Index, u8)]) {
    for (at, byte) in changes {
        bytes[at.index(bytes.len())] = *byte;
    }
}

/// Every opcode that is interpreted, and a few small operands.
const SOUP: &[u8] = b"(.\x80\x95N\x88\x89JKM\x8aGX\x8c)t\x85\x86\x87]ae}suqr\x94hjc\x93iQRb\x00\x01\x02";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn damaged_files_never_panic(
        name in prop::sample::select(&["adapter_model", "protocol4", "dtypes", "nested", "script"][..]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = std::fs::read(fixture(&format!("{name}.bin"))).unwrap();
        damage(&mut bytes, &changes);
        for stored in read_bytes(&bytes).unwrap_or_default() {
            prop_assert!(stored.offset + stored.info.byte_len() <= bytes.len() as u64);
        }
    }

    #[test]
    fn damaged_pickles_never_panic(
        name in prop::sample::select(&["adapter_model", "protocol4", "dtypes", "nested"][..]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(SOUP)), 1..6),
    ) {
        let mut bytes = pickle_of(name);
        damage(&mut bytes, &changes);
        if let Ok((heap, top)) = pickle::load(&bytes) {
            let _ = state_dict(&heap, top);
        }
    }

    #[test]
    fn opcode_soup_never_panics(mut bytes in prop::collection::vec(prop::sample::select(SOUP), 0..200)) {
        bytes.push(opcode::STOP);
        if let Ok((heap, top)) = pickle::load(&bytes) {
            let _ = state_dict(&heap, top);
        }
    }
}
