//! What is refused, and with which message. Nothing is published.

use std::fs;

use insta::assert_snapshot;

use crate::support::{Sandbox, edit_json, fixtures, peft};

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), "model");
    sandbox
}

#[test]
fn rows_that_do_not_divide() {
    let sandbox = sandbox();
    assert_snapshot!(sandbox.refused("quantize model -o out.gguf --type Q4_K_M --no-fallback"));
}

/// Who gave the type decides what is to do.
#[test]
fn a_given_type_that_does_not_fit() {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("golden/convert/llama"), "model");
    let refused = |options: &str| sandbox.refused(&format!("quantize model -o out.gguf {options}"));
    assert_snapshot!(refused("--type Q4_K_M --output-tensor-type Q6_K"), @"
    exit 1
    error: `output.weight` has rows of 32 values, which are not whole Q6_K blocks of 256; the type that fits is Q8_0

    hint: give `--output-tensor-type` or `--token-embedding-type` a type that fits, or leave it out: then the mix decides
    ");
    assert_snapshot!(refused("--type Q8_0 --token-embedding-type Q6_K"), @"
    exit 1
    error: `token_embd.weight` has rows of 32 values, which are not whole Q6_K blocks of 256; the type that fits is Q8_0

    hint: give `--output-tensor-type` or `--token-embedding-type` a type that fits, or leave it out: then the mix decides
    ");
}

#[test]
fn an_unknown_type() {
    let sandbox = sandbox();
    assert_snapshot!(sandbox.refused("quantize model -o out.gguf --type Q4_KM"));
    assert_snapshot!(sandbox.refused("quantize model -o out.gguf --type Q8_0 --tensor-type ffn_down"));
    assert_snapshot!(sandbox.refused("quantize model -o out.gguf --type Q8_0 --tensor-type (=q8_0"));
    assert_snapshot!(sandbox.refused("quantize model -o out --type nf4 --block-size 100"));
}

/// Types that are read but never written.
#[test]
fn a_type_that_is_only_read() {
    let sandbox = sandbox();
    let refused = |options: &str| sandbox.refused(&format!("quantize model -o out.gguf {options}"));
    assert_snapshot!(refused("--type IQ2_XXS"), @"
    exit 2
    error: invalid value 'IQ2_XXS' for '--type <TYPE>': it can be read, but not written yet; the nearest writable types are Q2_K_S and Q2_K

    For more information, try '--help'.
    ");
    assert_snapshot!(refused("--type Q4_K_M --tensor-type ffn_down=iq3_s"), @"
    exit 2
    error: invalid value 'ffn_down=iq3_s' for '--tensor-type <REGEX=TYPE>': IQ3_S can be read, but not written yet; the nearest types that can be written are Q3_K and IQ4_XS

    For more information, try '--help'.
    ");
    assert_snapshot!(refused("--type Q1_0"), @"
    exit 2
    error: invalid value 'Q1_0' for '--type <TYPE>': no mix of it exists; single tensors can have it: `--tensor-type REGEX=Q1_0`

    For more information, try '--help'.
    ");
    for mix in lorakit_quant::mix::Unwritten::ALL {
        let message = refused(&format!("--type {}", mix.name.to_lowercase()));
        assert!(message.contains("can be read, but not written yet"), "{message}");
    }
    let merge = sandbox.refused("merge model adapter -o out.gguf --quantize iq1_m");
    assert!(merge.contains("can be read, but not written yet"), "{merge}");
}

#[test]
fn an_output_of_the_wrong_form() {
    let sandbox = sandbox();
    assert_snapshot!(sandbox.refused("quantize model -o out --type Q8_0"));
    assert_snapshot!(sandbox.refused("quantize model -o out.gguf --type nf4"));
    assert_snapshot!(sandbox.refused("quantize model -o out.safetensors --type nf4"));
    assert_snapshot!(sandbox.refused("convert model -o out --to gguf"));
    assert_snapshot!(sandbox.refused("convert model -o out --to hf --dtype q8_0"));
}

#[test]
fn a_quantised_source() {
    let sandbox = sandbox();
    sandbox.run("quantize model -o small.gguf --type Q8_0", &[]).ok();
    sandbox.run("quantize model -o nf4 --type nf4", &[]).ok();
    assert_snapshot!(sandbox.refused("quantize small.gguf -o out.gguf --type Q4_0"));
    assert_snapshot!(sandbox.refused("quantize nf4 -o out.gguf --type Q4_0"));
    sandbox.run("quantize small.gguf -o out.gguf --type Q4_0 --requantize", &[]).ok();
    sandbox.run("quantize nf4 -o again --type fp4 --requantize", &[]).ok();
}

#[test]
fn weights_that_are_not_finite() {
    let sandbox = sandbox();
    let path = sandbox.path("model/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let offset = json["model.layers.1.mlp.up_proj.weight"]["data_offsets"][0].as_u64().unwrap() as usize;
    // The third value: a NaN of bf16.
    bytes[8 + header + offset + 4..][..2].copy_from_slice(&[0xc0, 0x7f]);
    fs::write(&path, bytes).unwrap();
    for kind in ["Q8_0 -o out.gguf", "Q4_0 -o out.gguf", "nf4 -o out", "int8 -o out", "fp8-tensor -o out"] {
        assert_snapshot!(kind.replace(' ', "_"), sandbox.refused(&format!("quantize model --type {kind}")));
    }
}

#[test]
fn importance_of_another_model() {
    let sandbox = sandbox();
    let entry = |name: &str, values: &[f32]| {
        let mut bytes = (name.len() as i32).to_le_bytes().to_vec();
        bytes.extend(name.as_bytes());
        bytes.extend(1i32.to_le_bytes());
        bytes.extend((values.len() as i32).to_le_bytes());
        values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        bytes
    };
    let file = |entries: &[Vec<u8>]| [&(entries.len() as i32).to_le_bytes()[..], &entries.concat()].concat();
    let quantize = "quantize model -o out.gguf --type Q4_0 --imatrix imatrix.dat";
    let write = |bytes: &[u8]| fs::write(sandbox.path("imatrix.dat"), bytes).unwrap();

    write(&file(&[entry("blk.0.attn_q.weight", &[1.0; 100])]));
    assert_snapshot!(sandbox.refused(quantize));
    write(&file(&[entry("h.0.attn.weight", &[1.0; 100])]));
    assert_snapshot!(sandbox.refused(quantize));
    write(&file(&[entry("blk.0.attn_q.weight", &[f32::NAN; 128])]));
    assert_snapshot!(sandbox.refused(quantize));
    write(&file(&[entry("blk.0.attn_q.weight", &[1.0, -1.0])]));
    assert_snapshot!(sandbox.refused(quantize));
    write(b"not an importance matrix");
    assert_snapshot!(sandbox.refused(quantize));
    fs::copy(fixtures().join("gguf/reference.gguf"), sandbox.path("imatrix.dat")).unwrap();
    assert_snapshot!(sandbox.refused(quantize));
    assert_snapshot!(sandbox.refused("quantize model -o out.gguf --type Q2_K_S"));
    // llama-quantize writes zeros.
    write(&file(&[entry("blk.0.attn_q.weight", &[0.0; 128])]));
    assert_snapshot!(sandbox.refused(quantize), @"
    exit 1
    note: `imatrix.dat`: has no entry for `blk.0.attn_k.weight`, 27 of 28 tensors in all; they are quantised without it
    note: `token_embd.weight`: falls back to Q8_0, with 1 of 38 tensors in all: rows of 128 are not whole Q6_K blocks of 256
    error: `model/model.safetensors`: `model.layers.0.self_attn.q_proj.weight`: would be all zeros: all of its importances are zero, so no value matters to Q4_0

    hint: an importance matrix of zeros measures nothing: make it again (`llama-imatrix -m MODEL.gguf -f TEXT.txt -o imatrix.gguf`), or leave `--imatrix` out
    ");
}

#[test]
fn a_model_that_gguf_does_not_know() {
    let sandbox = sandbox();
    edit_json(&sandbox.path("model/config.json"), |config| {
        config["model_type"] = "mamba".into();
        config["architectures"] = serde_json::json!(["MambaForCausalLM"]);
    });
    assert_snapshot!(sandbox.refused("convert model -o out.gguf --to gguf"));
    fs::remove_file(sandbox.path("model/config.json")).unwrap();
    assert_snapshot!(sandbox.refused("convert model -o out.gguf --to gguf"));
    assert_snapshot!(sandbox.refused("quantize model -o out --type nf4"));
    sandbox.copy(&peft("bases/gpt2-f32"), "gpt2");
    assert_snapshot!(sandbox.refused("quantize gpt2 -o out --type nf4"));
}
