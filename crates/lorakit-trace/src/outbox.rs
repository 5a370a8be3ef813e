//! What waits to be sent: a file of spans and a file of scores, and a thread that reads them.
//!
//! ```text
//!   whoever records          the files                  the thread
//!   append a line    ──▶     [ sent | waiting ]   ──▶   read a batch, post it, and move the border
//! ```
//!
//! The files are the queue, so that memory is bounded by a batch, recording waits for no network, and a kill loses
//! nothing. A batch that may be tried again is, after a time that doubles or that the receiver names. At the end, what
//! was sent is taken out of the files.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::carrier::{Answer, Carrier, Request};
use crate::destination::{Destination, Target};
use crate::otlp;
use crate::spool::{self, Line, SCORES, SPANS, Spool};

/// The most lines of a request, and their bytes; Langfuse takes 16 MB.
pub(crate) const MOST_LINES: usize = 512;
pub(crate) const MOST_BYTES: u64 = 4 << 20;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Spans,
    Scores,
}

impl Lane {
    pub(crate) const ALL: [Lane; 2] = [Lane::Spans, Lane::Scores];

    fn ending(self) -> &'static str {
        match self {
            Lane::Spans => SPANS,
            Lane::Scores => SCORES,
        }
    }

    /// The most lines of a request.
    pub(crate) fn most(self) -> usize {
        match self {
            Lane::Spans => MOST_LINES,
            Lane::Scores => 1,
        }
    }

    /// The body of a request for these lines.
    pub(crate) fn body(self, lines: &[&str]) -> String {
        match self {
            Lane::Spans => otlp::body(lines.iter().filter_map(|line| serde_json::from_str(line).ok())),
            Lane::Scores => lines.concat(),
        }
    }
}

/// How long things take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// How long a batch waits for more.
    pub(crate) linger: Duration,
    /// The first wait before a request is tried again; it doubles.
    pub(crate) first: Duration,
    /// The longest such wait.
    pub(crate) longest: Duration,
    /// How long the end waits for a receiver that takes nothing.
    pub(crate) last: Duration,
    /// How long the end waits in all.
    pub(crate) end: Duration,
}

impl Pace {
    pub(crate) const USUAL: Pace = Pace {
        linger: Duration::from_secs(1),
        first: Duration::from_secs(1),
        longest: Duration::from_secs(30),
        last: Duration::from_secs(1),
        end: Duration::from_secs(60),
    };

    /// The wait after so many failures in a row.
    pub(crate) fn wait(&self, failures: u32, after: Option<Duration>) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(16));
        after.unwrap_or_default().max(doubled.min(self.longest))
    }
}

/// What became of a trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The receiver of the spans; none if no variable names one, or this program cannot send.
    pub to: Option<String>,
    /// Spans that were sent.
    pub spans: u64,
    /// Scores that were sent.
    pub scores: u64,
    /// Spans and scores that wait in files.
    pub waiting: u64,
    /// Spans and scores that could not be written to their file.
    pub lost: u64,
    /// The files with what waits.
    pub files: Vec<PathBuf>,
    /// Why something waits or was lost.
    pub why: Option<String>,
    /// What the receiver did not like about what it took.
    pub warnings: Vec<String>,
}

/// What the thread and whoever records know of each other.
#[derive(Default)]
struct State {
    /// Bytes in each file, and those of them that are sent.
    written: [u64; 2],
    sent: [u64; 2],
    /// Lines that are sent.
    lines: [u64; 2],
    /// Whether a file is not sent any more.
    stopped: [bool; 2],
    /// Nothing more is recorded.
    closing: bool,
    /// Nobody waits for the thread any more.
    left: bool,
    /// The thread is at its end.
    ended: bool,
    /// The last request was not taken.
    failing: bool,
    why: Option<String>,
    warnings: Vec<String>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change, but no longer than `time`.
    fn wait<'s>(&self, state: MutexGuard<'s, State>, time: Duration) -> MutexGuard<'s, State> {
        self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }
}

