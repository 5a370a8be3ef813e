//! What an output path holds before, during and after a publication.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lorakit_tensor::publish::{Existing, Staged, contents, leave};
use lorakit_tensor::{ErrorKind, Reader};

fn replaced(names: &[&str]) -> Existing {
    Existing::Replaced(names.iter().map(PathBuf::from).collect())
}

fn staged_folder(target: &Path, existing: Existing) -> Staged {
    let staged = Staged::folder(target, existing).unwrap();
    fs::write(staged.path().join("config.json"), "new").unwrap();
    staged
}

fn staged_file(target: &Path, existing: Existing) -> Staged {
    let staged = Staged::file(target, existing).unwrap();
    fs::write(staged.path(), "new").unwrap();
    staged
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_folder_appears_whole_and_replaces_whole() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("model");
    let staged = staged_folder(&target, Existing::Kept);
    assert!(!target.exists(), "nothing is visible before publication");
    assert!(staged.publish().unwrap().kept.is_none());
    assert_eq!(fs::read(target.join("config.json")).unwrap(), b"new");

    assert_eq!(Staged::folder(&target, Existing::Kept).unwrap_err().kind(), ErrorKind::Exists);
    let staged = Staged::folder(&target, replaced(&["config.json"])).unwrap();
    fs::create_dir(staged.path().join("sub")).unwrap();
    fs::write(staged.path().join("sub/config.json"), "2").unwrap();
    assert_eq!(fs::read(target.join("config.json")).unwrap(), b"new", "the old one stays meanwhile");
    assert!(staged.publish().unwrap().kept.is_none());
    assert!(!target.join("config.json").exists());
    assert_eq!(fs::read(target.join("sub/config.json")).unwrap(), b"2");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no staged name is left");
}

#[test]
fn a_link_stays_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("real"), folder.path().join("link"));
    fs::create_dir(&real).unwrap();
    symlink(&real, &link).unwrap();
    assert!(staged_folder(&link, Existing::Kept).publish().unwrap().kept.is_none());
    assert!(link.is_symlink());
    assert_eq!(fs::read(real.join("config.json")).unwrap(), b"new");

    let broken = folder.path().join("broken");
    symlink("nowhere", &broken).unwrap();
    for error in [Staged::folder(&broken, replaced(&[])), Staged::file(&broken, replaced(&[]))] {
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Occupied);
        assert!(error.to_string().ends_with("is a link to `nowhere`, which does not exist"), "{error}");
    }
}

#[test]
fn an_unpublished_output_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("x.safetensors");
    fs::write(&target, "old").unwrap();
    drop(staged_file(&target, replaced(&[])));
    assert_eq!(fs::read(&target).unwrap(), b"old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn folders_that_hold_something_else_are_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    fs::create_dir_all(folder.path().join("thesis/empty")).unwrap();
    fs::write(folder.path().join("thesis/thesis.tex"), "years of work").unwrap();
    symlink("thesis", folder.path().join("draft")).unwrap();
    let found = contents(folder.path()).unwrap();
    let expected = ["config.json", "draft", "thesis/empty", "thesis/thesis.tex"].map(PathBuf::from);
    assert_eq!(found, BTreeSet::from(expected));
    let error = Staged::folder(folder.path(), replaced(&["config.json"])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Occupied);
    let message = "also holds `draft`, `thesis/empty`, `thesis/thesis.tex`, which replacing it would delete";
    assert!(error.to_string().ends_with(message), "{error}");
}

