//! `OWNER/NAME`: found in the hub cache of the machine, or answered with the line that downloads it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;

use crate::support::{Run, Sandbox, TIMES, entries, fixtures, peft, read_json};

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

    /// Keeps a listing of a snapshot of `tiny/base` or `tiny/adapter`, as huggingface_hub writes it.
    fn list(&self, id: &str) {
        let (name, commit) = if id == "tiny/base" { ("base", FIRST) } else { ("adapter", SECOND) };
        fs::create_dir_all(self.repository(id).join("trees")).unwrap();
        fs::copy(fixtures().join(format!("golden/hub/{name}.json")), self.tree(id, commit)).unwrap();
    }

    fn tree(&self, id: &str, commit: &str) -> std::path::PathBuf {
        self.repository(id).join("trees").join(format!("{commit}.json"))
    }

    /// Flips the last bit of a file in the cache, and gives it back its time of modification.
    fn flip(&self, id: &str, commit: &str, name: &str) {
        let path = self.snapshot(id, commit).join(name);
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        fs::File::options().append(true).open(&path).unwrap().set_modified(modified).unwrap();
    }

    fn snapshot(&self, id: &str, commit: &str) -> std::path::PathBuf {
        self.repository(id).join("snapshots").join(commit)
    }

    fn run(&self, line: &str) -> Run {
        let mut command = self.sandbox.command();
        command.args(line.split(' ')).env("HF_HOME", self.sandbox.path("hf"));
        Run::new(&self.sandbox, &command.output().unwrap())
    }

    /// What a command says that must fail and leave nothing behind.
    fn refused(&self, line: &str) -> String {
        let before = self.sandbox.entries();
        let run = self.run(line);
        assert_eq!((self.sandbox.entries(), run.code), (before, Some(1)), "{}", run.stderr);
        run.stderr
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

/// What is wrong with files of the cache is found before anything is done.
#[test]
fn a_damaged_file_is_refused() {
    let line = "merge tiny/base tiny/adapter -o out";
    let desk = Desk::new();
    desk.list("tiny/base");
    desk.list("tiny/adapter");
    desk.run(&format!("{line} --dry-run")).ok();
    desk.flip("tiny/base", FIRST, "model.safetensors");
    insta::assert_snapshot!(desk.refused(line), @"
    note: `tiny/base`: revision 1111111, from the hub cache of this machine
    note: `tiny/adapter`: revision 2222222, from the hub cache of this machine
    error: `tiny/base/model.safetensors`: is damaged in the hub cache: its sha256 is a967e30f1c80358d5bc57f41be655e37581eef23ecaa3da5accbadacc8d0ae9d, and the hub lists 15f4ecfe9f1b651461488e9ef37ba33e94f803ec2fdd57ade9ae30cf03ce0a55

    hint: download it again: `hf download tiny/base model.safetensors --revision 1111111111111111111111111111111111111111 --force-download`
    ");
    insta::assert_snapshot!(desk.run(&format!("{line} --json")).stderr, @r#"{"error":{"kind":"Corrupt","message":"`tiny/base/model.safetensors`: is damaged in the hub cache: its sha256 is a967e30f1c80358d5bc57f41be655e37581eef23ecaa3da5accbadacc8d0ae9d, and the hub lists 15f4ecfe9f1b651461488e9ef37ba33e94f803ec2fdd57ade9ae30cf03ce0a55","path":"tiny/base/model.safetensors","tensor":null,"details":[],"causes":[],"hints":["download it again: `hf download tiny/base model.safetensors --revision 1111111111111111111111111111111111111111 --force-download`"],"exit_code":1}}"#);
    desk.flip("tiny/base", FIRST, "model.safetensors");
    // A small file, by what git calls it.
    desk.flip("tiny/adapter", SECOND, "adapter_config.json");
    insta::assert_snapshot!(desk.refused(line), @"
    note: `tiny/base`: revision 1111111, from the hub cache of this machine
    note: `tiny/adapter`: revision 2222222, from the hub cache of this machine
    error: `tiny/adapter/adapter_config.json`: is damaged in the hub cache: its git blob id is 44140b9c8b1ad55a29ddb063e1e8de940fc74098, and the hub lists ad6492e61c8e056e50660dd94070b22054632f9b

    hint: download it again: `hf download tiny/adapter adapter_config.json --revision 2222222222222222222222222222222222222222 --force-download`
    ");
    desk.flip("tiny/adapter", SECOND, "adapter_config.json");
    // A file that is cut short is not read.
    let weights = desk.snapshot("tiny/adapter", SECOND).join("adapter_model.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, &whole[..1000]).unwrap();
    insta::assert_snapshot!(desk.refused("inspect --recursive tiny/adapter"), @"
    note: `tiny/adapter`: revision 2222222, from the hub cache of this machine
    error: `tiny/adapter/adapter_model.safetensors`: is damaged in the hub cache: it has 1000 bytes, and the hub lists 122312

    hint: download it again: `hf download tiny/adapter adapter_model.safetensors --revision 2222222222222222222222222222222222222222 --force-download`
    ");
    // What is not there is not damaged.
    fs::remove_file(&weights).unwrap();
    assert!(desk.run(line).stderr.contains("the hub cache has only a part of it (no weights)"));
    fs::write(&weights, &whole).unwrap();
    desk.run(line).ok();
    assert!(desk.sandbox.path("out").exists());
}

/// Only files that are read count: of a model in a file, not those of its siblings.
#[test]
fn what_is_not_read_may_be_damaged() {
    let desk = Desk::new();
    desk.list("tiny/base");
    desk.list("tiny/adapter");
    fs::write(desk.snapshot("tiny/base", FIRST).join("pytorch_model.bin"), "unlisted").unwrap();
    desk.flip("tiny/adapter", SECOND, "adapter_model.safetensors");
    desk.run("inspect tiny/base").ok();
    desk.run("inspect tiny/base/model.safetensors").ok();
    assert_eq!(desk.run("inspect tiny/adapter").code, Some(1));
    assert_eq!(desk.run("inspect tiny/adapter/adapter_model.safetensors").code, Some(1));
    assert_eq!(desk.run("verify tiny/base --base tiny/base --adapter tiny/adapter").code, Some(1));
    // A training run reads its inputs elsewhere.
    fs::write(desk.sandbox.path("rows.jsonl"), "{\"text\": \"a\"}\n").unwrap();
    let run = desk.run("train --model tiny/base --adapter tiny/adapter --data rows.jsonl -o trained");
    assert!(run.code == Some(1) && run.stderr.contains("is damaged in the hub cache"), "{}", run.stderr);
}

#[test]
fn a_listing_that_says_nothing() {
    let desk = Desk::new();
    desk.list("tiny/adapter");
    desk.flip("tiny/adapter", SECOND, "adapter_model.safetensors");
    fs::write(desk.tree("tiny/adapter", SECOND), "{").unwrap();
    insta::assert_snapshot!(desk.run("inspect tiny/adapter").ok().stderr, @"
    note: `tiny/adapter`: revision 2222222, from the hub cache of this machine
    note: `tiny/adapter`: its files are not compared with the hub's listing: `[TMP]/hf/hub/models--tiny--adapter/trees/2222222222222222222222222222222222222222.json`: is not valid JSON: EOF while parsing an object at line 1 column 1
    ");
    fs::write(desk.tree("tiny/adapter", SECOND), r#"{"format_version": 2, "files": {}}"#).unwrap();
    insta::assert_snapshot!(desk.run("inspect tiny/adapter").ok().stderr, @"
    note: `tiny/adapter`: revision 2222222, from the hub cache of this machine
    note: `tiny/adapter`: its files are not compared with the hub's listing: `[TMP]/hf/hub/models--tiny--adapter/trees/2222222222222222222222222222222222222222.json`: has `format_version` 2, and only 1 is known
    ");
    // Nothing is listed, so nothing is checked, nor said.
    fs::write(desk.tree("tiny/adapter", SECOND), r#"{"format_version": 1, "files": {}}"#).unwrap();
    assert_eq!(desk.run("inspect tiny/adapter").ok().stderr.lines().count(), 1);
}

/// Files that were verified are remembered, below whichever folder variables name.
#[test]
fn what_was_verified_is_remembered() {
    for (variable, value, place) in [
        ("LORAKIT_HOME", "own", "own/cache/verified.json"),
        ("XDG_CACHE_HOME", "xdg", "xdg/lorakit/verified.json"),
        ("HOME", "home", "home/.cache/lorakit/verified.json"),
    ] {
        let desk = Desk::new();
        desk.list("tiny/adapter");
        let inspect = || {
            let mut command = desk.sandbox.command();
            command.args(["inspect", "tiny/adapter"]).env("HF_HOME", desk.sandbox.path("hf"));
            Run::new(&desk.sandbox, &command.env(variable, desk.sandbox.path(value)).output().unwrap())
        };
        inspect().ok();
        let file = desk.sandbox.path(place);
        let known = || read_json(&file)["files"].as_array().unwrap().len();
        assert_eq!(known(), 2);
        let written = fs::metadata(&file).unwrap().modified().unwrap();
        inspect().ok();
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), written, "nothing is added");
        // Another listing is not what was verified, nor is another file.
        let listing = fs::read_to_string(desk.tree("tiny/adapter", SECOND)).unwrap();
        fs::write(desk.tree("tiny/adapter", SECOND), listing.replace("f436dc", "f436dd")).unwrap();
        assert_eq!(inspect().code, Some(1));
        desk.list("tiny/adapter");
        inspect().ok();
        desk.flip("tiny/adapter", SECOND, "adapter_model.safetensors");
        assert_eq!(inspect().code, Some(1));
        // What is no memory is written again.
        desk.flip("tiny/adapter", SECOND, "adapter_model.safetensors");
        fs::write(&file, "{").unwrap();
        inspect().ok();
        assert_eq!(known(), 2);
    }
}

#[test]
fn files_are_checked_unless_a_variable_says_never() {
    let desk = Desk::new();
    desk.list("tiny/adapter");
    desk.flip("tiny/adapter", SECOND, "adapter_model.safetensors");
    let inspect = |value: &str| {
        let mut command = desk.sandbox.command();
        command.args(["inspect", "tiny/adapter"]).env("HF_HOME", desk.sandbox.path("hf"));
        Run::new(&desk.sandbox, &command.env("LORAKIT_HUB_VERIFY", value).output().unwrap())
    };
    inspect("never").ok();
    assert_eq!([inspect("always").code, inspect("").code], [Some(1), Some(1)]);
    let run = inspect("maybe");
    assert_eq!(run.code, Some(2));
    insta::assert_snapshot!(run.stderr, @"
    note: `tiny/adapter`: revision 2222222, from the hub cache of this machine
    error: invalid value 'maybe' for LORAKIT_HUB_VERIFY: must be always or never

    hint: `unset LORAKIT_HUB_VERIFY`, or correct its value
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
    // Each goes before all that follow.
    let hf = desk.sandbox.path("hf");
    let (good, nothing) = ([&hub, &hub, &hf, &home.join(".cache"), &home], desk.sandbox.path("nothing"));
    let names = ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"];
    for first in 0..names.len() {
        let set = |is_good: bool| -> Vec<(&str, &Path)> {
            let place =
                |at: usize| if (at == first) == is_good { good[at].as_path() } else { nothing.as_path() };
            (first..names.len()).map(|at| (names[at], place(at))).collect()
        };
        assert!(found(&set(true)), "{} goes first", names[first]);
        assert!(!found(&set(false)), "{} goes first", names[first]);
        // One that is empty is not set.
        let empty: Vec<(&str, &Path)> = names[..first].iter().map(|name| (*name, Path::new(""))).collect();
        assert!(found(&[empty, set(true)].concat()), "{} is the first that is set", names[first]);
    }
}
