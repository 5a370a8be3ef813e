//! From names to artifacts.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use crate::problem::Problem;
use crate::{Artifact, Digest, Error, Facts, Kind, Reference, Result, Store, Tag};

/// A tag, and the artifact that it points to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// The tag, as the index names it.
    pub tag: String,
    /// When it was last moved, in seconds since 1970; `None` if another program wrote it.
    pub at: Option<u64>,
    /// Metrics of its evaluations, the latest of each name.
    pub metrics: BTreeMap<String, f64>,
    /// The artifact.
    pub artifact: Artifact,
}

/// What the registry has.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Adapters and models, by tag.
    pub entries: Vec<Entry>,
    /// What is attached to them: evaluations and signatures, by tag.
    pub attached: Vec<Entry>,
    /// Tags of other programs, to something else.
    pub others: Vec<(String, Digest)>,
    /// Tags whose manifests cannot be read, and why.
    pub damaged: Vec<(String, Error)>,
}

impl Store {
    /// The artifact of that digest, which `of` needs.
    ///
    /// # Errors
    /// `Incomplete` if there is none; `Corrupt`; `Unsafe`.
    pub fn artifact(&self, digest: Digest, of: &str) -> Result<Artifact> {
        Artifact::parse(digest, &self.read_manifest(digest, of)?)
    }

    /// The digest that a reference means.
    ///
    /// # Errors
    /// `NotFound` if nothing has that name, with the nearest that does; `Ambiguous` if a short digest fits several.
    pub fn resolve(&self, reference: &Reference) -> Result<Digest> {
        match reference {
            Reference::Tag(tag) => self.tagged(tag)?.ok_or_else(|| self.absent(reference)),
            Reference::Before(tag, moves) => {
                let past = self.past(tag)?;
                let Some(known) = past.len().checked_sub(1) else { return Err(self.absent(reference)) };
                let Some(then) = known.checked_sub(*moves) else {
                    return Err(Problem::NoMove { tag: tag.to_string(), moves: *moves, known }.into());
                };
                past[then].ok_or_else(|| self.absent(reference))
            }
            Reference::Digest(name, _) => {
                let of_name = |tag: &str| Tag::parse(tag).is_some_and(|tag| tag.name == *name);
                let refs = self.refs()?;
                let now = refs.iter().filter(|(tag, _)| of_name(tag)).map(|(_, digest)| *digest);
                let before =
                    self.moves()?.into_iter().filter(|one| of_name(&one.tag)).filter_map(|one| one.new);
                let mut found: Vec<Digest> =
                    now.chain(before).filter(|digest| reference.fits(digest)).collect();
                found.sort();
                found.dedup();
                match found[..] {
                    [digest] => Ok(digest),
                    [] => Err(self.absent(reference)),
                    _ => {
                        Err(Problem::SeveralDigests { name: reference.to_string(), count: found.len() }
                            .into())
                    }
                }
            }
        }
    }

    /// The artifact that a reference means.
    ///
    /// # Errors
    /// As [`resolve`](Store::resolve) and [`artifact`](Store::artifact); `Unsupported` for what another program put there.
    pub fn find(&self, reference: &Reference) -> Result<Artifact> {
        let name = reference.to_string();
        let artifact = self.artifact(self.resolve(reference)?, &name)?;
        match artifact.facts.kind {
            Kind::Adapter | Kind::Merged => Ok(artifact),
            Kind::Eval => Err(Problem::Foreign { name, found: "an evaluation".into() }.into()),
            Kind::Signature => Err(Problem::Foreign { name, found: "a signature".into() }.into()),
            Kind::Other => Err(Problem::Foreign { name, found: "of another program".into() }.into()),
        }
    }

    /// What a tag has pointed to, the oldest first; nothing while it was removed.
    ///
    /// # Errors
    /// If the reflog cannot be read.
    pub fn past(&self, tag: &Tag) -> Result<Vec<Option<Digest>>> {
        let name = tag.to_string();
        let mut past: Vec<Option<Digest>> =
            self.moves()?.into_iter().filter(|one| one.tag == name).map(|one| one.new).collect();
        // Another program may have moved it since.
        let now = self.tagged(tag)?;
        if past.last().copied().flatten() != now {
            past.push(now);
        }
        Ok(past)
    }

    /// Everything that is tagged.
    ///
    /// # Errors
    /// If the index is damaged. A damaged manifest is listed, not an error.
    pub fn catalog(&self) -> Result<Catalog> {
        let mut at: BTreeMap<String, u64> = BTreeMap::new();
        for one in self.moves()? {
            at.insert(one.tag, one.at);
        }
        let refs: Vec<(String, Digest)> = self.refs()?.into_iter().collect();
        let read: Vec<Result<Artifact>> =
            refs.par_iter().map(|(tag, digest)| self.artifact(*digest, tag)).collect();
        let mut catalog = Catalog::default();
        for ((tag, digest), artifact) in refs.into_iter().zip(read) {
            match artifact {
                Ok(artifact) => {
                    let entry = Entry { at: at.get(&tag).copied(), tag, metrics: BTreeMap::new(), artifact };
                    match entry.artifact.facts.kind {
                        Kind::Adapter | Kind::Merged => catalog.entries.push(entry),
                        Kind::Eval | Kind::Signature => catalog.attached.push(entry),
                        Kind::Other => catalog.others.push((entry.tag, digest)),
                    }
                }
                Err(error) => catalog.damaged.push((tag, error)),
            }
        }
        catalog.attached.sort_by_key(|entry| entry.at);
        let mut metrics: BTreeMap<Digest, BTreeMap<String, f64>> = BTreeMap::new();
        for Entry { artifact: Artifact { subject, facts: Facts { metrics: found, .. }, .. }, .. } in
            &catalog.attached
        {
            if let Some(subject) = subject {
                metrics.entry(*subject).or_default().extend(found.clone());
            }
        }
        for entry in &mut catalog.entries {
            entry.metrics = metrics.get(&entry.artifact.digest).cloned().unwrap_or_default();
        }
        Ok(catalog)
    }

    /// The error of a name that nothing has.
    fn absent(&self, reference: &Reference) -> Error {
        let name = reference.to_string();
        let refs = self.refs().unwrap_or_default();
        let near = refs.into_keys().map(|tag| (strsim::jaro_winkler(&tag, &name), tag));
        let near = near.filter(|(likeness, _)| *likeness > 0.8).max_by(|a, b| a.0.total_cmp(&b.0));
        Error::from(Problem::Absent { name, near: near.map(|(_, tag)| tag) })
    }
}