/// What waits to be sent.
pub(crate) struct Outbox {
    spools: [Spool; 2],
    lines: [u64; 2],
    lost: u64,
    why: Option<String>,
    to: Option<String>,
    timeout: Duration,
    pace: Pace,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Outbox {
    /// One whose files are in `folder` and begin with `name`. Without a carrier, or without a destination, nothing is sent.
    pub(crate) fn new(
        folder: &Path,
        name: &str,
        destination: &Destination,
        carrier: Option<Arc<dyn Carrier>>,
        pace: Pace,
    ) -> Self {
        let path = |lane: Lane| folder.join(format!("{name}{}", lane.ending()));
        let spools = Lane::ALL.map(|lane| Spool::new(path(lane)));
        let shared = Arc::new(Shared::default());
        let targets = [destination.traces.clone(), destination.scores.clone()];
        let mut outbox = Outbox {
            spools,
            lines: [0; 2],
            lost: 0,
            why: None,
            to: None,
            timeout: destination.timeout,
            pace,
            shared: shared.clone(),
            thread: None,
        };
        let Some(carrier) = carrier.filter(|_| targets.iter().any(Option::is_some)) else { return outbox };
        outbox.to = targets.iter().flatten().next().map(|target| target.shown().to_string());
        shared.lock().stopped = [targets[0].is_none(), targets[1].is_none()];
        let paths = Lane::ALL.map(path);
        let sender = Sender { shared, paths, targets, carrier, timeout: destination.timeout, pace };
        let thread = Builder::new().name("traces".into()).spawn(move || sender.run());
        outbox.thread = thread.ok();
        outbox
    }

    /// Takes a line.
    pub(crate) fn put(&mut self, lane: Lane, line: &str) {
        let at = lane as usize;
        match self.spools[at].append(line) {
            Ok(written) => {
                self.lines[at] += 1;
                self.shared.lock().written[at] = written;
                self.shared.changed.notify_all();
            }
            Err(error) => {
                self.lost += 1;
                let path = self.spools[at].path().display();
                self.why.get_or_insert_with(|| format!("`{path}` cannot be written: {error}"));
            }
        }
    }

    /// Waits until all is sent, as long as the receiver takes it; in a hurry, hardly at all. What was sent is taken out of
    /// the files.
    pub(crate) fn close(mut self, hurry: bool) -> Outcome {
        let mut outcome =
            Outcome { to: self.to.take(), lost: self.lost, why: self.why.take(), ..Outcome::default() };
        let mut state = self.shared.lock();
        if self.thread.is_some() {
            state.closing = true;
            self.shared.changed.notify_all();
            let begun = Instant::now();
            let (mut before, mut moved) = (state.lines, begun);
            while !state.ended {
                let patience = match state.failing {
                    _ if hurry => self.pace.last / 5,
                    true => self.pace.last,
                    false => self.timeout,
                };
                let end = (moved + patience).min(begun + if hurry { patience } else { self.pace.end });
                let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
                else {
                    break;
                };
                state = self.shared.wait(state, left);
                if state.lines != before {
                    (before, moved) = (state.lines, Instant::now());
                }
            }
            state.left = true;
            outcome.why = outcome.why.or_else(|| state.why.take());
        }
        let (sent, lines) = (state.sent, state.lines);
        [outcome.spans, outcome.scores] = lines;
        outcome.warnings = std::mem::take(&mut state.warnings);
        let slow = self.thread.is_some() && !state.ended;
        drop(state);
        for lane in Lane::ALL {
            let at = lane as usize;
            let spool = &self.spools[at];
            let waiting = self.lines[at] - lines[at];
            if waiting > 0 {
                outcome.waiting += waiting;
                outcome.files.push(spool.path().to_path_buf());
            }
            let rest: &[(u64, u64)] = if waiting > 0 { &[(sent[at], u64::MAX)] } else { &[] };
            if sent[at] > 0
                && let Err(error) = spool::keep(spool.path(), rest)
            {
                outcome.warnings.push(error.to_string());
            }
        }
        if outcome.waiting > 0 && outcome.to.is_some() && slow {
            outcome.why.get_or_insert_with(|| "the receiver is too slow".into());
        }
        outcome
    }
}

/// Sends what is in the files.
struct Sender {
    shared: Arc<Shared>,
    paths: [PathBuf; 2],
    targets: [Option<Target>; 2],
    carrier: Arc<dyn Carrier>,
    timeout: Duration,
    pace: Pace,
}

impl Sender {
    fn run(self) {
        let (mut failures, mut most) = (0, [Lane::Spans.most(), Lane::Scores.most()]);
        while let Some((lane, from, to)) = self.next() {
            let at = lane as usize;
            let Some(target) = &self.targets[at] else { return self.end() };
            let lines = File::open(&self.paths[at])
                .and_then(|mut file| spool::lines(&mut file, from, to, MOST_BYTES, most[at]));
            let lines = match lines {
                Ok(lines) if !lines.is_empty() => lines,
                Ok(_) => return self.end(),
                Err(error) => {
                    self.stop(lane, format!("`{}` cannot be read: {error}", self.paths[at].display()));
                    continue;
                }
            };
            let closing = self.shared.lock().closing;
            let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
            let body = lane.body(&texts);
            match self.carrier.post(&Request { target, body: &body, timeout: self.timeout }) {
                Answer::Taken { body } => {
                    failures = 0;
                    self.took(lane, &lines, &body);
                }
                Answer::TooLarge { .. } if lines.len() > 1 => most[at] = lines.len() / 2,
                Answer::Again { why, after } => {
                    failures += 1;
                    // After the end, each request is tried once.
                    if self.pause(why, self.pace.wait(failures, after), after.is_some(), closing) {
                        return self.end();
                    }
                }
                Answer::TooLarge { why } | Answer::Bad { why } | Answer::Refused { why } => {
                    self.stop(lane, why)
                }
            }
        }
        self.end();
    }

