//! Stopping before the end: by Ctrl-C, by a termination signal, by an input that vanishes while it is mapped.
//!
//! A signal sets one flag for the process, which runs check between two pieces of work; they then clean up, and the
//! command says so and ends. A watching thread does what a flag cannot do:
//!
//! | | it ends the process |
//! |---|---|
//! | the run has not ended by itself | after [`GRACE`], and removes what is staged; never if the run saves its state |
//! | a second Ctrl-C or SIGTERM | immediately, and says what is left |
//! | a fault in a mapped file (SIGBUS) | immediately, removes what is staged and names the file |

mod handler;

use std::io::{self, PipeReader, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc;
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

use lorakit_tensor::publish;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::{Failure, Stopped};
use crate::{exit, progress, ui};
use handler::Caught;

/// How long a run may take to notice that it should stop, and to clean up.
const GRACE: Duration = Duration::from_millis(500);
/// Signals that follow each other faster count as one: `timeout` sends each twice, and so do wrappers that forward what
/// the terminal has already sent to every process.
const ONE: Duration = Duration::from_millis(300);
/// How often the watching thread checks whether a run that should stop does.
const TICK: Duration = Duration::from_millis(50);
/// How long a second signal waits for the run to remove what it is removing.
const PATIENCE: Duration = Duration::from_millis(200);
/// Said when a run begins to save its state.
const SAVING: &str =
    "\nfinishing this pass and saving; once more ends it at once, and loses what is not saved\n";
/// How long a terminal or pipe that takes no output may delay the end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Which part reports how the command ended: none yet, or one of these.
static SPEAKER: AtomicU8 = AtomicU8::new(0);
const COMMAND: u8 = 1;
const WATCHER: u8 = 2;

/// Whether the run saves its state when it is asked to stop, which takes as long as it takes.
static SAVES: AtomicBool = AtomicBool::new(false);

/// A run begins that saves its state when it is asked to stop: it is not ended before it has. A second signal still ends
/// it at once.
pub(crate) fn wait_for_the_run() {
    SAVES.store(true, Ordering::Relaxed);
}

/// Whether the run saves its state when it is asked to stop.
pub(crate) fn waits() -> bool {
    SAVES.load(Ordering::Relaxed)
}

/// Installs the handlers and starts the thread; called once per process. If the thread cannot be started, signals do
/// what they do by default, and the next run sweeps up what is left. `json`: how to say what happened.
pub(crate) fn watch(json: bool) {
    handler::ignore_size_limit();
    let Ok(pipe) = handler::open() else { return };
    if Builder::new().name("signals".into()).spawn(move || watch_for(pipe, json)).is_ok() {
        handler::install();
    }
}

/// Whether a signal has asked to stop.
pub(crate) fn asked() -> bool {
    handler::stop_signal().is_some()
}

/// The exit code of a command that stopped because it was asked to.
pub(crate) fn exit_code() -> u8 {
    match handler::stop_signal() {
        Some(libc::SIGHUP) => exit::HUNG_UP,
        Some(libc::SIGTERM) => exit::TERMINATED,
        _ => exit::INTERRUPTED,
    }
}

/// Must be called before the command says how it ended. Does not return if the watching thread is doing so.
pub(crate) fn speak() {
    while !take_word(COMMAND) && SPEAKER.load(Ordering::Relaxed) != COMMAND {
        thread::park();
    }
}

fn take_word(who: u8) -> bool {
    SPEAKER.compare_exchange(0, who, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

/// A run that was asked to stop, and when.
struct Stopping(Instant);

impl Stopping {
    /// Whether one more signal means that the run should end at once. Terminals that close send SIGHUP twice.
    fn is_urged(&self, signal: i32, now: Instant) -> bool {
        signal != libc::SIGHUP && now - self.0 >= ONE
    }

    /// Whether the run has had the time that it needs to stop by itself.
    fn is_overdue(&self, now: Instant) -> bool {
        now - self.0 >= GRACE
    }
}

fn watch_for(mut pipe: PipeReader, json: bool) {
    let mut stopping: Option<Stopping> = None;
    loop {
        let caught = next(&mut pipe, stopping.is_some());
        let now = Instant::now();
        match (caught, &stopping) {
            (Some(Caught::Fault(address)), _) => match lorakit_tensor::fault_at(address) {
                Some(error) => {
                    clean_up_and_end(json, |left| lorakit::Error::from(error).details(left).into())
                }
                // Not in a file of ours: the previous handler is in charge again.
                None => handler::let_go(),
            },
            (Some(Caught::Stop(_)), None) => {
                stopping = Some(Stopping(now));
                if waits() && !json {
                    // The run may hold the lock of the terminal.
                    let _ = io::stderr().write_all(SAVING.as_bytes());
                }
            }
            (Some(Caught::Stop(signal)), Some(stopping)) if stopping.is_urged(signal, now) => {
                end_at_once(json)
            }
            (_, Some(stopping)) => {
                if stopping.is_overdue(now) && !waits() {
                    clean_up_and_end(json, |left| Stopped::now(left).into());
                }
            }
            (None, None) => {}
        }
    }
}

/// The next report of a handler; `None` if `impatient` and it takes longer than [`TICK`].
fn next(pipe: &mut PipeReader, impatient: bool) -> Option<Caught> {
    let tick = Timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() };
    match poll(&mut [PollFd::new(pipe, PollFlags::IN)], impatient.then_some(&tick)) {
        Ok(1) => handler::read(pipe).ok(),
        _ => None,
    }
}

/// Removes what is staged, says why and ends the process, in a separate thread so that the next signal need not wait.
/// `why` takes what could not be removed. Does nothing if the command or an earlier call is ending it.
fn clean_up_and_end(json: bool, why: impl FnOnce(Vec<String>) -> Failure + Send + 'static) {
    if take_word(WATCHER) {
        let clean_up = move || end(json, why(left(publish::abandon())));
        if Builder::new().spawn(clean_up).is_err() {
            handler::exit(exit::IO);
        }
    }
}

/// Ends the process without cleaning up, and says what is left unless another thread is reporting already. What it
/// names stays there: the run removes nothing any more.
fn end_at_once(json: bool) -> ! {
    if !take_word(WATCHER) {
        handler::exit(exit_code());
    }
    let publish::Leftovers { names, settled } = publish::leave(PATIENCE);
    let lines = if settled { left(names) } else { names.iter().map(|name| doubtful(name)).collect() };
    end(json, Stopped::now(lines).into())
}

fn end(json: bool, failure: Failure) -> ! {
    let code = failure.exit_code();
    let (said, heard) = mpsc::channel();
    let say = move || {
        let _ = io::stderr().write_all(progress::erase().as_bytes());
        ui::say_failure(json, &failure, None);
        let _ = said.send(());
    };
    if Builder::new().spawn(say).is_ok() {
        let _ = heard.recv_timeout(LAST_WORDS);
    }
    handler::exit(code)
}

/// Lines about those of `names` that are still there.
fn left(names: Vec<PathBuf>) -> Vec<String> {
    let there = names.iter().filter(|name| name.symlink_metadata().is_ok());
    there.map(|name| format!("`{}` is left behind", name.display())).collect()
}

/// The line about a name that was being removed.
fn doubtful(name: &Path) -> String {
    format!("`{}` may be left behind: it was being removed", name.display())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use libc::{SIGHUP, SIGINT, SIGTERM};

    use super::{GRACE, Stopping, TICK};

    #[test]
    fn two_signals_at_once_are_one() {
        let asked = Instant::now();
        let stopping = Stopping(asked);
        let after = |ms| asked + Duration::from_millis(ms);
        assert!(!stopping.is_urged(SIGINT, after(0)) && !stopping.is_urged(SIGTERM, after(299)));
        assert!(stopping.is_urged(SIGINT, after(300)) && stopping.is_urged(SIGTERM, after(5000)));
        assert!(!stopping.is_urged(SIGHUP, after(5000)));
    }

    #[test]
    fn a_run_has_a_moment_to_clean_up() {
        let asked = Instant::now();
        let stopping = Stopping(asked);
        assert!(!stopping.is_overdue(asked + GRACE - TICK) && stopping.is_overdue(asked + GRACE));
    }
}
