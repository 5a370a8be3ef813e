//! Files that are damaged, incomplete or something else.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::Case;
use crate::support::{edit_json, fixtures, peft};
use crate::weights::{edit_file, read_file, write_sharded};

fn header_len(bytes: &[u8]) -> usize {
    8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize
}

fn cut(path: &Path, len: usize) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..len]).unwrap();
}

/// Runs the merge with `path` cut at every byte of its header.
fn cut_everywhere(case: &Case, path: &Path) {
    let whole = fs::read(path).unwrap();
    for len in 0..=header_len(&whole) {
        fs::write(path, &whole[..len]).unwrap();
        let message = case.refused();
        assert!(message.contains("is empty") || message.contains("is cut short"), "{len} bytes: {message}");
        assert!(message.contains("\nhint: the download or copy is incomplete"), "{len} bytes: {message}");
    }
}

#[test]
fn an_adapter_cut_short_anywhere_in_its_header() {
    let case = Case::of("llama-bf16", "attn-r4");
    cut_everywhere(&case, &case.weights());
}

#[test]
fn a_base_cut_short_anywhere_in_its_header() {
    let case = Case::of("llama-bf16", "attn-r4");
    cut_everywhere(&case, &case.model());
}

#[test]
fn cut_short_in_the_length() {
    let case = Case::new();
    cut(&case.weights(), 7);
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter/adapter_model.safetensors`: is cut short: 7 bytes, and the smallest safetensors file has 10

    hint: the download or copy is incomplete; compare its size with the original and fetch it again
    ");
}

#[test]
fn cut_short_in_the_header() {
    let case = Case::new();
    cut(&case.weights(), 1000);
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter/adapter_model.safetensors`: is cut short: its header needs 3520 bytes, and 992 follow

    hint: the download or copy is incomplete; compare its size with the original and fetch it again
    ");
}