    /// Which part of which file waits to be sent. None at the end.
    fn next(&self) -> Option<(Lane, u64, u64)> {
        let mut state = self.shared.lock();
        let waits = |state: &State| {
            let waits = |lane: &Lane| {
                let at = *lane as usize;
                !state.stopped[at] && state.sent[at] < state.written[at]
            };
            Lane::ALL.into_iter().find(waits)
        };
        let mut begun: Option<Instant> = None;
        loop {
            let found = waits(&state);
            if state.left || (state.closing && found.is_none()) {
                return None;
            }
            let lingered = found.map(|_| begun.get_or_insert_with(Instant::now).elapsed());
            match found.zip(lingered) {
                Some((lane, time)) if state.closing || time >= self.pace.linger => {
                    let at = lane as usize;
                    return Some((lane, state.sent[at], state.written[at]));
                }
                Some((_, time)) => state = self.shared.wait(state, self.pace.linger - time),
                None => state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn took(&self, lane: Lane, lines: &[Line], body: &str) {
        let mut state = self.shared.lock();
        if state.left {
            return;
        }
        let at = lane as usize;
        state.sent[at] = lines.last().map_or(state.sent[at], |line| line.end);
        state.lines[at] += lines.len() as u64;
        state.failing = false;
        state.why = None;
        if lane == Lane::Spans {
            state.warnings.extend(partial(body));
        }
        self.shared.changed.notify_all();
    }

    /// Does not send a file any more.
    fn stop(&self, lane: Lane, why: String) {
        let mut state = self.shared.lock();
        state.stopped[lane as usize] = true;
        state.failing = true;
        state.why = Some(why);
        self.shared.changed.notify_all();
    }

    /// Waits before a request is tried again. Whether it is the end: the receiver wants to be left alone, or the request
    /// was the last.
    fn pause(&self, why: String, time: Duration, told: bool, last: bool) -> bool {
        let mut state = self.shared.lock();
        state.failing = true;
        state.why = Some(why);
        self.shared.changed.notify_all();
        let begun = Instant::now();
        loop {
            if last || state.left || (state.closing && told) {
                return true;
            }
            let left = time.saturating_sub(begun.elapsed());
            if state.closing || left.is_zero() {
                return false;
            }
            state = self.shared.wait(state, left);
        }
    }

    fn end(&self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
    }
}

/// What a receiver did not like about spans that it took.
pub(crate) fn partial(body: &str) -> Option<String> {
    let answer: Json = serde_json::from_str(body).ok()?;
    let partial = &answer["partialSuccess"];
    let rejected = &partial["rejectedSpans"];
    let rejected = rejected.as_u64().or_else(|| rejected.as_str()?.parse().ok()).unwrap_or(0);
    let message = partial["errorMessage"].as_str().unwrap_or_default();
    if rejected == 0 && message.is_empty() {
        return None;
    }
    Some(format!("the receiver rejected {rejected} spans: {}", lorakit_tensor::problem::excerpt(message)))
}

/// Waits as long as it takes to try again, unless `stops`; whether it does.
pub(crate) fn sleep(time: Duration, stops: &dyn Fn() -> bool) -> bool {
    const TICK: Duration = Duration::from_millis(50);
    let begun = Instant::now();
    while begun.elapsed() < time && !stops() {
        thread::sleep(TICK.min(time));
    }
    stops()
}

#[cfg(test)]
mod tests;
