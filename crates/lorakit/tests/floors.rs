//! The house of `lorakit`, checked on its sources: which room may use which, which files use each other, and that
//! there is only one table of names. Also checks that the paths in ARCHITECTURE.md exist.
//!
//! ```text
//!  ops                                 verbs
//!  fit  output                         adapter meets base; an adapter on its way to disk
//!  lineage                             where outputs came from; their model cards
//!  adapter  hub                        any adapter file in, one shape, any format out; the hub's cache
//!  model                               any model in: folder, packed, GGUF; configuration, tokenizer
//!  plan                                recipes, what runs them, where they go
//!  tensor  arch  card                  tensors and their views; families as data; model cards
//!  choice  error  finding  report  units
//! ```

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the floors are for people to see")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms from the ground up. Rooms on the same floor do not use each other.
const FLOORS: &[&[&str]] = &[
    &["choice", "error", "finding", "report", "units"],
    &["tensor", "arch", "card"],
    &["plan"],
    &["model"],
    &["adapter", "hub"],
    &["lineage"],
    &["fit", "output"],
    &["ops"],
];

/// Names that the crate re-exports at its root, and the room of each.
const REEXPORTED: &[(&str, &str)] = &[
    ("Choice", "choice"),
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

/// Code without comments, and without the tests at its end, whatever attributes these have.
fn code(text: &str) -> String {
    let text = text.split("\nmod tests {").next().unwrap_or_default();
    let code = |line: &str| line.split("//").next().unwrap_or_default().replace("pub(in crate::", "pub(");
    text.lines().map(code).collect::<Vec<_>>().join("\n")
}

/// The files that `text` declares as modules for tests only.
fn only_tests(text: &str) -> impl Iterator<Item = &str> {
    let declared = text.split("#[cfg(test)]\nmod ").skip(1).filter_map(|rest| rest.split_once(';'));
    declared.map(|(name, _)| name).filter(|name| name.chars().all(|c| c.is_alphanumeric() || c == '_'))
}

/// The names that directly follow `crate::`, in paths and in groups.
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
    let mut checked = 0;
    let mut wrong = Vec::new();
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

/// The most circles that may exist between files, each of a parent and its own files.
const CIRCLES: usize = 7;

/// A source file: its module path, its code, and the names that it imports.
struct Source {
    /// `fit/index.rs`.
    file: String,
    /// `["fit", "index"]`.
    module: Vec<String>,
    code: String,
    imports: Vec<Import>,
}

/// One name that a `use` brings in.
struct Import {
    /// Its name in this file; `*` for all names of a module.
    name: String,
    path: Vec<String>,
    /// Whether it is brought in for others: `pub use`.
    public: bool,
}

/// All files of the crate except tests, by module path.
struct House {
    sources: Vec<Source>,
    places: BTreeMap<Vec<String>, usize>,
}

impl House {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        sources(&root, &mut files);
        files.sort();
        let mut house = House { sources: Vec::new(), places: BTreeMap::new() };
        let mut tests: BTreeSet<Vec<String>> = BTreeSet::new();
        for file in files {
            let inside = file.strip_prefix(&root).unwrap();
            let mut module: Vec<String> =
                inside.with_extension("").iter().map(|part| part.to_str().unwrap().to_string()).collect();
            if ["tests", "testing"].contains(&module.last().unwrap().as_str()) {
                continue;
            }
            if ["mod", "lib"].contains(&module.last().unwrap().as_str()) {
                module.pop();
            }
            let text = fs::read_to_string(&file).unwrap();
            tests.extend(only_tests(&text).map(|name| [module.as_slice(), &[name.to_string()]].concat()));
            let (code, imports) = imports(&code(&text));
            house.sources.push(Source { file: inside.display().to_string(), module, code, imports });
        }
        house.sources.retain(|source| !tests.iter().any(|of| source.module.starts_with(of)));
        let places = house.sources.iter().enumerate().map(|(place, source)| (source.module.clone(), place));
        house.places = places.collect();
        house
    }

    /// The file that defines what the file `at` calls `path`; re-exports are followed.
    fn resolve(&self, at: usize, path: &[String], depth: usize) -> Option<usize> {
        let own = &self.sources[at].module;
        let (first, rest) = path.split_first()?;
        let (mut module, mut rest) = match first.as_str() {
            "crate" => (Vec::new(), rest),
            "self" => (own.clone(), rest),
            "super" => (own.split_last()?.1.to_vec(), rest),
            child if self.places.contains_key(&[own.as_slice(), &[child.to_string()]].concat()) => {
                (own.clone(), path)
            }
            _ => return None,
        };
        while rest.first().is_some_and(|next| next == "super") {
            module.pop();
            rest = &rest[1..];
        }
        while let Some((next, after)) = rest.split_first() {
            let child = [module.as_slice(), std::slice::from_ref(next)].concat();
            if !self.places.contains_key(&child) {
                let file = *self.places.get(&module)?;
                return Some(self.named(file, next, depth).unwrap_or(file));
            }
            (module, rest) = (child, after);
        }
        self.places.get(&module).copied()
    }

    /// The file that defines what `file` re-exports as `name`.
    fn named(&self, file: usize, name: &str, depth: usize) -> Option<usize> {
        let import = self.sources[file].imports.iter().find(|import| import.name == name)?;
        (depth > 0).then(|| self.resolve(file, &import.path, depth - 1)).flatten()
    }

    /// The files that `file` uses.
    fn used_by(&self, file: usize) -> BTreeSet<usize> {
        let source = &self.sources[file];
        let mut paths: Vec<Vec<String>> = inline_paths(&source.code);
        // A name that is only re-exported is not used here.
        let is_used =
            |import: &&Import| !import.public || words(&source.code).any(|word| word == import.name);
        paths.extend(source.imports.iter().filter(is_used).map(|import| import.path.clone()));
        let mut used: BTreeSet<usize> = paths.iter().filter_map(|path| self.resolve(file, path, 8)).collect();
        used.remove(&file);
        used
    }
}

