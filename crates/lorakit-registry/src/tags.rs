//! Tags given, moved and removed.

use std::collections::BTreeMap;

use crate::store::{Change, Expected};
use crate::{Digest, Reference, Result, Store, Tag};

impl Store {
    /// Lets `tag` point to what `reference` means, and says what that is and what the tag pointed to before.
    ///
    /// # Errors
    /// As [`find`](Store::find); `Moved` if the tag does not point to what is expected.
    pub fn tag(
        &self,
        reference: &Reference,
        tag: &Tag,
        expected: Expected,
    ) -> Result<(Digest, Option<Digest>)> {
        let _lock = self.lock_adding()?;
        let digest = self.find(reference)?.digest;
        let change = Change { tag: tag.to_string(), new: Some(digest), expected };
        let before = self.change(&[change], "tag")?;
        Ok((digest, before.into_iter().next().flatten()))
    }

    /// Removes a tag, and says what it pointed to. The artifact stays until it is swept.
    ///
    /// # Errors
    /// `NotFound` if there is no such tag; `Moved` if it does not point to what is expected.
    pub fn untag(&self, tag: &Tag, expected: Expected) -> Result<Digest> {
        let digest = self.resolve(&Reference::Tag(tag.clone()))?;
        self.change(&[Change { tag: tag.to_string(), new: None, expected }], "untag")?;
        Ok(digest)
    }

    /// Removes every tag of an artifact, and of what is attached to it. Returns these tags.
    ///
    /// # Errors
    /// As [`find`](Store::find).
    pub fn remove(&self, reference: &Reference) -> Result<BTreeMap<String, Digest>> {
        let digest = self.find(reference)?.digest;
        let catalog = self.catalog()?;
        let own = catalog.entries.iter().filter(|entry| entry.artifact.digest == digest);
        let attached = catalog.attached.iter().filter(|entry| entry.artifact.subject == Some(digest));
        let removed: BTreeMap<String, Digest> =
            own.chain(attached).map(|entry| (entry.tag.clone(), entry.artifact.digest)).collect();
        let changes: Vec<Change> = removed
            .iter()
            .map(|(tag, digest)| Change { tag: tag.clone(), new: None, expected: Expected::This(*digest) })
            .collect();
        self.change(&changes, "rm")?;
        Ok(removed)
    }
}
