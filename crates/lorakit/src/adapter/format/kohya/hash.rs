//! The hashes by which web interfaces recognise a file: `precalculate_safetensors_hashes` in sd-scripts'
//! `library/train_util.py`.
//!
//! Both are SHA-256 digests of a file with the same tensors and only the `ss_*` entries of the metadata: one of its
//! data section; the other of 64 KiB at 1 MiB, cut to eight digits.

use std::collections::BTreeMap;

use lorakit_tensor::TensorInfo;
use lorakit_tensor::format::safetensors;

use super::super::Draft;
use crate::Result;
use crate::plan::{Container, DataDigest};

const MODEL: &str = "sshs_model_hash";
const LEGACY: &str = "sshs_legacy_hash";
/// The same digest as in [`MODEL`], where a file has it (Stability AI's model specification).
const SPEC: &str = "modelspec.hash_sha256";

/// The bytes over which the legacy hash is computed.
const WINDOW: std::ops::Range<u64> = 0x10_0000..0x11_0000;

/// Puts placeholders for the digests into the metadata.
pub(super) fn reserve(metadata: &mut BTreeMap<String, String>) {
    metadata.insert(MODEL.into(), DataDigest::place("", 64));
    metadata.insert(LEGACY.into(), DataDigest::place("", 8));
    if metadata.contains_key(SPEC) {
        metadata.insert(SPEC.into(), DataDigest::place("0x", 64));
    }
}

/// The digests for the placeholders that [`reserve`] made.
pub(super) fn digests(draft: &Draft) -> Result<Vec<DataDigest>> {
    let Container::Safetensors { metadata, .. } = &draft.container else { return Ok(Vec::new()) };
    let kept = |name: &str| name.starts_with("ss_");
    let kept = metadata.iter().filter(|(name, _)| kept(name)).map(|(k, v)| (k.clone(), v.clone())).collect();
    let infos: Vec<TensorInfo> = draft.tensors.iter().map(|t| t.info.clone()).collect();
    let header = safetensors::layout(&kept, &infos)?.header;
    let start = header.len() as u64;
    let before = header.iter().skip(WINDOW.start as usize).take((WINDOW.end - WINDOW.start) as usize);
    let window = WINDOW.start.saturating_sub(start)..WINDOW.end.saturating_sub(start);
    let mut digests = vec![
        DataDigest { key: MODEL, prefix: "", digits: 64, before: Vec::new(), data: 0..u64::MAX },
        DataDigest { key: LEGACY, prefix: "", digits: 8, before: before.copied().collect(), data: window },
    ];
    if metadata.contains_key(SPEC) {
        let whole = DataDigest { key: SPEC, prefix: "0x", digits: 64, before: Vec::new(), data: 0..u64::MAX };
        digests.push(whole);
    }
    Ok(digests)
}
