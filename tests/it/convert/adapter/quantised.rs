//! Factors in blocks: the bytes of llama.cpp's converter, and every verb reads them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use lorakit_tensor::{Checkpoint, Reader, TensorSource};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::copy;
use crate::support::{Sandbox, fixtures, peft, read_json};
use crate::weights::{Tensor, Weights, write_file};

/// The formula of `wide` in `fixtures/generate/lora_to_gguf.py`.
fn wide(seed: u64, shape: &[usize; 2]) -> Tensor {
    let value = |i: u64| (((i + seed) * 2_654_435_761 % (1 << 32)) >> 8) as f64 / f64::from(1 << 24) - 0.5;
    let count = (shape[0] * shape[1]) as u64;
    Tensor::new(Dtype::F32, shape, &(0..count).map(value).collect::<Vec<_>>())
}

/// The adapter `rank-32` of that script, and its base.
fn rank_32(sandbox: &Sandbox) {
    sandbox.copy(&peft("bases/llama-bf16"), "base");
    let folder = sandbox.path("adapter");
    fs::create_dir_all(&folder).unwrap();
    let shapes = [("self_attn.q_proj", 128, 128), ("self_attn.v_proj", 64, 128), ("mlp.down_proj", 128, 192)];
    let mut weights = Weights::new();
    for (seed, (name, out, inputs)) in (0..).zip(shapes) {
        let key = format!("base_model.model.model.layers.1.{name}");
        weights.insert(format!("{key}.lora_A.weight"), wide(100 * seed, &[32, inputs]));
        weights.insert(format!("{key}.lora_B.weight"), wide(100 * seed + 50, &[out, 32]));
    }
    write_file(&folder.join("adapter_model.safetensors"), &weights);
    let config = json!({
        "peft_type": "LORA", "r": 32, "lora_alpha": 32, "target_modules": ["q_proj", "v_proj", "down_proj"],
    });
    fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
}

/// Types and digests of all tensors.
fn digests(path: &Path) -> BTreeMap<String, Value> {
    let file = Checkpoint::open(path, &Reader::default()).unwrap();
    let of = |(index, info): (usize, &lorakit_tensor::TensorInfo)| {
        let digest = Sha256::digest(file.read(index, 0..info.byte_len()).unwrap());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        (info.name.clone(), json!([info.dtype.name(), digest]))
    };
    file.tensors().iter().enumerate().map(of).collect()
}

#[test]
fn q8_0_is_what_llama_cpp_writes() {
    let goldens = read_json(&fixtures().join("golden/lora-to-gguf.json"));
    for (case, golden) in goldens.as_object().unwrap() {
        let sandbox = Sandbox::new();
        if case == "rank-32" {
            rank_32(&sandbox);
        } else {
            copy(&sandbox, case);
        }
        sandbox.run("convert adapter -o out.gguf --to gguf --dtype q8_0 --base base", &[]).ok();
        assert_eq!(json!(digests(&sandbox.path("out.gguf"))), *golden, "{case}");
    }
}

/// Everything that reads adapters reads blocks as the values that they stand for: what is done with a quantised adapter is
/// what is done with those values in PEFT's format.
#[test]
fn every_verb_reads_blocks() {
    for dtype in ["q8_0", "q4_0"] {
        let sandbox = Sandbox::new();
        rank_32(&sandbox);
        let run = |line: &str| sandbox.run(line, &[]).ok();
        let error = |line: &str| {
            let report: Value = serde_json::from_str(&run(&format!("{line} --json")).stdout).unwrap();
            report["max_error"].as_f64().unwrap()
        };
        let lost = error(&format!("convert adapter -o q.gguf --to gguf --base base --dtype {dtype}"));
        let range = if dtype == "q8_0" { 1e-3..0.01 } else { 0.03..0.25 };
        assert!(range.contains(&lost), "{dtype} {lost}");
        let stored = digests(&sandbox.path("q.gguf"));
        assert!(stored.values().all(|tensor| tensor[0] == dtype.to_uppercase()), "{stored:?}");

        assert!(error("convert q.gguf -o decoded --to peft --base base") < 1e-6);
        let inspected = run("inspect q.gguf --base base").stdout;
        assert!(inspected.contains(&dtype.to_uppercase()), "{inspected}");
        for (adapter, out) in [("q.gguf", "blocks"), ("decoded", "values")] {
            run(&format!("merge base {adapter} -o {out} --lineage never --no-card"));
        }
        let merged = ["blocks", "values"]
            .map(|out| fs::read(sandbox.path(&format!("{out}/model.safetensors"))).unwrap());
        assert!(merged[0] == merged[1], "{dtype}");
        run("verify blocks --base base --adapter q.gguf");
        run("combine q.gguf decoded -o sum --to peft --base base");
        run("reduce q.gguf -o small --to peft --base base --rank 4");
        run("diff q.gguf decoded --base base --exit-code");
    }
}

#[test]
fn blocks_are_for_gguf() {
    let sandbox = Sandbox::new();
    rank_32(&sandbox);
    insta::assert_snapshot!(sandbox.refused("convert adapter -o out --to peft --dtype q4_0"));
    insta::assert_snapshot!(sandbox.refused("reduce adapter -o out --rank 4 --dtype q4_0"));
    insta::assert_snapshot!(sandbox.refused("convert base -o out.gguf --to gguf --dtype q4_0"));
}
