//! `OWNER/NAME`: found in the hub cache of the machine, or answered with the line that downloads it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;

use crate::support::{Run, Sandbox, TIMES, entries, fixtures, peft};

const FIRST: &str = "1111111111111111111111111111111111111111";
const SECOND: &str = "2222222222222222222222222222222222222222";

/// A desk with a hub cache in `hf/hub`, and nothing else.
struct Desk {
    sandbox: Sandbox,
}

impl Desk {
    /// The cache holds `tiny/base` and `tiny/adapter`, as `hf download` leaves them.
    fn new() -> Self {
        let desk = Desk { sandbox: Sandbox::new() };
        desk.keep("tiny/base", FIRST, &peft("bases/llama-bf16"));
        desk.keep("tiny/adapter", SECOND, &peft("adapters/plain"));
        for (id, commit) in [("tiny/base", FIRST), ("tiny/adapter", SECOND)] {
            desk.name(id, "main", commit);
        }
        desk
    }

    fn repository(&self, id: &str) -> std::path::PathBuf {
        self.sandbox.path(&format!("hf/hub/models--{}", id.replace('/', "--")))
    }

    /// Puts the files of a folder into the cache: blobs, and a snapshot of links.
    fn keep(&self, id: &str, commit: &str, from: &Path) {
        let (blobs, snapshot) =
            (self.repository(id).join("blobs"), self.repository(id).join("snapshots").join(commit));
        fs::create_dir_all(&blobs).unwrap();
        fs::create_dir_all(&snapshot).unwrap();
        for name in entries(from) {
            let blob = format!("{}-{name}", &commit[..4]);
            fs::copy(from.join(&name), blobs.join(&blob)).unwrap();
            symlink(format!("../../blobs/{blob}"), snapshot.join(&name)).unwrap();
        }
    }

    /// Lets a branch or tag stand for a commit.
    fn name(&self, id: &str, name: &str, commit: &str) {
        let refs = self.repository(id).join("refs");
        fs::create_dir_all(&refs).unwrap();
        fs::write(refs.join(name), commit).unwrap();
    }

    fn snapshot(&self, id: &str, commit: &str) -> std::path::PathBuf {
        self.repository(id).join("snapshots").join(commit)
    }

    fn run(&self, line: &str) -> Run {
        let mut command = self.sandbox.command();
        command.args(line.split(' ')).env("HF_HOME", self.sandbox.path("hf"));
        Run::new(&self.sandbox, &command.output().unwrap())
    }

    /// The parents in the record of an output.
    fn parents(&self, output: &str) -> Vec<(String, Option<String>)> {
        let object: Value =
            serde_json::from_str(&self.run(&format!("inspect {output} --json")).ok().stdout).unwrap();
        let parents = object["reports"][0]["lineage"]["parents"].as_array().unwrap().clone();
        let text = |value: &Value| value.as_str().map(str::to_string);
        parents.iter().map(|parent| (text(&parent["name"]).unwrap(), text(&parent["revision"]))).collect()
    }
}

