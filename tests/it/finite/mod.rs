//! NaN and infinity: refused wherever a value is computed, counted where bytes are only copied, and there refused under
//! `--check-finite`.

mod overflow;
mod places;
mod ruined;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use lorakit_tensor::{Checkpoint, ReadMode, Reader, TensorSource};
use serde_json::Value;

use crate::support::{Run, Sandbox, copy_folder};

/// A value that is not a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bad {
    Nan,
    Inf,
}

/// The outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    /// It is refused, whatever the options.
    Refused,
    /// It is copied and the tensor counted; refused with `--check-finite`.
    Copied,
}

/// Puts a bad value into the tensor called `name` of a checkpoint of any format: into the fourth value, or into the
/// scale of the first block. A tensor of integers holds exponents.
fn spoil(path: &Path, name: &str, bad: Bad) {
    let checkpoint = Checkpoint::open(path, &Reader::new(ReadMode::Positioned)).unwrap();
    let index = checkpoint.find(name).unwrap_or_else(|| panic!("{}: no `{name}`", path.display()));
    let info = &checkpoint.tensors()[index];
    let f16 = if bad == Bad::Nan { 0x7e00u16 } else { 0xfc00 }.to_le_bytes();
    let place = 3.min(info.elements() - 1);
    let (value, bytes) = match (info.dtype.name(), bad) {
        ("F32", Bad::Nan) => (place, f32::NAN.to_le_bytes().to_vec()),
        ("F32", Bad::Inf) => (place, f32::NEG_INFINITY.to_le_bytes().to_vec()),
        ("BF16", Bad::Nan) => (place, vec![0xc0, 0x7f]),
        ("BF16", Bad::Inf) => (place, vec![0x80, 0xff]),
        ("F16", _) => (place, f16.to_vec()),
        ("F8_E4M3", _) => (place, vec![0x7f]),
        ("U8", _) => (place, vec![0xff]),
        ("Q8_0" | "Q4_0", _) => (0, f16.to_vec()),
        ("Q6_K", _) => (0, [vec![0x11; 208], f16.to_vec()].concat()),
        (other, _) => panic!("{other}"),
    };
    let extent = checkpoint.extent(index).unwrap();
    let file = OpenOptions::new().write(true).open(checkpoint.path_of(index)).unwrap();
    file.write_all_at(&bytes, extent.offset + value * bytes.len() as u64).unwrap();
}

/// The error object of a command that must fail and leave nothing behind.
#[track_caller]
fn refusal(sandbox: &Sandbox, line: &str) -> Value {
    let before = sandbox.entries();
    let Run { code, stdout, stderr } = sandbox.run(&format!("{line} --json"), &[]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{line}: {stderr}");
    assert_eq!(sandbox.entries(), before, "{line}");
    serde_json::from_str::<Value>(&stderr).unwrap()["error"].clone()
}

/// The object of a command that must succeed.
#[track_caller]
fn report(sandbox: &Sandbox, line: &str) -> Value {
    let run = sandbox.run(&format!("{line} --json"), &[]).ok();
    serde_json::from_str(&run.stdout).unwrap()
}

/// Runs `line` with a copy of `input` as `in`, in whose `file` the tensor `name` is spoiled by each of the bad values.
#[track_caller]
fn check(sandbox: &Sandbox, line: &str, input: &Path, file: &str, name: &str, want: Want) {
    for bad in [Bad::Nan, Bad::Inf] {
        let copy = sandbox.path(file.split('/').next().unwrap());
        if input.is_dir() {
            copy_folder(input, &copy);
        } else {
            fs::copy(input, &copy).unwrap();
        }
        spoil(&sandbox.path(file), name, bad);
        let refused = |line: &str| {
            let error = refusal(sandbox, line);
            let what = format!("{line}, {name}: {error}");
            assert_eq!(error["kind"], "NonFinite", "{what}");
            assert_eq!((&error["path"], &error["tensor"]), (&file.into(), &name.into()), "{what}");
            let message = error["message"].as_str().unwrap();
            let words = ["holds NaN at", "holds inf at", "holds -inf at", "decodes to NaN at", "decodes to "];
            assert!(words.iter().any(|word| message.contains(word)), "{what}");
        };
        match want {
            Want::Refused => refused(line),
            Want::Copied => {
                let unchecked = &report(sandbox, line)["unchecked_tensors"];
                assert!(unchecked.as_u64().is_some_and(|n| n > 0), "{line}, {name}: {unchecked}");
                let out = sandbox.path(line.split(" -o ").nth(1).unwrap().split(' ').next().unwrap());
                let removed = if out.is_dir() { fs::remove_dir_all(out) } else { fs::remove_file(out) };
                removed.unwrap();
                refused(&format!("{line} --check-finite"));
            }
        }
        let removed = if copy.is_dir() { fs::remove_dir_all(copy) } else { fs::remove_file(copy) };
        removed.unwrap();
    }
}
