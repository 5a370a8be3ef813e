//! Signals: a run stops, cleans up, says so, and exits with a code for each signal.

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{finish, large, signal, staged, start, start_after, wait_for_staging};
use crate::support::{Run, Sandbox, skipped, unset};

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

/// A merge that stands still in its first write, because strace delays each, and that gets two Ctrl-C before it has to be
/// cleaned up. Also returns what it leaves. `None` where there is no strace.
fn interrupted_twice(sandbox: &Sandbox) -> Option<(Run, Vec<String>)> {
    let delay = "inject=copy_file_range,pwrite64:delay_enter=1500000";
    // Between the two there must be more time than between signals that count as one, and less than a run is given to
    // end by itself; a busy machine may miss that.
    for _ in 0..20 {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=copy_file_range,pwrite64", "-e", delay]);
        strace.arg(sandbox.command().get_program());
        strace.args(["merge", "base", "adapter", "-o", "out", "-t", "1"]).current_dir(sandbox.root());
        strace.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let Ok(mut child) = unset(&mut strace).spawn() else {
            skipped("no strace here");
            return None;
        };
        wait_for_staging(&mut child, sandbox.root());
        let tracer = child.id();
        let traced = fs::read_to_string(format!("/proc/{tracer}/task/{tracer}/children")).unwrap();
        let run = Pid::from_raw(traced.trim().parse().unwrap()).unwrap();
        sleep(Duration::from_millis(300));
        kill_process(run, Signal::INT).unwrap();
        sleep(Duration::from_millis(380));
        // It may have ended meanwhile.
        let _ = kill_process(run, Signal::INT);
        let ended = finish(sandbox, child);
        assert_eq!(ended.code, Some(130), "{}", ended.stderr);
        let left = staged(sandbox.root());
        if !left.is_empty() {
            return Some((ended, left));
        }
    }
    panic!("it was cleaned up every time");
}

#[test]
fn a_second_interrupt_says_what_it_leaves() {
    let sandbox = Sandbox::new();
    large(&sandbox);
    let Some((ended, left)) = interrupted_twice(&sandbox) else { return };
    assert_eq!(left.len(), 1);
    // strace adds lines of its own when many threads end at once.
    let told: Vec<&str> = ended.stderr.lines().filter(|line| !line.starts_with("strace: ")).collect();
    insta::assert_snapshot!(told.join("\n").replace(&left[0], "[STAGED]"), @"
    error: interrupted, and ended without cleaning up
      `./[STAGED]` is left behind

    hint: the next run with the same output removes it
    ");
    assert!(!sandbox.path("out").exists());
    sandbox.run("merge base adapter -o out", &[]).ok();
    assert_eq!(sandbox.entries(), ["adapter", "base", "out"], "the next run sweeps it up");
}
