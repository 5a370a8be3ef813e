//! Model cards: what each verb writes, what it keeps of the inputs' cards, and whose cards it replaces.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::support::{Sandbox, edit_json, entries, fixtures, peft};

const TITLE: &str = "# My own words\n\nIt rhymes.\n";

fn card(sandbox: &Sandbox, folder: &str) -> String {
    fs::read_to_string(sandbox.path(folder).join("README.md")).unwrap()
}

/// A sandbox with a base, whose configuration and folder say its id, and two adapters.
fn workshop() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("bases/llama-bf16"), "tiny-llama");
    sandbox.copy(&peft("adapters/plain"), "style");
    sandbox.copy(&peft("adapters/all-r8-second"), "facts");
    edit_json(&sandbox.path("tiny-llama/config.json"), |config| {
        config["_name_or_path"] = "org/tiny-llama".into()
    });
    for adapter in ["style", "facts"] {
        edit_json(&sandbox.path(&format!("{adapter}/adapter_config.json")), |config| {
            config["base_model_name_or_path"] = "org/tiny-llama".into();
        });
    }
    sandbox
}

fn write(sandbox: &Sandbox, folder: &str, card: impl AsRef<[u8]>) {
    fs::write(sandbox.path(folder).join("README.md"), card).unwrap();
}

/// The text between the `---` lines.
fn front(card: &str) -> &str {
    card.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap().0
}

#[test]
fn a_merged_model() {
    let sandbox = workshop();
    sandbox.run("merge tiny-llama style=0.5 facts -o out", &[]).ok();
    insta::assert_snapshot!(card(&sandbox, "out"));
}

#[test]
fn a_quantised_model() {
    let sandbox = workshop();
    sandbox.run("quantize tiny-llama -o out --type nf4", &[]).ok();
    insta::assert_snapshot!(card(&sandbox, "out"));
    sandbox.run("merge tiny-llama style -o both --quantize nf4", &[]).ok();
    insta::assert_snapshot!(card(&sandbox, "both"));
}

#[test]
fn a_model_from_gguf() {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), "base");
    write(&sandbox, "base", "---\nlicense: mit\nbase_model: org/root\nlanguage: [en, de]\n---\n");
    sandbox.run("convert base -o base.gguf --to gguf", &[]).ok();
    sandbox.run("convert base.gguf -o out --to hf", &[]).ok();
    insta::assert_snapshot!(card(&sandbox, "out"));
}

/// The folder has another name than the configuration says: training may have begun there.
#[test]
fn a_base_without_an_id() {
    let sandbox = workshop();
    sandbox.copy(&sandbox.path("tiny-llama"), "tuned");
    write(&sandbox, "tuned", "---\nbase_model: org/tiny-llama\n---\n");
    sandbox.run("quantize tuned -o out --type fp8", &[]).ok();
    let text = card(&sandbox, "out");
    assert_eq!(front(&text).lines().next(), Some("base_model_relation: quantized"), "{text}");
    assert!(
        text.contains("# `tuned`, quantised to FP8\n") && text.contains("| Base model | `tuned` |"),
        "{text}"
    );
    // The adapters agree with the configuration.
    sandbox.run("merge tuned style -o merged", &[]).ok();
    assert_eq!(front(&card(&sandbox, "merged")).lines().next(), Some("base_model: org/tiny-llama"));
    // What was merged here is another model, although its configuration is the base's; it was made from that.
    sandbox.run("quantize merged -o small --type fp8", &[]).ok();
    let text = card(&sandbox, "small");
    assert!(front(&text).starts_with("base_model: org/tiny-llama\nbase_model_relation: merge\n"), "{text}");
    assert!(text.contains("# `merged`, quantised to FP8"), "{text}");
}

#[test]
fn adapters_of_every_verb() {
    let sandbox = workshop();
    sandbox.run("reduce style -o reduced --rank 2", &[]).ok();
    insta::assert_snapshot!(card(&sandbox, "reduced"));
    sandbox.run("combine style=0.7 facts=0.3 -o combined --method svd", &[]).ok();
    insta::assert_snapshot!(card(&sandbox, "combined"));
    sandbox.run("merge tiny-llama style -o tuned", &[]).ok();
    sandbox.run("extract tiny-llama tuned -o extracted --rank 4", &[]).ok();
    insta::assert_snapshot!(card(&sandbox, "extracted"));
}