#[test]
fn cut_short_in_the_data() {
    let case = Case::new();
    cut(&case.model(), 657_832);
    insta::assert_snapshot!(case.refused(), @"
    error: `base/model.safetensors`: tensor `model.layers.1.self_attn.v_proj.weight`: is cut short: this tensor ends at byte 658576, and the file has 657832

    hint: the download or copy is incomplete; compare its size with the original and fetch it again
    ");
}

#[test]
fn an_empty_file() {
    let case = Case::new();
    fs::write(case.model(), "").unwrap();
    insta::assert_snapshot!(case.refused(), @"
    error: `base/model.safetensors`: is empty (0 bytes)

    hint: the download or copy is incomplete; compare its size with the original and fetch it again
    ");
}

#[test]
fn a_missing_shard() {
    let case = Case::new();
    let weights = read_file(&case.model());
    fs::remove_file(case.model()).unwrap();
    write_sharded(&case.base, &weights);
    fs::remove_file(case.base.join("model-00002-of-00002.safetensors")).unwrap();
    insta::assert_snapshot!(case.refused(), @"
    error: `base/model-00002-of-00002.safetensors`: is missing; `model.safetensors.index.json` names it

    hint: the download is incomplete; fetch the missing file into the same folder
    ");
}

/// A tensor that no reader of the index would find.
#[test]
fn a_tensor_that_the_index_leaves_out() {
    let case = Case::new();
    let weights = read_file(&case.model());
    fs::remove_file(case.model()).unwrap();
    write_sharded(&case.base, &weights);
    edit_json(&case.base.join("model.safetensors.index.json"), |index| {
        index["weight_map"].as_object_mut().unwrap().remove("model.norm.weight").unwrap();
    });
    insta::assert_snapshot!(case.refused(), @"
    error: `base/model.safetensors.index.json`: tensor `model.norm.weight`: is in a shard, but the index does not list it

    hint: the file is damaged, or was made by a broken tool; fetch or export it again
    ");
}

/// A tensor that only the index knows: weights are lost.
#[test]
fn a_tensor_that_only_the_index_lists() {
    let case = Case::new();
    let weights = read_file(&case.model());
    fs::remove_file(case.model()).unwrap();
    write_sharded(&case.base, &weights);
    edit_json(&case.base.join("model.safetensors.index.json"), |index| {
        index["weight_map"]["model.lost.weight"] = json!("model-00002-of-00002.safetensors");
    });
    insta::assert_snapshot!(case.refused(), @"
    error: `base/model.safetensors.index.json`: tensor `model.lost.weight`: the index says it is in `model-00002-of-00002.safetensors`, but no shard holds it

    hint: the file is damaged, or was made by a broken tool; fetch or export it again
    ");
}

/// Replaces the base's file with an index that names one shard for everything.
fn index_to(case: &Case, shard: &str) {
    let names = read_file(&case.model());
    let map: serde_json::Map<_, _> = names.keys().map(|n| (n.clone(), shard.into())).collect();
    fs::remove_file(case.model()).unwrap();
    let index = json!({ "metadata": {}, "weight_map": map });
    fs::write(case.base.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

#[test]
fn a_weight_map_that_leaves_its_folder() {
    let case = Case::new();
    fs::copy(case.model(), case.sandbox.path("secret.safetensors")).unwrap();
    index_to(&case, "../secret.safetensors");
    insta::assert_snapshot!(case.refused(), @"
    error: `base/model.safetensors.index.json`: tensor `lm_head.weight`: the weight map points to `../secret.safetensors`, which is not a plain file name

    hint: the index is malicious or broken; fetch it again from a source you trust
    ");
    let absolute = Case::new();
    index_to(&absolute, "/etc/passwd");
    assert!(absolute.refused().contains("points to `/etc/passwd`"));
}

#[test]
fn a_git_lfs_pointer() {
    const POINTER: &str = "version https://git-lfs.github.com/spec/v1\n\
        oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 2471645608\n";
    let case = Case::new();
    fs::write(case.model(), POINTER).unwrap();
    insta::assert_snapshot!(case.refused(), @"
    error: `base/model.safetensors`: is a git-lfs pointer of a few bytes, not the file itself

    hint: fetch the file itself: `git lfs pull --include model.safetensors`
    ");
    let case = Case::new();
    fs::write(case.weights(), POINTER).unwrap();
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter/adapter_model.safetensors`: is a git-lfs pointer of a few bytes, not the file itself

    hint: fetch the file itself: `git lfs pull --include adapter_model.safetensors`
    ");
    let case = Case::new();
    fs::write(case.adapter.join("adapter_config.json"), POINTER).unwrap();
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter/adapter_config.json`: is a git-lfs pointer of a few bytes, not the file itself

    hint: fetch the file itself: `git lfs pull --include adapter_config.json`
    ");
}

#[test]
fn a_web_page() {
    let case = Case::new();
    fs::write(
        case.weights(),
        "<!DOCTYPE html>\n<html><body>Access to this model is restricted.</body></html>",
    )
    .unwrap();
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter/adapter_model.safetensors`: is a web page, not the file it should be

    hint: a login or error page was saved instead; download it again, with a token if it is gated
    ");
}

#[test]
fn something_else() {
    let case = Case::new();
    fs::remove_file(case.weights()).unwrap();
    fs::write(case.adapter.join("adapter_model.bin"), "to whom it may concern").unwrap();
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter/adapter_model.bin`: is not a tensor file: its first bytes are none of safetensors, GGUF or a Torch archive

    hint: `lorakit inspect` reads safetensors, GGUF and Torch files; what is `adapter/adapter_model.bin`?
    ");
}

#[test]
fn text_under_the_name_of_weights() {
    let case = Case::new();
    fs::write(case.weights(), "to whom it may concern").unwrap();
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter/adapter_model.safetensors`: announces a header of 2336646276141051764 bytes; the format allows 100000000

    hint: the file is damaged, or is not what its name says
    ");
}

#[test]
fn a_header_that_contradicts_itself() {
    let case = Case::new();
    let mut bytes = fs::read(case.model()).unwrap();
    let at = bytes.windows(16).position(|w| w == b"data_offsets\":[0").unwrap();
    bytes[at + 15] = b'9';
    fs::write(case.model(), bytes).unwrap();
    insta::assert_snapshot!(case.refused(), @"
    error: `base/model.safetensors`: tensor `lm_head.weight`: shape [320, 128] of BF16 needs 81920 bytes, but the header gives it bytes 9 to 81920

    hint: the file is damaged, or was made by a broken tool; fetch or export it again
    ");
}

/// Rows that take no bytes: a file may announce any number of them.
#[test]
fn a_tensor_of_a_million_million_rows_without_a_value() {
    let mut case = Case::new();
    edit_file(&case.model(), |weights| {
        let norm = weights.get_mut("model.norm.weight").unwrap();
        (norm.shape, norm.bytes) = (vec![1 << 40, 0], Vec::new());
    });
    insta::assert_snapshot!(case.refused(), @"
    error: `base/model.safetensors`: tensor `model.norm.weight`: has the shape [1099511627776, 0], whose sizes are beyond what is read

    hint: the file is damaged, or is not what its name says
    ");
    case.arguments = "quantize base -o out --type nf4".into();
    assert!(case.refused().contains("sizes are beyond what is read"));
}

#[test]
fn a_torch_file_of_another_age() {
    let case = Case::new();
    fs::remove_file(case.weights()).unwrap();
    fs::copy(fixtures().join("torch/legacy.bin"), case.adapter.join("adapter_model.bin")).unwrap();
    insta::assert_snapshot!(case.refused(), @"error: `adapter/adapter_model.bin`: is a legacy Torch file (before 1.6); load it once in Torch and save it again");
}

/// A bit that flips on a disk leaves a header as it was.
#[test]
fn a_torch_file_whose_bytes_are_not_those_that_were_saved() {
    let case = Case::of("llama-bf16", "attn-r4");
    fs::remove_file(case.weights()).unwrap();
    let path = case.adapter.join("adapter_model.bin");
    fs::copy(peft("adapters-bin/attn-r4/adapter_model.bin"), &path).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let storage = bytes.windows(7).position(|w| w == b"/data/3").unwrap();
    bytes[storage + 200] ^= 0x10;
    fs::write(&path, &bytes).unwrap();
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter/adapter_model.bin`: tensor `base_model.model.model.layers.0.self_attn.v_proj.lora_B.weight`: zip entry `adapter_model/data/3` has the CRC-32 c3675261, and the archive's directory says c529ac1d: the bytes are not those that were saved

    hint: the file is damaged, or was made by a broken tool; fetch or export it again
    ");
}

#[test]
fn a_pickle_that_would_run_a_command() {
    let case = Case::new();
    fs::remove_file(case.weights()).unwrap();
    fs::copy(fixtures().join("torch/hostile/os_system.bin"), case.adapter.join("adapter_model.bin")).unwrap();
    insta::assert_snapshot!(case.refused(), @"
    error: `adapter/adapter_model.bin`: its pickle names `os.system`, which is not part of a state dict; nothing was executed

    hint: do not load this file with other tools either; ask for a safetensors version
    ");
}

#[test]
fn every_hostile_pickle() {
    let case = Case::new();
    fs::remove_file(case.weights()).unwrap();
    for file in fs::read_dir(fixtures().join("torch/hostile")).unwrap() {
        fs::copy(file.unwrap().path(), case.adapter.join("adapter_model.bin")).unwrap();
        case.refused();
    }
}
