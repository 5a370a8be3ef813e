//! Limits on open files and on mapped memory.

use std::fs::{self, File};

use safetensors::tensor::Dtype;
use serde_json::json;

use super::{finish, start_after};
use crate::support::{Run, Sandbox};
use crate::weights::{Tensor, Weights, noise, write_file};

const SHARDS: usize = 100;

/// A model in a hundred files, and an adapter on the first.
fn sharded(sandbox: &Sandbox) {
    let (base, adapter) = (sandbox.path("base"), sandbox.path("adapter"));
    fs::create_dir(&base).unwrap();
    fs::create_dir(&adapter).unwrap();
    fs::write(base.join("config.json"), "{}").unwrap();
    let mut map = serde_json::Map::new();
    let module = |layer| format!("model.layers.{layer}.mlp.up_proj");
    for layer in 0..SHARDS {
        let (name, file) = (format!("{}.weight", module(layer)), format!("model-{layer:05}.safetensors"));
        let weights = Weights::from([(name.clone(), Tensor::new(Dtype::F32, &[8, 8], &noise(1, 64, 1.0)))]);
        write_file(&base.join(&file), &weights);
        map.insert(name, file.into());
    }
    let index = json!({ "metadata": {}, "weight_map": map });
    fs::write(base.join("model.safetensors.index.json"), index.to_string()).unwrap();
    let config = json!({ "peft_type": "LORA", "r": 1, "lora_alpha": 1 });
    fs::write(adapter.join("adapter_config.json"), config.to_string()).unwrap();
    let factor = |half: &str, shape: &[usize]| {
        (
            format!("base_model.model.{}.lora_{half}.weight", module(0)),
            Tensor::new(Dtype::F32, shape, &noise(2, 8, 1.0)),
        )
    };
    let factors = Weights::from([factor("A", &[1, 8]), factor("B", &[8, 1])]);
    write_file(&adapter.join("adapter_model.safetensors"), &factors);
}

fn run_after(sandbox: &Sandbox, before: &str, arguments: &str) -> Run {
    finish(sandbox, start_after(sandbox, before, arguments))
}

#[test]
fn the_soft_limit_of_open_files_is_raised() {
    let sandbox = Sandbox::new();
    sharded(&sandbox);
    run_after(&sandbox, "ulimit -Sn 64", "merge base adapter -o out").ok();
    run_after(&sandbox, "ulimit -Sn 64", "merge base adapter -o again --no-mmap --max-shard-size 500").ok();
    assert!(sandbox.path("again/model-00100-of-00100.safetensors").exists());
}

#[test]
fn more_files_than_the_hard_limit_allows() {
    let sandbox = Sandbox::new();
    sharded(&sandbox);
    for options in ["", " --no-mmap"] {
        let run = run_after(&sandbox, "ulimit -n 64", &format!("merge base adapter -o out{options}"));
        assert_eq!(run.code, Some(3), "{}", run.stderr);
        assert_eq!(sandbox.entries(), ["adapter", "base"]);
        // How many other files are open depends on what runs the tests.
        let shard = run.stderr.split("model-").nth(1).unwrap().split('.').next().unwrap();
        let message = run.stderr.replace(shard, "[SHARD]");
        insta::allow_duplicates! {
            insta::assert_snapshot!(message, @"
            error: `base/model-[SHARD].safetensors`: cannot open it: as many files are open as the limit (64) allows
              Caused by: Too many open files (os error 24)

            hint: raise the limit of open files: `ulimit -n 4096`; if that is refused, `ulimit -Hn` shows the highest allowed
            ");
        }
    }
}

#[test]
fn more_outputs_than_the_hard_limit_allows() {
    let sandbox = Sandbox::new();
    sharded(&sandbox);
    let run = run_after(&sandbox, "ulimit -n 160", "merge base adapter -o out --max-shard-size 500");
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    assert_eq!(sandbox.entries(), ["adapter", "base"]);
    assert!(
        run.stderr.contains("cannot create it: as many files are open as the limit (160) allows"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_file_that_cannot_be_mapped() {
    let sandbox = Sandbox::new();
    // 16 GiB of zeros that take no space.
    let header = r#"{"w":{"dtype":"F32","shape":[65536,65536],"data_offsets":[0,17179869184]}}"#;
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    fs::write(sandbox.path("w.safetensors"), &bytes).unwrap();
    let file = File::options().write(true).open(sandbox.path("w.safetensors")).unwrap();
    file.set_len(bytes.len() as u64 + (16 << 30)).unwrap();
    let run = run_after(&sandbox, "ulimit -v 8000000", "inspect w.safetensors");
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    insta::assert_snapshot!(run.stderr, @"
    error: `w.safetensors`: cannot be mapped
      Caused by: Cannot allocate memory (os error 12)

    hint: `--no-mmap` reads inputs by position instead of mapping them
    ");
    run_after(&sandbox, "ulimit -v 8000000", "inspect w.safetensors --no-mmap").ok();
}
