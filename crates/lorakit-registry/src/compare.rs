//! Artifacts compared by what is known of them, without reading weights.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{Artifact, Digest, Entry, Facts};

/// Tags whose weights are the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Twins {
    /// The digest of the weights.
    pub weights: String,
    /// The tags.
    pub tags: Vec<String>,
    /// Whether the artifacts are the same too, and not only their weights.
    pub same_artifact: bool,
}

/// Tags that share their weights, sorted by the first tag.
pub fn twins(entries: &[Entry]) -> Vec<Twins> {
    let mut by_weights: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        if let Some(weights) = &entry.artifact.facts.weights {
            by_weights.entry(weights).or_default().push(entry);
        }
    }
    let several = by_weights.into_iter().filter(|(_, entries)| entries.len() > 1);
    let mut twins: Vec<Twins> = several
        .map(|(weights, entries)| Twins {
            weights: weights.to_string(),
            same_artifact: entries.iter().all(|entry| entry.artifact.digest == entries[0].artifact.digest),
            tags: entries.iter().map(|entry| entry.tag.clone()).collect(),
        })
        .collect();
    twins.sort_by(|a, b| a.tags.cmp(&b.tags));
    twins
}

/// A fact that two artifacts do not share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FactPair {
    /// What it is.
    pub fact: &'static str,
    /// What the first says; nothing if that is not known.
    pub a: Option<String>,
    /// What the second says.
    pub b: Option<String>,
}

/// What differs between two artifacts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Facts that differ.
    pub facts: Vec<FactPair>,
    /// Files that only the first has, only the second has, and that differ.
    pub removed: Vec<String>,
    /// See [`removed`](Self::removed).
    pub added: Vec<String>,
    /// See [`removed`](Self::removed).
    pub changed: Vec<String>,
    /// Whether the weights are the same.
    pub same_weights: bool,
    /// Why a server cannot exchange the first for the second while it runs; empty if it can.
    pub obstacles: Vec<String>,
}

/// What differs between two artifacts.
pub fn difference(a: &Artifact, b: &Artifact) -> Difference {
    let mut found = Difference {
        same_weights: a.facts.weights.is_some() && a.facts.weights == b.facts.weights,
        obstacles: obstacles(&a.facts, &b.facts),
        ..Difference::default()
    };
    for (fact, of) in FACTS {
        let (a, b) = (of(&a.facts), of(&b.facts));
        if a != b {
            found.facts.push(FactPair { fact, a, b });
        }
    }
    for file in &a.files {
        let path = file.path.display().to_string();
        match b.file(&path) {
            None => found.removed.push(path),
            Some(other) if other.digest != file.digest => found.changed.push(path),
            Some(_) => {}
        }
    }
    let is_new = |path: &String| a.file(path).is_none();
    found.added = b.files.iter().map(|file| file.path.display().to_string()).filter(is_new).collect();
    found
}

type Fact = (&'static str, fn(&Facts) -> Option<String>);

/// Facts by name, in the order in which they are shown.
const FACTS: &[Fact] = &[
    ("kind", |facts| serde_json::to_value(facts.kind).ok()?.as_str().map(str::to_string)),
    ("format", |facts| facts.format.clone()),
    ("method", |facts| some(facts.methods.join(", "))),
    ("rank", |facts| facts.rank.clone()),
    ("alpha", |facts| facts.alpha.clone()),
    ("scale", |facts| facts.scale.clone()),
    ("targets", |facts| some(facts.targets.join(", "))),
    ("parameters", |facts| facts.params.map(|params| params.to_string())),
    ("dtype", |facts| some(facts.dtypes.join(", "))),
    ("norm", |facts| facts.norm.map(|norm| format!("{norm:.4}"))),
    ("base", |facts| facts.base.name.clone()),
    ("base revision", |facts| facts.base.revision.clone()),
    ("base weights", |facts| facts.base.digest.clone()),
    ("licence", |facts| facts.licence.clone()),
    ("made by", |facts| facts.op.clone()),
    ("weights", |facts| facts.weights.clone()),
];

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Why a server that has loaded adapter `a` cannot put `b` in its place: its buffers have the shape of `a`, and its
/// kernels the scale (PEFT's `hotswap_adapter`, diffusers' hot-swapping, vLLM's in-place reload).
pub fn obstacles(a: &Facts, b: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    for (name, of) in FACTS {
        if !matches!(
            *name,
            "kind" | "method" | "rank" | "alpha" | "targets" | "dtype" | "base" | "base weights"
        ) {
            continue;
        }
        match (of(a), of(b)) {
            (Some(first), Some(second)) if first != second => {
                found.push(format!("{name} {first} and {second}"))
            }
            // Nothing known of the base is not a difference.
            (Some(first), None) if !name.starts_with("base") => {
                found.push(format!("{name} {first} and none"))
            }
            (None, Some(second)) if !name.starts_with("base") => {
                found.push(format!("{name} none and {second}"))
            }
            _ => {}
        }
    }
    found
}

/// How much is stored, and how much sharing saves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Adapters and models by tag.
    pub tags: usize,
    /// Different artifacts.
    pub artifacts: usize,
    /// Bytes that the files of all artifacts have together.
    pub bytes: u64,
    /// Bytes that they take, each file once.
    pub stored: u64,
    /// Evaluations and signatures.
    pub attached: usize,
}

/// The figures of a catalogue.
pub fn stats(entries: &[Entry], attached: usize) -> Stats {
    let artifacts: BTreeMap<Digest, &Artifact> =
        entries.iter().map(|entry| (entry.artifact.digest, &entry.artifact)).collect();
    let files: BTreeMap<Digest, u64> = artifacts
        .values()
        .flat_map(|artifact| &artifact.files)
        .map(|file| (file.digest, file.bytes))
        .collect();
    Stats {
        tags: entries.len(),
        artifacts: artifacts.len(),
        bytes: artifacts.values().map(|artifact| artifact.bytes).sum(),
        stored: files.values().sum(),
        attached,
    }
}
