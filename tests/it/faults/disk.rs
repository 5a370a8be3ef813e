//! Disks that are full, or become so.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::{finish, large, signal, start, start_after, wait_for_staging};
use crate::support::{Sandbox, entries, skipped};

/// A small separate file system, if this user may mount one.
struct Small {
    path: PathBuf,
}

impl Small {
    fn mount(path: PathBuf, options: &str) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&path).stderr(Stdio::null());
        let mounted = mount.status().is_ok_and(|status| status.success());
        if !mounted {
            skipped("no right to mount a tmpfs here");
        }
        mounted.then_some(Small { path })
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

#[test]
fn a_disk_too_small_is_noticed_before_anything_is_written() {
    let sandbox = Sandbox::new();
    large(&sandbox);
    let Some(disk) = Small::mount(sandbox.path("disk"), "size=20m") else { return };
    let run = sandbox.run("merge base adapter -o disk/out", &[]);
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    assert_eq!(entries(&disk.path), [""; 0]);
    let message = run.stderr.replace(&(20 << 20).to_string(), "[FREE]");
    insta::assert_snapshot!(message, @"
    error: `disk/out`: needs 50334904 bytes, and the file system has [FREE] free

    hint: free some space or choose an output on another disk; `--dry-run` tells the size
    ");
}

#[test]
fn a_disk_that_fills_up_meanwhile() {
    let sandbox = Sandbox::new();
    large(&sandbox);
    let Some(disk) = Small::mount(sandbox.path("disk"), "size=64m") else { return };
    let mut child = start(&sandbox, "merge base adapter -o disk/out -t 1");
    wait_for_staging(&mut child, &disk.path);
    signal(&child, Signal::STOP);
    // Another program takes the rest.
    let mut filler = fs::File::create(disk.path.join("filler")).unwrap();
    let block = vec![1; 1 << 20];
    while filler.write_all(&block).is_ok() {}
    signal(&child, Signal::CONT);
    let run = finish(&sandbox, child);
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    assert_eq!(entries(&disk.path), ["filler"], "the staged folder is gone");
    // Which file it was writing when the disk became full depends on timing.
    let unique = run.stderr.split(".partial").next().and_then(|before| before.rsplit('.').next()).unwrap();
    let message = run.stderr.replace(unique, "[UNIQUE]").replace("config.json", "model.safetensors");
    insta::assert_snapshot!(message, @"
    error: `disk/.out.[UNIQUE].partial/model.safetensors`: cannot write it
      Caused by: No space left on device (os error 28)

    hint: free some space or choose an output on another disk; `--dry-run` tells the size
    ");
}

#[test]
fn a_disk_without_room_for_another_name() {
    let sandbox = Sandbox::new();
    large(&sandbox);
    let Some(disk) = Small::mount(sandbox.path("disk"), "size=64m,nr_inodes=3") else { return };
    let run = sandbox.run("merge base adapter -o disk/out", &[]);
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    assert_eq!(entries(&disk.path), [""; 0]);
}

/// A limit on file sizes is a write error like any other, once its signal is ignored.
#[test]
fn a_limit_on_file_sizes() {
    let sandbox = Sandbox::new();
    large(&sandbox);
    let run = finish(&sandbox, start_after(&sandbox, "ulimit -f 2048", "merge base adapter -o out"));
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    assert_eq!(sandbox.entries(), ["adapter", "base"]);
}

#[test]
fn a_folder_that_may_not_be_written() {
    let sandbox = Sandbox::new();
    large(&sandbox);
    fs::write(sandbox.path("file"), "").unwrap();
    let run = sandbox.run("merge base adapter -o file/out", &[]);
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    insta::assert_snapshot!(run.stderr, @"
    error: `file`: is a file where a folder must be
    ");
}
