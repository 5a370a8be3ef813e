//! `--policy` and `--fail-on`: whether what was inspected may be used.

use lorakit::Reader;
use lorakit::ops::audit::{Entry, Policy, Violation, judge};
use lorakit::ops::inspect::Inspection;

use crate::args::{self, Common};
use crate::error::Failure;

/// The policy, read before anything else.
pub(super) fn policy(args: &args::Inspect, common: &Common) -> Result<Option<Policy>, Failure> {
    let reader = Reader::new(common.read_mode());
    Ok(args.policy.as_ref().map(|path| Policy::read(path, &reader)).transpose()?)
}

/// The rules that single reports break.
pub(super) fn violations(
    reports: &[Inspection],
    policy: Option<&Policy>,
    args: &args::Inspect,
) -> Vec<Violation> {
    if policy.is_none() && args.fail_on.is_none() {
        return Vec::new();
    }
    let entries: Vec<Entry> = reports.iter().map(Entry::of).collect();
    judge(&entries, policy, args.fail_on)
}

/// Fails if any rule is broken, with a line for each.
pub(super) fn verdict(violations: &[Violation], refused: usize, of: usize) -> Result<(), Failure> {
    if violations.is_empty() {
        return Ok(());
    }
    let reasons = violations.iter().map(|one| format!("{}: {one}", one.place().display())).collect();
    Err(Failure::Gate { refused, of, reasons })
}
