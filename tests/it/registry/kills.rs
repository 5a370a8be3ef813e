//! F03, F04, F07: processes that are killed, and calls that fail, at every step of a move.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use lorakit::plan::Silent;
use lorakit_registry::Digest;

use super::{desk, registry, root, start, state, stocked, store, traced, whole};
use crate::support::{Sandbox, copy_folder, entries, read_json};
use crate::weights::noise;

/// F03: two writers and a sweeper are killed at random moments. `LORAKIT_TEST_ROUNDS` says how often.
#[test]
fn kills_at_random_moments() {
    let rounds = std::env::var("LORAKIT_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let sandbox = desk();
    let begun = Instant::now();
    registry(&sandbox, "add style sql:v0").ok();
    let whole_run = begun.elapsed().max(Duration::from_millis(20));
    let (mut killed, mut moved) = (0, 0);
    for (round, moment) in noise(11, rounds, 1.0).into_iter().map(|value| value + 0.5).enumerate() {
        let tags = state(&sandbox).len();
        let sources = if round % 2 == 0 { ["facts", "attn"] } else { ["attn", "style"] };
        let mut children = [
            start(&sandbox, &format!("registry add {} one:r{round}", sources[0])),
            start(&sandbox, &format!("registry add {} other:v1 --force", sources[1])),
            start(&sandbox, "registry gc --apply --grace 0s --history 0s"),
        ];
        sleep(whole_run.mul_f64(moment * 1.5));
        for child in &mut children {
            let _ = child.kill();
            killed += usize::from(child.wait().unwrap().signal().is_some());
        }
        whole(&sandbox);
        moved += state(&sandbox).len() - tags;
    }
    assert!(killed > rounds / 2, "{killed} of {} ended by a kill", 3 * rounds);
    assert!(moved > 0, "some round went on to its end");
    // The next change writes what the last ones had begun.
    registry(&sandbox, "tag sql:v0 sql:last").ok();
    let index = read_json(&root(&sandbox).join("index.json"));
    assert_eq!(index["manifests"].as_array().unwrap().len(), state(&sandbox).len());
    registry(&sandbox, "verify").ok();
}

/// Calls by which a move is made, under every name that some machine has for them.
const LINK: &[&str] = &["?link", "?linkat"];
const RENAME: &[&str] = &["?rename", "?renameat", "?renameat2"];
const SYNC: &[&str] = &["fsync", "fdatasync"];
const UNLINK: &[&str] = &["?unlink", "?unlinkat"];

/// A store with `sql:v1` and `sql:v2`, kept beside so that every attempt begins with the same.
struct Attempts {
    sandbox: Sandbox,
    old: BTreeMap<String, Digest>,
}

impl Attempts {
    fn new() -> Self {
        let sandbox = stocked();
        copy_folder(&root(&sandbox), &sandbox.path("kept"));
        let old = state(&sandbox);
        Attempts { sandbox, old }
    }

    /// Runs `line` once for each of its `calls`, which meets `fault`; `check` is told whether the command succeeded, and
    /// what happened. Returns how many runs failed.
    fn each(&self, line: &str, calls: &[&str], fault: &str, check: impl Fn(bool, &str)) -> usize {
        let again = || {
            fs::remove_dir_all(root(&self.sandbox)).unwrap();
            copy_folder(&self.sandbox.path("kept"), &root(&self.sandbox));
        };
        let log = self.sandbox.path("calls");
        let mut failed = 0;
        // One after the other: strace counts each for itself.
        for call in calls {
            again();
            let trace = format!("trace={call}");
            let counted = ["-o", &log.display().to_string(), "-e", &trace];
            let Some(run) = traced(&self.sandbox, &counted, line) else { return 0 };
            run.ok();
            let is_call = |line: &&str| line.contains('(') && line.contains(" = ");
            let count = fs::read_to_string(&log).unwrap().lines().filter(is_call).count();
            for nth in 1..=count {
                again();
                let inject = format!("inject={call}:{fault}:when={nth}");
                let options = ["-o", "/dev/null", "-e", &trace, "-e", &inject];
                let Some(run) = traced(&self.sandbox, &options, line) else { return 0 };
                let what = format!("{line}: {call} {nth} of {count}, {fault}: {:?} {}", run.code, run.stderr);
                failed += usize::from(run.code != Some(0));
                check(run.code == Some(0), &what);
            }
        }
        failed
    }

    /// Whether `tag` has moved. No other has, blobs are whole, and nothing is damaged.
    #[track_caller]
    fn has_moved(&self, tag: &str, what: &str) -> bool {
        let but = |tags: &BTreeMap<String, Digest>| {
            tags.iter()
                .filter(|(name, _)| *name != tag)
                .map(|(name, digest)| (name.clone(), *digest))
                .collect()
        };
        let (found, others): (_, BTreeMap<String, Digest>) = (state(&self.sandbox), but(&self.old));
        assert_eq!(but(&found), others, "{what}");
        let store = store(&self.sandbox);
        let fsck = store.fsck(true, &Silent).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(fsck.faults, [], "{what}");
        assert!(store.catalog().unwrap().damaged.is_empty(), "{what}");
        found.get(tag) != self.old.get(tag)
    }
}

fn no_strace() -> bool {
    Command::new("strace").arg("-V").output().is_err()
}

/// F04: a kill exactly at each call.
#[test]
fn a_kill_at_every_call() {
    let attempts = Attempts::new();
    for (line, tag, least) in
        [("registry add attn attn:v1", "attn:v1", 15), ("registry untag sql:v1", "sql:v1", 3)]
    {
        let mut killed = 0;
        for calls in [LINK, RENAME, SYNC, UNLINK] {
            killed += attempts.each(line, calls, "signal=SIGKILL", |done, what| {
                attempts.has_moved(tag, what);
                assert!(!done, "{what}");
            });
        }
        assert!(no_strace() || killed >= least, "{line}: {killed} calls");
    }
    // What the last one left is in nobody's way.
    registry(&attempts.sandbox, "add attn attn:v1").ok();
    whole(&attempts.sandbox);
}

/// F07 and F02: each call fails once. A command that fails has moved nothing, and one that does not has moved the tag.
#[test]
fn an_error_of_every_call() {
    let attempts = Attempts::new();
    for (line, tag, least) in
        [("registry add attn attn:v1", "attn:v1", 15), ("registry tag sql:v2 sql:v1 --force", "sql:v1", 6)]
    {
        let mut failed = 0;
        for (calls, error) in
            [(LINK, "EIO"), (RENAME, "EIO"), (RENAME, "ENOSPC"), (SYNC, "EIO"), (&["write"], "ENOSPC")]
        {
            failed += attempts.each(line, calls, &format!("error={error}"), |done, what| {
                let moved = attempts.has_moved(tag, what);
                // Only what is said of a move may fail after it.
                assert!(moved == done || what.contains("standard output"), "{what}");
                assert_eq!(entries(&root(&attempts.sandbox).join("lorakit/ingest")), [""; 0], "{what}");
                assert!(!what.contains("panicked"), "{what}");
            });
        }
        assert!(no_strace() || failed >= least, "{line}: {failed} failed");
    }
}

/// F02: no file can be opened any more. A blob that cannot be read is not taken for a damaged one.
#[test]
fn files_that_cannot_be_opened() {
    let attempts = Attempts::new();
    attempts.each("registry add style sql:v2 --force", &["openat"], "error=EMFILE", |done, what| {
        assert_eq!(attempts.has_moved("sql:v2", what), done, "{what}");
        assert_eq!(entries(&root(&attempts.sandbox).join("lorakit/quarantine")), [""; 0], "{what}");
        assert!(!what.contains("panicked"), "{what}");
    });
}
