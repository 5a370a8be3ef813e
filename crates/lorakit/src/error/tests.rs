//! Every error that a room can produce, to be read as a whole: would it help you?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::Path;

use super::{Error, Problem};
use crate::{adapter, ops};

/// Kind, message and hint of everything that `room` refuses.
fn list<P: Problem>(room: &str, problems: Vec<P>) -> String {
    listed(room, problems.into_iter().map(Error::from).collect())
}

fn listed(room: &str, errors: Vec<Error>) -> String {
    let mut text = format!("# {room}\n");
    for error in errors {
        let message = error.to_string();
        for unwanted in ["--", "lorakit ", "needed is", "needed are"] {
            assert!(!message.contains(unwanted), "{message}");
        }
        assert!(
            !message.is_empty() && !message.starts_with("is no ") && !message.ends_with('.'),
            "{message}"
        );
        let _ = writeln!(text, "{}: {message}", error.kind().name());
        if let Some(hint) = error.hint() {
            let _ = writeln!(text, "    {hint}");
        }
    }
    text
}

#[test]
fn every_problem() {
    let formats = adapter::format::FORMATS.iter().map(|format| (format.name(), format.problems()));
    let mut formats: Vec<_> = formats.filter(|(_, problems)| !problems.is_empty()).collect();
    formats.sort_by_key(|(name, _)| *name);
    let of_format = |(name, problems)| listed(&format!("adapter/format/{name}"), problems);
    let mut rooms = vec![
        list("tensor", crate::tensor::Problem::samples()),
        list("arch", crate::arch::problem::Problem::samples()),
        list("card", crate::card::Problem::samples()),
        list("plan", crate::plan::Problem::samples()),
        list("model", crate::model::Problem::samples()),
        list("model/gguf", crate::model::gguf::Problem::samples()),
        list("model/packed", crate::model::packed::Problem::samples()),
        list("model/tokenizer", crate::model::tokenizer::Problem::samples()),
        list("hub", crate::hub::Problem::samples()),
        list("adapter", adapter::Problem::samples()),
        list("adapter/format", adapter::format::Problem::samples()),
    ];
    rooms.extend(formats.into_iter().map(of_format));
    rooms.extend([
        list("fit", crate::fit::Problem::samples()),
        list("fit, of a part", crate::fit::Reason::samples()),
        list("output", crate::output::Problem::samples()),
        list("ops", ops::problem::Problem::samples()),
        list("ops, of a part", ops::problem::Foreign::samples()),
        list("ops/audit", ops::audit::Problem::samples()),
        list("ops/combine", ops::combine::Problem::samples()),
        list("ops/edit", ops::edit::Problem::samples()),
        list("ops/extract", ops::extract::Problem::samples()),
        list("ops/merge", ops::merge::Problem::samples()),
        list("ops/quantize", ops::quantize::Problem::samples()),
        list("ops/reduce", ops::reduce::Problem::samples()),
    ]);
    insta::assert_snapshot!(rooms.join("\n"));
}

#[test]
fn an_error_serialises() {
    let error = Error::from(crate::output::Problem::Lost).tensor("q_proj").at(Path::new("out"));
    let object = serde_json::to_value(error).unwrap();
    assert_eq!(
        (&object["kind"], &object["message"]),
        (&"Verification".into(), &"`out`: `q_proj`: is not in the output".into())
    );
    assert_eq!((&object["path"], &object["tensor"]), (&"out".into(), &"q_proj".into()));
}
