//! Hugging Face folders to GGUF, compared with llama.cpp's own converter: every key, every tensor, every byte.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use lorakit::Model;
use lorakit::inside::{gguf_tensors, with_dtype};
use lorakit::ops::convert::{ToGgufOptions, hf_to_gguf};
use lorakit::ops::merge::{self, MergeOptions, Sum};
use lorakit::plan::{Container, OutputTensor, Plan, Silent, Target};
use lorakit_tensor::format::gguf::{Metadata, Value as GgufValue};
use lorakit_tensor::{Checkpoint, DType, Reader, TensorSource};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// One folder for each family and each way to store a tokenizer (see `fixtures/README.md`).
const FAMILIES: &[&str] = &[
    "llama", "llama2", "mistral", "mixtral", "qwen2", "qwen3", "qwen3moe", "gemma2", "gemma3", "phi3",
    "smollm3",
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/convert").join(name)
}

fn convert(family: &str, dtype: Option<DType>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("model.gguf");
    let convert = hf_to_gguf(&ToGgufOptions::new(fixture(family), output.clone()).with_dtype(dtype), &Silent);
    convert.unwrap_or_else(|e| panic!("{family}: {e}")).plan.run(2, &Silent).unwrap();
    (folder, output)
}

#[test]
fn every_key_and_tensor_of_every_family() {
    for family in FAMILIES {
        let (_folder, output) = convert(family, None);
        let expected = fixture(&format!("{family}.bf16.gguf"));
        let open = |path: &Path| Checkpoint::open(path, &Reader::default()).unwrap();
        let (ours, theirs) = (open(&output), open(&expected));
        let (mut our_keys, mut their_keys) = (ours.gguf().unwrap().iter(), theirs.gguf().unwrap().iter());
        loop {
            match (our_keys.next(), their_keys.next()) {
                (None, None) => break,
                (our, their) => assert_eq!(our, their, "{family}"),
            }
        }
        assert_eq!(ours.tensors(), theirs.tensors(), "{family}");
        for (index, info) in ours.tensors().iter().enumerate() {
            let bytes = |file: &Checkpoint| file.read(index, 0..info.byte_len()).unwrap().into_owned();
            assert_eq!(bytes(&ours), bytes(&theirs), "{family}: {}", info.name);
        }
        assert!(fs::read(&output).unwrap() == fs::read(&expected).unwrap(), "{family}: files differ");
    }
}

#[test]
fn every_dtype() {
    for family in FAMILIES {
        let sums = fs::read(fixture(&format!("{family}.json"))).unwrap();
        let sums: Value = serde_json::from_slice(&sums).unwrap();
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::Q8_0] {
            if lorakit_quant::encoder(dtype).is_none() {
                continue;
            }
            let (_folder, output) = convert(family, Some(dtype));
            let sum: String =
                Sha256::digest(fs::read(output).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(sum, sums[dtype.name().to_lowercase()], "{family} as {dtype}");
        }
    }
}

