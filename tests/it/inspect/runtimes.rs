//! `lorakit inspect --for`: which programs take an adapter, why others do not, and what to type then.

use serde_json::Value;

use crate::support::{Run, Sandbox, edit_json, peft, read_json};
use crate::weights::{Tensor, edit_file};

const RUNTIMES: [&str; 8] = ["vllm", "sglang", "tgi", "llama.cpp", "ollama", "peft", "mlx", "diffusers"];

/// A sandbox with a golden adapter in `adapter` and its base in `base`.
fn sandbox(case: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let base = read_json(&peft("peft.json"))["cases"][case]["base"].as_str().unwrap().to_string();
    sandbox.copy(&peft(&format!("bases/{base}")), "base");
    sandbox.copy(&peft(&format!("adapters/{case}")), "adapter");
    sandbox
}

/// What the report says about the runtime.
fn section(run: &Run) -> &str {
    let start = run.stdout.find("\nfor ").unwrap_or_else(|| panic!("{}{}", run.stdout, run.stderr));
    let section = &run.stdout[start + 1..];
    section.split("\n\nfindings").next().unwrap()
}

/// The sections of every runtime, one under another.
fn sections(sandbox: &Sandbox, path: &str, options: &str) -> String {
    let sections = RUNTIMES.map(|runtime| {
        let run = sandbox.run(&format!("inspect {path} --for {runtime} {options}"), &[]);
        let section = section(&run).to_string();
        let accepted = section.lines().next().unwrap().ends_with("takes it");
        assert!(accepted || run.code == Some(1), "{section}{}", run.stderr);
        section
    });
    sections.join("\n")
}

#[test]
fn golden_adapters() {
    for case in
        ["plain", "dora", "patterns", "modules-to-save", "rslora", "embed", "moe-params", "token-indices"]
    {
        insta::assert_snapshot!(format!("for_{case}"), sections(&sandbox(case), "adapter", ""));
    }
}

#[test]
fn what_only_a_base_tells() {
    for case in ["plain", "tied-embed", "tied-head"] {
        insta::assert_snapshot!(
            format!("for_{case}_on_its_base"),
            sections(&sandbox(case), "adapter", "--base base")
        );
    }
    let sandbox = sandbox("plain");
    sandbox.copy(&peft("bases/qwen3-moe-bf16"), "other");
    let run = sandbox.run("inspect adapter --for vllm --base other", &[]);
    insta::assert_snapshot!("for_plain_on_another_base", section(&run));
}

#[test]
fn a_gguf_file() {
    let sandbox = sandbox("plain");
    sandbox.run("convert adapter -o adapter.gguf --to gguf --base base", &[]).ok();
    insta::assert_snapshot!("for_a_gguf_file", sections(&sandbox, "adapter.gguf", "--base base"));
}

#[test]
fn a_rank_above_the_default() {
    for (rank, name) in [(24, "for_rank_24"), (600, "for_rank_600")] {
        let sandbox = sandbox("plain");
        edit_json(&sandbox.path("adapter/adapter_config.json"), |config| {
            config["r"] = rank.into();
            config["lora_alpha"] = rank.into();
        });
        edit_file(&sandbox.path("adapter/adapter_model.safetensors"), |weights| {
            for (name, tensor) in weights {
                let shape = match name.contains("lora_A") {
                    true => [rank, tensor.shape[1]],
                    false => [tensor.shape[0], rank],
                };
                *tensor = Tensor::new(tensor.dtype, &shape, &vec![0.5; shape[0] * shape[1]]);
            }
        });
        let run = sandbox.run("inspect adapter --for vllm", &[]);
        assert_eq!(run.code, Some(i32::from(rank > 512)), "{}", run.stdout);
        insta::assert_snapshot!(name, section(&run));
    }
}

#[test]
fn names_that_no_module_matches() {
    let sandbox = sandbox("plain");
    edit_file(&sandbox.path("adapter/adapter_model.safetensors"), |weights| {
        let renamed = std::mem::take(weights).into_iter();
        *weights =
            renamed.map(|(name, tensor)| (name.replace(".weight", ".default.weight"), tensor)).collect();
    });
    insta::assert_snapshot!("for_leaked_names", section(&sandbox.run("inspect adapter --for vllm", &[])));
}

/// What SGLang reads from the configuration, and what it stacks.
#[test]
fn what_only_sglang_refuses() {
    let sandbox = sandbox("plain");
    std::fs::write(sandbox.path("adapter/added_tokens.json"), "{}").unwrap();
    edit_json(&sandbox.path("adapter/adapter_config.json"), |config| {
        config["target_modules"] = r".*\.(q|k|v|o|gate|up|down)_proj".into();
        config.as_object_mut().unwrap().remove("lora_alpha");
    });
    edit_file(&sandbox.path("adapter/adapter_model.safetensors"), |weights| {
        weights.retain(|name, _| !name.contains("layers.1.self_attn.v_proj"));
    });
    insta::assert_snapshot!(section(&sandbox.run("inspect adapter --for sglang", &[])), @r#"
    for SGLang: SGLang does not take it as it is
      error    SGLang needs `lora_alpha` in `adapter_config.json`
               -> `lorakit convert adapter -o adapter-peft --to peft`
      error    `target_modules` is an expression, and SGLang takes a list of names, `all` or `all-linear`
               -> write `["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]` there
      warning  `added_tokens.json` is beside it: SGLang refuses adapters that add tokens to the base's vocabulary
      warning  `model.layers.1.self_attn` has no `v_proj`: SGLang stacks q, k and v, and does without k only
    "#);
}

#[test]
fn as_json() {
    let run = sandbox("dora").run("inspect adapter --for vllm --json", &[]);
    let json: Value = serde_json::from_str(&run.stdout).unwrap();
    let target = &json["reports"][0]["for"];
    assert_eq!((run.code, &target["runtime"], &target["accepted"]), (Some(1), &"vLLM".into(), &false.into()));
    let verdict = &target["verdicts"][0];
    assert_eq!((&verdict["severity"], &verdict["code"]), (&"error".into(), &"dora".into()));
    assert_eq!(verdict["fix"], "`lorakit merge BASE adapter -o merged`");
}

#[test]
fn a_model_is_no_adapter() {
    let run = sandbox("plain").run("inspect base --for vllm", &[]);
    assert_eq!(run.code, Some(1));
    insta::assert_snapshot!(run.stderr);
}
