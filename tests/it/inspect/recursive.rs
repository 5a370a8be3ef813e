//! `--recursive`: a folder with one of everything.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{Sandbox, edit_json, fixtures, peft};
use crate::weights::{read_folder, write_sharded};

/// A folder `zoo` with adapters of several formats, models, checkpoints of a trainer, a cache of the hub, links, and
/// what is broken.
fn zoo() -> Sandbox {
    let sandbox = Sandbox::new();
    let adapters =
        |name: &str, to: &str| sandbox.copy(&peft(&format!("adapters/{name}")), &format!("zoo/{to}"));
    adapters("plain", "run");
    fs::write(sandbox.path("zoo/run/README.md"), "---\nlicense: mit\nbase_model: owner/llama\n---\n")
        .unwrap();
    for step in [500, 1000] {
        let checkpoint = adapters("attn-r4", &format!("run/checkpoint-{step}"));
        for name in ["optimizer.pt", "scheduler.pt", "training_args.bin", "rng_state_0.pth"] {
            fs::copy(fixtures().join("torch/optimizer.bin"), checkpoint.join(name)).unwrap();
        }
        fs::create_dir(checkpoint.join("global_step500")).unwrap();
        fs::write(checkpoint.join("global_step500/zero_pp_rank_0_optim_states.pt"), "state").unwrap();
    }
    adapters("patterns", "patterns");
    adapters("dora", "dora");
    sandbox.copy(&peft("adapters-bin/attn-r4"), "zoo/bin");
    fs::copy(fixtures().join("torch/optimizer.bin"), sandbox.path("zoo/embeddings.bin")).unwrap();
    let line = |line: &str| drop(sandbox.run(line, &[]).ok());
    sandbox.copy(&fixtures().join("tiny-orders"), "zoo/models/tiny");
    sandbox.copy(&fixtures().join("tiny-json-lora"), "tiny-lora");
    line("convert tiny-lora --to gguf --base zoo/models/tiny -o zoo/tiny-lora.gguf --lineage never");
    line("convert tiny-lora --to mlx --base zoo/models/tiny -o zoo/mlx --lineage never");
    let sharded = sandbox.copy(&peft("bases/llama-bf16-sharded"), "zoo/models/sharded");
    let weights = read_folder(&sharded);
    fs::remove_file(sharded.join("model.safetensors")).unwrap();
    write_sharded(&sharded, &weights);
    fs::copy(fixtures().join("golden/convert/llama2.bf16.gguf"), sandbox.path("zoo/models/llama2.bf16.gguf"))
        .unwrap();

    let repository = "zoo/hub/models--owner--style-lora";
    sandbox.copy(&peft("adapters/rslora"), &format!("{repository}/blobs"));
    let snapshot = sandbox.path(repository).join("snapshots/0123456789abcdef0123456789abcdef01234567");
    fs::create_dir_all(&snapshot).unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        symlink(format!("../../blobs/{file}"), snapshot.join(file)).unwrap();
    }
    adapters("plain", ".cache/old");
    symlink("run", sandbox.path("zoo/latest")).unwrap();
    symlink("..", sandbox.path("zoo/run/up")).unwrap();

    let cut = adapters("plain", "broken/cut");
    let tensors = fs::read(cut.join("adapter_model.safetensors")).unwrap();
    fs::write(cut.join("adapter_model.safetensors"), &tensors[..tensors.len() / 2]).unwrap();
    fs::write(adapters("plain", "broken/json").join("adapter_config.json"), "{").unwrap();
    fs::remove_file(adapters("plain", "broken/no-tensors").join("adapter_model.safetensors")).unwrap();
    let dangling = adapters("plain", "broken/dangling");
    fs::remove_file(dangling.join("adapter_model.safetensors")).unwrap();
    symlink("nowhere", dangling.join("adapter_model.safetensors")).unwrap();
    let shard = sandbox.copy(&sandbox.path("zoo/models/sharded"), "zoo/broken/shard");
    fs::remove_file(shard.join("model-00002-of-00002.safetensors")).unwrap();
    edit_json(&adapters("plain", "broken/pissa").join("adapter_config.json"), |config| {
        config["init_lora_weights"] = json!("pissa");
        config["base_model_name_or_path"] = json!("/home/ann/llama");
    });
    sandbox
}

