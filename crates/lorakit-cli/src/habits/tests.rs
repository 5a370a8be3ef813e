//! The table of other programs' options: every row answers.

use std::ffi::OsString;

use clap::{Arg, Command};

use super::explain;
use super::peers::{HABITS, Values};
use crate::args;

/// Verbs that are tried for rows of any verb.
const ANY: &[&str] = &["merge", "quantize", "inspect"];

fn answer(words: &[&str]) -> String {
    let args: Vec<OsString> = words.iter().map(OsString::from).collect();
    let error = args::parse(&args).expect_err(&words.join(" "));
    explain(error, &args).to_string()
}

#[test]
fn every_row_answers() {
    for habit in HABITS {
        let verbs = if habit.verbs.is_empty() { ANY } else { habit.verbs };
        for (verb, name) in verbs.iter().flat_map(|verb| habit.names.iter().map(move |name| (verb, name))) {
            let mut words = vec!["lorakit", verb, "some", name];
            words.extend(match habit.values {
                Values::None => &[][..],
                Values::One => &["1"],
                Values::Two => &["a", "1"],
                Values::Many => &["a", "b"],
            });
            let answer = answer(&words);
            assert!(answer.contains(&format!("tip: `{name}`: {}", habit.tip)), "{words:?}\n{answer}");
        }
    }
}

/// An option that lorakit has needs no answer, and two rows for the same would hide one of them.
#[test]
fn rows_are_of_other_programs() {
    let command = args::command();
    let verbs: Vec<&Command> = command.get_subcommands().collect();
    let mut seen = Vec::new();
    for habit in HABITS {
        let of_row = |verb: &&&Command| habit.verbs.is_empty() || habit.verbs.contains(&verb.get_name());
        for verb in verbs.iter().filter(of_row) {
            for name in habit.names {
                let is_own = |arg: &Arg| {
                    let long = arg.get_long().map(|long| format!("--{long}"));
                    long.as_deref() == Some(*name)
                        || arg.get_short().is_some_and(|short| *name == format!("-{short}"))
                };
                let own = command.get_arguments().chain(verb.get_arguments()).any(is_own);
                assert!(!own, "{} has {name}", verb.get_name());
                assert!(!seen.contains(&(verb.get_name(), *name)), "{} {name} twice", verb.get_name());
                seen.push((verb.get_name(), *name));
            }
        }
        let unknown = habit.verbs.iter().find(|name| verbs.iter().all(|verb| verb.get_name() != **name));
        assert_eq!(unknown, None);
    }
}

#[test]
fn verbs_of_other_programs() {
    for (names, told) in super::VERBS {
        for name in *names {
            assert!(answer(&["lorakit", name, "x"]).contains(told), "{name}");
        }
    }
}

/// Whatever the option then says of such a value.
#[test]
fn a_value_with_a_sign() {
    for (line, told) in [
        ("reduce a -o b --target-size -1kB", "`--target-size=-1kB` gives the option that value"),
        ("reduce a -o b --energy -0.5", "`--energy=-0.5` gives the option that value"),
        (
            "merge b a -o c --max-shard-size -5GB --force",
            "`--max-shard-size=-5GB` gives the option that value",
        ),
    ] {
        let words: Vec<&str> = ["lorakit"].into_iter().chain(line.split(' ')).collect();
        let answer = answer(&words);
        assert!(answer.contains(told) && !answer.contains("use '--"), "{answer}");
    }
    let answer = answer(&["lorakit", "reduce", "a", "-o", "b", "--target-size=-1kB"]);
    assert!(answer.contains("a size must be at least one byte"), "{answer}");
}
