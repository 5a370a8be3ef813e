//! Where artifacts came from: one graph, from the records of all.
//!
//! A node is a set of weights, known by their digest, so that folders which were made anywhere and added in any order
//! find each other. Each record holds those of its parents, so a node stays when its artifact goes.

use std::collections::{BTreeMap, BTreeSet};

use lorakit::lineage::{Ancestry, Record};
use serde::Serialize;

use crate::{Entry, Kind};

/// Weights that are in the registry, or in the past of some that are.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Node {
    /// What it is known by: the digest of its weights, or the name where a record has none.
    pub id: String,
    /// What records call it.
    pub name: String,
    /// `base`, `adapter`, `tuned` or `model`.
    pub role: String,
    /// The tags that it has here.
    pub tags: Vec<String>,
    /// The verb that made it.
    pub verb: Option<String>,
    /// The licence that its card states.
    pub licence: Option<String>,
    /// What it was made from.
    pub parents: Vec<Link>,
}

/// A parent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Link {
    /// The parent's node.
    pub id: String,
    /// What it was to the step.
    pub role: String,
    /// Its weight in a sum.
    pub weight: Option<f64>,
}

/// All nodes, by what they are known by.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Graph {
    /// The nodes.
    pub nodes: BTreeMap<String, Node>,
}

impl Graph {
    /// The graph of these artifacts.
    pub fn of(entries: &[Entry]) -> Self {
        let mut graph = Graph::default();
        for entry in entries {
            let facts = &entry.artifact.facts;
            let Some(id) = facts.weights.clone() else { continue };
            let record =
                facts.lineage.as_deref().and_then(|text| serde_json::from_str::<Ancestry>(text).ok());
            if let Some(record) = record.as_ref().and_then(Ancestry::record) {
                graph.add_record(&id, &record);
            }
            let node = graph.node(&id);
            node.tags.push(entry.tag.clone());
            node.name = entry.tag.clone();
            node.licence = node.licence.take().or_else(|| facts.licence.clone());
            node.role = if facts.kind == Kind::Merged { "model" } else { "adapter" }.to_string();
            // What has no record may still name its base.
            if node.parents.is_empty()
                && facts.kind == Kind::Adapter
                && let Some(base) = facts.base.digest.clone().or_else(|| facts.base.name.clone())
            {
                node.parents.push(Link { id: base.clone(), role: "base".into(), weight: None });
                let name = facts.base.name.clone().unwrap_or_else(|| base.clone());
                graph.describe(&base, &name, "base");
            }
        }
        graph
    }

    /// The nodes that `id` was made from and those that were made from it, and `id`.
    pub fn around(&self, id: &str) -> Graph {
        let mut near = BTreeSet::from([id.to_string()]);
        let mut open = vec![id.to_string()];
        while let Some(id) = open.pop() {
            let parents = self.nodes.get(&id).into_iter().flat_map(|node| &node.parents);
            open.extend(parents.filter(|link| near.insert(link.id.clone())).map(|link| link.id.clone()));
        }
        let mut open = vec![id.to_string()];
        let mut below = BTreeSet::from([id.to_string()]);
        while let Some(id) = open.pop() {
            open.extend(
                self.children(&id).filter(|child| below.insert((*child).to_string())).map(str::to_string),
            );
        }
        near.extend(below);
        let kept = self.nodes.iter().filter(|(id, _)| near.contains(*id));
        Graph { nodes: kept.map(|(id, node)| (id.clone(), node.clone())).collect() }
    }

    /// The nodes that were made from `id`.
    pub fn children<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a str> {
        let is_child = move |node: &&Node| node.parents.iter().any(|link| link.id == id);
        self.nodes.values().filter(is_child).map(|node| node.id.as_str())
    }

    /// The nodes that nothing was made from: where trees begin when they are drawn from their results.
    pub fn results(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(|node| self.children(&node.id).next().is_none())
    }

    fn node(&mut self, id: &str) -> &mut Node {
        self.nodes.entry(id.to_string()).or_insert_with(|| Node { id: id.to_string(), ..Node::default() })
    }

    fn describe(&mut self, id: &str, name: &str, role: &str) {
        let node = self.node(id);
        if node.name.is_empty() {
            node.name = name.to_string();
            node.role = role.to_string();
        }
    }

    /// What the record of node `id` says, and the records within it.
    fn add_record(&mut self, id: &str, record: &Record) {
        let mut links = Vec::new();
        for parent in &record.parents {
            // A name that has no digest is known within its role only.
            let known =
                parent.weights.clone().unwrap_or_else(|| format!("{}:{}", parent.role.name(), parent.name));
            if known == id {
                continue;
            }
            self.describe(&known, &parent.name, parent.role.name());
            if let Some(record) = parent.lineage.as_ref().and_then(Ancestry::record) {
                self.add_record(&known, &record);
            }
            links.push(Link { id: known, role: parent.role.name().to_string(), weight: parent.weight });
        }
        let node = self.node(id);
        node.verb = Some(record.verb.clone());
        if node.parents.len() < links.len() {
            node.parents = links;
        }
    }
}
