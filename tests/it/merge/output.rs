//! What is written and printed besides weights.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Sandbox, TIMES, edit_json, entries, peft, read_json};
use crate::weights::{edit_file, read_folder};

/// What travels with a model, and what does not.
#[test]
fn companions() {
    let sandbox = Sandbox::new();
    let base = sandbox.copy(&peft("bases/llama-bf16"), "base");
    let put = |name: &str, text: &str| {
        let path: PathBuf = base.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("tokenizer.json", "{}");
    put("LICENSE", "do as you like");
    put("templates/chat.jinja", "{{ messages }}");
    for stale in [
        "pytorch_model.bin",
        "model.onnx",
        "original/consolidated.00.pth",
        ".cache/x",
        "old.safetensors.index.json",
    ] {
        put(stale, "weights");
    }
    let outside = sandbox.copy(&peft("adapters/plain"), "outside");
    fs::rename(outside.join("adapter_config.json"), outside.join("secrets.json")).unwrap();
    std::os::unix::fs::symlink(&outside, base.join("link-to-a-folder")).unwrap();
    edit_json(&base.join("config.json"), |config| {
        config["quantization_config"] = json!({ "quant_method": "bitsandbytes", "load_in_4bit": true });
    });
    let out = sandbox.merge(&base, &peft("adapters/plain"), "out", "");
    assert_eq!(
        entries(&out),
        [
            "LICENSE",
            "README.md",
            "config.json",
            "generation_config.json",
            "lorakit.json",
            "model.safetensors",
            "templates",
            "tokenizer.json"
        ]
    );
    assert_eq!(fs::read_to_string(out.join("templates/chat.jinja")).unwrap(), "{{ messages }}");
    assert_eq!(read_json(&out.join("config.json")).get("quantization_config"), None);
}

/// Files that are not what their names say travel as they are, and are mentioned.
#[test]
fn broken_companions() {
    const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 4241003\n";
    let sandbox = Sandbox::new();
    let base = sandbox.copy(&peft("bases/llama-bf16"), "base");
    let broken = [
        ("tokenizer.json", "{\"version\": \"1.0\", \"model\": "),
        ("tokenizer.model", POINTER),
        ("tokenizer_config.json", "<!DOCTYPE html><html>Access denied</html>"),
        ("chat_template.jinja", ""),
    ];
    for (name, text) in broken {
        fs::write(base.join(name), text).unwrap();
    }
    sandbox.copy(&peft("adapters/plain"), "adapter");
    let run = sandbox.run("merge base adapter -o merged", &[]).ok();
    insta::assert_snapshot!(run.stderr, @"
    warning: `base/chat_template.jinja`: is empty (0 bytes); it is copied as it is
    warning: `base/tokenizer.json`: is not valid JSON: EOF while parsing a value at line 1 column 28; it is copied as it is
    warning: `base/tokenizer.model`: is a git-lfs pointer of a few bytes, not the file itself; it is copied as it is
    warning: `base/tokenizer_config.json`: is a web page, not the file it should be; it is copied as it is
    ");
    let quantized = sandbox.run("quantize base -o nf4 --type nf4 --json", &[]).ok();
    let report: Value = serde_json::from_str(&quantized.stdout).unwrap();
    let findings: Vec<&Value> = report["findings"].as_array().unwrap().iter().collect();
    assert_eq!(findings.iter().filter(|finding| finding["code"] == "side-file").count(), broken.len());
    for (name, text) in broken {
        for out in ["merged", "nf4"] {
            assert_eq!(fs::read_to_string(sandbox.path(out).join(name)).unwrap(), text, "{out}: {name}");
        }
    }
}

/// The summary as JSON: schema, retention, and one object only.
#[test]
fn a_summary_as_json() {
    let sandbox = Sandbox::new();
    let line = "merge --json -o out";
    let run = sandbox.run(line, &[&peft("bases/llama-bf16"), &peft("adapters/plain")]).ok();
    assert_eq!(run.stderr, "");
    let object: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(object["schema"], "lorakit.merge/1");
    assert_eq!((&object["changed_tensors"], &object["tensors"]), (&json!(14), &json!(21)));
    let retention = object["retention"]["BF16"]["retention"].as_f64().unwrap();
    assert!((retention - 1.0).abs() < 1e-3, "{retention}");
    assert_eq!(object["output"], "out");
}

#[test]
fn the_summary() {
    let sandbox = Sandbox::new();
    let run = sandbox.run("merge -o out", &[&peft("bases/llama-bf16"), &peft("adapters/plain")]).ok();
    insta::with_settings!({ filters => TIMES.to_vec() }, {
        insta::assert_snapshot!(run.stdout, @"
        merged `[FIXTURES]/golden/peft/adapters/plain` (weight 1, 14 modules)
        into   `[FIXTURES]/golden/peft/bases/llama-bf16`: 14 of 21 tensors changed
        retention BF16: 100.00 % of the adapter is in the output; rounding left 0.1 % of the touched weights as they were
        unchecked: 7 tensors (165 kB) copied without a search for NaN and infinity; `--check-finite` searches them too
        wrote `out` (659 kB, 21 tensors, 1 file) in [TIME] ([RATE])
        ");
    });
    assert_eq!(run.stderr, "");
}

#[test]
fn a_dry_run() {
    let sandbox = Sandbox::new();
    let run = sandbox
        .run("merge -n -t 2 -o out", &[&peft("bases/llama-tied-bf16"), &peft("adapters/tied-head")])
        .ok();
    assert_eq!(sandbox.entries(), [""; 0]);
    let (plan, memory) = run.stdout.trim_end().rsplit_once(", peak memory about ").unwrap();
    assert!(memory.ends_with(" MB"), "{memory}");
    insta::assert_snapshot!(plan, @"
    would write `out`

    model.safetensors (409 kB, 21 tensors)
      model.embed_tokens.weight  BF16 [320, 96] copy
      model.layers.0.input_layernorm.weight  BF16 [96] copy
      model.layers.0.mlp.down_proj.weight  BF16 [96, 160] copy
      model.layers.0.mlp.gate_proj.weight  BF16 [160, 96] copy
      model.layers.0.mlp.up_proj.weight  BF16 [160, 96] copy
      model.layers.0.post_attention_layernorm.weight  BF16 [96] copy
      model.layers.0.self_attn.k_proj.weight  BF16 [32, 96] copy
      model.layers.0.self_attn.o_proj.weight  BF16 [96, 96] copy
      model.layers.0.self_attn.q_proj.weight  BF16 [96, 96] + 2.0000*B*A (r 4)
      model.layers.0.self_attn.v_proj.weight  BF16 [32, 96] copy
      model.layers.1.input_layernorm.weight  BF16 [96] copy
      model.layers.1.mlp.down_proj.weight  BF16 [96, 160] copy
      model.layers.1.mlp.gate_proj.weight  BF16 [160, 96] copy
      model.layers.1.mlp.up_proj.weight  BF16 [160, 96] copy
      model.layers.1.post_attention_layernorm.weight  BF16 [96] copy
      model.layers.1.self_attn.k_proj.weight  BF16 [32, 96] copy
      model.layers.1.self_attn.o_proj.weight  BF16 [96, 96] copy
      model.layers.1.self_attn.q_proj.weight  BF16 [96, 96] + 2.0000*B*A (r 4)
      model.layers.1.self_attn.v_proj.weight  BF16 [32, 96] copy
      model.norm.weight  BF16 [96] copy
      lm_head.weight  BF16 [320, 96] + 2.0000*B*A (r 4)

    other files: config.json, generation_config.json, README.md, lorakit.json

    output 409 kB, 18 tensors copied and 3 computed
    ");
    insta::assert_snapshot!(run.stderr, @"note: `lm_head.weight`: input and output embedding were one tensor and the adapter changes the output side: written as two (`model.embed_tokens.weight`, `lm_head.weight`), tie_word_embeddings is now false");
}

/// The output records where it comes from.
#[test]
fn provenance() {
    let sandbox = Sandbox::new();
    let out = sandbox.merge(&peft("bases/llama-bf16"), &peft("adapters/attn-r4"), "out", "");
    let bytes = fs::read(out.join("model.safetensors")).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let metadata: std::collections::BTreeMap<_, _> = header.metadata().clone().unwrap().into_iter().collect();
    assert_eq!(metadata["format"], "pt");
    let text = serde_json::to_string_pretty(&metadata).unwrap();
    insta::assert_snapshot!(text.replace(env!("CARGO_PKG_VERSION"), "[VERSION]"), @r#"
    {
      "format": "pt",
      "lorakit.lineage": "{\"version\":1,\"lorakit\":\"[VERSION]\",\"verb\":\"merge\",\"options\":{\"rounding\":\"once\",\"tied\":\"untie\"},\"parents\":[{\"role\":\"base\",\"name\":\"llama-bf16\",\"weights\":\"sha256:1be6e85a1e4af667f81033bef7777bf668b5f55b7a2c926ee0e960a080d08c4c\"},{\"role\":\"adapter\",\"weight\":1.0,\"name\":\"attn-r4\",\"base_model\":\"llama-bf16\",\"weights\":\"sha256:ec9b1595c49ee9ced51fd620cea30d34074c0a8eecbb4be2a2069a7009c7cddd\",\"sha256\":[\"85ab8b3b4392c611edbb162e1b5586ff5ddffe45008c2d5733368175c7522e78\"]}]}"
    }
    "#);
}

/// Doubtful adapters are merged, and the doubt is reported.
#[test]
fn warnings() {
    let sandbox = Sandbox::new();
    let base = peft("bases/llama-bf16");
    let adapter = sandbox.copy(&peft("adapters/attn-r4"), "adapter");
    let line = format!("merge {} adapter -o", base.display());
    edit_json(&adapter.join("adapter_config.json"), |config| config["r"] = json!(16));
    insta::assert_snapshot!(sandbox.run(&format!("{line} rank"), &[]).ok().stderr, @"warning: `model.layers.0.self_attn.q_proj`: its factors have rank 4, and the configuration says 16: the factors decide, scale 1 (and 3 more modules)");

    let untrained = sandbox.copy(&peft("adapters/attn-r4"), "adapter");
    edit_file(&untrained.join("adapter_model.safetensors"), |weights| {
        let b = weights.iter_mut().filter(|(name, _)| name.contains("lora_B"));
        b.for_each(|(_, tensor)| tensor.bytes.fill(0));
    });
    insta::assert_snapshot!(sandbox.run(&format!("{line} untrained"), &[]).ok().stderr, @"warning: `adapter`: every module has an all-zero factor: it was never trained, and the merge changes nothing");
    assert!(read_folder(&sandbox.path("untrained")) == read_folder(&base));
}
