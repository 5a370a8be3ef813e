//! Damaged files of every format given to every verb: no crash, no hang, bounded memory, inputs as they were, and
//! nothing published that a strict reader refuses.
//!
//! Everything follows from the seed. `LORAKIT_MUTATIONS` is the number of runs and `LORAKIT_MUTATION_SEED` the
//! seed; `LORAKIT_MUTATION_RUN` repeats one of them and keeps its files.

mod bytes;
mod cases;
mod check;
mod json;
mod random;
mod seeds;
mod tree;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use cases::CASES;
use check::{published, snapshot};
use random::Random;
use seeds::Seeds;

use crate::support::{copy_folder, entries};

const RUNS: u64 = 2000;
const SEED: u64 = 1;
/// A run that takes longer counts as hanging: most take some milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// Seconds of processor time after which the kernel ends a run.
const CPU_SECONDS: u32 = 20;
/// KiB of memory that a run may allocate; healthy ones of these sizes take a tenth.
const MEMORY: u32 = 256 << 10;
/// Failures after which the search stops.
const SHOWN: u64 = 8;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

#[test]
fn damaged_files() {
    let seeds = Seeds::new();
    let seed = number("LORAKIT_MUTATION_SEED").unwrap_or(SEED);
    if let Some(run) = number("LORAKIT_MUTATION_RUN") {
        let mut attempt = Attempt::new(&seeds, seed, run);
        let root = attempt.keep();
        println!("{}\nin {}", attempt.line(), root.display());
        let verdict = attempt.run();
        println!("{}{}", attempt.stdout, attempt.stderr);
        println!("{}", verdict.unwrap_or_else(|failure| panic!("{failure}")));
        return;
    }
    refuse_nothing_healthy(&seeds);

    let runs = number("LORAKIT_MUTATIONS").unwrap_or(RUNS);
    let next = AtomicU64::new(0);
    let codes: Mutex<BTreeMap<i32, u64>> = Mutex::default();
    let failures = AtomicU64::new(0);
    let work = || {
        loop {
            let run = next.fetch_add(1, Relaxed);
            if run >= runs || failures.load(Relaxed) >= SHOWN {
                return;
            }
            let mut attempt = Attempt::new(&seeds, seed, run);
            match attempt.run() {
                Ok(code) => *codes.lock().unwrap().entry(code).or_default() += 1,
                Err(failure) => {
                    failures.fetch_add(1, Relaxed);
                    eprintln!("{failure}\n{}", attempt.report(seed, run));
                }
            }
        }
    };
    thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(2, usize::from);
        (0..workers).for_each(|_| drop(scope.spawn(work)));
    });
    assert!(seeds.are_as_they_were(), "an input that was not spoiled was changed");
    assert_eq!(failures.into_inner(), 0, "failures, printed above");
    let codes = codes.into_inner().unwrap();
    // If all or none were refused, the test would prove nothing.
    let share = |code| codes.get(&code).copied().unwrap_or(0) as f64 / runs as f64;
    assert!(runs < 500 || share(0) > 0.05 && share(1) > 0.3, "exit codes: {codes:?}");
    println!("exit codes: {codes:?}");
}

