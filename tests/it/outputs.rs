//! Outputs that coincide with inputs, and outputs whose path is taken: for all verbs and all options that name paths.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use lorakit_tensor::{Checkpoint, Reader, TensorSource};

use crate::support::{Sandbox, files, fixtures, peft};

/// What a verb writes, and the options that name its inputs; each with a command that works.
struct Verb {
    line: &'static str,
    inputs: &'static [&'static str],
    /// The ending of the output's name; empty for a folder.
    ending: &'static str,
}

const VERBS: &[Verb] = &[
    Verb { line: "merge base adapter", inputs: &["base", "adapter"], ending: "" },
    Verb {
        line: "merge base/model.safetensors adapter",
        inputs: &["base", "adapter"],
        ending: ".safetensors",
    },
    Verb {
        line: "merge base.gguf adapter --quantize keep",
        inputs: &["base.gguf", "adapter"],
        ending: ".gguf",
    },
    Verb {
        line: "merge base adapter --quantize Q8_0 --imatrix imatrix.dat",
        inputs: &["base", "adapter", "imatrix.dat"],
        ending: ".gguf",
    },
    Verb { line: "convert adapter --to peft --base base", inputs: &["adapter", "base"], ending: "" },
    Verb {
        line: "convert adapter --to mlx --base base/config.json",
        inputs: &["adapter", "base"],
        ending: "",
    },
    Verb {
        line: "convert adapter --to gguf --base base.gguf",
        inputs: &["adapter", "base.gguf"],
        ending: ".gguf",
    },
    Verb { line: "convert base --to gguf", inputs: &["base"], ending: ".gguf" },
    Verb { line: "convert base.gguf --to hf", inputs: &["base.gguf"], ending: "" },
    Verb { line: "quantize base --type nf4", inputs: &["base"], ending: "" },
    Verb {
        line: "quantize base.gguf --type Q8_0 --imatrix imatrix.dat",
        inputs: &["base.gguf", "imatrix.dat"],
        ending: ".gguf",
    },
    Verb { line: "reduce adapter --rank 2 --base base", inputs: &["adapter", "base"], ending: "" },
    Verb {
        line: "combine adapter other=0.5 --method cat --base base",
        inputs: &["adapter", "other", "base"],
        ending: "",
    },
    Verb { line: "edit adapter --tag x --base base", inputs: &["adapter", "base"], ending: "" },
    Verb { line: "extract base tuned --rank 4", inputs: &["base", "tuned"], ending: "" },
    Verb { line: "inspect adapter --base base --html", inputs: &["adapter", "base"], ending: ".html" },
    Verb {
        line: "inspect --recursive adapter --policy policy.toml --html",
        inputs: &["adapter", "policy.toml"],
        ending: ".html",
    },
    Verb {
        line: "eval --model base --adapter adapter --data rows.jsonl --answers 0 --general none --html",
        inputs: &["base", "adapter", "rows.jsonl"],
        ending: ".html",
    },
];

/// A folder `work` with everything that the verbs read.
fn workshop() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), "work/base");
    sandbox.copy(&fixtures().join("tiny-json-lora"), "work/adapter");
    sandbox.copy(&fixtures().join("tiny-upper-lora"), "work/other");
    sandbox.run("merge work/base work/adapter -o work/tuned", &[]).ok();
    sandbox.run("convert work/base -o work/base.gguf --to gguf", &[]).ok();
    fs::copy(fixtures().join("tiny-json/heldout.jsonl"), sandbox.path("work/rows.jsonl")).unwrap();
    fs::write(sandbox.path("work/policy.toml"), "formats = ['peft']").unwrap();
    fs::write(sandbox.path("work/imatrix.dat"), importances(&sandbox.path("work/base.gguf"))).unwrap();
    sandbox
}

/// An importance matrix of the model, as older versions of llama-imatrix wrote it: all columns matter equally.
fn importances(model: &Path) -> Vec<u8> {
    let model = Checkpoint::open(model, &Reader::default()).unwrap();
    let layers = model.tensors().iter().filter(|t| t.name.starts_with("blk.") && t.shape.len() == 2);
    let layers: Vec<_> = layers.collect();
    let number = |n: usize| (n as i32).to_le_bytes().to_vec();
    let mut bytes = number(layers.len());
    for tensor in layers {
        bytes.extend([number(tensor.name.len()), tensor.name.clone().into_bytes(), number(1)].concat());
        bytes.extend(number(tensor.shape[1]));
        bytes.extend(1_f32.to_le_bytes().repeat(tensor.shape[1]));
    }
    bytes
}

