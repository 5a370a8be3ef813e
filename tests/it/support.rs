//! A sandbox to run the command in.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Once;

pub(crate) use lorakit_oracle::{entries, read_json};
use serde_json::Value;

/// A temporary folder in which commands run.
pub(crate) struct Sandbox {
    dir: tempfile::TempDir,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Sandbox { dir: tempfile::tempdir().unwrap() }
    }

    /// The folder.
    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    /// A path inside.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Copies a folder of `fixtures/` to `name`.
    pub(crate) fn copy(&self, from: &Path, name: &str) -> PathBuf {
        let to = self.path(name);
        copy_folder(from, &to);
        to
    }

    /// The command, ready to run here.
    pub(crate) fn command(&self) -> Command {
        Self::command_in(self.root())
    }

    /// The command, ready to run in a folder.
    pub(crate) fn command_in(folder: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lorakit"));
        command.current_dir(folder).env_clear();
        command
    }

    /// Runs the command with arguments separated by spaces, followed by more as they are.
    pub(crate) fn run(&self, line: &str, more: &[&Path]) -> Run {
        let output = self.command().args(line.split_whitespace()).args(more).output().unwrap();
        if output.status.success() {
            self.read_by_gguf_rs(line);
        }
        Run::new(self, &output)
    }

    /// Has the GGUF file that `line` wrote read by the crate gguf-rs, which must find in it what lorakit does: see
    /// `tests/peers/gguf_rs`. `GGUF_RS_READS` says where that program is.
    #[track_caller]
    fn read_by_gguf_rs(&self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = words.windows(2).find(|pair| ["-o", "--output"].contains(&pair[0])).map(|pair| pair[1]);
        let Some(file) = output.map(|name| self.path(name)).filter(|file| is_gguf(file)) else { return };
        let Some(program) = std::env::var_os("GGUF_RS_READS") else {
            static SAID: Once = Once::new();
            return SAID.call_once(|| skipped("gguf-rs reads no GGUF files: GGUF_RS_READS is not set"));
        };
        let read = Command::new(program).arg(&file).output().unwrap();
        assert!(read.status.success(), "{line}: {}", String::from_utf8_lossy(&read.stderr));
    }

    /// `lorakit merge BASE ADAPTER -o OUT`, which must succeed; returns the path of OUT.
    pub(crate) fn merge(&self, base: &Path, adapter: &Path, out: &str, options: &str) -> PathBuf {
        self.run(&format!("merge -o {out} {options}"), &[base, adapter]).ok();
        self.path(out)
    }

    /// Runs a command that must fail and leave nothing behind; returns its exit code and what it said.
    #[track_caller]
    pub(crate) fn refused(&self, line: &str) -> String {
        let before = self.entries();
        let Run { code, stdout, stderr } = self.run(line, &[]);
        assert_eq!(self.entries(), before, "nothing is written");
        assert_eq!(stdout, "");
        format!("exit {}\n{stderr}", code.unwrap())
    }

    /// Names in the folder, sorted.
    pub(crate) fn entries(&self) -> Vec<String> {
        entries(self.root())
    }
}

/// Whether there is such a file, and it is GGUF by its name.
fn is_gguf(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "gguf") && file.is_file()
}

/// The command in a build that sends traces: this one, or that of `LORAKIT_REMOTE`. None, which is said, without either.
#[track_caller]
pub(crate) fn sender() -> Option<PathBuf> {
    if cfg!(feature = "remote") {
        return Some(env!("CARGO_BIN_EXE_lorakit").into());
    }
    let program = std::env::var_os("LORAKIT_REMOTE").map(PathBuf::from);
    if program.is_none() {
        skipped("nothing is sent: LORAKIT_REMOTE names no build with the feature `remote`");
    }
    program
}

/// Takes away what lorakit reads from the environment: whoever runs the tests may have set it.
pub(crate) fn unset(command: &mut Command) -> &mut Command {
    let names = std::env::vars_os().map(|(name, _)| name);
    names
        .filter(|name| name.to_string_lossy().starts_with("LORAKIT_"))
        .for_each(|name| _ = command.env_remove(name));
    command
}

/// Says that the running test cannot run here, and why. Where `CI` is set, as `.ci/run` sets it, that is a failure.
#[track_caller]
pub(crate) fn skipped(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    assert!(std::env::var_os("CI").is_none(), "skipped, which CI must not do: {why}");
    // Not by a macro: what these print is only shown of tests that fail.
    _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
}

/// A finished command.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Paths of the sandbox and the fixtures are replaced by `[TMP]` and `[FIXTURES]`.
    pub(crate) fn new(sandbox: &Sandbox, output: &Output) -> Self {
        let text = |bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            text.replace(&format!("{}/", sandbox.root().display()), "[TMP]/")
                .replace(&format!("{}", fixtures().display()), "[FIXTURES]")
        };
        Run { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Asserts success.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }
}

/// Replaces what differs from run to run in a summary: durations and rates.
pub(crate) const TIMES: &[(&str, &str)] =
    &[(r"in \d[\d.]* ?(?:s|ms|min)\b", "in [TIME]"), (r"\([\d.]+ GB/s\)", "([RATE])")];

/// The folder of fixtures.
pub(crate) fn fixtures() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")).unwrap()
}

/// A folder or file of PEFT's golden data, e.g. `bases/llama-bf16`.
pub(crate) fn peft(name: &str) -> PathBuf {
    fixtures().join("golden/peft").join(name)
}

/// Copies a folder with everything in it.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in entries(from) {
        let (source, target) = (from.join(&name), to.join(&name));
        if source.is_dir() {
            copy_folder(&source, &target);
        } else {
            fs::copy(source, target).unwrap();
        }
    }
}

/// Every file below `folder`, by its path: links are not followed.
pub(crate) fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => found.extend(files(&entry.path())),
            kind if kind.is_file() => drop(found.insert(entry.path(), fs::read(entry.path()).unwrap())),
            _ => {}
        }
    }
    found
}

/// Changes a JSON file.
pub(crate) fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value = read_json(path);
    edit(&mut value);
    fs::write(path, value.to_string()).unwrap();
}
