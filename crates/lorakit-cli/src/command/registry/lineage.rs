//! `lorakit registry lineage`: what was made from what, as trees that begin with results.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use lorakit_registry::lineage::{Graph, Link, Node};
use lorakit_registry::{Reference, Store};
use serde_json::json;

use super::list::short;
use crate::error::Failure;
use crate::names::shown;
use crate::ui::Ui;

pub(super) fn run(store: &Store, name: Option<&Reference>, ui: &Ui) -> Result<(), Failure> {
    let graph = Graph::of(&store.catalog()?.entries);
    let graph = match name {
        Some(name) => match store.find(name)?.facts.weights {
            Some(id) => graph.around(&id),
            None => Graph::default(),
        },
        None => graph,
    };
    if ui.json {
        let nodes: Vec<&Node> = graph.nodes.values().collect();
        return ui.json("lorakit.registry.lineage/1", json!({ "nodes": nodes }));
    }
    if graph.nodes.is_empty() {
        return ui.result("nothing is known of where anything came from\n");
    }
    let mut text = String::new();
    let mut seen = BTreeSet::new();
    let mut results: Vec<&Node> = graph.results().collect();
    results.sort_by(|a, b| a.name.cmp(&b.name));
    for node in results {
        let _ = writeln!(text, "{}", line(node));
        branches(&mut text, &graph, node, "", &mut seen);
    }
    licences(&mut text, &graph);
    ui.result(&text)
}

/// The parents of a node, each with its own.
fn branches<'g>(
    text: &mut String,
    graph: &'g Graph,
    node: &'g Node,
    indent: &str,
    seen: &mut BTreeSet<&'g str>,
) {
    if !seen.insert(&node.id) {
        if !node.parents.is_empty() {
            let _ = writeln!(text, "{indent}└ as above");
        }
        return;
    }
    for (at, link) in node.parents.iter().enumerate() {
        let last = at + 1 == node.parents.len();
        let (here, below) = if last { ("└ ", "  ") } else { ("├ ", "│ ") };
        let Some(parent) = graph.nodes.get(&link.id) else { continue };
        let _ = writeln!(text, "{indent}{here}{}{}", role(link), line(parent));
        branches(text, graph, parent, &format!("{indent}{below}"), seen);
    }
}

fn role(link: &Link) -> String {
    let weight = link.weight.map_or_else(String::new, |weight| format!("{weight} x "));
    format!("{} {weight}", link.role)
}

/// `sql:v2  reduce  1a2b3c4d5e6f`.
fn line(node: &Node) -> String {
    let mut tags = node.tags.clone();
    tags.sort();
    let name =
        if tags.is_empty() { format!("`{}`, not in the registry", node.name) } else { tags.join(", ") };
    let verb = node.verb.as_deref().map_or_else(String::new, |verb| format!("  {verb}"));
    let digest =
        if node.id.starts_with("sha256:") { format!("  {}", short(&node.id)) } else { String::new() };
    shown(&format!("{name}{verb}{digest}")).into_owned()
}

/// Says where a parent states another licence than what was made from it.
fn licences(text: &mut String, graph: &Graph) {
    for node in graph.nodes.values() {
        let Some(own) = &node.licence else { continue };
        for parent in node.parents.iter().filter_map(|link| graph.nodes.get(&link.id)) {
            if let Some(other) = parent.licence.as_ref().filter(|other| !other.eq_ignore_ascii_case(own)) {
                let (name, of) = (shown(&node.name), shown(&parent.name));
                let _ = writeln!(
                    text,
                    "note: `{name}` states the licence {}, and `{of}`, from which it was made, {}",
                    shown(own),
                    shown(other)
                );
            }
        }
    }
}
