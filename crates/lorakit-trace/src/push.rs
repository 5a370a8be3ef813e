//! Files of traces, sent later.
//!
//! What was taken is removed from its file, and a file without anything left is removed. Ids are those of the first
//! attempt, so that what arrives twice is one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value as Json;

use crate::carrier::{Answer, Carrier, Request};
use crate::destination::{Destination, Target};
use crate::error::{Error, Result};
use crate::outbox::{Lane, MOST_BYTES, Pace, partial, sleep};
use crate::problem::Problem;
use crate::spool::{self, Line, SCORES, SPANS};
use crate::{otlp, score};

/// How often a request is tried.
const TRIES: u32 = 6;
/// The longest that a receiver may want to be left alone.
const LONGEST: Duration = Duration::from_secs(60);

/// What became of files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pushed {
    /// Each file.
    pub files: Vec<FileReport>,
    /// Why it ended before all was tried: the receiver cannot be reached, or takes nothing.
    pub stopped: Option<String>,
    /// What the receivers did not like about what they took.
    pub warnings: Vec<String>,
}

/// What became of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// The file.
    pub path: PathBuf,
    /// Spans in it.
    pub spans: u64,
    /// Scores in it.
    pub scores: u64,
    /// Lines that were sent.
    pub sent: u64,
    /// Lines that are still in it.
    pub left: u64,
    /// Whether its end was cut off, as by a kill.
    pub cut: bool,
    /// Whether a run is still writing to it, so that it was left alone.
    pub busy: bool,
    /// Lines that are none of a trace, or that the receiver did not take.
    pub bad: Vec<BadLine>,
}

/// A line that is not sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadLine {
    /// Which, from 1.
    pub line: u64,
    /// Why.
    pub why: String,
}

/// The files of traces at `path`: itself, or those in a folder, or in the folder `traces` in it.
///
/// # Errors
/// If there is nothing, and [`Usage`](crate::ErrorKind::Usage) for a folder without traces.
pub fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let read = |error| lorakit_tensor::Error::io("read", path, error);
    if !fs::metadata(path).map_err(read)?.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut found = Vec::new();
    for folder in [path.to_path_buf(), path.join("traces")] {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let names = names.filter(|name| name.ends_with(SPANS) || name.ends_with(SCORES));
        found.extend(names.map(|name| folder.join(name)));
    }
    found.sort();
    if found.is_empty() { Err(Error::from(Problem::NoTraces).at(path)) } else { Ok(found) }
}

/// What the files hold. Nothing is sent.
///
/// # Errors
/// If a file cannot be read.
pub fn look(files: &[PathBuf]) -> Result<Pushed> {
    let mut pushed = Pushed::default();
    for path in files {
        let mut work = Work::open(path)?;
        work.read()?;
        work.report.left = work.good();
        pushed.files.push(work.report);
    }
    Ok(pushed)
}

/// Sends the files, spans before scores. A receiver that is busy is tried again, and one that does not take a batch is sent
/// its halves, so that the line which it does not take is known. `stops` ends it early.
///
/// # Errors
/// If a file cannot be read, or what is left of it cannot be written.
pub fn push(
    files: &[PathBuf],
    destination: &Destination,
    carrier: &dyn Carrier,
    stops: &dyn Fn() -> bool,
) -> Result<Pushed> {
    Pusher { destination, carrier, stops, pace: Pace::USUAL, pushed: Pushed::default() }.run(files)
}

struct Pusher<'p> {
    destination: &'p Destination,
    carrier: &'p dyn Carrier,
    stops: &'p dyn Fn() -> bool,
    pace: Pace,
    pushed: Pushed,
}

