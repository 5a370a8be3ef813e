//! Who may sign what.

use std::path::Path;

use glob::{MatchOptions, Pattern};
use lorakit_tensor::Reader;

use super::files::Files;
use super::key::PublicKey;
use super::problem::Problem;
use super::{Verified, rules, verify};
use crate::{Error, Result};

/// The largest policy, or file of keys, that is read, in bytes.
pub(super) const MAX_BYTES: u64 = 1 << 20;

/// In a pattern, `*` and `?` stay within one part of a name; `**` does not.
const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// Who may sign what: names of adapters, and the keys that are trusted to sign them.
///
/// ```toml
/// require = true                      # a name without a rule is refused
///
/// [[rule]]
/// names = ["acme/*", "acme-labs/*"]   # `*` stays within one part of a name, `**` does not
/// keys = ["acme.pem"]                 # files beside the policy, or PEM
///
/// [[rule]]
/// names = ["acme/scratch-*"]
/// require = false                     # need not be signed
/// ```
///
/// The last rule that has a pattern for a name decides alone, so general rules come first. What a rule names must be
/// signed by one of its keys. `require` is `true` where it is left out, of the policy as of a rule.
#[derive(Debug, Clone)]
pub struct Policy {
    pub(super) require: bool,
    pub(super) rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) names: Vec<Pattern>,
    pub(super) keys: Vec<PublicKey>,
    pub(super) require: bool,
}

/// What a policy says of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trust<'p> {
    /// Any of these may have signed it.
    pub keys: &'p [PublicKey],
    /// Whether it must be signed.
    pub required: bool,
}