impl Verb {
    /// Runs it in `work`, with `--force`, and returns whether it wrote.
    fn writes(&self, sandbox: &Sandbox, output: &str) -> bool {
        let page = self.line.ends_with("--html");
        let line = format!("{} {} {output} --force", self.line, if page { "" } else { "-o" });
        let mut command = sandbox.command();
        command.current_dir(sandbox.path("work")).args(line.split_whitespace());
        let output = command.output().unwrap();
        let code = output.status.code().unwrap();
        assert!([0, 2].contains(&code), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        code == 0
    }
}

/// Equal to an input, inside it, containing it, linked to it: no input is ever lost, whatever the verb.
#[test]
fn no_verb_writes_over_what_it_reads() {
    let sandbox = workshop();
    let work = sandbox.path("work");
    let before = files(&work);
    for verb in VERBS {
        let unharmed = |output: &str| {
            for (path, content) in &before {
                let now = fs::read(path).unwrap_or_default();
                assert!(now == *content, "`{} -o {output}` lost {}", verb.line, path.display());
            }
        };
        for input in verb.inputs {
            symlink(input, work.join("link")).unwrap();
            let folder = work.join(input).is_dir();
            let mut refused =
                vec![(*input).to_string(), format!("./{input}"), "../work".into(), "link".into()];
            if folder {
                let names = fs::read_dir(work.join(input)).unwrap().map(|e| e.unwrap().file_name());
                refused.extend(names.map(|name| format!("{input}/{}", name.into_string().unwrap())));
                refused.push(format!("{input}/../{input}"));
            } else {
                fs::hard_link(work.join(input), work.join("same.gguf")).unwrap();
                refused.push("same.gguf".into());
            }
            for output in refused {
                // Next to the files that are read, a file of another kind may be the verb's own output.
                let wrote = verb.writes(&sandbox, &output);
                unharmed(&output);
                assert!(!wrote, "`{} -o {output}`", verb.line);
            }
            let _ = fs::remove_file(work.join("link"));
            let _ = fs::remove_file(work.join("same.gguf"));
            if folder {
                let inside = format!("{input}/sub/new{}", verb.ending);
                assert!(verb.writes(&sandbox, &inside), "`{} -o {inside}`", verb.line);
                unharmed(&inside);
                fs::remove_dir_all(work.join(input).join("sub")).unwrap();
            }
        }
    }
    assert!(files(&work) == before, "nothing else is left");
}

/// With `--force`, files that no run of lorakit would have written stay, and the message names them.
#[test]
fn force_replaces_what_it_knows_alone() {
    let sandbox = workshop();
    let work = sandbox.path("work");
    for verb in VERBS.iter().filter(|verb| verb.ending.is_empty()) {
        let hoard = work.join("hoard");
        fs::create_dir(&hoard).unwrap();
        fs::copy(work.join("base.gguf"), hoard.join("one.gguf")).unwrap();
        fs::copy(work.join("base.gguf"), hoard.join("two.gguf")).unwrap();
        fs::write(hoard.join("notes.md"), "which is which").unwrap();
        let before = files(&hoard);
        assert!(!verb.writes(&sandbox, "hoard"), "{}", verb.line);
        assert!(files(&hoard) == before, "{}", verb.line);
        fs::remove_dir_all(&hoard).unwrap();
        // It replaces its own output.
        assert!(verb.writes(&sandbox, "out"), "{}", verb.line);
        assert!(verb.writes(&sandbox, "out"), "{}", verb.line);
        let own = work.join("out/of my own.txt");
        fs::write(&own, "kept").unwrap();
        assert!(!verb.writes(&sandbox, "out"), "{}", verb.line);
        assert_eq!(fs::read(&own).unwrap(), b"kept");
        fs::remove_dir_all(work.join("out")).unwrap();
    }
}

#[test]
fn what_is_replaced_is_listed() {
    let sandbox = workshop();
    let base = peft("bases/llama-bf16");
    let adapter = peft("adapters/plain");
    sandbox.run("merge -o out", &[&base, &adapter]).ok();
    let run = sandbox.run("merge -o out --force", &[&base, &adapter]).ok();
    insta::assert_snapshot!(run.stdout.lines().rev().nth(1).unwrap(), @"replaced `README.md`, `config.json`, `generation_config.json`, 2 more");
    let run = sandbox.run("merge -o out --force --dry-run", &[&base, &adapter]).ok();
    insta::assert_snapshot!(run.stdout.lines().take(2).collect::<Vec<_>>().join("\n"), @"
    would write `out`
    would replace `README.md`, `config.json`, `generation_config.json`, `lorakit.json`, `model.safetensors`
    ");
    let run = sandbox.run("merge -o out --dry-run", &[&base, &adapter]).ok();
    insta::assert_snapshot!(run.stdout.lines().take(2).collect::<Vec<_>>().join("\n"), @"
    would write `out`
    as things stand it would fail: `out`: exists; `--force` replaces it (the old one is kept until the new one is complete)
    ");
    let run = sandbox.run("merge -o out --dry-run --json", &[&base, &adapter]).ok();
    let object: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(object["plan"]["obstacle"]["kind"], "Exists");
    let run = sandbox.run("merge -o out --force --json", &[&base, &adapter]).ok();
    let object: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(
        object["replaced"],
        serde_json::json!([
            "README.md",
            "config.json",
            "generation_config.json",
            "lorakit.json",
            "model.safetensors"
        ])
    );
}

/// A file that `config.json` names for a custom class, and shards that an index names, go with the model.
#[test]
fn what_a_configuration_or_an_index_names_is_replaced() {
    let sandbox = workshop();
    let base = sandbox.path("work/base");
    sandbox.run("merge work/base work/adapter -o out --max-shard-size 200KB", &[]).ok();
    assert!(sandbox.path("out/model.safetensors.index.json").exists());
    fs::write(sandbox.path("out/modeling_own.py"), "class Own: ...").unwrap();
    let refused = sandbox.run("merge work/base work/adapter -o out --force", &[]);
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    crate::support::edit_json(&sandbox.path("out/config.json"), |config| {
        config["auto_map"] = serde_json::json!({ "AutoModel": "modeling_own.Own" });
    });
    sandbox.run("merge work/base work/adapter -o out --force", &[]).ok();
    for own in ["lorakit.json", "README.md"] {
        fs::remove_file(sandbox.path("out").join(own)).unwrap();
    }
    assert_eq!(crate::support::entries(&sandbox.path("out")), crate::support::entries(&base));
}
