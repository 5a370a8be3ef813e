//! A merge into a quantised file is the merge, quantised once: the same bytes as in two steps.

use std::fs;

use crate::support::{Sandbox, fixtures};

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), "model");
    sandbox.copy(&fixtures().join("tiny-json-lora"), "adapter");
    sandbox
}

#[test]
fn one_step_equals_two() {
    let sandbox = sandbox();
    // In f32 the sum is stored as it is, so quantising it is the only rounding.
    sandbox.run("merge model adapter -o sum --dtype f32", &[]).ok();
    for kind in ["Q4_K_M", "Q8_0", "IQ4_XS", "F16"] {
        sandbox.run(&format!("quantize sum -o two-{kind}.gguf --type {kind}"), &[]).ok();
        sandbox.run(&format!("merge model adapter -o one-{kind}.gguf --quantize {kind}"), &[]).ok();
        assert_same_tensors(&sandbox, &format!("one-{kind}.gguf"), &format!("two-{kind}.gguf"));
    }
    for (kind, parts) in [
        ("nf4", ["weight", "weight.absmax"]),
        ("fp8-channel", ["weight", "weight_scale"]),
        ("fp8-tensor", ["weight", "weight_scale"]),
        ("mxfp8", ["weight", "weight_scale"]),
    ] {
        sandbox.run(&format!("merge model adapter -o one-{kind} --quantize {kind}"), &[]).ok();
        sandbox.run(&format!("quantize sum -o two-{kind} --type {kind}"), &[]).ok();
        let tensors = |steps: &str| {
            let bytes = fs::read(sandbox.path(&format!("{steps}-{kind}/model.safetensors"))).unwrap();
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let bytes = |name: &str| file.tensor(name).unwrap().data().to_vec();
            parts.map(|part| bytes(&format!("model.layers.2.self_attn.q_proj.{part}")))
        };
        assert_eq!(tensors("one"), tensors("two"), "{kind}");
    }
}

#[test]
fn a_gguf_base_comes_back_as_it_was() {
    let sandbox = sandbox();
    sandbox.run("convert model -o base.gguf --to gguf", &[]).ok();
    // An adapter of weight 0 changes nothing, so rows merely go to Hugging Face's order and back.
    sandbox.run("merge base.gguf adapter=0 -o same.gguf", &[]).ok();
    assert_same_tensors(&sandbox, "base.gguf", "same.gguf");
    sandbox.run("quantize base.gguf -o base-q8.gguf --type Q8_0", &[]).ok();
    sandbox.run("merge base-q8.gguf adapter=0 -o same-q8.gguf --quantize keep", &[]).ok();
    assert_same_tensors(&sandbox, "base-q8.gguf", "same-q8.gguf");
}

#[test]
fn merging_and_converting_commute() {
    let sandbox = sandbox();
    sandbox.run("merge model adapter -o merged", &[]).ok();
    sandbox.run("convert merged -o two.gguf --to gguf", &[]).ok();
    sandbox.run("merge model adapter -o one.gguf", &[]).ok();
    assert_same_tensors(&sandbox, "one.gguf", "two.gguf");
}

/// The metadata differ only in the keys that say where a file came from.
#[track_caller]
fn assert_same_tensors(sandbox: &Sandbox, a: &str, b: &str) {
    use lorakit_tensor::{Checkpoint, Reader, TensorSource};
    let open = |name: &str| Checkpoint::open(&sandbox.path(name), &Reader::default()).unwrap();
    let (a, b) = (open(a), open(b));
    assert_eq!(a.tensors().len(), b.tensors().len());
    for (i, info) in a.tensors().iter().enumerate() {
        let j = b.find(&info.name).unwrap();
        assert_eq!(info, &b.tensors()[j]);
        let bytes = 0..info.byte_len();
        assert_eq!(a.read(i, bytes.clone()).unwrap(), b.read(j, bytes).unwrap(), "{}", info.name);
    }
}
