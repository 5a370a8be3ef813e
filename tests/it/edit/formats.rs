//! Formats other than PEFT's: what has a place in them.

use std::fs;
use std::path::Path;

use lorakit_tensor::format::gguf::Value as Gguf;
use lorakit_tensor::{Checkpoint, Reader};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::{parts, report};
use crate::support::{Sandbox, fixtures, peft, read_json};
use crate::weights::{Tensor, Weights, noise, read_file, write_file};

fn metadata(path: &Path) -> lorakit_tensor::format::gguf::Metadata {
    Checkpoint::open(path, &Reader::default()).unwrap().gguf().unwrap().clone()
}

fn strings(path: &Path) -> std::collections::HashMap<String, String> {
    let bytes = fs::read(path).unwrap();
    SafeTensors::read_metadata(&bytes).unwrap().1.metadata().clone().unwrap()
}

#[test]
fn gguf() {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), "base");
    sandbox.copy(&fixtures().join("tiny-json-lora"), "adapter");
    sandbox.run("convert adapter -o a.gguf --to gguf --base base", &[]).ok();
    let line =
        "a.gguf -o b.gguf --base-model org/model --license mit --tag chat --fold-alpha --lineage never";
    let edited = report(&sandbox, line);
    assert_eq!(edited["rounding"]["changed"], 0, "{edited}");
    let (before, after) = (metadata(&sandbox.path("a.gguf")), metadata(&sandbox.path("b.gguf")));
    let text = |key: &str| after.get(key).and_then(Gguf::as_str).unwrap_or_default().to_string();
    assert_eq!(text("general.base_model.0.name"), "model");
    assert_eq!(text("general.base_model.0.repo_url"), "https://huggingface.co/org/model");
    assert_eq!(text("general.license"), "mit");
    assert_eq!(after.get("general.tags").unwrap().as_strings().unwrap(), ["chat"]);
    assert_eq!(after.get("adapter.lora.alpha"), Some(&Gguf::F32(8.0)));
    let kept = before.iter().filter(|(key, _)| !key.contains("base_model") && !key.contains("alpha"));
    for (key, value) in kept.filter(|(key, _)| !key.starts_with("lorakit.")) {
        assert_eq!(after.get(key), Some(value), "{key}");
    }
    // It does what it did, and becomes PEFT's with the new base.
    let merged = |adapter: &str, out: &str| {
        sandbox.run(&format!("merge base {adapter} -o {out} --dtype f32 --lineage never"), &[]).ok();
        fs::read(sandbox.path(out).join("model.safetensors")).unwrap()
    };
    assert!(merged("a.gguf", "one") == merged("b.gguf", "two"));
    sandbox.run("convert b.gguf -o back --to peft --base base", &[]).ok();
    let config = read_json(&sandbox.path("back/adapter_config.json"));
    assert_eq!(config["base_model_name_or_path"], "org/model");
    sandbox.run("edit b.gguf -o c.gguf --alpha 16 --remove-tag chat --dtype f16", &[]).ok();
    let after = metadata(&sandbox.path("c.gguf"));
    assert_eq!((after.get("general.tags"), after.get("general.file_type")), (None, Some(&Gguf::U32(1))));
    let run = sandbox.run("edit a.gguf -o d.gguf --license mit --revision v1 --rename-prefix model=m", &[]);
    insta::assert_snapshot!(run.stderr, @"
    error: `a.gguf`: is an adapter in the format `gguf`, which has no place for 2 of the edits
      revision: its keys name the base, and no revision of it
      paths: llama.cpp gives the tensors of every model the same names

    hint: convert it to PEFT's format first, which has a place for everything: `lorakit convert ADAPTER -o OUT --to peft`
    ");
}

