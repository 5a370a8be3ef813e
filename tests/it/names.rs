//! File names are bytes: names that are not UTF-8 are read, copied and written like any other.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::support::{Run, Sandbox, copy_folder, fixtures, peft};

/// A name that is not UTF-8.
fn strange(name: &str) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(&[b"\xff\xfe", name.as_bytes()].concat()))
}

fn run(sandbox: &Sandbox, line: &[&OsStr]) -> Run {
    Run::new(sandbox, &sandbox.command().args(line).output().unwrap())
}

#[test]
fn every_path_of_a_merge() {
    let sandbox = Sandbox::new();
    let (base, adapter, out) = (strange("base"), strange("adapter"), strange("out"));
    copy_folder(&peft("bases/llama-bf16"), &sandbox.root().join(&base));
    copy_folder(&peft("adapters/plain"), &sandbox.root().join(&adapter));
    fs::write(sandbox.root().join(&base).join(strange("notes")), "a note").unwrap();
    let mut weighted = adapter.clone().into_os_string();
    weighted.push("=0.5");
    run(&sandbox, &["merge".as_ref(), base.as_ref(), &weighted, "-o".as_ref(), out.as_ref()]).ok();

    sandbox.copy(&peft("adapters/plain"), "adapter");
    sandbox.run("merge -o plain", &[&sandbox.root().join(&base), Path::new("adapter=0.5")]).ok();
    let weights = |out: &Path| fs::read(sandbox.root().join(out).join("model.safetensors")).unwrap();
    let data = |bytes: Vec<u8>| {
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    assert_eq!(data(weights(&out)), data(weights(Path::new("plain"))), "the weight was understood");
    let copied = sandbox.root().join(&out).join(strange("notes"));
    assert_eq!(fs::read_to_string(copied).unwrap(), "a note", "and nothing was left out");

    let verify = [
        "verify".as_ref(),
        out.as_ref(),
        "--base".as_ref(),
        base.as_ref(),
        "--adapter".as_ref(),
        weighted.as_ref(),
    ];
    assert!(run(&sandbox, &verify).ok().stdout.contains("exact"));
}

/// The only file of its kind in a folder, whatever it is called.
#[test]
fn the_file_of_a_folder() {
    let sandbox = Sandbox::new();
    let model = sandbox.path("model");
    fs::create_dir(&model).unwrap();
    fs::copy(peft("bases/llama-bf16/model.safetensors"), model.join(strange(".safetensors"))).unwrap();
    fs::copy(peft("bases/llama-bf16/config.json"), model.join("config.json")).unwrap();
    assert!(sandbox.run("inspect model", &[]).ok().stdout.contains("21 tensors"));

    let adapter = sandbox.path("adapter");
    fs::create_dir(&adapter).unwrap();
    fs::copy(peft("adapters/plain/adapter_model.safetensors"), adapter.join(strange(".safetensors")))
        .unwrap();
    fs::copy(peft("adapters/plain/adapter_config.json"), adapter.join("adapter_config.json")).unwrap();
    sandbox.run("merge model adapter -o out", &[]).ok();

    let gguf = sandbox.path("gguf");
    fs::create_dir(&gguf).unwrap();
    fs::copy(fixtures().join("golden/convert/llama2.bf16.gguf"), gguf.join(strange(".gguf"))).unwrap();
    sandbox.run("convert gguf --to hf -o hf", &[]).ok();
    sandbox.run("convert hf --to gguf -o", &[&strange("again.gguf")]).ok();
    assert!(sandbox.path("").join(strange("again.gguf")).is_file());
}