/// Runs every case with its healthy seeds: a case refused then would test nothing.
fn refuse_nothing_healthy(seeds: &Seeds) {
    let mut failures = Vec::new();
    for case in CASES {
        let mut attempt = Attempt::prepare(seeds, case, None);
        match attempt.run() {
            Ok(0) => {}
            Ok(code) => failures.push(format!("{}\nexit {code}: {}", attempt.line(), attempt.stderr)),
            Err(failure) => failures.push(format!("{}\n{failure}", attempt.line())),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// One command with spoiled inputs, in a folder of its own.
struct Attempt {
    dir: tempfile::TempDir,
    /// The output, if the command writes one.
    out: Option<PathBuf>,
    arguments: Vec<std::ffi::OsString>,
    inputs: PathBuf,
    changes: Vec<String>,
    stdout: String,
    stderr: String,
}

impl Attempt {
    fn new(seeds: &Seeds, seed: u64, run: u64) -> Self {
        let case = CASES[(run % CASES.len() as u64) as usize];
        Self::prepare(seeds, case, Some(Random::new(seed, run)))
    }

    fn prepare(seeds: &Seeds, case: &str, mut random: Option<Random>) -> Self {
        let shared_memory = Path::new("/dev/shm");
        let place = if shared_memory.is_dir() { shared_memory.into() } else { std::env::temp_dir() };
        let dir = tempfile::Builder::new().prefix("lorakit-mutation-").tempdir_in(place).unwrap();
        let inputs = dir.path().join("in");
        fs::create_dir(&inputs).unwrap();
        let names: Vec<&str> = case.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
        let spoiled = random.as_mut().map(|random| *random.one(&names));
        let mut changes = Vec::new();
        let place = |name: &str| {
            let (from, to) = (seeds.path(name), inputs.join(name));
            match (spoiled == Some(name), from.is_dir()) {
                (false, _) => return from,
                (true, true) => copy_folder(&from, &to),
                (true, false) => drop(fs::copy(&from, &to).unwrap()),
            }
            to
        };
        let mut arguments = Vec::new();
        for word in case.split(' ') {
            let mut argument = std::ffi::OsString::new();
            let mut rest = word;
            while let Some(at) = rest.find(['{', '[']) {
                let end = rest.find(['}', ']']).unwrap();
                argument.push(&rest[..at]);
                argument.push(place(&rest[at + 1..end]));
                rest = &rest[end + 1..];
            }
            argument.push(rest);
            arguments.push(argument);
        }
        if let (Some(random), Some(name)) = (&mut random, spoiled) {
            for _ in 0..1 + random.below(2) {
                let target = inputs.join(name);
                changes.push(format!("{name}: {}", tree::spoil(&target, &seeds.files, random)));
            }
            if random.chance(15) {
                arguments.push("--no-mmap".into());
            }
            if random.chance(15) {
                arguments.push("--json".into());
            }
        }
        let words: Vec<&str> = case.split(' ').collect();
        let out = words
            .windows(2)
            .find(|pair| matches!(pair[0], "-o" | "--html"))
            .map(|pair| dir.path().join(pair[1]));
        Attempt { dir, out, arguments, inputs, changes, stdout: String::new(), stderr: String::new() }
    }

    fn line(&self) -> String {
        let words: Vec<_> = self.arguments.iter().map(|word| word.to_string_lossy()).collect();
        format!("lorakit {}", words.join(" "))
    }

    /// What was run on which inputs, and how to repeat it.
    fn report(&self, seed: u64, run: u64) -> String {
        let said: String = self.stderr.chars().take(600).collect();
        format!(
            "  {}\n  {}\n  again: LORAKIT_MUTATION_SEED={seed} LORAKIT_MUTATION_RUN={run} cargo test -p lorakit-cli \
             --test it mutation -- --nocapture\n{said}",
            self.line(),
            self.changes.join("\n  "),
        )
    }

    /// Keeps the folder.
    fn keep(&mut self) -> PathBuf {
        self.dir.disable_cleanup(true);
        self.dir.path().to_path_buf()
    }

    /// Runs the command and checks what it left; returns its exit code.
    fn run(&mut self) -> Result<i32, String> {
        let before = snapshot(&self.inputs);
        let logs = tempfile::Builder::new()
            .prefix("lorakit-mutation-")
            .tempdir_in(self.dir.path().parent().unwrap())
            .unwrap();
        let (stdout, stderr) = (logs.path().join("stdout"), logs.path().join("stderr"));
        let status = self.execute(&stdout, &stderr);
        self.stdout = String::from_utf8_lossy(&fs::read(stdout).unwrap()).into_owned();
        self.stderr = String::from_utf8_lossy(&fs::read(stderr).unwrap()).into_owned();
        let status = status?;
        let Some(code @ 0..=3) = status.code() else {
            let signal = status.signal().map_or_else(String::new, |signal| format!(" (signal {signal})"));
            return Err(format!("{status}{signal}"));
        };
        if snapshot(&self.inputs) != before {
            return Err("an input was changed".into());
        }
        let mut left = entries(self.dir.path());
        left.retain(|name| name != "in");
        let out = self.out.as_ref().map(|out| out.file_name().unwrap().to_string_lossy().into_owned());
        // A page is written for bad inputs too.
        let page = out.as_ref().is_some_and(|out| out.ends_with(".html"));
        let may_write = code == 0 || page && code == 1;
        if left.iter().any(|name| !may_write || Some(name) != out.as_ref()) {
            return Err(format!("exit {code} left {left:?}"));
        }
        if code == 0 && out.is_some() && left.is_empty() {
            return Err("exit 0, and nothing was written".into());
        }
        if let Some(out) = self.out.as_ref().filter(|out| out.exists()) {
            published(out, &before, &format!("{}{}", self.stderr, self.stdout))?;
        }
        if self.arguments.iter().any(|word| word == "--json") {
            let text = if code == 0 { &self.stdout } else { &self.stderr };
            let object = serde_json::from_str::<serde_json::Value>(text.lines().last().unwrap_or_default());
            let whole = serde_json::from_str::<serde_json::Value>(text);
            if !object.or(whole).is_ok_and(|json| json.is_object()) {
                return Err(format!("exit {code}, and no JSON object: {text}"));
            }
        }
        if code != 0 && self.stderr.is_empty() {
            return Err(format!("exit {code} without a word"));
        }
        Ok(code)
    }

    fn execute(&self, stdout: &Path, stderr: &Path) -> Result<ExitStatus, String> {
        let limits = format!("ulimit -d {MEMORY} && ulimit -t {CPU_SECONDS} && ulimit -c 0 && exec \"$@\"");
        let mut child = Command::new("/bin/sh")
            .args(["-c", &limits, "sh", env!("CARGO_BIN_EXE_lorakit")])
            .args(&self.arguments)
            .args(["--threads", "1"])
            .current_dir(self.dir.path())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(File::create(stdout).unwrap())
            .stderr(File::create(stderr).unwrap())
            .spawn()
            .unwrap();
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return Ok(status);
            }
            let waited = start.elapsed();
            if waited > PATIENCE {
                child.kill().unwrap();
                child.wait().unwrap();
                return Err(format!("no end after {waited:?}"));
            }
            thread::sleep((waited / 8).clamp(Duration::from_micros(500), Duration::from_millis(20)));
        }
    }
}
