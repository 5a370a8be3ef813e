//! Signals: a run stops, cleans up, says so, and exits with a code for each signal.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;
use rustix::termios::{Action, tcflow};
use serde_json::Value;

use super::{finish, large, signal, staged, start, start_after, wait_for_staging};
use crate::support::Sandbox;
use crate::terminal::Terminal;

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

/// A merge that is stopped in the middle by a terminal that takes no output, as after Ctrl-S: with its bar on it, the
/// run stands still, and cleans nothing up. It had its first Ctrl-C.
fn standing_still(terminal: &Terminal, sandbox: &Sandbox) -> Child {
    loop {
        let mut command = sandbox.command();
        command.args(["merge", "base", "adapter", "-o", "out", "-t", "1"]);
        let mut child = terminal.start(command);
        wait_for_staging(&mut child, sandbox.root());
        tcflow(&terminal.theirs, Action::OOff).unwrap();
        // The next time the bar is drawn, or never, if that was the last.
        sleep(Duration::from_millis(300));
        signal(&child, Signal::INT);
        sleep(Duration::from_millis(400));
        if child.try_wait().unwrap().is_none() && !staged(sandbox.root()).is_empty() {
            return child;
        }
        tcflow(&terminal.theirs, Action::OOn).unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_second_interrupt_says_what_it_leaves() {
    let sandbox = Sandbox::new();
    large(&sandbox);
    let terminal = Terminal::new(80);
    let mut child = standing_still(&terminal, &sandbox);
    let name = staged(sandbox.root()).remove(0);
    signal(&child, Signal::INT);
    sleep(Duration::from_millis(200));
    tcflow(&terminal.theirs, Action::OOn).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let text = terminal.text().replace(&name, "[STAGED]");
    let text = anstream::adapter::strip_str(&text).to_string();
    // The run may still take its bar off the line after the message.
    let message: Vec<&str> = text[text.rfind("error: ").unwrap()..].lines().take(4).collect();
    insta::assert_snapshot!(message.join("\n"), @"
    error: interrupted, and ended without cleaning up
      `./[STAGED]` is left behind

    hint: the next run with the same output removes it
    ");
    assert!(!sandbox.path("out").exists());
}

#[test]
fn a_second_interrupt_does_not_wait_for_the_terminal() {
    let sandbox = Sandbox::new();
    large(&sandbox);
    let terminal = Terminal::new(80);
    let mut child = standing_still(&terminal, &sandbox);
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(staged(sandbox.root()).len(), 1);
    sandbox.run("merge base adapter -o out", &[]).ok();
    assert_eq!(sandbox.entries(), ["adapter", "base", "out"], "the next run sweeps it up");
}
