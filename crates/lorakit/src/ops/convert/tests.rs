//! What adding a model family takes.

use std::fs;
use std::path::{Path, PathBuf};

use lorakit_tensor::format::gguf::Value as GgufValue;
use lorakit_tensor::{Checkpoint, Reader, TensorSource};
use serde_json::Value;

use super::adapter::AdapterOptions;
use super::{ConvertOptions, ToGgufOptions, adapter, gguf_to_hf, hf_to_gguf};
use crate::plan::Silent;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden").join(name)
}

/// Copies the files of a Qwen2 model, but as a model of another class.
fn as_dummy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
    let config = fs::read_to_string(to.join("config.json")).unwrap();
    let config = config.replace("Qwen2ForCausalLM", "DummyForCausalLM").replace("qwen2", "dummy");
    fs::write(to.join("config.json"), config).unwrap();
}

fn family(path: &Path) -> GgufValue {
    let file = Checkpoint::open(path, &Reader::default()).unwrap();
    file.gguf().unwrap().get("general.architecture").unwrap().clone()
}

/// `dummy` is in `dummy.json` and in one line of the table, and nowhere else.
#[test]
fn one_more_family_is_one_file_and_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let dummy = GgufValue::String("dummy".into());
    // Its models become GGUF files, and these folders again.
    as_dummy(&fixture("convert/qwen2"), &path("model"));
    let there = hf_to_gguf(&ToGgufOptions::new(path("model"), path("model.gguf")), &Silent).unwrap();
    there.plan.run(1, &Silent).unwrap();
    assert_eq!(family(&path("model.gguf")), dummy);
    let back = gguf_to_hf(&ConvertOptions::new(path("model.gguf"), path("back")), &Silent).unwrap();
    back.plan.run(1, &Silent).unwrap();
    let config: Value = serde_json::from_slice(&fs::read(path("back/config.json")).unwrap()).unwrap();
    assert_eq!(config["architectures"][0], "DummyForCausalLM");
    let open = |name: &str| Checkpoint::open(&path(name), &Reader::default()).unwrap();
    assert_eq!(open("model").tensors().len(), open("back").tensors().len());
    // So do its adapters, in any format that names layers by family.
    as_dummy(&fixture("peft/bases/qwen2-bf16"), &path("base"));
    for (to, output) in [("gguf", "adapter.gguf"), ("torchtune", "adapter")] {
        let options = AdapterOptions::new(fixture("peft/adapters/qwen2"), path(output), to)
            .with_base(Some(path("base")))
            .with_threads(1);
        adapter::compute(&options, &Silent).unwrap().run(1, &Silent).unwrap();
    }
    assert_eq!(family(&path("adapter.gguf")), dummy);
}
