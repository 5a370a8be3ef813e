//! Names, shapes and values of a converted model.

use std::fs;

use safetensors::tensor::Dtype;

use super::gguf::Gguf;
use super::{convert, sandbox};
use crate::support::{Sandbox, entries, read_json};
use crate::weights::{Tensor, Weights, read_folder};

/// The model that `gguf` holds, every value rounded once.
fn wanted(gguf: &Gguf, dtype: Dtype) -> Weights {
    let one = |w: &super::gguf::Weight| (w.name.clone(), Tensor::new(dtype, &w.shape, &w.values));
    gguf.weights.iter().map(one).collect()
}

/// Most of the model is Q8_0, so it is written as bf16. Rows of q and k are put back in order.
#[test]
fn a_quantised_model() {
    let gguf = Gguf::llama();
    let sandbox = sandbox(&gguf);
    convert(&sandbox, "").ok();
    assert!(read_folder(&sandbox.path("out")) == wanted(&gguf, Dtype::BF16));
}

#[test]
fn a_head_of_its_own() {
    let gguf = Gguf::untied();
    let sandbox = sandbox(&gguf);
    convert(&sandbox, "").ok();
    let found = read_folder(&sandbox.path("out"));
    assert!(found.contains_key("lm_head.weight"));
    assert!(found == wanted(&gguf, Dtype::BF16));
}

#[test]
fn another_dtype() {
    let gguf = Gguf::llama();
    let sandbox = sandbox(&gguf);
    for (option, dtype, name) in
        [("f32", Dtype::F32, "float32"), ("f16", Dtype::F16, "float16"), ("bf16", Dtype::BF16, "bfloat16")]
    {
        convert(&sandbox, &format!("--force --dtype {option}")).ok();
        assert!(read_folder(&sandbox.path("out")) == wanted(&gguf, dtype), "{option}");
        let config = read_json(&sandbox.path("out/config.json"));
        assert_eq!((&config["dtype"], &config["torch_dtype"]), (&name.into(), &name.into()));
    }
}

#[test]
fn shards() {
    let gguf = Gguf::untied();
    let sandbox = sandbox(&gguf);
    convert(&sandbox, "--max-shard-size 50kB").ok();
    let shards = entries(&sandbox.path("out")).iter().filter(|n| n.ends_with(".safetensors")).count();
    assert!(shards > 1);
    assert!(read_folder(&sandbox.path("out")) == wanted(&gguf, Dtype::BF16));
}

/// Two parts are one model; the metadata are in the first.
#[test]
fn a_split_model() {
    let whole = Gguf::untied();
    let sandbox = Sandbox::new();
    for (number, part) in whole.parts().iter().enumerate() {
        part.write(&sandbox.path(&format!("tiny-{:05}-of-00002.gguf", number + 1)));
    }
    whole.write(&sandbox.path("model.gguf"));
    convert(&sandbox, "").ok();
    sandbox.run("convert tiny-00001-of-00002.gguf -o split --to hf", &[]).ok();
    // The model card names the file.
    for name in entries(&sandbox.path("out")).into_iter().filter(|name| name != "README.md") {
        let read = |folder: &str| fs::read(sandbox.path(&format!("{folder}/{name}"))).unwrap();
        assert!(read("out") == read("split"), "{name}");
    }

    fs::remove_file(sandbox.path("tiny-00002-of-00002.gguf")).unwrap();
    let run = sandbox.run("convert tiny-00001-of-00002.gguf -o again --to hf", &[]);
    assert_eq!(run.code, Some(1));
    insta::assert_snapshot!(run.stderr, @"
    error: `tiny-00002-of-00002.gguf`: is missing; `tiny-00001-of-00002.gguf` is one of 2 parts

    hint: the download is incomplete; fetch the missing file into the same folder
    ");
}
