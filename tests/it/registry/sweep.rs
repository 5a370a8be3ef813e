//! `gc`: nothing that is needed goes, and what nothing needs goes when it is old enough.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use super::{assert_told, json, registry, root, run, state, stocked, whole};
use crate::support::{Sandbox, entries};

fn blobs(sandbox: &Sandbox) -> usize {
    entries(&root(sandbox).join("blobs/sha256")).len()
}

/// Lets a second pass: times in the log and of files are whole seconds.
fn later() {
    sleep(Duration::from_millis(1100));
}

const NOW: &str = "gc --apply --grace 0s --history 0s";

#[test]
fn what_tags_need_stays() {
    let sandbox = stocked();
    registry(&sandbox, "eval add sql:v1 --metric exact=0.5").ok();
    run(&sandbox, "inspect sql:v1").ok();
    let before = blobs(&sandbox);
    assert_told!(registry(&sandbox, "gc").ok().stdout, @"would remove 0 blobs, 0 B");
    later();
    registry(&sandbox, NOW).ok();
    assert_eq!(blobs(&sandbox), before);
    // An evaluation without a tag stays as long as what it is about.
    registry(&sandbox, "untag sql:v1-eval-1").ok();
    later();
    registry(&sandbox, NOW).ok();
    assert_eq!(blobs(&sandbox), before);
    whole(&sandbox);
}

#[test]
fn what_nothing_needs_goes_after_a_while() {
    let sandbox = stocked();
    registry(&sandbox, "eval add sql:v1 --metric exact=0.5").ok();
    let before = blobs(&sandbox);
    registry(&sandbox, "rm sql:v1").ok();
    later();
    // The history of tags holds it for 30 days, and its age for one.
    for line in ["gc --apply", "gc --apply --grace 0s", "gc --apply --history 0s"] {
        registry(&sandbox, line).ok();
        assert_eq!(blobs(&sandbox), before, "{line}");
    }
    assert_told!(registry(&sandbox, "gc --history 0s").ok().stdout, @"would remove 0 blobs, 0 B; 126 kB are too young to go");
    let dry = registry(&sandbox, "gc --grace 0s --history 0s").ok();
    assert_told!(dry.stdout, @"would remove 7 blobs, 126 kB");
    assert_told!(dry.stderr, @"note: `lorakit registry gc --apply` removes it");
    assert_eq!(blobs(&sandbox), before, "nothing goes without --apply");
    let swept = json(&sandbox, NOW);
    assert_eq!(
        (&swept["applied"], swept["blobs"].as_u64().unwrap() as usize),
        (&true.into(), before - blobs(&sandbox))
    );
    assert_eq!(blobs(&sandbox), 4, "two files, a configuration, a manifest");
    whole(&sandbox);
    assert_eq!(json(&sandbox, "list")["entries"].as_array().unwrap().len(), 1);
    let gone = super::refused(&sandbox, "registry show sql:v1@{1}");
    assert_eq!((gone.0, gone.1.as_str()), (1, "Incomplete"));
    registry(&sandbox, "add style sql:v1").ok();
    whole(&sandbox);
}

/// What killed processes leave goes after an hour, and folders of artifacts go with them.
#[test]
fn leftovers() {
    let sandbox = stocked();
    run(&sandbox, "inspect sql:v1").ok();
    let lorakit = root(&sandbox).join("lorakit");
    fs::create_dir(lorakit.join("ingest/add.tmp-1-2-3")).unwrap();
    fs::write(lorakit.join("ingest/add.tmp-1-2-3/half"), "x").unwrap();
    fs::write(root(&sandbox).join("index.json.tmp-1-2-3"), "x").unwrap();
    fs::write(root(&sandbox).join("blobs/sha256/not-a-digest"), "x").unwrap();
    registry(&sandbox, "rm sql:v1").ok();
    later();
    registry(&sandbox, NOW).ok();
    assert!(!root(&sandbox).join("blobs/sha256/not-a-digest").exists());
    assert_eq!(entries(&lorakit.join("ingest")).len(), 1, "it may be of somebody who is at work");
    // The same an hour later, by the clock that is given.
    let options = lorakit_registry::GcOptions {
        apply: true,
        grace: Duration::ZERO,
        history: Duration::ZERO,
        now: Some(state_time() + 3700),
    };
    let swept = super::store(&sandbox).gc(&options).unwrap();
    assert_eq!(swept.leftovers, 3, "two staged, one folder of an artifact");
    assert_eq!([entries(&lorakit.join("ingest")).len(), entries(&lorakit.join("checkouts")).len()], [0, 0]);
    assert_eq!(state(&sandbox).len(), 1);
    whole(&sandbox);
}

fn state_time() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// F26: files that claim to be old or of the future.
#[test]
fn clocks_that_are_wrong() {
    let sandbox = stocked();
    registry(&sandbox, "rm sql:v1").ok();
    let before = blobs(&sandbox);
    let touch = |time: &str| {
        for name in entries(&root(&sandbox).join("blobs/sha256")) {
            let path = root(&sandbox).join("blobs/sha256").join(name);
            std::process::Command::new("touch").args(["-d", time]).arg(path).status().unwrap();
        }
    };
    for time in ["1980-01-01", "2080-01-01"] {
        touch(time);
        later();
        registry(&sandbox, "gc --apply --history 0s").ok();
        assert_eq!(blobs(&sandbox), before, "{time}: they were made just now");
    }
}
