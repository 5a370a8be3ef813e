//! Running a command and asking the kernel what it cost.

use std::fs;
use std::io;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};

/// How often memory is sampled. Buffers of a run live much longer.
const POLL: Duration = Duration::from_millis(2);
/// `/proc/PID/stat` counts in hundredths of a second on every Linux machine.
const TICK: f64 = 0.01;

/// The cost of one run of a command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Seconds from start to exit.
    pub wall: f64,
    /// Seconds of user and system time.
    pub cpu: f64,
    /// Largest anonymous resident memory seen, in bytes, without mapped files.
    pub anonymous: u64,
}

/// Runs `command` to its end.
///
/// # Errors
/// If it cannot be started or fails; its output is part of the message.
pub(crate) fn run(command: &mut Command) -> io::Result<Cost> {
    run_to(command, 0)
}

/// Runs `command`, which must end with the exit code `code`.
///
/// # Errors
/// If it cannot be started or ends otherwise; its output is part of the message.
pub(crate) fn run_to(command: &mut Command, code: i32) -> io::Result<Cost> {
    let before = children_cpu()?;
    let start = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let pid = child.id();
    let watcher = thread::spawn(move || peak_anonymous(pid));
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        io::Read::read_to_string(&mut stderr, &mut said)?;
    }
    let status = child.wait()?;
    let wall = start.elapsed().as_secs_f64();
    if status.code() != Some(code) {
        return Err(io::Error::other(format!("{command:?}: {status}\n{said}")));
    }
    let anonymous = watcher.join().map_err(|_| io::Error::other("the memory watcher panicked"))?;
    Ok(Cost { wall, cpu: children_cpu()? - before, anonymous })
}

/// Starts `command`, tells it to stop after `seconds`, and returns how many more it takes to end; 0 if it ended before.
///
/// # Errors
/// If it cannot be started.
pub(crate) fn stop(command: &mut Command, seconds: f64) -> io::Result<f64> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    thread::sleep(Duration::from_secs_f64(seconds));
    if child.try_wait()?.is_some() {
        return Ok(0.0);
    }
    let told = Instant::now();
    kill_process(Pid::from_child(&child), Signal::TERM)?;
    child.wait()?;
    Ok(told.elapsed().as_secs_f64())
}

/// Watches a process until it is gone or has given its memory back.
fn peak_anonymous(pid: u32) -> u64 {
    let mut peak = 0;
    while let Some(kib) = fs::read_to_string(format!("/proc/{pid}/status")).ok().as_deref().and_then(rss_anon)
    {
        peak = peak.max(kib * 1024);
        thread::sleep(POLL);
    }
    peak
}

fn rss_anon(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?.split_whitespace().next()?.parse().ok()
}

/// CPU seconds of all children that have ended.
fn children_cpu() -> io::Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The second field is the program's name in parentheses and may hold spaces; cutime and cstime are the
    // 16th and 17th.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(16) + ticks(17)) * TICK)
}

/// Seconds of CPU time that this thread has used.
pub(crate) fn thread_cpu() -> f64 {
    seconds(ClockId::ThreadCPUTime)
}

/// Seconds of CPU time that all threads of this process have used.
pub(crate) fn process_cpu() -> f64 {
    seconds(ClockId::ProcessCPUTime)
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The middle value; 0 if there are none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    match (values.get(low), values.get(high)) {
        (Some(a), Some(b)) => (a + b) / 2.0,
        _ => 0.0,
    }
}