impl Policy {
    /// Reads a policy and the files of keys that it names.
    ///
    /// # Errors
    /// As [`Self::parse`], and any error of reading the files.
    pub fn read(path: &Path, reader: &Reader) -> Result<Self> {
        let bytes = reader.bytes(path, MAX_BYTES)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::from(Problem::PolicyText).at(path))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, folder, reader).map_err(|error| error.at(path))
    }

    /// Reads a policy from its text; files of keys are relative to `folder`.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use lorakit_registry::sign::{Policy, PrivateKey};
    /// use lorakit_tensor::Reader;
    ///
    /// # fn main() -> lorakit_registry::Result<()> {
    /// let key = PrivateKey::generate()?.public();
    /// let text = format!("[[rule]]\nnames = ['acme/*']\nkeys = ['''{}''']", key.to_pem());
    /// let policy = Policy::parse(&text, Path::new("."), &Reader::default())?;
    /// assert_eq!(policy.keys_for("acme/sql-lora").keys, [key]);
    /// assert!(policy.keys_for("other/lora").required && policy.keys_for("other/lora").keys.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `ErrorKind::Usage` for anything that is not a key of a policy, or not a value of one, with its line.
    pub fn parse(text: &str, folder: &Path, reader: &Reader) -> Result<Self> {
        rules::parse(text, folder, reader)
    }

    /// Who may sign what is called `name`, which has no tag: `acme/sql-lora`.
    pub fn keys_for(&self, name: &str) -> Trust<'_> {
        let matches = |rule: &&Rule| rule.names.iter().any(|pattern| pattern.matches_with(name, OPTIONS));
        match self.rules.iter().rev().find(matches) {
            Some(rule) => Trust { keys: &rule.keys, required: rule.require },
            None => Trust { keys: &[], required: self.require },
        }
    }

    /// Verifies what is called `name` as the policy requires; `bundle` is its signature, if it has one. The result is
    /// `None` if nothing had to be verified: no signature is required, and there is none, or no key to verify it with.
    ///
    /// # Errors
    /// `ErrorKind::Untrusted` if it must be signed and is not, or must have a rule and has none; otherwise as
    /// [`verify`].
    pub fn verify(&self, name: &str, bundle: Option<&[u8]>, files: &dyn Files) -> Result<Option<Verified>> {
        let trust = self.keys_for(name);
        if trust.keys.is_empty() {
            return if trust.required { Err(Problem::NoRule { name: name.into() }.into()) } else { Ok(None) };
        }
        match bundle {
            Some(bundle) => verify(bundle, trust.keys, files).map(Some),
            None if trust.required => {
                let given = trust.keys.iter().map(PublicKey::hint).collect();
                Err(Problem::NoSignature { name: name.into(), given }.into())
            }
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::{FileDigest, PrivateKey, sign};
    use crate::{Digest, ErrorKind};

    #[test]
    fn the_last_rule_for_a_name_decides() {
        let folder = tempfile::tempdir().unwrap();
        let keys: Vec<PrivateKey> = (0..3).map(|_| PrivateKey::generate().unwrap()).collect();
        let public: Vec<PublicKey> = keys.iter().map(PrivateKey::public).collect();
        let pem = |at: usize| public[at].to_pem();
        std::fs::write(folder.path().join("acme.pem"), pem(0) + &pem(1)).unwrap();
        let text = format!(
            "[[rule]]\nnames = ['**']\nkeys = ['''{}''']\n[[rule]]\nnames = ['acme/*', 'labs/v?']\nkeys = ['acme.pem']\n\
             [[rule]]\nnames = ['acme/scratch-*']\nrequire = false\n",
            pem(2)
        );
        let path = folder.path().join("trust.toml");
        std::fs::write(&path, &text).unwrap();
        let policy = Policy::read(&path, &Reader::default()).unwrap();
        let trust = |name| policy.keys_for(name);
        let must = |keys| Trust { keys, required: true };
        assert_eq!(trust("acme/sql"), must(&public[..2]));
        assert_eq!(trust("labs/v1"), must(&public[..2]));
        for name in ["sql", "acme", "acme/sql/v2", "labs/v12", "Acme/sql"] {
            assert_eq!(trust(name), must(&public[2..]), "{name}");
        }
        assert_eq!(trust("acme/scratch-1"), Trust { keys: &[], required: false });

        let files = vec![FileDigest { name: "a".into(), size: 1, digest: Digest::of(b"a") }];
        let bundle = sign(&files, &keys[1], "sql").unwrap();
        let signer = |name, bundle| {
            let verified = policy.verify(name, bundle, &files);
            verified.map(|verified| verified.map(|v| *v.signer())).map_err(|error| error.kind())
        };
        assert_eq!(signer("acme/sql", Some(bundle.as_slice())), Ok(Some(public[1])));
        assert_eq!(signer("acme/sql", None), Err(ErrorKind::Untrusted));
        assert_eq!(signer("other", Some(&bundle)), Err(ErrorKind::Untrusted));
        assert_eq!(signer("acme/scratch-1", None), Ok(None));
    }

    #[test]
    fn a_name_without_a_rule_is_refused_unless_the_policy_says_otherwise() {
        let refused = |text: &str| {
            let policy = Policy::parse(text, Path::new("."), &Reader::default()).unwrap();
            policy.verify("acme/sql", None, &Vec::<FileDigest>::new()).map_err(|error| error.to_string())
        };
        let text = "no rule of the policy is for `acme/sql`, and the policy requires one";
        assert_eq!(refused(""), Err(text.into()));
        assert_eq!(refused("require = true"), Err(text.into()));
        assert_eq!(refused("require = false"), Ok(None));
    }

    #[test]
    fn a_key_that_need_not_sign_must_have_signed_what_is_signed() {
        let (key, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let text =
            format!("[[rule]]\nnames = ['a']\nrequire = false\nkeys = ['''{}''']", key.public().to_pem());
        let policy = Policy::parse(&text, Path::new("."), &Reader::default()).unwrap();
        let files = vec![FileDigest { name: "a".into(), size: 1, digest: Digest::of(b"a") }];
        assert!(policy.verify("a", None, &files).unwrap().is_none());
        let bundle = sign(&files, &other, "a").unwrap();
        assert_eq!(policy.verify("a", Some(&bundle), &files).unwrap_err().kind(), ErrorKind::Untrusted);
    }
}
