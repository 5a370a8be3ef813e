//! What an output path holds before, during and after a publication.

use std::fs;

use lorakit_tensor::ErrorKind;
use lorakit_tensor::publish::{Staged, check_distinct};

#[test]
fn a_folder_appears_whole_and_replaces_whole() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("model");
    let staged = Staged::folder(&target, false).unwrap();
    fs::write(staged.path().join("config.json"), "1").unwrap();
    assert!(!target.exists(), "nothing is visible before publication");
    staged.publish().unwrap();
    assert_eq!(fs::read(target.join("config.json")).unwrap(), b"1");

    assert_eq!(Staged::folder(&target, false).unwrap_err().kind(), ErrorKind::Exists);
    let staged = Staged::folder(&target, true).unwrap();
    fs::create_dir(staged.path().join("sub")).unwrap();
    fs::write(staged.path().join("sub/config.json"), "2").unwrap();
    assert_eq!(fs::read(target.join("config.json")).unwrap(), b"1", "the old one stays meanwhile");
    staged.publish().unwrap();
    assert!(!target.join("config.json").exists());
    assert_eq!(fs::read(target.join("sub/config.json")).unwrap(), b"2");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no staged name is left");
}

#[test]
fn a_link_stays_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("real"), folder.path().join("link"));
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let staged = Staged::folder(&link, false).unwrap();
    fs::write(staged.path().join("config.json"), "1").unwrap();
    staged.publish().unwrap();
    assert!(link.is_symlink());
    assert_eq!(fs::read(real.join("config.json")).unwrap(), b"1");
}

#[test]
fn an_unpublished_output_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("x.safetensors");
    fs::write(&target, "old").unwrap();
    let staged = Staged::file(&target, true).unwrap();
    fs::write(staged.path(), "new").unwrap();
    drop(staged);
    assert_eq!(fs::read(&target).unwrap(), b"old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn stale_names_of_dead_processes_are_swept() {
    let folder = tempfile::tempdir().unwrap();
    // No process has this number: Linux stops at 2^22.
    let stale = folder.path().join(".model.2000000000.partial");
    fs::create_dir(&stale).unwrap();
    let alive = folder.path().join(format!(".model.{}.partial", std::os::unix::process::parent_id()));
    fs::create_dir(&alive).unwrap();
    drop(Staged::folder(&folder.path().join("model"), false).unwrap());
    assert!(!stale.exists() && alive.exists());
}

#[test]
fn folders_that_hold_something_else_are_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "years of work").unwrap();
    let error = Staged::folder(folder.path(), true).unwrap_err();
    assert!(error.to_string().contains("does not look like a model folder"), "{error}");
}

#[test]
fn an_output_may_not_be_or_hold_an_input() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    fs::create_dir(&model).unwrap();
    let file = model.join("model.safetensors");
    fs::write(&file, "x").unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&model, &link).unwrap();
    for (target, input) in
        [(&model, &model), (&model, &file), (&link, &model), (&link, &file), (&file, &file)]
    {
        let error = check_distinct(target, [input.as_path()]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SameFile);
    }
    check_distinct(&model.join("out"), [model.as_path()]).unwrap();
}
