//! PEFT.

use super::case::Case;
use super::program::Program;

/// PEFT.
pub(super) const PEFT: Program =
    Program { id: "peft", aliases: &[], title: "PEFT", about: "its own folders", format: "peft", ask };

fn ask(case: &mut Case<'_>) {
    case.needs("peft", "PEFT reads folders of its own format");
}
