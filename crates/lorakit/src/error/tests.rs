//! Every error that a room can make, to be read as a whole: would it help you?

use std::fmt::Write as _;

use super::{Error, Problem};
use crate::ops;

/// Kind, message and hint of everything that `room` refuses.
fn list<P: Problem>(room: &str, problems: Vec<P>) -> String {
    let mut text = format!("# {room}\n");
    for problem in problems {
        let message = problem.to_string();
        for unwanted in ["--", "lorakit ", "needed is", "needed are"] {
            assert!(!message.contains(unwanted), "{message}");
        }
        assert!(
            !message.is_empty() && !message.starts_with("is no ") && !message.ends_with('.'),
            "{message}"
        );
        let error = Error::from(problem);
        let _ = writeln!(text, "{}: {message}", error.kind().name());
        if let Some(hint) = error.hint() {
            let _ = writeln!(text, "    {hint}");
        }
    }
    text
}

#[test]
fn every_problem() {
    let rooms = [
        list("ops", ops::problem::Problem::samples()),
        list("ops/combine", ops::combine::Problem::samples()),
        list("ops/extract", ops::extract::Problem::samples()),
        list("ops/merge", ops::merge::Problem::samples()),
        list("ops/quantize", ops::quantize::Problem::samples()),
        list("ops/reduce", ops::reduce::Problem::samples()),
    ];
    insta::assert_snapshot!(rooms.join("\n"));
}
