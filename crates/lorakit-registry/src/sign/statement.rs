//! The inside of a signature: an in-toto statement on the files of a model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Number;

use super::names::{Ignored, is_canonical};
use super::problem::Problem;
use crate::{Digest, Result};

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://model_signing/signature/v1.0";
const SHA256: &str = "sha256";

/// What is signed of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// The name of the model, for people.
    pub(super) subject: String,
    /// The digests of each file by its name: one of the whole file, or one of each shard.
    pub(super) files: BTreeMap<String, Digests>,
    pub(super) ignored: Ignored,
}

/// The digests of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Digests {
    Whole(Digest),
    /// Of each `shard` bytes, the last of which may be fewer; `size` is that of the file.
    Shards {
        shard: u64,
        size: u64,
        digests: Vec<Digest>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a statement")]
struct Text {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Serialize, Deserialize)]
struct Subject {
    name: String,
    digest: Root,
}

#[derive(Serialize, Deserialize)]
struct Root {
    sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Predicate {
    resources: Vec<Resource>,
    serialization: Serialization,
}

#[derive(Serialize, Deserialize)]
struct Resource {
    name: String,
    digest: String,
    algorithm: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Serialization {
    method: String,
    hash_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shard_size: Option<Number>,
    allow_symlinks: bool,
    #[serde(default)]
    ignore_paths: Vec<String>,
}

/// The statement on files by their names, hashed whole, as JSON.
pub(super) fn write(subject: &str, files: &BTreeMap<String, Digest>, ignored: &Ignored) -> Vec<u8> {
    let resource = |(name, digest): (&String, &Digest)| Resource {
        name: name.clone(),
        digest: digest.hex(),
        algorithm: SHA256.into(),
    };
    let root = root(files.values());
    let text = Text {
        kind: STATEMENT.into(),
        subject: vec![Subject { name: subject.into(), digest: Root { sha256: root.hex() } }],
        predicate_type: PREDICATE.into(),
        predicate: Predicate {
            resources: files.iter().map(resource).collect(),
            serialization: Serialization {
                method: "files".into(),
                hash_type: SHA256.into(),
                shard_size: None,
                allow_symlinks: false,
                ignore_paths: ignored.paths().map(Into::into).collect(),
            },
        },
    };
    // Strings and lists always serialise.
    serde_json::to_vec(&text).unwrap_or_default()
}

/// Reads a statement whose signature has been verified.
///
/// # Errors
/// See [`verify`](super::verify).
pub(super) fn read(payload: &[u8]) -> Result<Statement> {
    let text: Text =
        serde_json::from_slice(payload).map_err(|e| Problem::NotAStatement { reason: e.to_string() })?;
    if text.kind != STATEMENT {
        return Err(Problem::StatementType { found: text.kind, expected: STATEMENT }.into());
    }
    if text.predicate_type != PREDICATE {
        return Err(Problem::PredicateType { found: text.predicate_type, expected: PREDICATE }.into());
    }
    let Ok([subject]) = <[Subject; 1]>::try_from(text.subject) else {
        return Err(Problem::Subjects.into());
    };
    let Predicate { resources, serialization } = text.predicate;
    let ignored = serialization.ignored()?;
    let shard = serialization.shard()?;

    let mut digests = Vec::with_capacity(resources.len());
    for resource in &resources {
        // model-signing names the size of shards here too.
        let sharded = shard.is_some_and(|size| resource.algorithm == format!("{SHA256}-sharded-{size}"));
        if resource.algorithm != SHA256 && !sharded {
            return Err(Problem::HashType { found: resource.algorithm.clone() }.into());
        }
        let digest = Digest::from_hex(&resource.digest).ok_or_else(|| Problem::DigestText {
            name: resource.name.clone(),
            found: resource.digest.clone(),
        })?;
        digests.push(digest);
    }
    // In the order of the list: model-signing sorts paths by their parts, the specification by their text.
    let expected = root(&digests).hex();
    if subject.digest.sha256 != expected {
        return Err(Problem::Root { found: subject.digest.sha256, expected }.into());
    }
    let named = resources.into_iter().map(|resource| resource.name).zip(digests);
    let files = match shard {
        None => whole(named)?,
        Some(size) => sharded(named, size)?,
    };
    if files.is_empty() {
        return Err(Problem::Nothing.into());
    }
    Ok(Statement { subject: subject.name, files, ignored })
}

impl Serialization {
    fn ignored(&self) -> Result<Ignored> {
        let mut ignored = Ignored::default();
        self.ignore_paths.iter().try_for_each(|path| ignored.insert(path))?;
        Ok(ignored)
    }