/// Each format that is a folder says how it is loaded.
#[test]
fn adapters_of_every_format() {
    let sandbox = workshop();
    for to in ["peft", "mlx", "torchtune"] {
        sandbox.run(&format!("convert style -o {to} --to {to} --base tiny-llama"), &[]).ok();
        insta::assert_snapshot!(format!("format_{to}"), card(&sandbox, to));
    }
    for file in ["one.gguf", "merged.safetensors"] {
        let line = if file == "one.gguf" {
            "convert style --to gguf --base tiny-llama"
        } else {
            "merge tiny-llama style"
        };
        sandbox.run(&format!("{line} -o files/{file}"), &[]).ok();
    }
    assert_eq!(entries(&sandbox.path("files")), ["merged.safetensors", "one.gguf"]);
}

#[test]
fn a_card_is_kept_and_completed() {
    let sandbox = workshop();
    let own = "---\n# by hand\ntags: [poetry]   # and more\nlicense: gpl-3.0\nbase_model: \"\"\n\nwidget:\n- text: Roses\n---\n";
    write(&sandbox, "style", format!("{own}{TITLE}"));
    sandbox.run("reduce style -o out --rank 2", &[]).ok();
    let card = card(&sandbox, "out");
    let completed = own
        .replace("base_model: \"\"", "base_model: org/tiny-llama")
        .replace("Roses\n---\n", "Roses\nbase_model_relation: adapter\nlibrary_name: peft\n---\n");
    assert!(card.starts_with(&format!("{completed}\n<!-- lorakit: begin")), "{card}");
    assert!(card.ends_with(&format!("<!-- lorakit: end -->\n\n{TITLE}")), "{card}");
}

/// What loads it is corrected where the format is another one.
#[test]
fn the_library_follows_the_format() {
    let sandbox = workshop();
    for (known, to, expected) in [
        ("peft", "peft", "peft"),
        ("peft", "mlx", "mlx"),
        ("transformers", "peft", "transformers"),
        ("transformers", "mlx", "mlx"),
        ("axolotl", "mlx", "axolotl"),
    ] {
        write(&sandbox, "style", format!("---\nlibrary_name: {known}\n---\n"));
        sandbox.run(&format!("convert style -o out --to {to} --base tiny-llama"), &[]).ok();
        let text = card(&sandbox, "out");
        assert!(text.starts_with(&format!("---\nlibrary_name: {expected}\n")), "{known} {to}: {text}");
        fs::remove_dir_all(sandbox.path("out")).unwrap();
    }
}

#[test]
fn a_merged_model_has_the_base_as_its_base() {
    let sandbox = workshop();
    write(
        &sandbox,
        "tiny-llama",
        format!("---\nlicense: mit\nbase_model:\n- org/root\nlibrary_name: transformers\n---\n{TITLE}"),
    );
    sandbox.run("merge tiny-llama style -o out", &[]).ok();
    let text = card(&sandbox, "out");
    let expected = "license: mit\nbase_model: org/tiny-llama\nlibrary_name: transformers\nbase_model_relation: merge\n\
                    tags:\n- merge\n- lorakit";
    assert_eq!(front(&text), expected);
    assert!(text.contains("The text below is the card of `org/tiny-llama`, and describes that."), "{text}");
}

#[test]
fn the_section_is_replaced_and_tells_the_whole_chain() {
    let sandbox = workshop();
    write(&sandbox, "style", TITLE);
    sandbox.run("reduce style -o small --rank 2", &[]).ok();
    sandbox.run("convert small -o out --to mlx --base tiny-llama", &[]).ok();
    insta::assert_snapshot!(card(&sandbox, "out"));
}