/// The words in a piece of code.
fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The paths in code without its imports: `crate::a::B`, `super::c`, `child::d`.
fn inline_paths(code: &str) -> Vec<Vec<String>> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let runs = code.split(|c| !is_path(c)).filter(|run| run.contains("::"));
    let names = |run: &str| run.split("::").map(|name| name.trim_matches(':').to_string()).collect();
    runs.map(names).filter(|path: &Vec<String>| !path[0].is_empty()).collect()
}

/// The code without its imports, and the imports.
fn imports(code: &str) -> (String, Vec<Import>) {
    let mut rest = String::new();
    let mut imports = Vec::new();
    let mut statement: Option<(String, bool)> = None;
    for line in code.lines() {
        let text = line.trim_start();
        if statement.is_none() {
            let (visibility, after) = match text.strip_prefix("pub") {
                Some(after) => (true, after.split_once(' ').map_or("", |(_, after)| after)),
                None => (false, text),
            };
            match after.strip_prefix("use ") {
                Some(start) => statement = Some((start.to_string(), visibility)),
                None => rest += line,
            }
            rest.push('\n');
        } else if let Some((tree, _)) = &mut statement {
            tree.push_str(text);
        }
        if statement.as_ref().is_some_and(|(tree, _)| tree.contains(';')) {
            let (tree, public) = statement.take().unwrap();
            expand(tree.split(';').next().unwrap(), &[], public, &mut imports);
        }
    }
    (rest, imports)
}

/// The names of a tree such as `a::{self, b::{C, D as E}}`.
fn expand(tree: &str, before: &[String], public: bool, imports: &mut Vec<Import>) {
    let tree = tree.trim();
    let (head, group) = match tree.split_once('{') {
        Some((head, group)) => (head, Some(group.trim_end().trim_end_matches('}'))),
        None => (tree, None),
    };
    let (head, alias) = head.split_once(" as ").map_or((head, None), |(head, alias)| (head, Some(alias)));
    let mut path = before.to_vec();
    path.extend(head.split("::").map(str::trim).filter(|name| !name.is_empty()).map(str::to_string));
    let Some(group) = group else {
        if path.last().is_some_and(|name| name == "self") {
            path.pop();
        }
        let name = alias.or(path.last().map(String::as_str)).unwrap_or_default().trim().to_string();
        imports.push(Import { name, path, public });
        return;
    };
    // The group may end before closing braces that belong to an outer group; the depth tells.
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&group[start..at], &path, public, imports);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !group[start..].trim().is_empty() {
        expand(&group[start..], &path, public, imports);
    }
}

