//! Signatures of artifacts, attached to them.

use std::path::Path;

use lorakit::plan::Progress;

use crate::sign::{self, Folder, Policy, PrivateKey, PublicKey, Verified};
use crate::{Artifact, Digest, Entry, Facts, Kind, Reference, Result, Store, media};

/// Who must have signed an artifact.
#[derive(Debug, Clone, Copy)]
pub enum Signers<'a> {
    /// One of these keys.
    Keys(&'a [PublicKey]),
    /// Whoever the policy says may, if it says that anybody must.
    Policy(&'a Policy),
}

impl Store {
    /// Signs an artifact, and attaches the signature under the tag `TAG-sig-N`, which is returned with the bundle.
    ///
    /// # Errors
    /// As [`find`](Store::find); if a file is damaged.
    pub fn sign(
        &self,
        reference: &Reference,
        key: &PrivateKey,
        progress: &dyn Progress,
    ) -> Result<(String, Vec<u8>)> {
        let artifact = self.find(reference)?;
        let folder = self.checkout(&artifact, reference, progress)?;
        let bundle = sign::sign(&Folder::new(&folder), key, reference.name().as_str())?;
        let facts = Facts { kind: Kind::Signature, ..Facts::default() };
        let (tag, _) =
            self.attach(&artifact, reference, "sig", media::SIGNATURE, (SIGNATURE, &bundle), &facts)?;
        Ok((tag, bundle))
    }

    /// Checks that an artifact, whose files are in `folder`, was signed. One good signature is enough. `None` if a policy
    /// asks for none and there is none.
    ///
    /// # Errors
    /// `Untrusted` if no signature is good, with the reason of the last that was tried.
    pub fn check_signed(
        &self,
        artifact: &Artifact,
        name: &str,
        folder: &Path,
        signers: Signers<'_>,
    ) -> Result<Option<Verified>> {
        let files = Folder::new(folder);
        let mut last = None;
        for bundle in self.signatures(artifact.digest)? {
            let verified = match signers {
                Signers::Keys(keys) => sign::verify(&bundle, keys, &files).map(Some),
                Signers::Policy(policy) => policy.verify(name, Some(&bundle), &files),
            };
            match verified {
                Ok(verified) => return Ok(verified),
                Err(error) => last = Some(error.at(Path::new(name))),
            }
        }
        match (last, signers) {
            (Some(error), _) => Err(error),
            (None, Signers::Policy(policy)) => policy.verify(name, None, &files),
            (None, Signers::Keys(_)) => {
                Err(crate::problem::Problem::Unsigned { name: name.to_string() }.into())
            }
        }
    }
}

impl Store {
    /// The latest signature of an artifact.
    pub(crate) fn signature(&self, of: Digest) -> Result<Option<Vec<u8>>> {
        Ok(self.signatures(of)?.pop())
    }

    /// The signatures of an artifact, the oldest first.
    fn signatures(&self, of: Digest) -> Result<Vec<Vec<u8>>> {
        let mut found = Vec::new();
        for Entry { tag, artifact, .. } in self.catalog()?.attached {
            let is_its = artifact.subject == Some(of) && artifact.facts.kind == Kind::Signature;
            if let Some(file) = artifact.file(SIGNATURE).filter(|_| is_its) {
                found.push(self.read_manifest(file.digest, &tag)?);
            }
        }
        Ok(found)
    }
}

/// The file of a signature.
pub(crate) const SIGNATURE: &str = "model.sig";
