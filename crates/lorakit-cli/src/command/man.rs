//! `lorakit man`: one page for the command, and one for each of its commands.

use std::fs;
use std::path::Path;

use clap::Command;
use clap_mangen::Man;
use lorakit_tensor::Error;
use serde::Serialize;

use crate::args;
use crate::error::Failure;
use crate::ui::Ui;

const SCHEMA: &str = "lorakit.man/1";

/// A page: its file name, and its text in the language of `man`.
#[derive(Serialize)]
struct Page {
    name: String,
    text: String,
}

#[derive(Serialize)]
struct Pages {
    pages: Vec<Page>,
    /// Where they were written to.
    output: Option<String>,
}

pub(crate) fn run(verb: Option<&str>, dir: Option<&Path>, ui: &Ui) -> Result<(), Failure> {
    let mut command = args::command();
    command.build();
    if let Some(dir) = dir {
        return write(dir, pages(&command)?, ui);
    }
    let lower = verb.map(str::to_lowercase);
    let found = lower.as_deref().and_then(|verb| command.find_subcommand(verb));
    let page = page(found.unwrap_or(&command), &command)?;
    if ui.json {
        return ui.json(SCHEMA, Pages { pages: vec![page], output: None });
    }
    ui.raw(page.text.as_bytes())
}

/// Writes pages to a folder, in place of older ones.
fn write(dir: &Path, pages: Vec<Page>, ui: &Ui) -> Result<(), Failure> {
    let failed = |path: &Path, error| lorakit::Error::from(Error::io("write", path, error));
    fs::create_dir_all(dir).map_err(|error| failed(dir, error))?;
    for page in &pages {
        let path = dir.join(&page.name);
        fs::write(&path, &page.text).map_err(|error| failed(&path, error))?;
    }
    if ui.json {
        return ui.json(SCHEMA, Pages { pages, output: Some(dir.display().to_string()) });
    }
    ui.result(&format!("wrote {} pages to `{}`\n", pages.len(), dir.display()))
}

fn pages(command: &Command) -> Result<Vec<Page>, Failure> {
    let inner = verbs(command).flat_map(verbs);
    [command].into_iter().chain(verbs(command)).chain(inner).map(|about| page(about, command)).collect()
}

/// The commands that have a page.
fn verbs(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|verb| verb.get_name() != "help" && !verb.is_hide_set())
}

fn page(about: &Command, command: &Command) -> Result<Page, Failure> {
    let is_verb = about.get_name() != command.get_name();
    // `lorakit-merge` is the title of the page, and `lorakit merge` is what is typed.
    let source = format!("lorakit {}", super::about::VERSION);
    let man = Man::new(about.clone().version(super::about::VERSION)).source(source).manual("lorakit");
    let mut text = Vec::new();
    man.render(&mut text).map_err(Failure::Output)?;
    let mut text = String::from_utf8_lossy(&text).into_owned();
    let mut others: Vec<String> = verbs(command)
        .filter(|verb| verb.get_name() != about.get_name())
        .map(|verb| format!("lorakit-{}", verb.get_name()))
        .collect();
    if is_verb {
        others.insert(0, "lorakit".into());
    }
    let others = others.iter().map(|name| format!("\\fB{}\\fR(1)", name.replace('-', "\\-")));
    text += &format!(".SH \"SEE ALSO\"\n{}\n", others.collect::<Vec<_>>().join(",\n"));
    Ok(Page { name: man.get_filename(), text })
}
