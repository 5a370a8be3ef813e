//! Inputs that become shorter while they are read.

use std::fs::{self, OpenOptions};

use rustix::process::Signal;
use serde_json::Value;

use super::{finish, large, signal, start, wait_for_staging};
use crate::support::{Run, Sandbox};

/// A merge during which the base loses all but its first MiB.
fn cut(options: &str) -> Run {
    let sandbox = Sandbox::new();
    large(&sandbox);
    let base = sandbox.path("base/model.safetensors");
    let whole = fs::read(&base).unwrap();
    loop {
        let mut child = start(&sandbox, &format!("merge base adapter -o out -t 1 --no-progress {options}"));
        wait_for_staging(&mut child, sandbox.root());
        signal(&child, Signal::STOP);
        OpenOptions::new().write(true).open(&base).unwrap().set_len(1 << 20).unwrap();
        signal(&child, Signal::CONT);
        let run = finish(&sandbox, child);
        if run.code == Some(0) {
            // All of it had been read.
            fs::remove_dir_all(sandbox.path("out")).unwrap();
            fs::write(&base, &whole).unwrap();
            continue;
        }
        assert_eq!(sandbox.entries(), ["adapter", "base"], "nothing is left behind");
        assert_eq!(run.stdout, "");
        return run;
    }
}

#[test]
fn one_that_is_mapped() {
    let run = cut("");
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    insta::assert_snapshot!(run.stderr, @"
    error: `base/model.safetensors`: became shorter while it was read: 1048576 bytes of 50334400

    hint: wait until nothing writes to it any more, or copy it first; then run again
    ");
}

#[test]
fn one_that_is_mapped_as_json() {
    let run = cut("--json");
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    let error = serde_json::from_str::<Value>(&run.stderr).unwrap()["error"].take();
    assert_eq!(error["kind"], "Changed");
    assert_eq!(error["path"], "base/model.safetensors");
    assert_eq!(error["exit_code"], 3);
}

#[test]
fn one_that_is_read_by_position() {
    let run = cut("--no-mmap");
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    insta::assert_snapshot!(run.stderr, @"
    error: `base/model.safetensors`: became shorter while it was read: 1048576 bytes of 50334400

    hint: wait until nothing writes to it any more, or copy it first; then run again
    ");
}