/// Anything that appears at the output while it is being written stays.
#[test]
fn what_appears_meanwhile_is_not_replaced() {
    type Act = fn(&Path);
    let file: Act = |target| fs::write(target, "theirs").unwrap();
    let full: Act = |target| {
        fs::create_dir_all(target).unwrap();
        fs::write(target.join("important.txt"), "theirs").unwrap();
    };
    for (appear, theirs) in [(file, ""), (full, "important.txt")] {
        for begin in [staged_folder, staged_file] {
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("out");
            let staged = begin(&target, Existing::Kept);
            appear(&target);
            assert_eq!(staged.publish().unwrap_err().kind(), ErrorKind::Appeared);
            assert_eq!(fs::read(target.join(theirs).components().collect::<PathBuf>()).unwrap(), b"theirs");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the staged output is gone");
        }
    }
    // With permission to replace, the list of what may be removed was made before.
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("out");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("config.json"), "old").unwrap();
    let staged = staged_folder(&target, replaced(&["config.json"]));
    full(&target);
    let error = staged.publish().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Appeared);
    assert!(error.to_string().contains("now also holds `important.txt`"), "{error}");
    assert_eq!(fs::read(target.join("config.json")).unwrap(), b"old");
    // An empty folder holds nobody's work.
    let target = folder.path().join("other");
    let staged = staged_folder(&target, Existing::Kept);
    fs::create_dir(&target).unwrap();
    assert!(staged.publish().unwrap().kept.is_none());
    assert!(target.join("config.json").exists());
}

#[test]
fn the_first_of_two_runs_wins() {
    let folder = tempfile::tempdir().unwrap();
    for begin in [staged_folder, staged_file] {
        let target = folder.path().join("out");
        let (one, two) = (begin(&target, Existing::Kept), begin(&target, Existing::Kept));
        assert!(one.publish().unwrap().kept.is_none());
        assert_eq!(two.publish().unwrap_err().kind(), ErrorKind::Appeared);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        if target.is_dir() { fs::remove_dir_all(target).unwrap() } else { fs::remove_file(target).unwrap() }
    }
}

#[test]
fn modes_of_what_is_replaced_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (file, model) = (folder.path().join("x.gguf"), folder.path().join("model"));
    fs::write(&file, "old").unwrap();
    set_mode(&file, 0o600);
    assert!(staged_file(&file, replaced(&[])).publish().unwrap().kept.is_none());
    assert_eq!((mode(&file), fs::read(&file).unwrap()), (0o600, b"new".to_vec()));

    fs::create_dir(&model).unwrap();
    set_mode(&model, 0o700);
    assert!(staged_folder(&model, Existing::Kept).publish().unwrap().kept.is_none());
    assert_eq!(mode(&model), 0o700);
    set_mode(&model.join("config.json"), 0o640);
    assert!(staged_folder(&model, replaced(&["config.json"])).publish().unwrap().kept.is_none());
    assert_eq!((mode(&model), mode(&model.join("config.json"))), (0o700, 0o640));
}

#[test]
fn an_output_may_not_be_or_hold_an_input() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    fs::create_dir(&model).unwrap();
    let file = model.join("model.safetensors");
    fs::write(&file, "x").unwrap();
    let link = folder.path().join("link");
    symlink(&model, &link).unwrap();
    let same = folder.path().join("same.safetensors");
    fs::hard_link(&file, &same).unwrap();
    let outer = folder.path().join("outer");
    fs::create_dir(&outer).unwrap();
    let inner = outer.join("to-model");
    symlink(&model, &inner).unwrap();
    let refused = [
        (&model, &model),
        (&model, &file),
        (&link, &model),
        (&link, &file),
        (&model, &link),
        (&file, &file),
        (&same, &file),
        (&outer, &inner),
    ];
    for (target, input) in refused {
        let reader = Reader::default();
        reader.name(input);
        assert_eq!(
            reader.check_output(target).unwrap_err().kind(),
            ErrorKind::SameFile,
            "{target:?} {input:?}"
        );
    }
    for (target, input) in [(model.join("out"), &model), (outer, &model), (folder.path().join("new"), &file)]
    {
        let reader = Reader::default();
        reader.name(input);
        reader.check_output(&target).unwrap();
    }
}

