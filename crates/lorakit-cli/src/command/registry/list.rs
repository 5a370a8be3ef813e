//! `lorakit registry list`, `log` and `dup`.

use std::cmp::Ordering;
use std::fmt::Write as _;

use lorakit_registry::{Catalog, Entry, Move, Store, Tag, compare};
use serde_json::json;

use crate::args;
use crate::error::Failure;
use crate::names::shown;
use crate::table::{print_table, table};
use crate::ui::Ui;
use crate::units;

pub(super) fn run(store: &Store, args: &args::List, ui: &Ui) -> Result<(), Failure> {
    let Catalog { entries, damaged, others, .. } = store.catalog()?;
    let all = entries.len();
    let mut entries: Vec<Entry> = entries.into_iter().filter(|entry| fits(entry, args)).collect();
    sort(&mut entries, &args.sort)?;
    if ui.json {
        let damaged: Vec<_> =
            damaged.iter().map(|(tag, error)| json!({ "tag": tag, "error": error.to_string() })).collect();
        let others: Vec<_> =
            others.iter().map(|(tag, digest)| json!({ "tag": tag, "digest": digest })).collect();
        return ui.json(
            "lorakit.registry.list/1",
            json!({ "entries": entries, "damaged": damaged, "others": others }),
        );
    }
    let mut text = String::new();
    if entries.is_empty() {
        text = match all {
            0 => "the registry is empty\n".into(),
            all => format!("none of {} fits\n", units::plural(all, "tag")),
        };
    } else {
        let figures: Vec<&String> = args.metric.iter().map(|(name, _)| name).collect();
        let mut header = vec!["name", "kind", "rank", "base", "size"];
        header.extend(figures.iter().map(|name| name.as_str()));
        let is_figure = !["name", "base", "rank", "size", "added"].contains(&args.sort.as_str());
        if is_figure && !figures.contains(&&args.sort) {
            header.push(&args.sort);
        }
        header.push("added");
        let columns = header.len();
        let mut rows = table(&header);
        for entry in &entries {
            let facts = &entry.artifact.facts;
            let dash = || "-".to_string();
            let kind = match facts.kind {
                lorakit_registry::Kind::Merged => "model".to_string(),
                _ => facts.methods.join(", "),
            };
            let mut row = vec![
                entry.tag.clone(),
                kind,
                facts.rank.clone().unwrap_or_else(dash),
                base(entry).unwrap_or_else(dash),
                units::size(entry.artifact.bytes),
            ];
            for name in &header[5..columns - 1] {
                row.push(entry.metrics.get(*name).map_or_else(dash, |value| figure(*value)));
            }
            row.push(entry.at.map_or_else(dash, day));
            rows.add_row(row);
        }
        print_table(&mut text, &rows);
    }
    for (tag, error) in &damaged {
        let _ =
            writeln!(text, "{}: `{}`: {}", crate::ui::bad("damaged"), shown(tag), shown(&error.to_string()));
    }
    ui.result(&text)
}

/// The base in a word: the last part of its name, else its digest.
fn base(entry: &Entry) -> Option<String> {
    let base = &entry.artifact.facts.base;
    let name = base.name.as_deref().map(|name| name.rsplit('/').next().unwrap_or(name).to_string());
    name.or_else(|| base.digest.as_deref().map(short))
}

/// The first digits of a digest.
pub(super) fn short(digest: &str) -> String {
    digest.strip_prefix("sha256:").unwrap_or(digest).chars().take(12).collect()
}

/// A figure, without digits that say nothing.
pub(super) fn figure(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if value != 0.0 && text.trim_start_matches('-') == "0" {
        format!("{value:.1e}")
    } else {
        text.to_string()
    }
}

fn day(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "-".into(), |time| time.strftime("%Y-%m-%d %H:%M").to_string())
}

fn fits(entry: &Entry, args: &args::List) -> bool {
    let facts = &entry.artifact.facts;
    let of_base = |text: &String| {
        let name =
            facts.base.name.as_ref().is_some_and(|name| name.to_lowercase().contains(&text.to_lowercase()));
        name || facts.base.digest.as_ref().is_some_and(|digest| {
            digest.starts_with(text.as_str())
                || digest.trim_start_matches("sha256:").starts_with(text.as_str())
        })
    };
    let of_rank = |(least, most): (f64, f64)| {
        let Some((low, high)) = facts.rank.as_deref().map(range) else { return false };
        low >= least && high <= most
    };
    args.pattern.as_ref().is_none_or(|pattern| is_like(&entry.tag, pattern))
        && args.base.as_ref().is_none_or(of_base)
        && args.rank.is_none_or(of_rank)
        && args.target.iter().all(|target| facts.targets.contains(target))
        && args.kind.is_none_or(|kind| facts.kind == kind)
        && args.metric.iter().all(|(name, least)| entry.metrics.get(name).is_some_and(|value| value >= least))
}

/// The least and the most of `8..32`, or of `16`.
fn range(text: &str) -> (f64, f64) {
    let (low, high) = text.split_once("..").unwrap_or((text, text));
    (low.parse().unwrap_or(f64::NAN), high.parse().unwrap_or(f64::NAN))
}