#[test]
fn mlx() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("adapters/plain"), "adapter");
    let base = sandbox.copy(&peft("bases/llama-bf16"), "base");
    sandbox.run("convert adapter -o mlx --to mlx --base base", &[]).ok();
    let folded = report(&sandbox, "mlx -o folded --fold-alpha --base-model org/model --license mit");
    assert_eq!(folded["rounding"]["changed"], 0, "{folded}");
    let config = read_json(&sandbox.path("folded/adapter_config.json"));
    assert_eq!((&config["lora_parameters"]["scale"], &config["model"]), (&json!(1.0), &json!("org/model")));
    let card = fs::read_to_string(sandbox.path("folded/README.md")).unwrap();
    for line in ["base_model: org/model", "license: mit"] {
        assert!(card.lines().any(|known| known == line), "{card}");
    }
    let merged = |adapter: &str, out: &str| {
        let out = sandbox.merge(&base, &sandbox.path(adapter), out, "--dtype f32 --lineage never");
        fs::read(out.join("model.safetensors")).unwrap()
    };
    assert!(merged("mlx", "one") == merged("folded", "two"));
    sandbox.run("edit mlx -o moved --rename-prefix model=language_model.model --lineage never", &[]).ok();
    let names = read_file(&sandbox.path("moved/adapters.safetensors"));
    assert!(names.keys().all(|name| name.starts_with("language_model.model.layers.")));
    assert_eq!(
        parts(&sandbox.path("mlx/adapters.safetensors")).1,
        parts(&sandbox.path("moved/adapters.safetensors")).1
    );
    let run = sandbox.run("edit mlx -o other --alpha 8 --revision v1", &[]);
    insta::assert_snapshot!(run.stderr, @"
    error: `mlx`: is an adapter in the format `mlx`, which has no place for 2 of the edits
      revision: mlx-lm's configuration names the base, and no revision of it
      alpha: mlx-lm multiplies by `scale`, which is not divided by the rank

    hint: convert it to PEFT's format first, which has a place for everything: `lorakit convert ADAPTER -o OUT --to peft`
    ");
}

/// An adapter of Stable Diffusion with the header of a training.
fn kohya(sandbox: &Sandbox) {
    let mut weights = Weights::new();
    for (seed, module) in (1..).zip([
        "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q",
        "lora_te_text_model_encoder_layers_2_mlp_fc1",
    ]) {
        let f16 = safetensors::Dtype::F16;
        let tensor =
            |shape: &[usize], seed| Tensor::new(f16, shape, &noise(seed, shape.iter().product(), 0.5));
        weights.insert(format!("{module}.lora_down.weight"), tensor(&[2, 8], seed));
        weights.insert(format!("{module}.lora_up.weight"), tensor(&[8, 2], seed + 10));
        weights.insert(format!("{module}.alpha"), Tensor::new(f16, &[], &[1.0]));
    }
    write_file(&sandbox.path("raw.safetensors"), &weights);
    // Through PEFT and back, which writes the header.
    sandbox.run("convert raw.safetensors -o k.safetensors --to kohya --lineage never", &[]).ok();
}

