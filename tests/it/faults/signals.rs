//! Signals: a run stops, cleans up, says so, and exits with a code for each signal.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;

use rustix::process::Signal;
use serde_json::Value;

use super::{finish, large, signal, start, start_after, wait_for_staging};
use crate::support::Sandbox;

const CODES: [(Signal, i32); 3] = [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)];

#[test]
fn an_interrupted_merge_leaves_nothing() {
    let sandbox = Sandbox::new();
    large(&sandbox);
    for (sent, code) in CODES {
        let mut child = start(&sandbox, "merge base adapter -o out -t 1");
        wait_for_staging(&mut child, sandbox.root());
        signal(&child, sent);
        let run = finish(&sandbox, child);
        assert_eq!(run.code, Some(code), "{}", run.stderr);
        assert_eq!(run.stdout, "");
        assert_eq!(sandbox.entries(), ["adapter", "base"]);
        insta::allow_duplicates! {
            insta::assert_snapshot!(run.stderr, @"
            error: interrupted

            hint: nothing was written; run the same command again
            ");
        }
    }
}

/// `nohup` and `&` start commands with these signals ignored.
#[test]
fn signals_that_were_ignored_at_the_start_stay_ignored() {
    let sandbox = Sandbox::new();
    large(&sandbox);
    let mut child = start_after(&sandbox, "trap '' HUP INT", "merge base adapter -o out -t 1");
    wait_for_staging(&mut child, sandbox.root());
    signal(&child, Signal::HUP);
    signal(&child, Signal::INT);
    finish(&sandbox, child).ok();
    assert_eq!(sandbox.entries(), ["adapter", "base", "out"]);
}

/// SIGBUS from another process is not a fault in a file.
#[test]
fn a_fault_that_somebody_sends_ends_it_as_ever() {
    let sandbox = Sandbox::new();
    large(&sandbox);
    let mut child = start(&sandbox, "merge base adapter -o out -t 1");
    wait_for_staging(&mut child, sandbox.root());
    signal(&child, Signal::BUS);
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::BUS.as_raw()));
}

/// A run that waits for the reader of its output checks no flag.
#[test]
fn a_command_that_does_not_notice_ends_all_the_same() {
    let sandbox = Sandbox::new();
    large(&sandbox);
    let arguments = format!("inspect --json{}", " adapter".repeat(20));
    for (sent, code) in CODES {
        let mut child = start(&sandbox, &arguments);
        // It has begun to write more than a pipe holds.
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        signal(&child, sent);
        assert_eq!(child.wait().unwrap().code(), Some(code));
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let error = serde_json::from_str::<Value>(&stderr).unwrap()["error"].take();
        assert_eq!(
            (error["kind"].as_str(), error["exit_code"].as_i64()),
            (Some("Interrupted"), Some(code.into()))
        );
    }
}
