//! Reports as one page for a browser: data, style and script in a single file that loads nothing.
//!
//! The page holds the JSON of the report, and its script draws the figures. Names come from files of strangers:
//! they enter the page as JSON in which no tag can begin, and the script enters them as text only.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use lorakit_tensor::publish::{Existing, Staged, check_file};
use lorakit_tensor::{Error, Reader};
use serde::Serialize;
use serde_json::Value;

use crate::args;
use crate::error::Failure;
use crate::{hub, names};

const PAGE: &str = include_str!("html/page.html");
const STYLE: &str = include_str!("html/style.css");
/// What pages draw with.
const COMMON: &str = include_str!("html/common.js");

/// A kind of page: the script that draws it.
pub(super) struct Kind(&'static str);

/// Whole reports, with figures.
pub(super) const REPORTS: Kind = Kind(include_str!("html/script.js"));
/// The table of everything under a folder.
pub(super) const LISTING: Kind = Kind(include_str!("html/listing.js"));

/// Refuses a page that exists, or that is an input, before anything is computed. The required ending keeps `--force`
/// from replacing the weights in an inspected folder.
pub(super) fn check(page: &Path, args: &args::Inspect) -> Result<(), Failure> {
    if !page.extension().is_some_and(|ending| ending == "html" || ending == "htm") {
        let page = names::path(page);
        return Err(Failure::usage(
            &format!("`--html` needs a file name ending in `.html`, not `{page}`"),
            "name one: `--html report.html`",
        ));
    }
    check_file(page, args.force).map_err(lorakit::Error::from)?;
    let reader = Reader::default();
    args.paths.iter().chain(&args.base).chain(&args.policy).for_each(|path| reader.name(path));
    Ok(reader.check_output(page).map_err(lorakit::Error::from)?)
}

/// Writes the page of `object`, and returns its size in bytes.
pub(super) fn write(
    page: &Path,
    replace: bool,
    kind: &Kind,
    object: &impl Serialize,
) -> Result<u64, Failure> {
    let object = serde_json::to_value(object).map_err(|error| Failure::Output(error.into()))?;
    let text = hub::as_typed(&render(object, kind)).into_owned();
    let existing = if replace { Existing::Replaced(BTreeSet::new()) } else { Existing::Kept };
    let publish = || {
        let staged = Staged::file(page, existing)?;
        fs::write(staged.path(), &text).map_err(|e| Error::io("write", page, e))?;
        staged.publish().map(drop)
    };
    publish().map_err(lorakit::Error::from)?;
    Ok(text.len() as u64)
}

fn render(object: Value, kind: &Kind) -> String {
    let texts = |list: &str, field: &str| -> Vec<String> {
        let items = object[list].as_array().into_iter().flatten();
        items.filter_map(|item| item[field].as_str()).map(str::to_string).collect()
    };
    // The reports of a page, or the folders of a listing.
    let mut names = texts("reports", "path");
    names.extend(texts("entries", "root"));
    names.dedup();
    names.push("lorakit inspect".into());
    let title = names.join(" - ");
    // Within JSON, `<` occurs only in strings, where the escape means the same.
    let data = object.to_string().replace('<', "\\u003c");
    let script = format!("\"use strict\";\n(() => {{\n{COMMON}{}}})();\n", kind.0);
    fill(
        PAGE,
        &[
            ("{{TITLE}}", &escaped(&title)),
            ("{{STYLE}}", STYLE),
            ("{{DATA}}", &data),
            ("{{SCRIPT}}", &script),
        ],
    )
}

/// Fills placeholders in the order of the template, so that a value may hold the name of a placeholder.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let (mut page, mut rest) = (String::new(), template);
    for (place, value) in values {
        if let Some((before, after)) = rest.split_once(place) {
            page.push_str(before);
            page.push_str(value);
            rest = after;
        }
    }
    page + rest
}

/// Text as HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_not_searched_for_places() {
        assert_eq!(fill("<A>x<B>", &[("<A>", "<B>"), ("<B>", "b")]), "<B>xb");
    }

    #[test]
    fn every_place_is_filled_once() {
        let page = render(json!({ "reports": [{ "path": "a<b>&{{SCRIPT}}" }] }), &REPORTS);
        assert!(page.contains("<title>a&lt;b&gt;&amp;{{SCRIPT}} - lorakit inspect</title>"), "{page}");
        assert!(page.contains(r#"{"reports":[{"path":"a\u003cb>&{{SCRIPT}}"}]}"#));
        assert!(page.contains(STYLE) && page.contains(COMMON) && page.contains(REPORTS.0));
    }

    #[test]
    fn no_script_ends_its_element() {
        for text in [STYLE, COMMON, REPORTS.0, LISTING.0] {
            assert!(!text.contains("</"));
        }
    }
}
