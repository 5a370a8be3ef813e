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
    insta::assert_snapshot!(format!("{}\n{}", run.stderr, run.stdout), @"");
    assert!(!sandbox.path("out").exists());
    let run = sandbox.run(line, &[]).ok();
    assert!(run.stdout.lines().all(|line| line.chars().count() <= 100), "{}", run.stdout);
    insta::with_settings!({ filters => TIMES.to_vec() }, { insta::assert_snapshot!(run.stdout, @"") });
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
