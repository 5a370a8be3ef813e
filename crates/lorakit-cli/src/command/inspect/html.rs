//! `--html`: reports, or a listing, as a page.

use std::path::Path;

use serde_json::Value;

use crate::args;
use crate::command::page::{self, Kind};
use crate::error::Failure;

/// Whole reports, with figures.
pub(in crate::command) const REPORTS: Kind = Kind { script: include_str!("reports.js"), title };
/// The table of everything under a folder.
pub(in crate::command) const LISTING: Kind = Kind { script: include_str!("listing.js"), title };

/// Refuses a page that exists, or that is an input, before anything is computed.
pub(super) fn check(page: &Path, args: &args::Inspect) -> Result<(), Failure> {
    page::check(page, args.force, args.paths.iter().chain(&args.base).chain(&args.policy))
}

/// The reports of a page, or the folders of a listing.
fn title(object: &Value) -> String {
    let texts = |list: &str, field: &str| -> Vec<String> {
        let items = object[list].as_array().into_iter().flatten();
        items.filter_map(|item| item[field].as_str()).map(str::to_string).collect()
    };
    let mut names = texts("reports", "path");
    names.extend(texts("entries", "root"));
    names.dedup();
    names.push("lorakit inspect".into());
    names.join(" - ")
}
