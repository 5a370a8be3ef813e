//! A runtime that is in the table only in tests: what adding one takes, in one file.

use super::case::Case;
use super::program::Program;

/// Dummy.
pub(super) const DUMMY: Program = Program {
    id: "dummy",
    aliases: &["dumb"],
    title: "Dummy",
    about: "what tests make",
    format: "dummy",
    ask,
};

fn ask(case: &mut Case<'_>) {
    case.needs("dummy", "Dummy reads folders of its own format");
}