#[test]
fn a_reader_notices_what_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let read = || {
        fs::write(&path, "{\"a\": 1}").unwrap();
        let reader = Reader::default();
        reader.json_object(&path).unwrap();
        reader.check_unchanged().unwrap();
        reader
    };
    let message = |reader: &Reader| {
        let error = reader.check_unchanged().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Changed);
        error.to_string().replace(&format!("`{}`: ", path.display()), "")
    };
    let reader = read();
    fs::write(&path, "{}").unwrap();
    assert_eq!(message(&reader), "became shorter while it was read: 2 bytes of 8");
    assert_eq!(reader.json_object(&path).unwrap_err().kind(), ErrorKind::Changed, "nor is it read again");
    let reader = read();
    fs::write(&path, "{\"a\": 1} ").unwrap();
    assert_eq!(message(&reader), "was written to while it was read");
    let reader = read();
    fs::write(folder.path().join("other"), "{\"a\": 1}").unwrap();
    fs::rename(folder.path().join("other"), &path).unwrap();
    assert_eq!(message(&reader), "was replaced by another file while it was read");
    let reader = read();
    fs::remove_file(&path).unwrap();
    reader.check_unchanged().unwrap();
}

#[test]
fn what_is_no_regular_file_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let reader = Reader::default();
    symlink("../blobs/gone", path("link.json")).unwrap();
    symlink("/dev/zero", path("device.json")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe.json"), rustix::fs::Mode::RUSR).unwrap();
    fs::create_dir(path("folder.json")).unwrap();
    fs::write(path("list.json"), "[]").unwrap();
    for (name, kind, message) in [
        ("link.json", ErrorKind::NotFound, "is a link to `../blobs/gone`, which does not exist"),
        ("device.json", ErrorKind::Unsupported, "is a device, not a regular file"),
        ("pipe.json", ErrorKind::Unsupported, "is a pipe, not a regular file"),
        ("folder.json", ErrorKind::Unsupported, "is a folder, not a regular file"),
        ("list.json", ErrorKind::Corrupt, "holds a list, not a JSON object (`{...}`)"),
    ] {
        let error = reader.json_object(&path(name)).unwrap_err();
        assert_eq!(error.kind(), kind, "{name}");
        assert!(error.to_string().ends_with(message), "{error}");
    }
    for name in ["link.json", "device.json", "pipe.json"] {
        assert!(reader.has(&path(name)).is_err(), "{name} is there, so it is not absent");
    }
    assert!(!reader.has(&path("folder.json")).unwrap() && !reader.has(&path("nothing.json")).unwrap());
    assert!(reader.has(&path("list.json")).unwrap());
    assert_eq!(reader.bytes(&path("list.json"), 1).unwrap_err().kind(), ErrorKind::Limit);
}

/// In a process of its own, which stages nothing any more afterwards.
#[test]
fn a_process_that_leaves_what_it_staged_neither_removes_nor_publishes_it() {
    const FOLDER: &str = "LORAKIT_TEST_LEAVES";
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        let folder = tempfile::tempdir().unwrap();
        let name = "a_process_that_leaves_what_it_staged_neither_removes_nor_publishes_it";
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", name]).env(FOLDER, folder.path());
        assert!(again.status().unwrap().success());
        return;
    };
    let removed = staged_folder(&folder.join("removed"), Existing::Kept);
    let [dropped, published] = ["dropped", "published"].map(|name| {
        let target = folder.join(name);
        staged_folder(&target, Existing::Kept)
    });
    drop(removed);
    let left = leave(Duration::from_secs(10));
    assert!(left.settled);
    assert_eq!(left.names, [dropped.path(), published.path()]);
    // Both threads wait for ever.
    std::thread::spawn(|| drop(dropped));
    std::thread::spawn(|| published.publish());
    std::thread::sleep(Duration::from_millis(100));
    for name in &left.names {
        assert!(name.join("config.json").exists(), "{}", name.display());
    }
    assert!(!folder.join("published").exists());
}