#[test]
fn the_unfilled_template_is_replaced() {
    let sandbox = workshop();
    let template = fs::read_to_string(fixtures().join("peft-template.md")).unwrap();
    write(&sandbox, "style", &template);
    sandbox.run("reduce style -o out --rank 2", &[]).ok();
    let replaced = card(&sandbox, "out");
    assert!(!replaced.contains("More Information Needed"), "{replaced}");
    assert!(front(&replaced).contains("pipeline_tag: text-generation"), "{replaced}");
    write(
        &sandbox,
        "style",
        template.replace("- **Developed by:** [More Information Needed]", "- **Developed by:** me"),
    );
    sandbox.run("reduce style -o kept --rank 2", &[]).ok();
    assert!(card(&sandbox, "kept").contains("- **Developed by:** me"));
}

#[test]
fn licences_that_differ_are_a_matter_for_people() {
    let sandbox = workshop();
    write(&sandbox, "tiny-llama", "---\nlicense: apache-2.0\n---\n");
    write(&sandbox, "style", "---\nlicense: cc-by-nc-4.0\n---\n");
    let run = sandbox.run("merge tiny-llama style -o out", &[]).ok();
    insta::assert_snapshot!(run.stderr, @"warning: what is made from inputs of different licences must comply with all of them: apache-2.0 (`org/tiny-llama`), cc-by-nc-4.0 (`style`); a model card states none");
    let text = card(&sandbox, "out");
    assert!(!front(&text).contains("license"), "{text}");
    assert!(text.contains("apache-2.0 (`org/tiny-llama`) and cc-by-nc-4.0 (`style`)"), "{text}");
    write(&sandbox, "style", "---\nlicense: Apache-2.0\n---\n");
    let run = sandbox.run("merge tiny-llama style -o agreed", &[]).ok();
    assert_eq!(run.stderr, "");
    assert!(front(&card(&sandbox, "agreed")).starts_with("license: apache-2.0\n"));
}

/// Neither the place of the inputs nor that of the output shows.
#[test]
fn the_same_inputs_give_the_same_card() {
    let lines = [
        "merge tiny-llama style -o out",
        "reduce style -o out --rank 2",
        "convert style -o out --to mlx --base tiny-llama",
        "quantize tiny-llama -o out --type fp8",
    ];
    for line in lines {
        let cards = ["here", "there/and/further"].map(|place| {
            let sandbox = workshop();
            for name in ["tiny-llama", "style"] {
                sandbox.copy(&sandbox.path(name), &format!("{place}/{name}"));
            }
            let mut command = Sandbox::command_in(&sandbox.path(place));
            let run = command.args(line.split_whitespace()).args(["--threads", "1"]).output().unwrap();
            assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
            let text = card(&sandbox, &format!("{place}/out"));
            assert!(!text.contains(sandbox.root().to_str().unwrap()), "{text}");
            text
        });
        assert_eq!(cards[0], cards[1], "{line}");
    }
}

#[test]
fn what_is_not_wanted_is_not_written() {
    let sandbox = workshop();
    write(&sandbox, "tiny-llama", TITLE);
    for line in [
        "merge tiny-llama style",
        "quantize tiny-llama --type nf4",
        "convert style --to mlx --base tiny-llama",
        "reduce style --rank 2",
        "combine style facts",
        "extract tiny-llama tuned --rank 4",
    ] {
        if line.starts_with("extract") {
            sandbox.run("merge tiny-llama style -o tuned", &[]).ok();
        }
        sandbox.run(&format!("{line} -o out --no-card"), &[]).ok();
        let found = fs::read_to_string(sandbox.path("out/README.md")).ok();
        let travels = line.starts_with("merge") || line.starts_with("quantize");
        assert_eq!(found.as_deref(), travels.then_some(TITLE), "{line}");
        // The card that travelled is known by its content.
        sandbox.run(&format!("{line} -o out --no-card --force"), &[]).ok();
        // Without a record, names of inputs are not told.
        sandbox.run(&format!("{line} -o out --lineage never --force"), &[]).ok();
        let text = card(&sandbox, "out");
        assert!(!text.contains("`style`") && !text.contains("`facts`"), "{text}");
        sandbox.run(&format!("{line} -o out --lineage never --force"), &[]).ok();
        fs::remove_dir_all(sandbox.path("out")).unwrap();
    }
}

