//! What appears at the output, or changes at the input, while a command runs; and two machines, or containers, at once.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use super::{finish, large, signal, staged, start, wait_for_staging};
use crate::support::{Run, Sandbox, skipped, unset};

/// Stops a merge in the middle, calls `meanwhile`, and lets the merge go on to its end.
fn merge_while(sandbox: &Sandbox, options: &str, meanwhile: impl FnOnce(&Path)) -> Run {
    let mut child = start(sandbox, &format!("merge base adapter -o out -t 1 {options}"));
    wait_for_staging(&mut child, sandbox.root());
    signal(&child, Signal::STOP);
    meanwhile(sandbox.root());
    signal(&child, Signal::CONT);
    finish(sandbox, child)
}

#[test]
fn what_appears_at_the_output_meanwhile_stays() {
    let sandbox = Sandbox::new();
    large(&sandbox);
    let important = |root: &Path| {
        fs::create_dir_all(root.join("out")).unwrap();
        fs::write(root.join("out/important.txt"), "x").unwrap();
    };
    let run = merge_while(&sandbox, "", important);
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    insta::assert_snapshot!(run.stderr, @"
    error: `out`: appeared while the output was being written, so it was not replaced

    hint: see what that is; then choose another output, or move it away, and run again
    ");
    assert_eq!(fs::read(sandbox.path("out/important.txt")).unwrap(), b"x");
    assert_eq!(sandbox.entries(), ["adapter", "base", "out"]);
    fs::remove_dir_all(sandbox.path("out")).unwrap();

    let run = merge_while(&sandbox, "", |root| fs::write(root.join("out"), "a file").unwrap());
    assert_eq!((run.code, run.stdout.as_str()), (Some(3), ""));
    assert_eq!(fs::read(sandbox.path("out")).unwrap(), b"a file");
    fs::remove_file(sandbox.path("out")).unwrap();

    sandbox.run("merge base adapter -o out", &[]).ok();
    let run = merge_while(&sandbox, "--force", important);
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    insta::assert_snapshot!(run.stderr, @"
    error: `out`: now also holds `important.txt`, which appeared while the output was being written

    hint: see what that is; then choose another output, or move it away, and run again
    ");
    assert_eq!(fs::read(sandbox.path("out/important.txt")).unwrap(), b"x");
    assert_eq!(staged(sandbox.root()), [""; 0]);
}

#[test]
fn of_two_runs_with_one_output_one_succeeds() {
    let sandbox = Sandbox::new();
    large(&sandbox);
    let other = |root: &Path| {
        let run =
            Sandbox::command_in(root).args(["merge", "base", "adapter=-0.5", "-o", "out"]).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    };
    let run = merge_while(&sandbox, "", other);
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    sandbox.run("merge base adapter=-0.5 -o expected", &[]).ok();
    let model = |folder: &str| fs::read(sandbox.path(folder).join("model.safetensors")).unwrap();
    assert!(model("out") == model("expected"), "the output is that of the run that was first");
}

#[test]
fn an_input_that_changes_meanwhile_is_noticed() {
    let sandbox = Sandbox::new();
    large(&sandbox);
    for options in ["", "--no-mmap"] {
        let run = merge_while(&sandbox, options, |root| {
            // The same bytes: only the time of the change is new.
            let config = root.join("base/config.json");
            fs::write(&config, fs::read(&config).unwrap()).unwrap();
        });
        assert_eq!(run.code, Some(3), "{}", run.stderr);
        insta::allow_duplicates! {
            insta::assert_snapshot!(run.stderr, @"
            error: `base/config.json`: was written to while it was read

            hint: wait until nothing writes to it any more, or copy it first; then run again
            ");
        }
        assert_eq!(sandbox.entries(), ["adapter", "base"]);
    }
    // A removed input is still read to its end.
    let run = merge_while(&sandbox, "", |root| {
        fs::remove_file(root.join("adapter/adapter_model.safetensors")).unwrap()
    });
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

/// Runs in a separate container, as far as process numbers go.
fn start_as_first_process(sandbox: &Sandbox, arguments: &str) -> Option<Child> {
    let program = env!("CARGO_BIN_EXE_lorakit");
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", program]).args(arguments.split_whitespace());
    command.current_dir(sandbox.root()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let allowed = Command::new("unshare").args(["--pid", "--fork", "true"]).status();
    if !allowed.is_ok_and(|status| status.success()) {
        skipped("no right to make a namespace of processes here");
        return None;
    }
    Some(unset(&mut command).spawn().unwrap())
}

/// Two containers with one volume: both are process 1, and both write `out`.
#[test]
fn two_namespaces_do_not_spoil_each_other() {
    let sandbox = Sandbox::new();
    large(&sandbox);
    let line = "merge base adapter -o out -t 1";
    let Some(first) = start_as_first_process(&sandbox, line) else { return };
    let second = start_as_first_process(&sandbox, line).unwrap();
    let codes = [finish(&sandbox, first), finish(&sandbox, second)].map(|run| run.code);
    assert!(codes.contains(&Some(0)) && codes != [Some(0), Some(0)], "{codes:?}");
    sandbox.run("merge base adapter -o expected", &[]).ok();
    let model = |folder: &str| fs::read(sandbox.path(folder).join("model.safetensors")).unwrap();
    assert!(model("out") == model("expected"));
    assert_eq!(staged(sandbox.root()), [""; 0]);
}

/// The bytes of every file are durable before the name appears, and the name before the command says so.
#[test]
fn bytes_are_durable_before_the_name() {
    let sandbox = Sandbox::new();
    large(&sandbox);
    let calls = sandbox.path("calls");
    let program = env!("CARGO_BIN_EXE_lorakit");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-e", "trace=fsync,rename,renameat,renameat2", "-o"]).arg(&calls).arg(program);
    strace.args(["merge", "base", "adapter", "-o", "out"]).current_dir(sandbox.root());
    let Ok(output) = unset(&mut strace).output() else {
        skipped("no strace here");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let calls = fs::read_to_string(calls).unwrap();
    let at = |what: &dyn Fn(&str) -> bool| calls.lines().position(what).unwrap_or_else(|| panic!("{calls}"));
    let renamed = at(&|line| line.contains("rename") && line.contains("\"out\""));
    for name in ["model.safetensors>", "config.json>", ".partial>"] {
        assert!(at(&|line| line.contains("fsync") && line.contains(name)) < renamed, "{name}\n{calls}");
    }
    let parent = format!("{}>", fs::canonicalize(sandbox.root()).unwrap().display());
    assert!(at(&|line| line.contains("fsync") && line.contains(&parent)) > renamed, "{calls}");
}