#[test]
fn one_of_everything() {
    let sandbox = zoo();
    let run = sandbox.run("inspect --recursive zoo", &[]).ok();
    assert_eq!(run.stderr, "");
    assert_snapshot!(run.stdout, @"
      path                      format       base                 rank    scale     size  findings
      bin                       peft         llama-bf16              4        1  18.3 kB
      broken/cut                -            -                       -        -  62.3 kB  error: unreadable
        `zoo/broken/cut/adapter_model.safetensors`: tensor `base_model.model.model.layers.0.self_attn.v_proj.lora_B.weight`: is cut short: this tensor ends at byte 62920, and the file has 61156
      broken/dangling           -            -                       -        -  1.16 kB  error: unreadable
        `zoo/broken/dangling`: has no `adapter_model.safetensors` and no `adapter_model.bin`
      broken/json               -            -                       -        -   122 kB  error: unreadable
        `zoo/broken/json/adapter_config.json`: is not valid JSON: EOF while parsing an object at line 1 column 1
      broken/no-tensors         -            -                       -        -  1.16 kB  error: unreadable
        `zoo/broken/no-tensors`: has no `adapter_model.safetensors` and no `adapter_model.bin`
      broken/pissa              peft         /home/ann/llama         8        2   122 kB  error: mutated-base; warning: local-path
      broken/shard              -            -                       -        -   330 kB  error: unreadable
        `zoo/broken/shard/model-00002-of-00002.safetensors`: is missing; `model.safetensors.index.json` names it
      dora                      peft         llama-bf16              8        2   131 kB
      owner/style-lora@0123456  peft         llama-bf16             16        4   241 kB  1 note
      mlx                       mlx          lorakit/tiny-orders     8        2   162 kB
      models/llama2.bf16.gguf   gguf         -                       -        -  63.1 kB
      models/sharded            safetensors  -                       -        -   659 kB
      models/tiny               safetensors  -                       -        -  1.71 MB
      patterns                  peft         llama-bf16           4-12  0.125-8   124 kB
      run                       peft         llama-bf16              8        2   122 kB
      run/checkpoint-500        peft         llama-bf16              4        1  15.4 kB  1 note
      run/checkpoint-1000       peft         llama-bf16              4        1  15.4 kB  1 note
      tiny-lora.gguf            gguf         lorakit/tiny-orders     8        2   161 kB  1 note

    14 adapters, 4 models, 4.06 MB; 6 with errors
    headers only: `--norms` also reads the values (NaN, untrained factors)
    ");
    assert_snapshot!(sandbox.run("inspect -r zoo/run -v", &[]).ok().stdout, @"
      path             format  base        rank  scale     size  findings
      .                peft    llama-bf16     8      2   122 kB
      checkpoint-500   peft    llama-bf16     4      1  15.4 kB  note: pickles-beside
        `optimizer.pt`, `rng_state_0.pth`, `scheduler.pt`, `training_args.bin` beside the adapter are pickles: to unpickle may run code (`torch.load` without `weights_only`, `pickle.load`)
      checkpoint-1000  peft    llama-bf16     4      1  15.4 kB  note: pickles-beside
        `optimizer.pt`, `rng_state_0.pth`, `scheduler.pt`, `training_args.bin` beside the adapter are pickles: to unpickle may run code (`torch.load` without `weights_only`, `pickle.load`)

    3 adapters, 153 kB
    headers only: `--norms` also reads the values (NaN, untrained factors)
    ");
    let relative =
        sandbox.command().current_dir(sandbox.path("zoo/run")).args(["inspect", "-r", "."]).output().unwrap();
    assert!(String::from_utf8(relative.stdout).unwrap().contains("\n  .  "));
}

#[test]
fn what_is_asked_for() {
    let sandbox = zoo();
    let listed = |options: &str| sandbox.run(&format!("inspect -r zoo {options}"), &[]).ok().stdout;
    assert_snapshot!(listed("--filter kind=adapter --filter findings!=error --sort rank"), @"
      path                      format  base                 rank    scale     size  findings
      owner/style-lora@0123456  peft    llama-bf16             16        4   241 kB  1 note
      patterns                  peft    llama-bf16           4-12  0.125-8   124 kB
      dora                      peft    llama-bf16              8        2   131 kB
      mlx                       mlx     lorakit/tiny-orders     8        2   162 kB
      run                       peft    llama-bf16              8        2   122 kB
      tiny-lora.gguf            gguf    lorakit/tiny-orders     8        2   161 kB  1 note
      bin                       peft    llama-bf16              4        1  18.3 kB
      run/checkpoint-500        peft    llama-bf16              4        1  15.4 kB  1 note
      run/checkpoint-1000       peft    llama-bf16              4        1  15.4 kB  1 note

    9 of 18 match: 9 adapters, 992 kB
    headers only: `--norms` also reads the values (NaN, untrained factors)
    ");
    assert_snapshot!(listed("--filter format=*safetensors --sort size"), @"
      path            format       base  rank  scale     size  findings
      models/tiny     safetensors  -        -      -  1.71 MB
      models/sharded  safetensors  -        -      -   659 kB

    2 of 18 match: 2 models, 2.37 MB
    ");
    assert_snapshot!(listed("--filter base=nobody/*"), @"0 of 18 match");
    assert_snapshot!(listed("--hidden --filter path=.cache/*"), @"
      path        format  base        rank  scale    size  findings
      .cache/old  peft    llama-bf16     8      2  122 kB

    1 of 19 match: 1 adapter, 122 kB
    headers only: `--norms` also reads the values (NaN, untrained factors)
    ");
    assert_snapshot!(listed("--filter path=run* --spectrum"), @"
      path                 format  base        rank  scale     size   norm  eff. rank  findings
      run                  peft    llama-bf16     8      2   122 kB  56.59      7.847
      run/checkpoint-500   peft    llama-bf16     4      1  15.4 kB   8.39      3.959  1 note
      run/checkpoint-1000  peft    llama-bf16     4      1  15.4 kB   8.39      3.959  1 note

    3 of 18 match: 3 adapters, 153 kB
    ");
    let empty = sandbox.path("empty");
    fs::create_dir_all(empty.join(".git")).unwrap();
    assert_snapshot!(sandbox.run("inspect -r empty", &[]).ok().stdout, @"no adapter and no model (1 hidden folder not searched: `--hidden`)");
}

#[test]
fn several_folders_are_told_apart() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("adapters/plain"), "one/a");
    sandbox.copy(&peft("adapters/dora"), "two/a");
    fs::copy(fixtures().join("golden/convert/llama2.bf16.gguf"), sandbox.path("model.gguf")).unwrap();
    assert_snapshot!(sandbox.run("inspect -r one two model.gguf", &[]).ok().stdout, @"
      path        format  base        rank  scale     size  findings
      model.gguf  gguf    -              -      -  63.1 kB
      one/a       peft    llama-bf16     8      2   122 kB
      two/a       peft    llama-bf16     8      2   131 kB

    2 adapters, 1 model, 317 kB
    headers only: `--norms` also reads the values (NaN, untrained factors)
    ");
}

#[test]
fn a_folder_that_is_not_there() {
    let sandbox = Sandbox::new();
    assert_snapshot!(sandbox.refused("inspect --recursive nowhere"), @"
    exit 1
    error: `nowhere`: does not exist

    hint: check the path; nothing is downloaded
    ");
}

#[test]
fn a_folder_that_cannot_be_listed() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("adapters/plain"), "zoo/good");
    sandbox.copy(&peft("adapters/plain"), "zoo/locked");
    let lock =
        |mode| fs::set_permissions(sandbox.path("zoo/locked"), fs::Permissions::from_mode(mode)).unwrap();
    lock(0);
    // Nothing is locked for root.
    let is_open = fs::read_dir(sandbox.path("zoo/locked")).is_ok();
    let run = sandbox.run("inspect -r zoo --fail-on error", &[]);
    lock(0o755);
    if is_open {
        assert_eq!(run.code, Some(0));
        return;
    }
    assert_eq!(run.code, Some(1));
    assert!(run.stdout.contains("error: unreadable") && run.stdout.contains("good"), "{}", run.stdout);
}

/// In a pipe a line holds everything about an adapter, however long, so that a search finds it.
#[test]
fn lines_are_whole_in_a_pipe() {
    let sandbox = Sandbox::new();
    let deep = format!("zoo/{}", "a-long-name/".repeat(12));
    sandbox.copy(&peft("adapters/plain"), &deep);
    let run = sandbox.run("inspect -r zoo", &[]).ok();
    let inside = deep.trim_start_matches("zoo/").trim_end_matches('/');
    assert!(run.stdout.lines().any(|line| line.contains(inside) && line.contains("peft")), "{}", run.stdout);
}

#[test]
fn the_same_as_json() {
    let sandbox = zoo();
    let run = sandbox.run("inspect -r zoo --json --norms --fail-on error", &[]);
    assert_eq!(run.code, Some(1));
    let object: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(object["schema"], "lorakit.inspect.recursive/1");
    let entries = object["entries"].as_array().unwrap();
    let entry = |path: &str| entries.iter().find(|entry| entry["path"] == path).unwrap();
    assert_eq!(entry("patterns")["rank"], json!({ "min": 4, "max": 12 }));
    assert_eq!(entry("run")["licenses"], json!(["mit"]));
    assert!(entry("run")["norm"].as_f64().unwrap() > 0.0, "values were read");
    assert_eq!(entry("models/tiny")["architecture"], "LlamaForCausalLM");
    assert_eq!(entry("models/sharded")["kind"], "model");
    let hub = "hub/models--owner--style-lora/snapshots/0123456789abcdef0123456789abcdef01234567";
    assert_eq!(entry(hub)["hub"]["id"], "owner/style-lora");
    let counts = &object["counts"];
    assert_eq!(counts["entries"], entries.len());
    assert_eq!(counts["hidden_folders"], 1);
    let broken =
        entries.iter().filter(|entry| entry["path"].as_str().unwrap().starts_with("broken/")).count();
    assert_eq!((counts["with_errors"].as_u64().unwrap(), broken), (6, 6));
    let reasons: Value = serde_json::from_str(&run.stderr).unwrap();
    assert_eq!(
        reasons["error"]["details"].as_array().unwrap().len(),
        object["violations"].as_array().unwrap().len()
    );
    assert_eq!(reasons["error"]["kind"], "Audit");
}

#[test]
fn the_same_as_a_page() {
    let sandbox = zoo();
    let hostile = sandbox.copy(&peft("adapters/plain"), "zoo/<script>alert(1)<");
    fs::write(hostile.join("README.md"), "---\nlicense: </script><b>\n---\n").unwrap();
    let run = sandbox.run("inspect -r zoo --html zoo.html --json", &[]).ok();
    let mut printed: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(printed.as_object_mut().unwrap().remove("html").unwrap(), "zoo.html");
    let page = fs::read_to_string(sandbox.path("zoo.html")).unwrap();
    let (_, rest) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    let data: Value = serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap();
    assert_eq!(data, printed);
    assert!(page.contains("<title>zoo - lorakit inspect</title>") && !page.contains("{{"));
    assert_eq!(page.matches("</script>").count(), 2, "those of the page");
    for outside in ["https://", "url(", "@import", "fetch(", "src="] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn a_thousand_adapters() {
    let sandbox = Sandbox::new();
    generate(&sandbox.path("zoo"), 1000);
    let run = sandbox.run("inspect -r zoo --json", &[]).ok();
    let object: Value = serde_json::from_str(&run.stdout).unwrap();
    let entries = object["entries"].as_array().unwrap();
    let paths: Vec<&str> = entries.iter().map(|entry| entry["path"].as_str().unwrap()).collect();
    let expected: Vec<String> = (0..1000).map(|i| format!("team-{}/adapter-{i}", i / 100)).collect();
    assert_eq!(paths, expected);
    assert!(entries.iter().all(|entry| entry["rank"] == json!({ "min": 4, "max": 4 })));
    // One thread sees the same in the same order.
    assert_eq!(sandbox.run("inspect -r zoo --json -t 1", &[]).ok().stdout, run.stdout);
}

/// Adapters that differ in nothing but their folders.
fn generate(folder: &Path, count: usize) {
    let one = peft("adapters/attn-r4");
    for i in 0..count {
        let to = folder.join(format!("team-{}/adapter-{i}", i / 100));
        crate::support::copy_folder(&one, &to);
    }
}