/// A README of somebody else is as safe as any other file.
#[test]
fn only_cards_of_our_own_are_replaced() {
    let sandbox = workshop();
    for line in [
        "merge tiny-llama style -o out",
        "reduce style -o out --rank 2",
        "quantize tiny-llama -o out --type nf4",
    ] {
        sandbox.run(&format!("{line} --lineage never --no-card"), &[]).ok();
        write(&sandbox, "out", TITLE);
        let run = sandbox.run(&format!("{line} --force"), &[]);
        assert_eq!(run.code, Some(2), "{line}: {}", run.stderr);
        assert!(run.stderr.contains("also holds `README.md`"), "{}", run.stderr);
        assert_eq!(card(&sandbox, "out"), TITLE);
        fs::remove_dir_all(sandbox.path("out")).unwrap();
    }
}

/// No card stops a run, and what cannot be edited stays as it is.
#[test]
fn hostile_cards() {
    let sandbox = workshop();
    let bomb: String =
        (1..60).map(|i| format!("a{i}: &a{i} [{}]\n", format!("*a{},", i - 1).repeat(9))).collect();
    let kept: Vec<Vec<u8>> = vec![
        "---\nlicense: [\n---\ntext\n".into(),
        "---\n- a\n---\ntext\n".into(),
        "---\n{license: mit}\n---\ntext\n".into(),
        b"---\nlicense: \xff\n---\ntext\n".to_vec(),
        "x".repeat(5 << 20).into_bytes(),
    ];
    let edited: Vec<Vec<u8>> = vec![
        "".into(),
        "---\nnever: closed\n".into(),
        "\u{feff}---\r\nlicense: mit\r\n---\r\ntext\r\n".into(),
        format!("---\na0: &a0 [x]\n{bomb}---\n").into(),
        format!("---\na: {}\n---\n", "x".repeat(1 << 20)).into(),
        format!("---\nlicense: {}\n---\n", "[".repeat(10_000)).into(),
    ];
    for (bytes, stays) in kept.iter().map(|b| (b, true)).chain(edited.iter().map(|b| (b, false))) {
        for (folder, line) in
            [("tiny-llama", "merge tiny-llama style -o out"), ("style", "reduce style -o out --rank 2")]
        {
            write(&sandbox, folder, bytes);
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
            let run = sandbox.run(line, &[]).ok();
            let found = fs::read(sandbox.path("out/README.md")).unwrap_or_default();
            let front =
                |bytes: &[u8]| bytes.split(|b| *b == b'\n').take(3).map(<[u8]>::to_vec).collect::<Vec<_>>();
            if stays {
                assert!(run.stderr.contains("card"), "{shown}: {}", run.stderr);
                // What is too large to be read travels with a model, and is replaced in an adapter.
                let replaced = bytes.len() > 4 << 20 && folder == "style";
                assert!(replaced || front(&found) == front(bytes), "{shown}");
            } else {
                assert!(found.windows(7).any(|w| w == b"lorakit"), "{shown}");
            }
            fs::remove_dir_all(sandbox.path("out")).unwrap();
            fs::remove_file(sandbox.path(folder).join("README.md")).unwrap();
        }
    }
}

/// A README of an adapter may be anything.
#[test]
fn cards_that_are_not_files() {
    let sandbox = workshop();
    let path: PathBuf = sandbox.path("style/README.md");
    let run = |make: &dyn Fn(&Path)| {
        make(&path);
        let run = sandbox.run("reduce style -o out --rank 2", &[]).ok();
        let text = card(&sandbox, "out");
        fs::remove_dir_all(sandbox.path("out")).unwrap();
        let _ = fs::remove_file(&path);
        let _ = fs::remove_dir(&path);
        (run.stderr, text)
    };
    let (notes, text) = run(&|path| fs::create_dir(path).unwrap());
    assert!(notes.is_empty() && text.contains("# LoRA adapter"), "{notes}");
    let (notes, text) = run(&|path| symlink("nowhere", path).unwrap());
    assert!(notes.contains("is not read") && text.contains("# LoRA adapter"), "{notes}");
    let (notes, text) = run(&|path| {
        fs::write(path.with_file_name("words.md"), TITLE).unwrap();
        symlink("words.md", path).unwrap();
    });
    assert!(notes.is_empty() && text.ends_with(TITLE), "{notes}");
    let (notes, _) = run(&|path| {
        let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    });
    assert!(notes.contains("is not read"), "{notes}");
}