/// Whether a name fits a pattern, in which `*` stands for any text. A pattern without a tag fits any tag.
fn is_like(name: &str, pattern: &str) -> bool {
    fn fits(name: &[u8], pattern: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|skipped| fits(&name[skipped..], rest)),
            Some((byte, rest)) => {
                name.split_first().is_some_and(|(first, name)| first == byte && fits(name, rest))
            }
        }
    }
    // Several `*` in a row say the same as one, and would take a time that grows with each.
    let mut pattern: String = pattern.to_string();
    while pattern.contains("**") {
        pattern = pattern.replace("**", "*");
    }
    let without_tag = name.rsplit_once(':').map_or(name, |(name, _)| name);
    fits(name.as_bytes(), pattern.as_bytes()) || fits(without_tag.as_bytes(), pattern.as_bytes())
}

fn sort(entries: &mut [Entry], key: &str) -> Result<(), Failure> {
    let by_text = |of: fn(&Entry) -> Option<String>| {
        move |a: &Entry, b: &Entry| of(a).is_none().cmp(&of(b).is_none()).then_with(|| of(a).cmp(&of(b)))
    };
    match key {
        "name" => entries.sort_by(|a, b| a.tag.cmp(&b.tag)),
        "base" => entries.sort_by(by_text(base)),
        "size" => entries.sort_by_key(|entry| std::cmp::Reverse(entry.artifact.bytes)),
        "added" => entries.sort_by_key(|entry| std::cmp::Reverse(entry.at)),
        "rank" => {
            let rank = |entry: &Entry| entry.artifact.facts.rank.as_deref().map(|rank| range(rank).1);
            entries.sort_by(|a, b| largest_first(rank(a), rank(b)));
        }
        name => {
            let known = entries.iter().any(|entry| entry.metrics.contains_key(name));
            if !known && !entries.is_empty() {
                return Err(Failure::usage(
                    &format!("no evaluation has the figure `{}`", shown(name)),
                    "`--sort` takes name, base, rank, size, added, or the name of a figure: `lorakit registry show NAME` \
                     lists those of an artifact",
                ));
            }
            entries.sort_by(|a, b| largest_first(a.metrics.get(name).copied(), b.metrics.get(name).copied()));
        }
    }
    Ok(())
}

/// The largest first, and what has none last.
fn largest_first(a: Option<f64>, b: Option<f64>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => b.total_cmp(&a),
        (a, b) => a.is_none().cmp(&b.is_none()),
    }
}

pub(super) fn log(store: &Store, tag: Option<&Tag>, ui: &Ui) -> Result<(), Failure> {
    let name = tag.map(ToString::to_string);
    let mut moves: Vec<Move> = store.moves()?;
    moves.retain(|one| name.as_ref().is_none_or(|name| one.tag == *name));
    moves.reverse();
    if ui.json {
        return ui.json("lorakit.registry.log/1", json!({ "moves": moves }));
    }
    if moves.is_empty() {
        return ui.result(match tag {
            Some(_) => "that tag never moved\n",
            None => "nothing was added yet\n",
        });
    }
    let mut text = String::new();
    let mut rows = table(&["tag", "when", "digest", "by"]);
    let mut ages = std::collections::BTreeMap::new();
    for one in &moves {
        let age = ages.entry(one.tag.clone()).or_insert(0);
        rows.add_row([
            format!("{}@{{{age}}}", one.tag),
            day(one.at),
            one.new.map_or_else(|| "removed".into(), |digest| digest.short()),
            one.why.clone(),
        ]);
        *age += 1;
    }
    print_table(&mut text, &rows);
    ui.result(&text)
}

pub(super) fn twins(store: &Store, ui: &Ui) -> Result<(), Failure> {
    let twins = compare::twins(&store.catalog()?.entries);
    if ui.json {
        return ui.json("lorakit.registry.dup/1", json!({ "same_weights": twins }));
    }
    if twins.is_empty() {
        return ui.result("no two tags have the same weights\n");
    }
    let mut text = String::new();
    for group in &twins {
        let _ = writeln!(text, "{}", short(&group.weights));
        for tag in &group.tags {
            let _ = writeln!(text, "  {}", shown(tag));
        }
    }
    ui.result(&text)
}

#[cfg(test)]
mod tests {
    use super::{figure, is_like};

    #[test]
    fn patterns() {
        for (name, pattern) in [
            ("team/sql:v1", "team/*"),
            ("sql:v1", "sql"),
            ("sql:v1", "*:v1"),
            ("sql:v1", "s*l:*"),
            ("a:b", "**"),
        ] {
            assert!(is_like(name, pattern), "{name} {pattern}");
        }
        for (name, pattern) in
            [("team/sql:v1", "sql"), ("sql:v1", "sql:v2"), ("sql:v1", ""), ("sql:v1", "*x")]
        {
            assert!(!is_like(name, pattern), "{name} {pattern}");
        }
    }

    #[test]
    fn figures_have_no_empty_digits() {
        for (value, text) in
            [(0.95, "0.95"), (31.25, "31.25"), (1.0, "1"), (0.0, "0"), (0.00001, "1.0e-5"), (-2.5, "-2.5")]
        {
            assert_eq!(figure(value), text);
        }
    }
}
