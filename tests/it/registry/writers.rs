//! F12 to F15: several processes in one store.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{command, desk, registry, root, run, start, state, stocked, whole};
use crate::support::{Run, Sandbox, read_json, skipped, unset};

/// F12: eight processes at a time, fifty tags each.
#[test]
fn no_tag_of_many_writers_is_lost() {
    const WRITERS: usize = 8;
    const TAGS: usize = 50;
    let sandbox = stocked();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let sandbox = &sandbox;
            scope.spawn(move || {
                for tag in 0..TAGS {
                    registry(sandbox, &format!("tag sql:v1 w{writer}/sql:t{tag}")).ok();
                }
            });
        }
    });
    let tags = state(&sandbox);
    let kept = tags.keys().filter(|tag| tag.starts_with('w')).count();
    assert_eq!(kept, WRITERS * TAGS);
    let index = read_json(&root(&sandbox).join("index.json"));
    assert_eq!(index["manifests"].as_array().unwrap().len(), tags.len(), "other programs see them, too");
    whole(&sandbox);
}

/// F13: of two who move one tag from what they saw, one does.
#[test]
fn of_two_who_expect_the_same_one_wins() {
    let sandbox = stocked();
    registry(&sandbox, "add attn sql:v3").ok();
    registry(&sandbox, "tag sql:v1 sql:best").ok();
    for _ in 0..10 {
        let seen = state(&sandbox)["sql:best"];
        let others: Vec<&str> =
            ["sql:v1", "sql:v2", "sql:v3"].into_iter().filter(|tag| state(&sandbox)[*tag] != seen).collect();
        let line = |new: &str| format!("registry tag {new} sql:best --expect {seen}");
        let children = [start(&sandbox, &line(others[0])), start(&sandbox, &line(others[1]))];
        let runs = children.map(|child| Run::new(&sandbox, &child.wait_with_output().unwrap()));
        let codes: Vec<Option<i32>> = runs.iter().map(|run| run.code).collect();
        assert!(codes == [Some(0), Some(1)] || codes == [Some(1), Some(0)], "{codes:?}");
        let winner = codes.iter().position(|code| *code == Some(0)).unwrap();
        assert_eq!(state(&sandbox)["sql:best"], state(&sandbox)[others[winner]]);
        assert!(runs[1 - winner].stderr.contains("expected"), "{}", runs[1 - winner].stderr);
    }
}

/// F14: what is being added is never swept, whatever the sweeper spares.
#[test]
fn adding_beside_sweeping() {
    let sandbox = desk();
    registry(&sandbox, "add facts sql:v0").ok();
    let over = AtomicBool::new(false);
    let swept = thread::scope(|scope| {
        let sweeper = scope.spawn(|| {
            let mut rounds = 0;
            while !over.load(Ordering::Relaxed) {
                registry(&sandbox, "gc --apply --grace 0s --history 0s").ok();
                rounds += 1;
            }
            rounds
        });
        for round in 0..10 {
            registry(&sandbox, "add style sql:v1").ok();
            run(&sandbox, "inspect sql:v1").ok();
            whole(&sandbox);
            registry(&sandbox, "rm sql:v1").ok();
            // Its blobs become fair game only in the next second.
            if round % 5 == 4 {
                thread::sleep(Duration::from_millis(1100));
            }
        }
        over.store(true, Ordering::Relaxed);
        sweeper.join().unwrap()
    });
    assert!(swept > 5, "the sweeper ran {swept} times");
    assert_eq!(state(&sandbox).len(), 1);
    whole(&sandbox);
}

/// Takes the lock of refs and stops for good while it holds it, which strace makes it do; returns its process. `None`
/// where there is no strace.
fn stopped_holder(sandbox: &Sandbox) -> Option<(Child, Pid)> {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=fdatasync:signal=SIGSTOP:when=1"]);
    strace.arg(env!("CARGO_BIN_EXE_lorakit")).args(["registry", "tag", "sql:v1", "held:v1"]);
    strace.current_dir(sandbox.root()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(tracer) = unset(&mut strace).env("LORAKIT_HOME", sandbox.path("home")).spawn() else {
        skipped("no strace here");
        return None;
    };
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < Duration::from_secs(30), "it never took the lock");
        // Who holds it has written its number there.
        let holder = std::fs::read_to_string(root(sandbox).join("lorakit/reflock")).unwrap_or_default();
        let traced =
            std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", tracer.id())).unwrap_or_default();
        if let Ok(id) = holder.parse::<i32>()
            && traced.split_whitespace().any(|child| child == holder)
            && std::fs::read_to_string(root(sandbox).join("lorakit/reflog")).unwrap().contains("held:v1")
        {
            return Some((tracer, Pid::from_raw(id).unwrap()));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// F15, the half that is quick: a lock is free as soon as its holder is dead, and what the holder had begun is done or not.
#[test]
fn a_lock_goes_with_its_holder() {
    let sandbox = stocked();
    let Some((tracer, holder)) = stopped_holder(&sandbox) else { return };
    let mut waiter = start(&sandbox, "registry tag sql:v2 waited:v1");
    thread::sleep(Duration::from_millis(300));
    assert!(waiter.try_wait().unwrap().is_none(), "it waits");
    // Who only looks does not.
    registry(&sandbox, "list").ok();
    kill_process(holder, Signal::KILL).unwrap();
    let waited = Run::new(&sandbox, &waiter.wait_with_output().unwrap());
    assert_eq!(waited.code, Some(0), "{}", waited.stderr);
    assert_eq!(state(&sandbox)["waited:v1"], state(&sandbox)["sql:v2"]);
    whole(&sandbox);
    end(tracer);
}

/// F15, the half that takes 30 seconds.
#[test]
#[ignore = "waits for 30 seconds"]
fn who_waits_too_long_is_told_for_whom() {
    let sandbox = stocked();
    let Some((tracer, holder)) = stopped_holder(&sandbox) else { return };
    let begun = Instant::now();
    let run = registry(&sandbox, "tag sql:v2 waited:v1");
    assert!(begun.elapsed() >= Duration::from_secs(29), "{:?}", begun.elapsed());
    assert_eq!(run.code, Some(3));
    let said = format!("is locked by process {}; waited 30 seconds", holder.as_raw_pid());
    assert!(run.stderr.contains(&said), "{}", run.stderr);
    kill_process(holder, Signal::KILL).unwrap();
    assert!(command(&sandbox, "registry tag sql:v2 waited:v1").output().unwrap().status.success());
    whole(&sandbox);
    end(tracer);
}

/// strace does not always notice that what it traced is gone.
fn end(mut tracer: Child) {
    let _ = tracer.kill();
    tracer.wait().unwrap();
}
