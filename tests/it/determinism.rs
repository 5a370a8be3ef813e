//! Output bytes depend only on inputs and options.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::Dtype;
use serde_json::json;

use crate::support::{Sandbox, entries, peft};
use crate::weights::{Tensor, Weights, noise, read_file, read_folder, write_file, write_sharded};

/// Every file of a folder.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    entries(folder).into_iter().map(|name| (name.clone(), fs::read(folder.join(name)).unwrap())).collect()
}

/// A base and an adapter whose large matrix is cut into many panels.
fn wide(sandbox: &Sandbox) -> (PathBuf, PathBuf) {
    let (base, adapter) = (sandbox.path("base"), sandbox.path("adapter"));
    let tensor =
        |dtype, seed, shape: [usize; 2]| Tensor::new(dtype, &shape, &noise(seed, shape[0] * shape[1], 0.1));
    let mut weights = Weights::new();
    weights.insert("model.layers.0.mlp.up_proj.weight".into(), tensor(Dtype::BF16, 1, [4099, 513]));
    weights.insert("model.layers.0.mlp.down_proj.weight".into(), tensor(Dtype::F16, 2, [513, 2047]));
    weights.insert("model.embed_tokens.weight".into(), tensor(Dtype::BF16, 3, [1000, 513]));
    let mut factors = Weights::new();
    for (leaf, seed, rows, cols) in [("up_proj", 4, 4099, 513), ("down_proj", 5, 513, 2047)] {
        let name = format!("base_model.model.model.layers.0.mlp.{leaf}");
        factors.insert(format!("{name}.lora_A.weight"), tensor(Dtype::F32, seed, [8, cols]));
        factors.insert(format!("{name}.lora_B.weight"), tensor(Dtype::F32, seed + 10, [rows, 8]));
    }
    let config = json!({ "peft_type": "LORA", "r": 8, "lora_alpha": 16 });
    for (folder, name, weights) in
        [(&base, "model.safetensors", weights), (&adapter, "adapter_model.safetensors", factors)]
    {
        fs::create_dir(folder).unwrap();
        write_file(&folder.join(name), &weights);
    }
    fs::write(base.join("config.json"), "{}").unwrap();
    fs::write(adapter.join("adapter_config.json"), config.to_string()).unwrap();
    (base, adapter)
}

#[test]
fn bytes_do_not_depend_on_threads_or_mapping() {
    let sandbox = Sandbox::new();
    let (base, adapter) = wide(&sandbox);
    let first = contents(&sandbox.merge(&base, &adapter, "first", "-t 1"));
    for (i, options) in ["-t 2", "-t 5", "-t 1 --no-mmap", "-t 5 --no-mmap", ""].into_iter().enumerate() {
        let again = contents(&sandbox.merge(&base, &adapter, &format!("again-{i}"), options));
        assert!(first == again, "`{options}` changes the output");
    }
}

/// The largest magnitude of a tensor is searched by all threads.
#[test]
fn one_scale_for_a_tensor_does_not_depend_on_threads() {
    let sandbox = Sandbox::new();
    let (base, adapter) = wide(&sandbox);
    let merge = |threads: usize| {
        let options = format!("--quantize fp8-tensor -t {threads}");
        contents(&sandbox.merge(&base, &adapter, &format!("on-{threads}"), &options))
    };
    assert!(merge(1) == merge(5));
}

#[test]
fn every_adapter_feature_is_deterministic() {
    for (base, adapter) in
        [("llama-bf16", "dora"), ("qwen3-moe-bf16", "moe-params"), ("llama-bf16", "token-indices")]
    {
        let sandbox = Sandbox::new();
        let (base, adapter) = (peft(&format!("bases/{base}")), peft(&format!("adapters/{adapter}")));
        let first = contents(&sandbox.merge(&base, &adapter, "first", "-t 1"));
        let again = contents(&sandbox.merge(&base, &adapter, "again", "-t 5 --no-mmap"));
        assert!(first == again, "{}", adapter.display());
    }
}

#[test]
fn shards_hold_what_a_single_file_holds() {
    let sandbox = Sandbox::new();
    let (base, adapter) = (peft("bases/llama-bf16"), peft("adapters/plain"));
    let single = sandbox.merge(&base, &adapter, "single", "");
    let sharded = sandbox.merge(&base, &adapter, "sharded", "--max-shard-size 200KB");
    let names = entries(&sharded);
    assert_eq!(names.iter().filter(|n| n.ends_with(".safetensors")).count(), 4, "{names:?}");
    assert!(names.contains(&"model-00001-of-00004.safetensors".into()), "{names:?}");
    for name in names.iter().filter(|n| n.ends_with(".safetensors")) {
        let bytes: usize = read_file(&sharded.join(name)).values().map(|t| t.bytes.len()).sum();
        assert!(bytes <= 200_000, "{name} holds {bytes} bytes");
    }
    // `read_folder` checks that index and shards agree in both directions, and `total_size`.
    assert_eq!(read_folder(&sharded), read_folder(&single));
    assert!(!entries(&single).contains(&"model.safetensors.index.json".into()));
}

#[test]
fn a_tensor_larger_than_a_shard_has_one_to_itself() {
    let sandbox = Sandbox::new();
    let (base, adapter) = (peft("bases/llama-bf16"), peft("adapters/plain"));
    let sharded = sandbox.merge(&base, &adapter, "sharded", "--max-shard-size 30KB");
    assert_eq!(read_folder(&sharded), read_folder(&sandbox.merge(&base, &adapter, "single", "")));
}

#[test]
fn a_sharded_base_merges_like_a_single_one() {
    let sandbox = Sandbox::new();
    let (base, adapter) = (peft("bases/llama-bf16"), peft("adapters/plain"));
    let shards = sandbox.copy(&base, "shards");
    fs::remove_file(shards.join("model.safetensors")).unwrap();
    write_sharded(&shards, &read_folder(&base));
    let from_shards = sandbox.merge(&shards, &adapter, "from-shards", "");
    let from_single = sandbox.merge(&base, &adapter, "from-single", "");
    assert_eq!(read_folder(&from_shards), read_folder(&from_single));
    assert_eq!(
        entries(&from_shards),
        ["README.md", "config.json", "generation_config.json", "lorakit.json", "model.safetensors"]
    );
    let again = sandbox.merge(&shards, &adapter, "again", "--max-shard-size 200KB -t 5 --no-mmap");
    assert_eq!(read_folder(&again), read_folder(&from_single));
}
