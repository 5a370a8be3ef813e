//! PEFT.

use super::case::Case;
use super::program::Program;

/// PEFT.
pub(super) const PEFT: Program =
    Program { id: "peft", aliases: &[], title: "PEFT", about: "its own folders", format: "peft", ask };

fn ask(case: &mut Case<'_>) {
    case.needs("peft", "PEFT reads folders of its own format");
    let adapter = case.adapter;
    if adapter.format != "peft" {
        return;
    }
    let lost = adapter.unnamed().len();
    if lost > 0 {
        let reason = format!(
            "the configuration does not name {lost} of its {} modules, and PEFT loads only what `target_modules` and \
             `target_parameters` name",
            adapter.modules.len()
        );
        let fix = case.convert("peft");
        case.refuse("unnamed-modules", reason, Some(fix));
    }
}
