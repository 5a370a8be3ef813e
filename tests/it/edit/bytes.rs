//! What is not asked for stays byte for byte.

use std::fs;

use super::{FILE, different, parts, report};
use crate::support::{Sandbox, entries, peft};
use crate::weights::read_file;

#[test]
fn a_name_changes_a_line_of_the_configuration() {
    let mut checked = 0;
    for name in entries(&peft("adapters")) {
        let sandbox = Sandbox::new();
        let adapter = sandbox.copy(&peft("adapters").join(&name), "adapter");
        sandbox.run("edit adapter -o out --base-model org/model --revision v1 --lineage never", &[]).ok();
        if adapter.join(FILE).exists() {
            let read = |folder: &str| fs::read(sandbox.path(folder).join(FILE)).unwrap();
            assert!(read("adapter") == read("out"), "{name}");
            checked += 1;
        }
        let config =
            |folder: &str| fs::read_to_string(sandbox.path(folder).join("adapter_config.json")).unwrap();
        let lines = different(&config("adapter"), &config("out"));
        let after: Vec<&str> = lines.iter().map(|(_, after)| after.as_str()).collect();
        assert_eq!(after, [r#""base_model_name_or_path": "org/model","#, r#""revision": "v1","#], "{name}");
    }
    assert!(checked > 15);
}

/// The record of the step is in the header; everything behind it stays.
#[test]
fn with_a_record_the_header_alone_changes() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("adapters/plain"), "adapter");
    sandbox.run("edit adapter -o out --base-model org/model", &[]).ok();
    let file = |folder: &str| sandbox.path(folder).join(FILE);
    assert!(parts(&file("adapter")) == parts(&file("out")));
    assert!(fs::read(file("adapter")).unwrap() != fs::read(file("out")).unwrap());
    let run = sandbox.run("inspect out --json", &[]).ok();
    let object: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let lineage = &object["reports"][0]["lineage"];
    assert_eq!((&lineage["verb"], &lineage["options"]["base_model"]), (&"edit".into(), &"org/model".into()));
    assert_eq!(lineage["parents"][0]["name"], "adapter");
    // A path on this machine is nobody's business.
    sandbox.run("edit adapter -o local --base-model /home/me/model", &[]).ok();
    let page = fs::read_to_string(sandbox.path("local/lorakit.json")).unwrap();
    assert!(!page.contains("/home/me"), "{page}");
}

/// A header that another program spells otherwise, with tensors and metadata in another order.
#[test]
fn a_foreign_header_stays_as_it_is() {
    let sandbox = Sandbox::new();
    let adapter = sandbox.copy(&peft("adapters/f32"), "adapter");
    let bytes = fs::read(adapter.join(FILE)).unwrap();
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..end]).unwrap();
    let mut members: Vec<String> =
        header.as_object().unwrap().iter().rev().map(|(k, v)| format!("{:?} : {v}", k)).collect();
    members.push(r#""__metadata__" : {"z":"1", "a" : "2"}"#.into());
    members.retain(|member| !member.contains("\"format\""));
    let text = format!("{{{}}}   ", members.join(" , "));
    let foreign = [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &bytes[end..]].concat();
    fs::write(adapter.join(FILE), &foreign).unwrap();
    sandbox.run("edit adapter -o out --base-model org/model --lineage never", &[]).ok();
    assert!(fs::read(sandbox.path("out").join(FILE)).unwrap() == foreign);
    let run = sandbox.run("edit adapter -o dry --base-model org/model --lineage never -n --json", &[]).ok();
    let object: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(object["plan"]["output_bytes"], foreign.len());
}

#[test]
fn files_beside_the_tensors_travel() {
    let sandbox = Sandbox::new();
    let adapter = sandbox.copy(&peft("adapters/plain"), "adapter");
    let card = "---\nlicense: mit # free\ntags:\n- lora\nbase_model: old/model\n---\n# Mine\n\nWords.\n";
    for (name, content) in [
        ("tokenizer.json", "{ }"),
        ("chat_template.jinja", "{{ x }}"),
        ("additional_chat_templates/tool.jinja", "{{ y }}"),
        ("notes.txt", "mine"),
        ("README.md", card),
        ("optimizer.pt", "state"),
        ("checkpoint-5/adapter_config.json", "{}"),
        (".gitattributes", "*.bin"),
    ] {
        let path = adapter.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let run = sandbox.run("edit adapter -o out --fold-alpha --lineage never", &[]).ok();
    let left = "note: left out `checkpoint-5`, `optimizer.pt`: other weights, or what does not belong to an adapter\n";
    assert_eq!(run.stderr, left);
    let out = sandbox.path("out");
    let names = [
        "README.md",
        "adapter_config.json",
        FILE,
        "additional_chat_templates",
        "chat_template.jinja",
        "notes.txt",
        "tokenizer.json",
    ];
    assert_eq!(entries(&out), names);
    for name in ["tokenizer.json", "additional_chat_templates/tool.jinja", "notes.txt", "README.md"] {
        assert_eq!(fs::read(adapter.join(name)).unwrap(), fs::read(out.join(name)).unwrap(), "{name}");
    }

    let line =
        "adapter -o told --base-model new/model --license apache-2.0 --tag chat --tag lora --remove-tag x";
    let told = report(&sandbox, &format!("{line} --lineage never"));
    let after = fs::read_to_string(sandbox.path("told/README.md")).unwrap();
    insta::assert_snapshot!(after, @"
    ---
    license: apache-2.0
    tags:
    - lora
    - chat
    base_model: new/model
    ---
    # Mine

    Words.
    ");
    let findings: Vec<&str> =
        told["findings"].as_array().unwrap().iter().map(|f| f["message"].as_str().unwrap()).collect();
    assert_eq!(findings[1..3], ["the tag `lora` is there already", "there is no tag `x` to remove"]);
    assert!(fs::read(sandbox.path("told").join(FILE)).unwrap() == fs::read(adapter.join(FILE)).unwrap());
}

/// Without a card, one is made for what has no other place; the name of the base has one.
#[test]
fn a_card_is_made_where_it_must_be() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("adapters/plain"), "adapter");
    sandbox.run("edit adapter -o named --base-model org/model", &[]).ok();
    assert!(!sandbox.path("named/README.md").exists());
    sandbox.run("edit adapter -o told --base-model org/model --license mit --tag a", &[]).ok();
    insta::assert_snapshot!(fs::read_to_string(sandbox.path("told/README.md")).unwrap(), @"
    ---
    base_model: org/model
    license: mit
    tags:
    - a
    ---
    ");
    // The last tag goes, and its key with it.
    sandbox.run("edit told -o bare --remove-tag a", &[]).ok();
    let card = fs::read_to_string(sandbox.path("bare/README.md")).unwrap();
    assert!(!card.contains("tags"), "{card}");
}

#[test]
fn a_torch_archive_becomes_a_safetensors_file() {
    let sandbox = Sandbox::new();
    let same = sandbox.copy(&peft("adapters/attn-r4"), "same");
    sandbox.copy(&peft("adapters-bin/attn-r4"), "adapter");
    let run = sandbox.run("edit adapter -o out --base-model org/model --lineage never", &[]).ok();
    insta::assert_snapshot!(run.stderr, @"note: `adapter_model.bin` is a Torch archive; its tensors are written as safetensors");
    assert_eq!(entries(&sandbox.path("out")), ["adapter_config.json", FILE]);
    assert!(read_file(&sandbox.path("out").join(FILE)) == read_file(&same.join(FILE)));
}
