//! Kills.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread::sleep;
use std::time::Instant;

use super::{large, staged, start, wait_for_staging};
use crate::support::{Sandbox, entries};
use crate::weights::noise;

fn model(sandbox: &Sandbox) -> Vec<u8> {
    fs::read(sandbox.path("out/model.safetensors")).unwrap()
}

#[test]
fn a_killed_merge_leaves_the_old_output_or_the_new_one() {
    let sandbox = Sandbox::new();
    large(&sandbox);
    let begin = Instant::now();
    sandbox.run("merge base adapter -o out", &[]).ok();
    let whole = begin.elapsed();
    let old = model(&sandbox);
    sandbox.run("merge base adapter=-0.5 -o new", &[]).ok();
    let new = fs::read(sandbox.path("new/model.safetensors")).unwrap();
    assert!(old != new);

    let (mut kept, mut replaced, mut swept) = (0, 0, 0);
    // Moments spread over the whole run and a little past its end, in no particular order.
    for moment in noise(7, 24, 1.0).into_iter().map(|v| v + 0.5) {
        let mut child = start(&sandbox, "merge base adapter=-0.5 -o out --force");
        sleep(whole.mul_f64(moment * 1.1));
        let _ = child.kill();
        child.wait().unwrap();
        let found = model(&sandbox);
        assert!(found == old || found == new, "the output is neither the old one nor the new one");
        assert_eq!(
            entries(&sandbox.path("out")),
            ["README.md", "config.json", "lorakit.json", "model.safetensors"]
        );
        kept += usize::from(found == old);
        replaced += usize::from(found == new);
        if found == new {
            sandbox.run("merge base adapter -o out --force", &[]).ok();
            assert!(model(&sandbox) == old);
        }
        swept += staged(sandbox.root()).len();
    }
    assert!(kept >= 5, "{kept} kills came before the end, {replaced} after");
    assert!(swept > 0, "some kill left a staged folder");
    sandbox.run("merge base adapter -o out --force", &[]).ok();
    assert_eq!(staged(sandbox.root()), [""; 0], "the next run sweeps what killed ones left");
}

#[test]
fn what_a_killed_merge_leaves_is_swept_by_the_next() {
    let sandbox = Sandbox::new();
    large(&sandbox);
    let mut child = start(&sandbox, "merge base adapter -o out -t 1");
    wait_for_staging(&mut child, sandbox.root());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(staged(sandbox.root()).len(), 1);
    assert!(!sandbox.path("out").exists());
    // Files that another machine left may be somebody's work.
    let theirs = ".out.0000dead-0.partial";
    fs::create_dir(sandbox.path(theirs)).unwrap();
    let run = sandbox.run("merge base adapter -o out", &[]).ok();
    assert_eq!(staged(sandbox.root()), [theirs]);
    let line = run.stdout.lines().find(|line| line.starts_with("left alone")).unwrap();
    insta::assert_snapshot!(line, @"left alone `.out.0000dead-0.partial`: from before a restart, or of another machine; remove it if none is at work");
}

#[test]
fn inputs_are_never_touched() {
    let sandbox = Sandbox::new();
    large(&sandbox);
    let stamp = |name: &str| {
        let meta = fs::metadata(sandbox.path(name)).unwrap();
        (meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len())
    };
    let inputs = ["base/model.safetensors", "adapter/adapter_model.safetensors", "base", "adapter"];
    let before = inputs.map(stamp);
    sandbox.run("merge base adapter -o out", &[]).ok();
    sandbox.run("merge base adapter -o out --force", &[]).ok();
    assert_eq!(inputs.map(stamp), before);
}
