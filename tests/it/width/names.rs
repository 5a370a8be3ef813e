//! Names of strangers are printed on one line, and move no cursor.

use std::fs;

use super::{plain, shown};
use crate::support::{Run, Sandbox, edit_json, fixtures};
use crate::weights::edit_file;

/// A line break, the code that erases the screen, and the mark that turns the direction of writing.
const HOSTILE: &str = "a\nb\u{1b}[2Jc\u{202e}d";
const SPELT: &str = r"a\nb\u{1b}[2Jc\u{202e}d";

fn hostile() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), &format!("base {HOSTILE}"));
    let adapter = sandbox.copy(&fixtures().join("tiny-json-lora"), HOSTILE);
    let other = sandbox.copy(&fixtures().join("tiny-upper-lora"), &format!("other {HOSTILE}"));
    for folder in [&adapter, &other] {
        edit_json(&folder.join("adapter_config.json"), |config| {
            config["base_model_name_or_path"] = HOSTILE.into();
        });
    }
    sandbox.copy(&fixtures().join("tiny-json-lora"), "plain");
    sandbox
}

fn run(sandbox: &Sandbox, arguments: &[&str]) -> Run {
    Run::new(sandbox, &sandbox.command().args(arguments).output().unwrap())
}

#[test]
fn every_verb_spells_them_out() {
    let sandbox = hostile();
    let (base, other, out) =
        (format!("base {HOSTILE}"), format!("other {HOSTILE}"), format!("out {HOSTILE}"));
    let missing = format!("no {HOSTILE}");
    let runs: &[&[&str]] = &[
        &["inspect", HOSTILE, &base],
        &["inspect", "plain", "--base", &base],
        &["inspect", &missing],
        &["merge", &base, HOSTILE, "-o", &out],
        &["merge", &base, HOSTILE, "-o", &out],
        &["merge", &base, HOSTILE, "-o", &out, "-n"],
        &["merge", &base, HOSTILE, "-o", &out, "--force"],
        &["verify", &out, "--base", &base, "--adapter", HOSTILE],
        &["diff", &base, &out],
        &["diff", HOSTILE, &other],
        &["combine", HOSTILE, &other, "-o", "both"],
        &["reduce", HOSTILE, "-o", "small", "--rank", "2"],
        &["convert", HOSTILE, "-o", "mlx", "--to", "mlx"],
        &["extract", &base, &out, "-o", "back", "--rank", "2"],
        &["quantize", &base, "-o", "q.gguf", "--type", "Q8_0"],
        &["convert", HOSTILE, "-o", "x", "--to", "nonsense"],
    ];
    for arguments in runs {
        let Run { stdout, stderr, .. } = run(&sandbox, arguments);
        let text = stdout + &stderr;
        let is_named = text.contains(SPELT) || arguments.contains(&"nonsense");
        assert!(is_named, "{arguments:?} does not name it\n{text}");
        let is_hostile = |c: char| c != '\n' && c.is_control() || c == '\u{202e}';
        assert!(!text.contains(is_hostile) && !text.contains("a\nb"), "{arguments:?}\n{text}");
    }
}

/// The names of tensors and fields too.
#[test]
fn names_within_files() {
    let sandbox = hostile();
    sandbox.copy(&fixtures().join("tiny-orders"), "one");
    let two = sandbox.copy(&fixtures().join("tiny-orders"), "two");
    edit_file(&two.join("model.safetensors"), |weights| {
        let norm = weights.remove("model.norm.weight").unwrap();
        // Control characters are refused.
        weights.insert("model.a\u{202e}b.weight".into(), norm);
    });
    edit_json(&two.join("config.json"), |config| config[HOSTILE] = HOSTILE.into());
    let text = run(&sandbox, &["diff", "one", "two", "-v"]).stdout;
    assert!(text.contains(SPELT) && text.contains(r"model.a\u{202e}b.weight"), "{text}");
    assert!(!text.contains(['\u{1b}', '\u{202e}']) && !text.contains("a\nb"), "{text}");
}

/// Columns are counted, not characters: these names take twice as many.
#[test]
fn wide_names_are_aligned() {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), "one");
    let two = sandbox.copy(&fixtures().join("tiny-orders"), "two");
    edit_file(&two.join("model.safetensors"), |weights| {
        for (from, to) in
            [("model.norm.weight", "模型.层.权重"), ("model.embed_tokens.weight", "e\u{301}t\u{301}e\u{301}")]
        {
            let tensor = weights.remove(from).unwrap();
            weights.insert(to.into(), tensor);
        }
    });
    fs::create_dir(sandbox.path("空")).unwrap();
    insta::assert_snapshot!(plain(&shown(&sandbox, 60, "diff one two", &[])));
    insta::assert_snapshot!(plain(&shown(&sandbox, 60, "inspect 空", &[])), @"
    error: `空`: is an empty folder

    hint: name a folder with `adapter_config.json` or
          `config.json`, or a file of tensors
    ");
}
