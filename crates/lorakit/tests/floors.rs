//! The house of `lorakit`: which room may use which, read from the sources; and that ARCHITECTURE.md tells of what is there.
//!
//! ```text
//!  ops                                 verbs
//!  fit  output  lineage                adapter meets base; an adapter on its way to disk; where outputs came from
//!  adapter                             any adapter file in, one shape, any format out
//!  model                               any model in: folder, packed, GGUF; configuration, tokenizer
//!  plan                                recipes, what runs them, where they go
//!  tensor  arch                        tensors and their views; families as data
//!  error  finding
//! ```

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms from the ground up. Those on one floor do not use each other.
const FLOORS: &[&[&str]] = &[
    &["error", "finding"],
    &["tensor", "arch"],
    &["plan"],
    &["model"],
    &["adapter"],
    &["fit", "output", "lineage"],
    &["ops"],
];

/// Names that the crate re-exports at its root, and the room of each.
const REEXPORTED: &[(&str, &str)] = &[
    ("Error", "error"),
    ("ErrorKind", "error"),
    ("Result", "error"),
    ("Finding", "finding"),
    ("Hint", "error"),
    ("Severity", "finding"),
    ("TensorRef", "tensor"),
    ("Model", "model"),
    ("ModelConfig", "model"),
    ("Base", "model"),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|ending| ending == "rs") {
            found.push(entry);
        }
    }
}

/// Code without comments, and without the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The first names after `crate::`, in paths and in groups.
fn used(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            names.extend(first_name(rest));
            continue;
        };
        let mut depth = 0;
        let mut start = true;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if start && !c.is_whitespace() => {
                    names.extend(first_name(&group[at..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    names
}

fn first_name(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_string())
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

#[test]
fn no_room_uses_one_above_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let rooms: BTreeMap<&str, &str> = REEXPORTED.iter().copied().collect();
    let (mut checked, mut wrong) = (0, Vec::new());
    for file in files {
        let inside = file.strip_prefix(&root).unwrap();
        let room = inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
        let only_tests = ["tests", "testing"].contains(&inside.file_stem().unwrap().to_str().unwrap());
        if room == "lib" || only_tests {
            continue;
        }
        let own = floor(room).unwrap_or_else(|| panic!("`{room}` stands on no floor: give it one"));
        for name in used(&code(&fs::read_to_string(&file).unwrap())) {
            let other = rooms.get(name.as_str()).copied().unwrap_or(&name);
            let Some(level) = floor(other).filter(|_| other != room) else { continue };
            if level >= own {
                wrong.push(format!("{} uses `{other}`", inside.display()));
            }
            checked += 1;
        }
    }
    assert!(checked > 300, "only {checked} uses were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every file and folder that ARCHITECTURE.md names is there: as a path of the repository, or the end of one.
#[test]
fn paths_in_the_architecture_exist() {
    let root = fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap();
    let page = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let mut there = BTreeSet::new();
    for folder in ["crates", "tests", "benches", "docs", "fixtures"] {
        paths(&root.join(folder), &root, &mut there);
    }
    let mut missing = Vec::new();
    let quoted = page.split('`').skip(1).step_by(2);
    let is_path = |text: &&str| {
        text.contains('/') && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
    };
    for named in quoted.filter(is_path) {
        let end = format!("/{}", named.trim_matches('/'));
        if !there.iter().any(|path| path.ends_with(&end)) {
            missing.push(named);
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

/// Paths below `folder`, relative to `root`, each with a slash in front.
fn paths(folder: &Path, root: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.file_name().is_some_and(|name| name == "target") {
            continue;
        }
        found.insert(format!("/{}", entry.strip_prefix(root).unwrap().display()));
        if entry.is_dir() {
            paths(&entry, root, found);
        }
    }
}