#[test]
fn a_merge_by_ids() {
    let desk = Desk::new();
    let run = desk.run("merge tiny/base tiny/adapter=0.5 -o out").ok();
    assert!(
        !run.stdout.contains("snapshots") && !run.stderr.contains("snapshots"),
        "{}{}",
        run.stdout,
        run.stderr
    );
    insta::with_settings!({filters => TIMES.to_vec()}, {
        insta::assert_snapshot!(run.stderr + &run.stdout, @"
        note: `tiny/base`: revision 1111111, from the hub cache of this machine
        note: `tiny/adapter`: revision 2222222, from the hub cache of this machine
        merged `tiny/adapter` (weight 0.5, 14 modules)
        into   `tiny/base`: 14 of 21 tensors changed
        retention BF16: 100.00 % of the adapter is in the output; rounding left 0.2 % of the touched weights as they were
        unchecked: 7 tensors (165 kB) copied without a search for NaN and infinity; `--check-finite` searches them too
        wrote `out` (659 kB, 21 tensors, 1 file) in [TIME] ([RATE])
        ");
    });
    assert_eq!(
        desk.parents("out"),
        [("tiny/base".into(), Some(FIRST.into())), ("tiny/adapter".into(), Some(SECOND.into()))]
    );
    // Files of the base are copied, not the links that the cache holds.
    for name in entries(&desk.sandbox.path("out")) {
        assert!(fs::symlink_metadata(desk.sandbox.path("out").join(&name)).unwrap().is_file(), "{name}");
    }
    // The same weights as from folders, and the same bytes wherever the cache is.
    desk.sandbox.copy(&peft("bases/llama-bf16"), "base");
    desk.sandbox.copy(&peft("adapters/plain"), "adapter");
    desk.run("merge base adapter=0.5 -o expected --lineage never").ok();
    desk.run("merge tiny/base tiny/adapter=0.5 -o plain --lineage never").ok();
    let model = |folder: &str| fs::read(desk.sandbox.path(folder).join("model.safetensors")).unwrap();
    assert!(model("plain") == model("expected"));
    let other = Desk::new();
    other.run("merge tiny/base tiny/adapter=0.5 -o elsewhere").ok();
    assert!(model("out") == fs::read(other.sandbox.path("elsewhere/model.safetensors")).unwrap());
}

/// Every input of every verb.
#[test]
fn every_verb_takes_ids() {
    let desk = Desk::new();
    desk.run("merge tiny/base tiny/adapter -o out").ok();
    desk.keep("tiny/tuned", FIRST, &desk.sandbox.path("out"));
    desk.keep("tiny/small", FIRST, &fixtures().join("tiny-orders"));
    for line in [
        "inspect tiny/adapter --base tiny/base",
        "inspect tiny/adapter tiny/base --json",
        "convert tiny/adapter -o mlx --to mlx --base tiny/base",
        "convert tiny/small -o small.gguf --to gguf",
        "quantize tiny/small -o nf4 --type nf4",
        "reduce tiny/adapter -o reduced --rank 2",
        "combine tiny/adapter=0.5 tiny/adapter=0.25 -o combined --base tiny/base",
        "extract tiny/base tiny/tuned -o extracted --rank 2",
        "verify tiny/tuned --base tiny/base --adapter tiny/adapter",
        "diff tiny/base tiny/tuned",
    ] {
        let run = desk.run(line).ok();
        assert!(
            !run.stdout.contains("snapshots") && !run.stderr.contains("snapshots"),
            "{line}\n{}",
            run.stdout
        );
        if !line.contains("--json") {
            assert!(
                run.stderr.contains("note: ") && run.stderr.contains("from the hub cache"),
                "{}",
                run.stderr
            );
        }
    }
    assert_eq!(desk.parents("reduced"), [("tiny/adapter".into(), Some(SECOND.into()))]);
    assert_eq!(desk.parents("extracted").len(), 2);
    let run = desk.run("inspect tiny/adapter --json").ok();
    assert!(run.stdout.contains("\"path\":\"tiny/adapter\""), "{}", run.stdout);
}

#[test]
fn revisions() {
    let desk = Desk::new();
    desk.keep("tiny/adapter", FIRST, &peft("adapters/rslora"));
    desk.name("tiny/adapter", "v1", FIRST);
    let used = |id: &str| {
        let out = format!("out-{}", id.replace(['/', '@', '.'], "-"));
        desk.run(&format!("reduce {id} -o {out} --rank 2")).ok();
        desk.parents(&out).remove(0)
    };
    for id in ["tiny/adapter@v1", "tiny/adapter@1111111", &format!("tiny/adapter@{FIRST}")] {
        assert_eq!(used(id), ("tiny/adapter".into(), Some(FIRST.into())));
    }
    for id in ["tiny/adapter", "tiny/adapter@main", "tiny/adapter@2222"] {
        assert_eq!(used(id), ("tiny/adapter".into(), Some(SECOND.into())));
    }
    // Without `main`, the only snapshot counts; of two, none.
    desk.keep("tiny/one", FIRST, &peft("adapters/rslora"));
    assert_eq!(used("tiny/one").1.as_deref(), Some(FIRST));
    desk.keep("tiny/one", SECOND, &peft("adapters/plain"));
    assert_ne!(desk.run("inspect tiny/one").code, Some(0));
    insta::assert_snapshot!(desk.run("inspect tiny/adapter@v2").stderr, @"
    error: `tiny/adapter@v2`: does not exist

    hint: if it is on the Hugging Face hub, `hf download tiny/adapter --revision v2 --local-dir adapter` downloads it: then name `adapter/` in its place; without `--local-dir` it goes into the hub cache, and the same line then works
    ");
}

/// A file in a repository, such as one of several GGUF files.
#[test]
fn a_file_by_id() {
    let desk = Desk::new();
    let line = "inspect tiny/base/model.safetensors";
    assert!(desk.run(line).ok().stdout.contains("tiny/base/model.safetensors"));
    assert_ne!(desk.run("inspect tiny/base/other.safetensors").code, Some(0));
}

#[test]
fn a_path_goes_first() {
    let desk = Desk::new();
    desk.sandbox.copy(&peft("adapters/rslora"), "tiny/adapter");
    let run = desk.run("inspect tiny/adapter").ok();
    assert!(run.stdout.contains("rsLoRA") && run.stderr.is_empty(), "{}{}", run.stdout, run.stderr);
}

#[test]
fn what_is_not_there_is_downloaded_by_a_line() {
    let desk = Desk::new();
    insta::assert_snapshot!(desk.run("merge Qwen/Qwen3-0.6B tiny/adapter -o out").stderr, @"
    note: `tiny/adapter`: revision 2222222, from the hub cache of this machine
    error: `Qwen/Qwen3-0.6B`: does not exist

    hint: if it is on the Hugging Face hub, `hf download Qwen/Qwen3-0.6B --local-dir Qwen3-0.6B` downloads it: then name `Qwen3-0.6B/` in its place; without `--local-dir` it goes into the hub cache, and the same line then works
    ");
    insta::assert_snapshot!(desk.run("inspect Qwen/Qwen3-0.6B@v1 --json").stderr, @r#"{"error":{"kind":"NotFound","message":"`Qwen/Qwen3-0.6B@v1`: does not exist","path":"Qwen/Qwen3-0.6B@v1","tensor":null,"details":[],"causes":[],"hints":["if it is on the Hugging Face hub, `hf download Qwen/Qwen3-0.6B --revision v1 --local-dir Qwen3-0.6B` downloads it: then name `Qwen3-0.6B/` in its place; without `--local-dir` it goes into the hub cache, and the same line then works"],"exit_code":1}}"#);
    // Neither a path below a folder that is there, nor an output, is an id.
    fs::create_dir(desk.sandbox.path("models")).unwrap();
    fs::write(desk.sandbox.path("no"), "").unwrap();
    for line in ["inspect models/base", "inspect ./Qwen/base", "reduce tiny/adapter --rank 2 -o no/out"] {
        let run = desk.run(line);
        assert!(run.code != Some(0) && !run.stderr.contains("hf download"), "{line}: {}", run.stderr);
    }
}

#[test]
fn an_incomplete_snapshot() {
    let desk = Desk::new();
    // What `hf download tiny/base config.json` leaves.
    fs::remove_file(desk.snapshot("tiny/base", FIRST).join("model.safetensors")).unwrap();
    insta::assert_snapshot!(desk.run("merge tiny/base tiny/adapter -o out").stderr, @"
    note: `tiny/base`: revision 1111111, from the hub cache of this machine
    note: `tiny/adapter`: revision 2222222, from the hub cache of this machine
    error: `tiny/base`: is a folder without a checkpoint: no `*.safetensors`, `*.gguf` or `*.bin` file in it

    hint: the hub cache has only a part of it (no weights): `hf download tiny/base` completes it, and the same line then works
    ");
    // That is enough where only the configuration is read.
    desk.run("convert tiny/adapter -o mlx --to mlx --base tiny/base").ok();
    // A blob that was cleaned away.
    let link = desk.snapshot("tiny/adapter", SECOND).join("adapter_model.safetensors");
    fs::remove_file(fs::canonicalize(link).unwrap()).unwrap();
    insta::assert_snapshot!(desk.run("inspect tiny/adapter").stderr, @"
    note: `tiny/adapter`: revision 2222222, from the hub cache of this machine
    error: `tiny/adapter`: has no `adapter_model.safetensors` and no `adapter_model.bin`

    hint: the hub cache has only a part of it (no `adapter_model.safetensors`): `hf download tiny/adapter` completes it, and the same line then works
    ");
    // A shard that is still to come.
    let sharded = desk.sandbox.path("sharded");
    desk.sandbox.copy(&peft("bases/llama-bf16"), "base");
    desk.sandbox.run("convert base -o sharded.gguf --to gguf", &[]);
    desk.sandbox
        .run(
            "merge base",
            &[
                &peft("adapters/plain"),
                Path::new("-o"),
                &sharded,
                Path::new("--max-shard-size"),
                Path::new("50KB"),
            ],
        )
        .ok();
    desk.keep("tiny/sharded", FIRST, &sharded);
    let snapshot = desk.snapshot("tiny/sharded", FIRST);
    let last = entries(&snapshot).into_iter().rfind(|name| name.starts_with("model-")).unwrap();
    fs::remove_file(snapshot.join(last)).unwrap();
    insta::assert_snapshot!(desk.run("inspect tiny/sharded").stderr, @"
    note: `tiny/sharded`: revision 1111111, from the hub cache of this machine
    error: `tiny/sharded/model-00012-of-00012.safetensors`: is missing; `model.safetensors.index.json` names it

    hint: the hub cache has only a part of it (no `model-00012-of-00012.safetensors`): `hf download tiny/sharded` completes it, and the same line then works
    ");
}

/// The variables that name the cache, most important first.
#[test]
fn where_the_cache_is() {
    let desk = Desk::new();
    let hub = desk.sandbox.path("hf/hub");
    let home = desk.sandbox.path("home");
    fs::create_dir_all(home.join(".cache/huggingface")).unwrap();
    symlink(&hub, home.join(".cache/huggingface/hub")).unwrap();
    let found = |variables: &[(&str, &Path)]| {
        let mut command = desk.sandbox.command();
        command.args(["inspect", "tiny/adapter"]).envs(variables.iter().copied());
        command.output().unwrap().status.success()
    };
    assert!(!found(&[]));
    assert!(found(&[("HOME", &home)]));
    assert!(found(&[("XDG_CACHE_HOME", &home.join(".cache"))]));
    assert!(found(&[("HF_HOME", &desk.sandbox.path("hf"))]));
    assert!(found(&[("HF_HUB_CACHE", &hub)]));
    assert!(found(&[("HF_HUB_CACHE", Path::new("~/.cache/huggingface/hub")), ("HOME", &home)]));
    assert!(!found(&[("HF_HUB_CACHE", &home), ("HF_HOME", &desk.sandbox.path("hf"))]));
}
