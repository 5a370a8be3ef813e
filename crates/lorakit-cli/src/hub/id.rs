//! `OWNER/NAME[@REVISION][/FILE]`.

use std::path::Path;

/// A name on the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Id {
    pub(super) owner: String,
    pub(super) name: String,
    pub(super) revision: Option<String>,
    /// A file in it.
    pub(super) file: Option<String>,
}

impl Id {
    /// The id that a path has the form of.
    pub(super) fn of(path: &Path) -> Option<Id> {
        let text = path.to_str()?;
        let (owner, rest) = text.split_once('/')?;
        let (name, file) = match rest.split_once('/') {
            Some((name, file)) => (name, Some(file)),
            None => (rest, None),
        };
        let (name, revision) = match name.split_once('@') {
            Some((name, revision)) => (name, Some(revision)),
            None => (name, None),
        };
        let is_inside = |path: &str| path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        let is_id = is_part(owner) && is_part(name);
        let rest_fits = revision.is_none_or(is_revision) && file.is_none_or(is_inside);
        (is_id && rest_fits).then(|| Id {
            owner: owner.into(),
            name: name.into(),
            revision: revision.map(str::to_string),
            file: file.map(str::to_string),
        })
    }

    /// As it is typed, without the file.
    pub(super) fn folder(&self) -> String {
        let revision = self.revision.as_ref().map_or_else(String::new, |revision| format!("@{revision}"));
        format!("{}/{}{revision}", self.owner, self.name)
    }

    /// The line that downloads it.
    pub(super) fn download(&self) -> String {
        let revision = self.revision.as_ref().map_or_else(String::new, |r| format!(" --revision {r}"));
        format!("hf download {}/{}{revision}", self.owner, self.name)
    }
}

/// Whether the hub allows that as the name of an owner or a repository.
fn is_part(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let holds = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    begins && holds && text.len() <= 96 && !text.contains("--") && !text.contains("..")
}

/// A branch, a tag, or the beginning of a commit's name.
fn is_revision(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.chars().all(plain) && !text.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        let id = |text: &str| Id::of(Path::new(text)).map(|id| (id.folder(), id.file));
        assert_eq!(id("Qwen/Qwen3-0.6B"), Some(("Qwen/Qwen3-0.6B".into(), None)));
        assert_eq!(id("a/b@v1.0"), Some(("a/b@v1.0".into(), None)));
        assert_eq!(id("a/b/q4/m.gguf"), Some(("a/b".into(), Some("q4/m.gguf".into()))));
        for text in [
            "model", "./model", "../a/b", "/a/b", "~/a", "a/", "a//b", "a/b/", "a/..", "a/b@", "a/b@../c",
            "a b/c",
        ] {
            assert_eq!(id(text), None, "{text}");
        }
    }
}
