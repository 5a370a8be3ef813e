//! Changes to folders: files that are something else, in another's place, under strange names, or not there.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::random::Random;
use super::{bytes, json};

/// What is commonly found where a file should be.
const STRANGERS: &[&[u8]] = &[
    b"",
    b"{}",
    b"[]",
    b"null",
    b"<!DOCTYPE html>\n<html><body>Access to this model is restricted.</body></html>",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 2471645608\n",
    b"to whom it may concern",
    b"\xef\xbb\xbf{}",
    b"GGUF",
    b"PK\x03\x04",
    b"\x80\x02}q\x00.",
];
/// Names that may trip a program up.
const NAMES: &[&[u8]] = &[
    b"\xff\xfe.json",
    b"a\nb.json",
    b" ",
    b"-",
    b"--force",
    b"..gguf",
    b"\xff.safetensors",
    b"model-00001-of-00002.gguf",
    b"model.safetensors.index.json",
    b"adapter_config.json",
    b"config.json",
    b"tokenizer.model",
    b"chat_template.jinja",
    b"quantize_config.json",
];

/// Changes the file or folder at `path` in one place, and says how. `others` are files of every kind.
pub(super) fn spoil(path: &Path, others: &[PathBuf], random: &mut Random) -> String {
    let files = files(path);
    if files.is_empty() || random.chance(12) {
        return rearrange(path, &files, others, random);
    }
    // Configurations are small and decide most; weights are just one file among many.
    let chosen = random.one(&files);
    let name = chosen.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Ok(mut content) = fs::read(chosen) else { return rearrange(path, &files, others, random) };
    let text = if random.chance(90) { json::spoil(&content, random) } else { None };
    let how = match text {
        Some((text, how)) => {
            content = text;
            how
        }
        None => bytes::spoil(&mut content, random),
    };
    fs::write(chosen, content).unwrap();
    format!("{name}: {how}")
}

fn rearrange(path: &Path, files: &[PathBuf], others: &[PathBuf], random: &mut Random) -> String {
    let folder = path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    if files.is_empty() || folder && random.chance(25) {
        let name = OsStr::from_bytes(random.one::<&[u8]>(NAMES));
        let other = random.one(others);
        let target = if folder { path.join(name) } else { path.with_file_name(name) };
        if target.symlink_metadata().is_err() {
            fs::copy(other, &target).unwrap();
        }
        return format!("{name:?} added, a copy of {}", other.display());
    }
    let chosen = random.one(files);
    let name = chosen.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let remove = || fs::remove_file(chosen).unwrap();
    let how = match random.below(10) {
        0 | 1 => {
            let stranger = random.one(STRANGERS);
            fs::write(chosen, stranger).unwrap();
            format!("{:?} instead", String::from_utf8_lossy(stranger))
        }
        2 => {
            remove();
            "removed".into()
        }
        3 => {
            remove();
            fs::create_dir(chosen).unwrap();
            "a folder instead".into()
        }
        4 => {
            remove();
            let target = *random.one(&["nowhere", ".", "..", "/", "/dev/null"]);
            symlink(if target == "." { chosen.as_os_str() } else { target.as_ref() }, chosen).unwrap();
            format!("a link to {target}")
        }
        5 | 6 => {
            let other = random.one(others);
            fs::write(chosen, fs::read(other).unwrap()).unwrap();
            format!("the bytes of {} instead", other.display())
        }
        7 => {
            let other = random.one(files);
            let (a, b) = (fs::read(chosen).unwrap_or_default(), fs::read(other).unwrap_or_default());
            fs::write(chosen, b).unwrap();
            fs::write(other, a).unwrap();
            format!("in the place of {}", other.display())
        }
        8 => {
            remove();
            mknodat(CWD, chosen, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
            "a pipe instead".into()
        }
        _ => {
            let to = chosen.with_file_name(OsStr::from_bytes(random.one::<&[u8]>(NAMES)));
            if to.symlink_metadata().is_err() {
                fs::rename(chosen, &to).unwrap();
            }
            format!("called {:?}", to.file_name().unwrap_or_default())
        }
    };
    format!("{name}: {how}")
}

/// The plain files at and below `path`, sorted.
pub(super) fn files(path: &Path) -> Vec<PathBuf> {
    let Ok(meta) = path.symlink_metadata() else { return Vec::new() };
    if meta.is_file() {
        return vec![path.to_path_buf()];
    }
    if !meta.is_dir() {
        return Vec::new();
    }
    let mut entries: Vec<PathBuf> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries.iter().flat_map(|entry| files(entry)).collect()
}
