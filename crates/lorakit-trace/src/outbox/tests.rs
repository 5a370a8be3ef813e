use std::fs;
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::testing::{FAST, Fake, destination, taken};

const LINE: &str = r#"{"resourceSpans":[{"resource":{},"scopeSpans":[{"scope":{},"spans":[{}]}]}]}"#;

fn outbox(folder: &Path, carrier: &Arc<Fake>, pace: Pace) -> Outbox {
    Outbox::new(folder, "a", &destination(), Some(carrier.clone()), pace)
}

fn again(why: &str) -> Answer {
    Answer::Again { why: why.into(), after: None }
}

#[test]
fn all_is_sent_and_no_file_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let carrier = Fake::new(|_, _| taken());
    let mut outbox = outbox(&folder.path().join("traces"), &carrier, FAST);
    for at in 0..1000 {
        outbox.put(Lane::Spans, LINE);
        if at % 500 == 0 {
            outbox.put(Lane::Scores, r#"{"id":"1"}"#);
        }
    }
    let outcome = outbox.close(false);
    assert_eq!((outcome.spans, outcome.scores, outcome.waiting, outcome.lost), (1000, 2, 0, 0));
    assert_eq!((outcome.why, outcome.files), (None, vec![]));
    assert!(!folder.path().join("traces").exists());
    let posted = carrier.posted();
    let spans: u64 = posted.iter().map(|(_, body)| otlp::count(&serde_json::from_str(body).unwrap())).sum();
    assert_eq!(spans, 1000);
    assert!(posted.len() < 100, "spans are sent in batches: {}", posted.len());
    assert_eq!(posted.iter().filter(|(url, _)| url.ends_with("/scores")).count(), 2);
}

#[test]
fn a_busy_receiver_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let carrier = Fake::new(|at, _| if at < 3 { again("429") } else { taken() });
    let mut outbox = outbox(folder.path(), &carrier, FAST);
    outbox.put(Lane::Spans, LINE);
    carrier.wait_for(4);
    let outcome = outbox.close(false);
    assert_eq!((outcome.spans, outcome.waiting, outcome.why), (1, 0, None));
}

#[test]
fn waits_double_up_to_the_longest_and_obey_the_receiver() {
    let waits: Vec<u64> = (1..8).map(|failures| Pace::USUAL.wait(failures, None).as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(Pace::USUAL.wait(1, Some(Duration::from_secs(90))).as_secs(), 90);
    assert_eq!(Pace::USUAL.wait(40, Some(Duration::ZERO)).as_secs(), 30);
}

#[test]
fn what_nobody_takes_waits_in_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let carrier = Fake::new(|_, _| again("cannot connect"));
    let mut outbox = outbox(folder.path(), &carrier, FAST);
    for _ in 0..3 {
        outbox.put(Lane::Spans, LINE);
    }
    outbox.put(Lane::Scores, r#"{"id":"1"}"#);
    let outcome = outbox.close(false);
    assert_eq!((outcome.spans, outcome.waiting, outcome.files.len()), (0, 4, 2));
    assert_eq!(outcome.why.as_deref(), Some("cannot connect"));
    assert_eq!(fs::read_to_string(&outcome.files[0]).unwrap(), format!("{LINE}\n").repeat(3));
}

/// The request that is under way at the end of a receiver that never answers is not waited for.
#[test]
fn a_receiver_that_never_answers_delays_the_end_by_little() {
    let folder = tempfile::tempdir().unwrap();
    let (release, hold) = channel::<()>();
    let hold: Mutex<Receiver<()>> = Mutex::new(hold);
    let carrier = Fake::new(move |at, _| {
        if at == 1 {
            let _ = hold.lock().map(|hold| hold.recv());
        }
        again("timed out")
    });
    let mut outbox = outbox(folder.path(), &carrier, FAST);
    outbox.put(Lane::Spans, LINE);
    carrier.wait_for(2);
    let outcome = outbox.close(false);
    assert_eq!((outcome.spans, outcome.waiting), (0, 1));
    assert_eq!(outcome.why.as_deref(), Some("timed out"));
    drop(release);
}

#[test]
fn only_the_rest_stays_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let carrier = Fake::new(|at, _| if at == 0 { taken() } else { again("503") });
    let mut outbox = outbox(folder.path(), &carrier, FAST);
    outbox.put(Lane::Spans, LINE);
    carrier.wait_for(1);
    let second = LINE.replace("[{}]", "[{},{}]");
    outbox.put(Lane::Spans, &second);
    let outcome = outbox.close(false);
    assert_eq!((outcome.spans, outcome.waiting), (1, 1));
    assert_eq!(fs::read_to_string(&outcome.files[0]).unwrap(), format!("{second}\n"));
}

#[test]
fn what_is_refused_stops_its_file_and_not_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let carrier = Fake::new(|_, url| match url.ends_with("/scores") {
        true => taken(),
        false => Answer::Bad { why: "400: Bad Request".into() },
    });
    let mut outbox = outbox(folder.path(), &carrier, FAST);
    outbox.put(Lane::Spans, LINE);
    outbox.put(Lane::Scores, r#"{"id":"1"}"#);
    outbox.put(Lane::Scores, r#"{"id":"2"}"#);
    let outcome = outbox.close(false);
    assert_eq!((outcome.spans, outcome.scores, outcome.waiting), (0, 2, 1));
    assert_eq!(carrier.posted().len(), 3, "it is not tried again");
}

#[test]
fn batches_that_are_too_large_are_halved() {
    let folder = tempfile::tempdir().unwrap();
    let carrier = Fake::new(|_, _| taken());
    carrier.limit(3 * LINE.len());
    let mut outbox = outbox(folder.path(), &carrier, FAST);
    for _ in 0..20 {
        outbox.put(Lane::Spans, LINE);
    }
    let outcome = outbox.close(false);
    assert_eq!((outcome.spans, outcome.waiting), (20, 0));
}

#[test]
fn without_a_carrier_all_waits() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::new(folder.path(), "a", &destination(), None, FAST);
    outbox.put(Lane::Spans, LINE);
    let outcome = outbox.close(false);
    assert_eq!((outcome.to, outcome.waiting, outcome.why), (None, 1, None));
}

#[test]
fn what_cannot_be_written_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let mut outbox = Outbox::new(&file, "a", &destination(), None, FAST);
    outbox.put(Lane::Spans, LINE);
    let outcome = outbox.close(false);
    assert_eq!((outcome.lost, outcome.waiting), (1, 0));
    assert!(outcome.why.unwrap().contains("cannot be written"));
}

#[test]
fn a_receiver_may_take_a_part() {
    let body = r#"{"partialSuccess":{"rejectedSpans":"2","errorMessage":"too old"}}"#;
    assert_eq!(partial(body).as_deref(), Some("the receiver rejected 2 spans: too old"));
    for nothing in ["", "{}", r#"{"partialSuccess":{}}"#, r#"{"partialSuccess":{"rejectedSpans":"0"}}"#] {
        assert_eq!(partial(nothing), None);
    }
}