impl Pusher<'_> {
    fn run(mut self, files: &[PathBuf]) -> Result<Pushed> {
        for path in files {
            let mut work = Work::open(path)?;
            if !work.report.busy {
                work.read()?;
                if self.pushed.stopped.is_none() {
                    self.send(&mut work, Lane::Spans);
                    self.send(&mut work, Lane::Scores);
                }
                work.finish()?;
            }
            self.pushed.files.push(work.report);
        }
        Ok(self.pushed)
    }

    fn send(&mut self, work: &mut Work, lane: Lane) {
        let lines: Vec<usize> = (0..work.lines.len()).filter(|at| work.lanes[*at] == Some(lane)).collect();
        if lines.is_empty() {
            return;
        }
        let (target, nowhere) = match lane {
            Lane::Spans => (&self.destination.traces, "no variable says where spans go"),
            Lane::Scores => (&self.destination.scores, "no variable says where scores go"),
        };
        let Some(target) = target.clone() else {
            if lane == Lane::Spans {
                self.pushed.stopped.get_or_insert_with(|| nowhere.into());
            } else {
                self.pushed.warnings.push(format!("`{}`: {nowhere}", work.report.path.display()));
            }
            return;
        };
        let size = |at: usize| work.lines[at].end - work.lines[at].begin;
        let mut batches: Vec<Vec<usize>> = Vec::new();
        let mut bytes = 0;
        for at in lines {
            match batches.last_mut() {
                Some(batch) if batch.len() < lane.most() && bytes + size(at) <= MOST_BYTES => {
                    bytes += size(at);
                    batch.push(at);
                }
                _ => {
                    bytes = size(at);
                    batches.push(vec![at]);
                }
            }
        }
        for batch in batches {
            self.batch(work, lane, &target, &batch);
        }
    }

    /// Sends lines, or their halves.
    fn batch(&mut self, work: &mut Work, lane: Lane, target: &Target, batch: &[usize]) {
        if self.pushed.stopped.is_some() {
            return;
        }
        let texts: Vec<&str> = batch.iter().map(|at| work.lines[*at].text.as_str()).collect();
        let body = lane.body(&texts);
        let request = Request { target, body: &body, timeout: self.destination.timeout };
        match self.patiently(&request) {
            Answer::Taken { body } => {
                self.pushed.warnings.extend(partial(&body).filter(|_| lane == Lane::Spans));
                batch.iter().for_each(|at| work.sent[*at] = true);
            }
            Answer::Bad { .. } | Answer::TooLarge { .. } if batch.len() > 1 => {
                let (one, two) = batch.split_at(batch.len() / 2);
                self.batch(work, lane, target, one);
                self.batch(work, lane, target, two);
            }
            Answer::Bad { why } | Answer::TooLarge { why } => {
                work.report
                    .bad
                    .extend(batch.iter().map(|at| BadLine { line: *at as u64 + 1, why: why.clone() }));
            }
            Answer::Again { why, .. } | Answer::Refused { why } => self.pushed.stopped = Some(why),
        }
    }

    /// Sends a request, and tries it again while that may help.
    fn patiently(&self, request: &Request<'_>) -> Answer {
        let mut tries = 0;
        loop {
            if (self.stops)() {
                return Answer::Refused { why: "interrupted".into() };
            }
            tries += 1;
            let answer = self.carrier.post(request);
            let Answer::Again { after, .. } = &answer else { return answer };
            let wait = self.pace.wait(tries, *after);
            if tries == TRIES || wait > LONGEST || sleep(wait, self.stops) {
                return answer;
            }
        }
    }
}

/// A file that is sent.
struct Work {
    /// Locked.
    file: File,
    lines: Vec<Line>,
    lanes: Vec<Option<Lane>>,
    sent: Vec<bool>,
    report: FileReport,
}