    /// The bytes of a shard, `None` if files are hashed whole.
    fn shard(&self) -> Result<Option<u64>> {
        if self.hash_type != SHA256 {
            return Err(Problem::HashType { found: self.hash_type.clone() }.into());
        }
        if self.allow_symlinks {
            return Err(Problem::Symlinks.into());
        }
        let size = self.shard_size.as_ref();
        match (self.method.as_str(), size.map(|size| whole_number(size).filter(|size| *size > 0))) {
            ("files", None) => Ok(None),
            ("shards", Some(Some(size))) => Ok(Some(size)),
            ("files" | "shards", _) => {
                let found = size.map_or("absent".into(), ToString::to_string);
                Err(Problem::ShardSize { method: self.method.clone(), found }.into())
            }
            _ => Err(Problem::Method { found: self.method.clone() }.into()),
        }
    }
}

/// A whole number, which model-signing writes with a decimal point.
fn whole_number(number: &Number) -> Option<u64> {
    let exact = |value: f64| (value.fract() == 0.0 && (0.0..9e15).contains(&value)).then_some(value as u64);
    number.as_u64().or_else(|| number.as_f64().and_then(exact))
}

/// The digest of digests in their order (section 6.5.1).
fn root<'d>(digests: impl IntoIterator<Item = &'d Digest>) -> Digest {
    let bytes: Vec<u8> = digests.into_iter().flat_map(|digest| *digest.bytes()).collect();
    Digest::of(&bytes)
}

fn whole(named: impl Iterator<Item = (String, Digest)>) -> Result<BTreeMap<String, Digests>> {
    let mut files = BTreeMap::new();
    for (name, digest) in named {
        if !is_canonical(&name) {
            return Err(Problem::Name { name }.into());
        }
        if files.insert(name.clone(), Digests::Whole(digest)).is_some() {
            return Err(Problem::Twice { name }.into());
        }
    }
    Ok(files)
}

/// Shards, whose names are `path:start:end`, as files.
fn sharded(named: impl Iterator<Item = (String, Digest)>, shard: u64) -> Result<BTreeMap<String, Digests>> {
    let mut ranges: BTreeMap<String, BTreeMap<u64, (u64, Digest)>> = BTreeMap::new();
    for (name, digest) in named {
        let Some((path, start, end)) = range(&name).filter(|(path, ..)| is_canonical(path)) else {
            return Err(Problem::ShardName { name }.into());
        };
        if ranges.entry(path.into()).or_default().insert(start, (end, digest)).is_some() {
            return Err(Problem::Twice { name }.into());
        }
    }
    let file = |(name, ranges): (String, BTreeMap<u64, (u64, Digest)>)| {
        let size = ranges.last_key_value().map_or(0, |(_, (end, _))| *end);
        let mut at = 0;
        for (start, (end, _)) in &ranges {
            if *start != at || *end <= at || *end - at > shard || (*end - at < shard && *end != size) {
                return Err(Problem::Ranges { name, size: shard });
            }
            at = *end;
        }
        let digests = ranges.into_values().map(|(_, digest)| digest).collect();
        Ok((name, Digests::Shards { shard, size, digests }))
    };
    Ok(ranges.into_iter().map(file).collect::<std::result::Result<_, Problem>>()?)
}

/// Path, first byte and end of `path:start:end`. The path may hold colons.
fn range(name: &str) -> Option<(&str, u64, u64)> {
    let number = |text: &str| text.parse::<u64>().ok().filter(|number| number.to_string() == text);
    let mut parts = name.rsplitn(3, ':');
    let end = number(parts.next()?)?;
    let start = number(parts.next()?)?;
    Some((parts.next()?, start, end))
}
