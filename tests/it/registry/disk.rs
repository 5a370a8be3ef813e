//! F08, F20, F21: disks that are full, stores that may not be written, sources that change.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{assert_told, command, desk, refused, registry, root, run, state, stocked, traced, whole};
use crate::support::{Run, entries, files, skipped};

/// A file system that is mounted for one test.
struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    fn new(path: &'a Path, arguments: &[&str]) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let status = Command::new("mount").args(arguments).arg(path).stderr(Stdio::null()).status();
        let mounted = status.is_ok_and(|status| status.success());
        if !mounted {
            skipped("no right to mount anything here");
        }
        mounted.then_some(Mount(path))
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_disk_that_is_too_small() {
    let sandbox = desk();
    let home = sandbox.path("home");
    let Some(_disk) = Mount::new(&home, &["-t", "tmpfs", "-o", "size=400k", "tmpfs"]) else { return };
    registry(&sandbox, "add style sql:v1").ok();
    // 659 kB do not fit, which is noticed before they are written.
    let (code, kind, message) = refused(&sandbox, "registry add base tiny:bf16");
    assert_eq!((code, kind.as_str()), (3, "NoSpace"), "{message}");
    assert_eq!(entries(&root(&sandbox).join("lorakit/ingest")), [""; 0], "nothing is left behind");
    whole(&sandbox);
    // Filled to the last block, tags stay where they are.
    let filler = home.join("filler");
    let mut block = fs::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut block, &[1; 4096]).is_ok() {}
    drop(block);
    for line in ["add facts sql:v2", "tag sql:v1 sql:v2", "untag sql:v1", "eval add sql:v1 --metric a=1"] {
        let (code, _, message) = refused(&sandbox, &format!("registry {line}"));
        assert_eq!(code, 3, "{line}: {message}");
    }
    registry(&sandbox, "verify").ok();
    fs::remove_file(filler).unwrap();
    registry(&sandbox, "add facts sql:v2").ok();
    whole(&sandbox);
}

/// A store that is mounted for reading only.
#[test]
fn a_store_that_may_not_be_written() {
    let sandbox = stocked();
    let home = sandbox.path("home");
    // What was read once is there as a folder.
    run(&sandbox, "inspect sql:v2").ok();
    let before = files(&home);
    let bind = home.display().to_string();
    let Some(_disk) = Mount::new(&home, &["--bind", &bind]) else { return };
    let remounted = Command::new("mount").args(["-o", "remount,bind,ro"]).arg(&home).status().unwrap();
    assert!(remounted.success());
    for line in
        ["list", "show sql:v1", "verify", "fsck --read-data", "export sql:v1 out", "lineage", "log", "stats"]
    {
        registry(&sandbox, line).ok();
    }
    for line in ["add attn sql:v3", "tag sql:v1 sql:v3", "untag sql:v1", "rm sql:v1", "gc --apply"] {
        let (code, kind, message) = refused(&sandbox, &format!("registry {line}"));
        assert_eq!((code, kind.as_str()), (3, "Io"), "{line}: {message}");
        assert!(message.contains("home/store/lorakit/"), "{line}: {message}");
    }
    assert!(files(&home) == before);
}

/// The adapter is written to while it is copied: every read of it is delayed.
#[test]
fn a_source_that_changes() {
    let sandbox = desk();
    // Large enough to be copied in several pieces.
    let file = sandbox.path("style/notes.txt");
    fs::write(&file, vec![b'x'; 3 << 20]).unwrap();
    registry(&sandbox, "add facts sql:v0").ok();
    type Change = fn(&Path);
    let changes: [(&str, Change); 3] = [
        ("rewritten", |file| fs::write(file, vec![b'y'; 3 << 20]).unwrap()),
        ("cut short", |file| {
            fs::OpenOptions::new().write(true).open(file).unwrap().set_len(1 << 20).unwrap()
        }),
        ("replaced", |file| {
            fs::write(file.with_extension("new"), vec![b'x'; 3 << 20]).unwrap();
            fs::rename(file.with_extension("new"), file).unwrap();
        }),
    ];
    for (what, change) in changes {
        fs::write(&file, vec![b'x'; 3 << 20]).unwrap();
        let path = file.display().to_string();
        let delay = ["-o", "/dev/null", "-P", &path, "-e", "inject=read:delay_enter=150000"];
        let result = std::thread::scope(|scope| {
            let adding = scope.spawn(|| traced(&sandbox, &delay, "registry add style sql:v1 --json"));
            // It has begun to write its copy.
            let ingest = root(&sandbox).join("lorakit/ingest");
            let copied = || {
                files(&ingest)
                    .into_iter()
                    .any(|(path, bytes)| path.ends_with("notes.txt") && !bytes.is_empty())
            };
            while !copied() && !adding.is_finished() {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            change(&file);
            adding.join().unwrap()
        });
        let Some(Run { code, stderr, .. }) = result else { return };
        assert_eq!(code, Some(3), "{what}: {stderr}");
        assert!(
            stderr.contains("\"Changed\"") && stderr.contains("changed while it was read"),
            "{what}: {stderr}"
        );
        assert_eq!(state(&sandbox).len(), 1);
        assert_eq!(entries(&root(&sandbox).join("lorakit/ingest")), [""; 0]);
        whole(&sandbox);
    }
}

/// F11: a limit on the size of files is an error like any other.
#[test]
fn a_limit_on_file_sizes() {
    let sandbox = stocked();
    let mut shell = Command::new("sh");
    let line = format!("ulimit -f 200; exec '{}' registry add base tiny:bf16", env!("CARGO_BIN_EXE_lorakit"));
    let run = shell
        .args(["-c", &line])
        .current_dir(sandbox.root())
        .env("LORAKIT_HOME", sandbox.path("home"))
        .output();
    let run = Run::new(&sandbox, &run.unwrap());
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    assert_eq!(state(&sandbox).len(), 2);
    whole(&sandbox);
}

/// A home that is nowhere, and one that is not absolute.
#[test]
fn where_the_registry_is() {
    let sandbox = desk();
    let plain = |variables: &[(&str, &str)], line: &str| {
        let mut command = sandbox.command();
        Run::new(
            &sandbox,
            &command.envs(variables.iter().copied()).args(line.split_whitespace()).output().unwrap(),
        )
    };
    let none = plain(&[], "registry list");
    assert_eq!(none.code, Some(2));
    assert_told!(none.stderr, @"
    error: there is no folder for a registry: neither `LORAKIT_HOME`, `XDG_DATA_HOME` nor `HOME` is set

    hint: name one with `--store DIR`, or set `LORAKIT_HOME`
    ");
    let home = sandbox.path("me").display().to_string();
    let data = sandbox.path("data").display().to_string();
    plain(&[("HOME", &home)], "registry add style sql:v1").ok();
    plain(&[("HOME", &home), ("XDG_DATA_HOME", &data)], "registry add style sql:v1").ok();
    plain(&[("HOME", &home), ("XDG_DATA_HOME", "relative")], "registry show sql:v1").ok();
    for place in ["me/.local/share/lorakit/store", "data/lorakit/store"] {
        assert!(sandbox.path(place).join("oci-layout").is_file(), "{place}");
    }
    assert!(command(&sandbox, "registry list").output().unwrap().status.success());
}