/// The circles among `files`, given which files each one uses: sets of files that reach each other.
fn circles(files: &BTreeSet<usize>, uses: &BTreeMap<usize, BTreeSet<usize>>) -> Vec<BTreeSet<usize>> {
    let reached = |from: usize| {
        let mut seen = BTreeSet::new();
        let mut open = vec![from];
        while let Some(file) = open.pop() {
            for next in uses[&file].intersection(files) {
                if seen.insert(*next) {
                    open.push(*next);
                }
            }
        }
        seen
    };
    let reaches: BTreeMap<usize, BTreeSet<usize>> =
        files.iter().map(|file| (*file, reached(*file))).collect();
    let mut found: Vec<BTreeSet<usize>> = Vec::new();
    for (file, there) in reaches.iter().filter(|(file, there)| there.contains(file)) {
        if !found.iter().any(|circle| circle.contains(file)) {
            found.push(there.iter().copied().filter(|other| reaches[other].contains(file)).collect());
        }
    }
    found
}

/// Files use each other only if one is the parent of the others, and even that is rare.
#[test]
fn circles_are_few_and_of_parent_and_child() {
    let house = House::read();
    let uses: BTreeMap<usize, BTreeSet<usize>> =
        (0..house.sources.len()).map(|file| (file, house.used_by(file))).collect();
    let edges: usize = uses.values().map(BTreeSet::len).sum();
    assert!(edges > 800, "only {edges} uses were found");
    let all: BTreeSet<usize> = (0..house.sources.len()).collect();
    let found = circles(&all, &uses);
    let name = |file: &usize| house.sources[*file].file.as_str();
    println!("floors:");
    FLOORS.iter().rev().for_each(|rooms| println!("  {}", rooms.join("  ")));
    println!("circles: {} among {} files that use each other {edges} times", found.len(), all.len());
    let mut knots = Vec::new();
    for circle in &found {
        let names = circle.iter().map(name).collect::<Vec<_>>().join(", ");
        println!("  {names}");
        let parent = circle.iter().min_by_key(|file| house.sources[**file].module.len()).unwrap();
        let module = &house.sources[*parent].module;
        let is_child =
            |file: &usize| house.sources[*file].module.split_last().is_some_and(|(_, of)| of == module);
        let children: BTreeSet<usize> = circle.iter().copied().filter(|file| file != parent).collect();
        if !children.iter().all(is_child) {
            knots.push(format!("not a parent and its files: {names}"));
        }
        for siblings in circles(&children, &uses) {
            let names = siblings.iter().map(name).collect::<Vec<_>>().join(", ");
            knots.push(format!("siblings use each other: {names}"));
        }
    }
    assert!(knots.is_empty(), "{}", knots.join("\n"));
    assert!(found.len() <= CIRCLES, "{} circles", found.len());
}

/// Words for parts of models, which belong in the table in `arch/names`. Only formats and runtimes spell differently.
const NAMES: &[&str] = &[
    "embed_tokens",
    "wte",
    "word_embeddings",
    "embed_in",
    "tok_embeddings",
    "lm_head",
    "embed_out",
    "gate_proj",
    "up_proj",
    "gate_up_proj",
    "down_proj",
    "w1",
    "w2",
    "w3",
    "experts",
    "block_sparse_moe",
    "language_model",
];
/// Prefixes that wrappers add to names.
const PREFIXES: &[&str] = &["base_model.model.", "language_model.", "transformer.", "unet.", "model."];
/// Where such words may be: the table, adapter formats, the requirements of runtimes, the configuration of gpt-oss.
const OWN_SPELLING: &[&str] =
    &["arch/", "adapter/format/", "ops/inspect/target", "model/packed/write_mxfp4.rs"];

#[test]
fn names_are_in_one_table() {
    let mut wrong = Vec::new();
    for Source { file, code, .. } in &House::read().sources {
        if OWN_SPELLING.iter().any(|own| file.starts_with(own)) {
            continue;
        }
        // A name has no spaces; a single word that is also English is a label.
        for literal in code.split('"').skip(1).step_by(2).filter(|text| !text.contains(' ')) {
            let of_path = literal.contains('.') && literal.split('.').any(|word| NAMES.contains(&word));
            let is_name = NAMES.contains(&literal) && literal != "experts";
            if of_path || is_name || PREFIXES.contains(&literal) {
                wrong.push(format!("{file} holds `{literal}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every file and folder that ARCHITECTURE.md names exists: as a path in the repository, or as the end of one.
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

/// Paths below `folder`, relative to `root`, each with a leading slash.
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
