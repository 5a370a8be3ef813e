//! A GGUF model with an unknown tokenizer is a base like any other, until a tokenizer must be written.

use std::fs;

use crate::support::{Sandbox, fixtures};

/// `base.gguf`, whose pre-tokenizer is unknown, and `tuned.gguf`, the same with an adapter merged.
fn models() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.run("convert -o base.gguf --to gguf", &[&fixtures().join("tiny-orders")]).ok();
    let mut bytes = fs::read(sandbox.path("base.gguf")).unwrap();
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|part| part == what).unwrap();
    let key = find(&bytes, b"tokenizer.ggml.pre");
    let rule = key + find(&bytes[key..], b"gpt-2");
    bytes[rule..rule + 5].copy_from_slice(b"zzz-9");
    fs::write(sandbox.path("base.gguf"), bytes).unwrap();
    sandbox.copy(&fixtures().join("tiny-json-lora"), "adapter");
    sandbox.run("merge base.gguf adapter -o tuned.gguf --quantize keep", &[]).ok();
    sandbox
}

#[test]
fn a_base_needs_no_tokenizer() {
    let sandbox = models();
    for line in [
        "merge base.gguf adapter -o q8.gguf --quantize Q8_0",
        "inspect adapter --base base.gguf",
        "inspect base.gguf",
        "verify tuned.gguf --base base.gguf --adapter adapter",
        "verify q8.gguf --base base.gguf --adapter adapter",
        "extract base.gguf tuned.gguf -o extracted --rank 8",
        "quantize tuned.gguf -o tuned-q8.gguf --type Q8_0",
        "convert adapter -o adapter.gguf --to gguf --base base.gguf",
        "convert adapter.gguf -o back --to peft --base base.gguf",
    ] {
        let run = sandbox.run(line, &[]);
        assert_eq!(run.code, Some(0), "{line}\n{}{}", run.stdout, run.stderr);
    }
    let run = sandbox.run("diff base.gguf tuned.gguf", &[]).ok();
    assert!(run.stdout.starts_with("28 of 38 tensors differ ("), "{}", run.stdout);
}

#[test]
fn a_folder_needs_one() {
    let sandbox = models();
    for line in [
        "convert base.gguf -o out --to hf",
        "merge base.gguf adapter -o out",
        "merge base.gguf adapter -o out --quantize nf4",
        "quantize base.gguf -o out --type nf4",
    ] {
        let said = sandbox.refused(line);
        assert!(
            said.starts_with("exit 1\nerror: `base.gguf`: its tokenizer cuts text by the rule `zzz-9`"),
            "{line}: {said}"
        );
    }
}