#[test]
fn kohyas_files() {
    let sandbox = Sandbox::new();
    kohya(&sandbox);
    let line =
        "k.safetensors -o l.safetensors --base-model sd15 --license mit --tag style --tag ink --fold-alpha";
    let edited = report(&sandbox, &format!("{line} --lineage never"));
    assert_eq!(edited["rounding"]["changed"], 0, "{edited}");
    let (before, after) = (strings(&sandbox.path("k.safetensors")), strings(&sandbox.path("l.safetensors")));
    let said = |key: &str| after.get(key).map(String::as_str);
    assert_eq!(said("modelspec.license"), Some("mit"));
    assert_eq!(said("modelspec.tags"), Some("style,ink"));
    assert_eq!(said("ss_sd_model_name"), Some("sd15"));
    assert_eq!((before["ss_network_alpha"].as_str(), said("ss_network_alpha")), ("1", Some("2")));
    let weights = read_file(&sandbox.path("l.safetensors"));
    for (name, tensor) in weights.iter().filter(|(name, _)| name.ends_with(".alpha")) {
        assert_eq!(tensor.values(), [2.0], "{name}");
    }
    // The hashes are those that the writer computes for the same tensors and header.
    sandbox.run("convert l.safetensors -o m.safetensors --to kohya --lineage never", &[]).ok();
    let written = strings(&sandbox.path("m.safetensors"));
    for hash in ["sshs_model_hash", "sshs_legacy_hash"] {
        assert_eq!(after[hash], written[hash], "{hash}");
    }
    assert!(after["sshs_model_hash"] != before["sshs_model_hash"]);
    sandbox.run("edit l.safetensors -o n.safetensors --alpha 1 --lineage never", &[]).ok();
    assert_eq!(parts(&sandbox.path("k.safetensors")).1, parts(&sandbox.path("n.safetensors")).1);
    let run = sandbox.run("edit k.safetensors -o o.safetensors --rename-prefix unet=u --revision 1", &[]);
    insta::assert_snapshot!(run.stderr, @"
    error: `k.safetensors`: is an adapter in the format `kohya`, which has no place for 2 of the edits
      revision: its header names the base, and no revision of it
      paths: its names are those of a list of the diffusion model's layers

    hint: convert it to PEFT's format first, which has a place for everything: `lorakit convert ADAPTER -o OUT --to peft`
    ");
}

#[test]
fn folders_of_diffusers() {
    let sandbox = Sandbox::new();
    kohya(&sandbox);
    sandbox.run("convert k.safetensors -o d --to diffusers", &[]).ok();
    let file = sandbox.path("d/pytorch_lora_weights.safetensors");
    let mut components: Value = serde_json::from_str(&strings(&file)["lora_adapter_metadata"]).unwrap();
    for name in ["unet", "text_encoder"] {
        components[format!("{name}.lora_alpha")] = 8.into();
    }
    let weights = read_file(&file);
    let tensors = weights.iter().map(|(name, t)| {
        (name, safetensors::tensor::TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap())
    });
    let header = [("lora_adapter_metadata".to_string(), components.to_string())].into();
    fs::write(&file, safetensors::serialize(tensors, Some(header)).unwrap()).unwrap();
    let folded = report(&sandbox, "d -o folded --fold-alpha --tag ink");
    assert_eq!(folded["rounding"]["changed"], 0, "{folded}");
    assert_eq!(folded["max_error"], 0.0);
    let after = strings(&sandbox.path("folded/pytorch_lora_weights.safetensors"));
    let components: Value = serde_json::from_str(&after["lora_adapter_metadata"]).unwrap();
    assert_eq!((&components["unet.lora_alpha"], &components["unet.r"]), (&json!(2), &json!(2)));
    assert!(fs::read_to_string(sandbox.path("folded/README.md")).unwrap().contains("ink"));
    let run = sandbox.run("edit d -o other --alpha 8", &[]);
    insta::assert_snapshot!(run.stderr, @"
    error: `d`: is an adapter in the format `diffusers`, which has no place for 1 of the edits
      alpha: not every module has an alpha of its own, next to its factors

    hint: convert it to PEFT's format first, which has a place for everything: `lorakit convert ADAPTER -o OUT --to peft`
    ");
}

#[test]
fn torchtunes_folders() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("adapters/plain"), "adapter");
    let base = sandbox.copy(&peft("bases/llama-bf16"), "base");
    sandbox.run("convert adapter -o t --to torchtune --base base", &[]).ok();
    let folded = report(&sandbox, "t -o folded --fold-alpha --base-model org/model");
    assert_eq!(folded["rounding"]["changed"], 0, "{folded}");
    let merged = |adapter: &str, out: &str| {
        let out = sandbox.merge(&base, &sandbox.path(adapter), out, "--dtype f32 --lineage never");
        fs::read(out.join("model.safetensors")).unwrap()
    };
    assert!(merged("t", "one") == merged("folded", "two"));
}