impl Work {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| lorakit_tensor::Error::io("open", path, error))?;
        let busy = spool::lock(&file).is_err();
        let report = FileReport { path: path.to_path_buf(), busy, ..FileReport::default() };
        Ok(Work { file, lines: Vec::new(), lanes: Vec::new(), sent: Vec::new(), report })
    }

    fn read(&mut self) -> Result<()> {
        let read = |error| Error::from(lorakit_tensor::Error::io("read", &self.report.path, error));
        let length = self.file.metadata().map_err(read)?.len();
        self.lines = spool::lines(&mut self.file, 0, length, length, usize::MAX).map_err(read)?;
        self.report.cut = self.lines.last().map_or(0, |line| line.end) < length;
        self.sent = vec![false; self.lines.len()];
        for (at, line) in self.lines.iter().enumerate() {
            let parsed: Json = serde_json::from_str(&line.text).unwrap_or_default();
            let lane = if otlp::is_line(&parsed) {
                self.report.spans += otlp::count(&parsed);
                Some(Lane::Spans)
            } else if score::is_line(&parsed) {
                self.report.scores += 1;
                Some(Lane::Scores)
            } else {
                let why = "is neither of spans nor a score".to_string();
                self.report.bad.push(BadLine { line: at as u64 + 1, why });
                None
            };
            self.lanes.push(lane);
        }
        Ok(())
    }

    /// Lines that could be sent.
    fn good(&self) -> u64 {
        self.lanes.iter().flatten().count() as u64
    }

    /// Takes what was sent out of the file. A line that was cut off goes with the last that was sent.
    fn finish(&mut self) -> Result<()> {
        let unsent = self.lines.iter().zip(&self.sent).filter(|(_, sent)| !**sent);
        let unsent: Vec<(u64, u64)> = unsent.map(|(line, _)| (line.begin, line.end)).collect();
        self.report.left = unsent.len() as u64;
        self.report.sent = self.lines.len() as u64 - self.report.left;
        self.report.bad.sort_by_key(|bad| bad.line);
        if self.report.sent > 0 {
            spool::keep(&self.report.path, &unsent)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FAST, Fake, destination, taken};

    const SPAN: &str =
        r#"{"resourceSpans":[{"resource":{},"scopeSpans":[{"scope":{},"spans":[{"name":"N"}]}]}]}"#;
    const SCORE: &str = r#"{"id":"1","traceId":"2","name":"eval_loss","value":1.5}"#;

    fn pushed(path: &Path, carrier: &Fake) -> Pushed {
        let pusher = Pusher {
            destination: &destination(),
            carrier,
            stops: &|| false,
            pace: FAST,
            pushed: Pushed::default(),
        };
        pusher.run(&files(path).unwrap()).unwrap()
    }

    /// A folder of a run with `lines` of spans, and two scores.
    fn folder(lines: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("traces")).unwrap();
        fs::write(folder.path().join("traces/a.otlp.jsonl"), lines.join("\n") + "\n").unwrap();
        fs::write(folder.path().join("traces/a.scores.jsonl"), format!("{SCORE}\n{SCORE}\n")).unwrap();
        fs::write(folder.path().join("metrics.jsonl"), "{}\n").unwrap();
        folder
    }

    #[test]
    fn all_is_sent_spans_first() {
        let folder = folder(&[SPAN; 3]);
        let looked = look(&files(folder.path()).unwrap()).unwrap();
        assert_eq!((looked.files[0].spans, looked.files[1].scores), (3, 2));
        let carrier = Fake::new(|at, _| match at {
            0 => Answer::Again { why: "503".into(), after: Some(Duration::ZERO) },
            _ => taken(),
        });
        let pushed = pushed(folder.path(), &carrier);
        assert_eq!(
            pushed.files.iter().map(|file| (file.sent, file.left)).collect::<Vec<_>>(),
            [(3, 0), (2, 0)]
        );
        assert_eq!((pushed.stopped, pushed.warnings), (None, vec![]));
        let urls: Vec<String> = carrier.posted().into_iter().map(|(url, _)| url).collect();
        let ends: Vec<&str> = urls.iter().filter_map(|url| url.rsplit('/').next()).collect();
        assert_eq!(ends, ["traces", "traces", "scores", "scores"]);
        assert!(!folder.path().join("traces").exists());
        assert!(folder.path().join("metrics.jsonl").exists());
    }

    /// The line that the receiver does not take is found, and it alone stays.
    #[test]
    fn a_line_that_is_not_taken_is_named() {
        let poison = SPAN.replace('N', "poison");
        let lines: Vec<&str> = (0..9).map(|at| if at == 6 { poison.as_str() } else { SPAN }).collect();
        let folder = folder(&lines);
        struct Picky;
        impl Carrier for Picky {
            fn post(&self, request: &Request<'_>) -> Answer {
                match request.body.contains("poison") {
                    true => Answer::Bad { why: "400: poison".into() },
                    false => taken(),
                }
            }
        }
        let all = files(folder.path()).unwrap();
        let pushed = push(&all, &destination(), &Picky, &|| false).unwrap();
        assert_eq!(pushed.files[0].bad, [BadLine { line: 7, why: "400: poison".into() }]);
        assert_eq!((pushed.files[0].sent, pushed.files[0].left), (8, 1));
        assert_eq!(fs::read_to_string(&all[0]).unwrap(), poison + "\n");
    }

    #[test]
    fn nothing_is_lost_if_the_receiver_goes() {
        let folder = folder(&[SPAN; 2]);
        let before = fs::read(folder.path().join("traces/a.otlp.jsonl")).unwrap();
        let carrier = Fake::new(|_, _| Answer::Again { why: "cannot connect".into(), after: None });
        let pushed = pushed(folder.path(), &carrier);
        assert_eq!(pushed.stopped.as_deref(), Some("cannot connect"));
        assert_eq!(carrier.posted().len(), TRIES as usize);
        assert_eq!(pushed.files.iter().map(|file| file.left).sum::<u64>(), 4);
        assert_eq!(fs::read(folder.path().join("traces/a.otlp.jsonl")).unwrap(), before);
    }

    #[test]
    fn what_is_no_trace_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        fs::write(&path, format!("{{\"prompt\": \"a\"}}\n{SPAN}\nnot JSON\n{{\"resourceSp")).unwrap();
        let pushed = pushed(&path, &Fake::new(|_, _| taken()));
        let report = &pushed.files[0];
        assert_eq!((report.sent, report.left, report.cut), (1, 2, true));
        assert_eq!(report.bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"prompt\": \"a\"}\nnot JSON\n");
    }

    #[test]
    fn a_file_that_is_being_written_is_left_alone() {
        let folder = folder(&[SPAN]);
        let held = File::open(folder.path().join("traces/a.otlp.jsonl")).unwrap();
        spool::lock(&held).unwrap();
        let pushed = pushed(folder.path(), &Fake::new(|_, _| taken()));
        assert_eq!((pushed.files[0].busy, pushed.files[0].sent, pushed.files[1].sent), (true, 0, 2));
        assert!(folder.path().join("traces/a.otlp.jsonl").exists());
    }

    #[test]
    fn folders_without_traces_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let said = files(folder.path()).unwrap_err();
        assert_eq!(said.kind(), crate::ErrorKind::Usage);
        assert!(files(&folder.path().join("absent")).is_err());
    }
}
