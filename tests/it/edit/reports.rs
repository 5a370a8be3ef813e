//! What is printed.

use crate::support::{Sandbox, TIMES, edit_json, peft};

#[test]
fn the_report() {
    let sandbox = Sandbox::new();
    let adapter = sandbox.copy(&peft("adapters/patterns"), "adapter");
    edit_json(&adapter.join("adapter_config.json"), |config| config["revision"] = "old".into());
    let line = "edit adapter -o out --base-model org/model --license mit --tag chat --fold-alpha --dtype bf16 \
                --rename-prefix model=language_model.model";
    let run = sandbox.run(&format!("{line} --dry-run"), &[]).ok();
    insta::assert_snapshot!(format!("{}\n{}", run.stderr, run.stdout), @r#"
    note: the revision of the base stays `old`

    edited `adapter` (peft): 14 modules
      adapter_config.json: base_model_name_or_path: `llama-bf16` -> `org/model`
      adapter_config.json: alpha_pattern:
        `{"layers.0.self_attn.v_proj":1,"q_proj":32}`
        -> `{"layers\\.1\\.mlp\\.(up|down)_proj":12,"q_proj":4}`
      28 tensors: `F32` -> `BF16`
      README.md: base_model: nothing -> `org/model`
      README.md: license: nothing -> `mit`
      README.md: tags: nothing -> `chat`
      14 paths: `model` -> `language_model.model`
    computed: 28 tensors, 30.2 k values
      30.2 k values are rounded, by at most 0.003871 of the value; 0 tensors are exact
    would write `out` (64.9 kB, 28 tensors): adapter_model.safetensors, README.md, adapter_config.json, lorakit.json
    "#);
    assert!(!sandbox.path("out").exists());
    let run = sandbox.run(line, &[]).ok();
    insta::with_settings!({ filters => TIMES.to_vec() }, { insta::assert_snapshot!(run.stdout, @r#"
    edited `adapter` (peft): 14 modules
      adapter_config.json: base_model_name_or_path: `llama-bf16` -> `org/model`
      adapter_config.json: alpha_pattern:
        `{"layers.0.self_attn.v_proj":1,"q_proj":32}`
        -> `{"layers\\.1\\.mlp\\.(up|down)_proj":12,"q_proj":4}`
      28 tensors: `F32` -> `BF16`
      README.md: base_model: nothing -> `org/model`
      README.md: license: nothing -> `mit`
      README.md: tags: nothing -> `chat`
      14 paths: `model` -> `language_model.model`
    computed: 28 tensors, 30.2 k values
      30.2 k values are rounded, by at most 0.003871 of the value; 0 tensors are exact
    read again: deltas are up to 2.45e-3 off, relative to their norm; most in `language_model.model.layers.1.mlp.gate_proj`
    wrote `out` (64.9 kB, 28 tensors, 1 file) in [TIME] ([RATE])
    "#) });
    let quiet = sandbox.run(&format!("{line} -q --force"), &[]).ok();
    assert_eq!((quiet.stdout.lines().count(), quiet.stderr.as_str()), (2, ""));
}

#[test]
fn a_name_alone() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("adapters/plain"), "adapter");
    let run = sandbox.run("edit adapter -o out --base-model org/model", &[]).ok();
    insta::with_settings!({ filters => TIMES.to_vec() }, { insta::assert_snapshot!(run.stdout, @"
    edited `adapter` (peft): 14 modules
      adapter_config.json: base_model_name_or_path: `llama-bf16` -> `org/model`
    copied byte for byte: 28 tensors
    read again: every delta is the same, bit for bit
    wrote `out` (123 kB, 28 tensors, 1 file) in [TIME] ([RATE])
    ") });
    let run = sandbox.run("edit out -o again --base-model org/model", &[]).ok();
    insta::assert_snapshot!(run.stderr, @"note: everything is as it should be already; nothing is edited");
}