/// Granite is a Llama with another key prefix, without a separate head size, and with four scales. Checked against
/// `conversion/granite.py`, `gguf-py/gguf/constants.py` and `src/models/granite.cpp` of llama.cpp as vendored by
/// llama-cpp-python 0.3.36; the tensors against its file of the same model as a Llama.
#[test]
fn granite_is_a_llama_with_scales() {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture("mistral")).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["architectures"] = serde_json::json!(["GraniteForCausalLM"]);
    config["model_type"] = "granite".into();
    config["attention_multiplier"] = 0.0078125.into();
    config["embedding_multiplier"] = 12.0.into();
    config["logits_scaling"] = 16.0.into();
    fs::write(&path, config.to_string()).unwrap();
    let output = folder.path().join("granite.gguf");
    let options = ToGgufOptions::new(folder.path(), output.clone());
    hf_to_gguf(&options, &Silent).unwrap().plan.run(2, &Silent).unwrap();
    let open = |path: &Path| Checkpoint::open(path, &Reader::default()).unwrap();
    let (ours, theirs) = (open(&output), open(&fixture("mistral.bf16.gguf")));
    let (keys, llama) = (ours.gguf().unwrap(), theirs.gguf().unwrap());
    let float = |key: &str| keys.get(&format!("granite.{key}")).and_then(GgufValue::as_f64);
    assert_eq!(
        ["attention.scale", "embedding_scale", "residual_scale", "logit_scale"].map(float),
        [Some(0.0078125), Some(12.0), Some(1.0), Some(16.0)]
    );
    assert_eq!(keys.get("granite.rope.dimension_count"), Some(&GgufValue::U32(8)));
    let own = ["attention.key_length", "attention.value_length", "attention.sliding_window"];
    let shared = llama.iter().filter_map(|(key, value)| Some((key.strip_prefix("llama.")?, value)));
    let shared: Vec<_> = shared.filter(|(key, _)| !own.contains(key)).collect();
    for (key, value) in &shared {
        assert_eq!(keys.get(&format!("granite.{key}")), Some(*value), "{key}");
    }
    assert_eq!(keys.iter().filter(|(key, _)| key.starts_with("granite.")).count(), shared.len() + 4);
    assert_eq!(ours.tensors(), theirs.tensors());
    for (index, info) in ours.tensors().iter().enumerate() {
        let bytes = |file: &Checkpoint| file.read(index, 0..info.byte_len()).unwrap().into_owned();
        assert_eq!(bytes(&ours), bytes(&theirs), "{}", info.name);
    }
}

/// Merging and converting in one pass gives the same as one after the other: with permuted rows, stacks, biases, DoRA
/// and saved modules. Only vectors are more accurate in one pass, which does not round them to 16 bits in between.
#[test]
fn merges_in_the_same_pass() {
    let peft = fixture("../peft");
    let index: Value = serde_json::from_slice(&fs::read(peft.join("peft.json")).unwrap()).unwrap();
    let mut cases = 0;
    for (case, entry) in index["cases"].as_object().unwrap() {
        let base = entry["base"].as_str().unwrap();
        if base.starts_with("gpt2") {
            continue;
        }
        cases += 1;
        let folder = tempfile::tempdir().unwrap();
        let (base, adapter) = (peft.join("bases").join(base), peft.join("adapters").join(case));
        let merged = folder.path().join("merged");
        let merge =
            merge::plan(&MergeOptions::new(Sum::new(&base, [(adapter, 1.0)]), &merged), &Silent).unwrap();
        merge.run(2, &Silent).unwrap();
        let write = |name: &str, model: &Model, tensors: Vec<OutputTensor>| {
            let dtype = model.tensors()[0].dtype;
            let tensors = gguf_tensors(model.config.as_ref().unwrap(), tensors).unwrap();
            let path = folder.path().join(name);
            let container = Container::Gguf(Metadata::default());
            let target = Target::File(path.clone());
            let plan =
                Plan::new(target, false, &Reader::default(), container, with_dtype(tensors, dtype), vec![])
                    .unwrap();
            plan.run(2, &Silent).unwrap();
            Checkpoint::open(&path, &Reader::default()).unwrap()
        };
        let open = |path: &Path| Model::open(path, &Reader::default()).unwrap();
        let one = write("one.gguf", &open(&base), merge.plan.tensors().cloned().collect());
        let model = open(&merged);
        let copies = (0..model.tensors().len()).map(|i| OutputTensor::copy(model.tensor(i))).collect();
        let two = write("two.gguf", &model, copies);
        assert_eq!(one.tensors().len(), two.tensors().len(), "{case}");
        for (index, info) in one.tensors().iter().enumerate() {
            let other = two.find(&info.name).unwrap();
            assert_eq!(two.tensors()[other], *info, "{case}");
            let bytes = |file: &Checkpoint, index| file.read(index, 0..info.byte_len()).unwrap().into_owned();
            let rounded = info.shape.len() == 1 && model.tensors()[0].dtype != DType::F32;
            assert!(rounded || bytes(&one, index) == bytes(&two, other), "{case}: {}", info.name);
        }
    }
    assert!(cases > 15, "{cases}");
}
