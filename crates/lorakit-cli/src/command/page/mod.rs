//! Reports as one page for a browser: data, style and script in a single file that loads nothing.
//!
//! The page holds the JSON of the report, and its script draws the figures. Names come from files of strangers:
//! they enter the page as JSON in which no tag can begin, and the script enters them as text only.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use lorakit_tensor::publish::{Existing, Staged, check_file};
use lorakit_tensor::{Error, Reader};
use serde::Serialize;
use serde_json::Value;

use crate::error::Failure;
use crate::{hub, names};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
/// What pages draw with.
const COMMON: &str = include_str!("common.js");

/// A kind of page.
pub(crate) struct Kind {
    /// What draws it, after [`COMMON`].
    pub(crate) script: &'static str,
    /// What it is called, given its data.
    pub(crate) title: fn(&Value) -> String,
}

/// Refuses a page that exists, or that is an input, before anything is computed. The required ending keeps `--force`
/// from replacing the weights in an inspected folder.
pub(crate) fn check<'p>(
    page: &Path,
    replace: bool,
    inputs: impl IntoIterator<Item = &'p PathBuf>,
) -> Result<(), Failure> {
    if !page.extension().is_some_and(|ending| ending == "html" || ending == "htm") {
        let page = names::path(page);
        return Err(Failure::usage(
            &format!("`--html` needs a file name ending in `.html`, not `{page}`"),
            "name one: `--html report.html`",
        ));
    }
    check_file(page, replace).map_err(lorakit::Error::from)?;
    let reader = Reader::default();
    inputs.into_iter().for_each(|path| reader.name(path));
    Ok(reader.check_output(page).map_err(lorakit::Error::from)?)
}

/// Writes the page of `object`, and returns its size in bytes.
pub(crate) fn write(
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
    let title = (kind.title)(&object);
    // Within JSON, `<` occurs only in strings, where the escape means the same.
    let data = object.to_string().replace('<', "\\u003c");
    let script = format!("\"use strict\";\n(() => {{\n{COMMON}{}}})();\n", kind.script);
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
    use crate::command::{eval::page as eval, inspect::html as inspect, train::page as train};

    #[test]
    fn values_are_not_searched_for_places() {
        assert_eq!(fill("<A>x<B>", &[("<A>", "<B>"), ("<B>", "b")]), "<B>xb");
    }

    #[test]
    fn every_place_is_filled_once() {
        let title = |object: &Value| object["name"].as_str().unwrap_or_default().to_string();
        let kind = Kind { script: "draw();", title };
        let page = render(json!({ "name": "a<b>&{{SCRIPT}}" }), &kind);
        assert!(page.contains("<title>a&lt;b&gt;&amp;{{SCRIPT}}</title>"), "{page}");
        assert!(page.contains(r#"{"name":"a\u003cb>&{{SCRIPT}}"}"#));
        assert!(page.contains(STYLE) && page.contains(COMMON) && page.contains("draw();"));
    }

    #[test]
    fn no_script_ends_its_element() {
        let kinds =
            [inspect::REPORTS.script, inspect::LISTING.script, eval::EVALUATION.script, train::RUN.script];
        for text in [STYLE, COMMON].into_iter().chain(kinds) {
            assert!(!text.contains("</"));
        }
    }
}
