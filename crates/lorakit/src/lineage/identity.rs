//! What an input is called: by the hub, or by whoever named its folder.

use std::path::Path;

use crate::adapter::is_local_path;
use crate::hub::HubOrigin;
use crate::{Model, ModelConfig};

/// A name, and the revision if the hub's local cache says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) revision: Option<String>,
}

impl Identity {
    /// That of a file or folder: its id if it is in the hub's local cache, else its own name.
    pub(super) fn of_path(path: &Path) -> Self {
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        cached(&whole).unwrap_or_else(|| Identity { name: last_component(path), revision: None })
    }

    /// That of a model: what its configuration says, if that is a name and not a path, else that of its path.
    pub(super) fn of_model(model: &Model) -> Self {
        let by_path = Identity::of_path(&model.path);
        if by_path.revision.is_some() {
            return by_path;
        }
        match public_name(model.config.as_ref()) {
            Some(name) => Identity { name, revision: None },
            None => by_path,
        }
    }

    /// The id on the hub.
    pub(super) fn id(&self) -> Option<String> {
        is_id(&self.name).then(|| self.name.clone())
    }
}

/// The name that a configuration gives its model, unless it is a path.
pub(super) fn public_name(config: Option<&ModelConfig>) -> Option<String> {
    let name = config?.entry("_name_or_path")?.as_str()?;
    (!name.is_empty() && !is_local_path(name)).then(|| name.to_string())
}

/// Whether the hub would take `name` for the id of a model: `OWNER/NAME`. Its old ids without an owner are left out,
/// because folders have such names too.
pub(super) fn is_id(name: &str) -> bool {
    let part = |part: &str| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            && edge(part.chars().next())
            && edge(part.chars().next_back())
    };
    let Some((owner, model)) = name.split_once('/') else { return false };
    part(owner)
        && part(model)
        && name.len() <= 96
        && !name.contains("--")
        && !name.contains("..")
        && !name.ends_with(".git")
}

/// The last part of an id or a name.
pub(super) fn short(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn cached(path: &Path) -> Option<Identity> {
    let HubOrigin { id, revision, inside } = HubOrigin::of(path)?;
    // Anything deeper is a part of the repository.
    let whole = inside.as_os_str().is_empty() && is_id(&id);
    whole.then_some(Identity { name: id, revision: Some(revision) })
}

/// The name of a file or folder, without its directory.
fn last_component(path: &Path) -> String {
    let real = || std::fs::canonicalize(path).ok()?.file_name().map(ToOwned::to_owned);
    let name = path.file_name().map(ToOwned::to_owned).or_else(real);
    name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_what_the_hub_takes_for_one() {
        for id in ["org/model", "01-ai/Yi-1.5-6B", "a/b_c.d-e", "_a/b_"] {
            assert!(is_id(id), "{id}");
        }
        let long = format!("a/{}", "b".repeat(95));
        for name in [
            "gpt2", "", "/", "a/", "/b", "a/b/c", "./a", "../b", "a/b--c", "a/..", "a/b.git", "a/b c", "ä/b",
            "-a/b", &long,
        ] {
            assert!(!is_id(name), "{name}");
        }
    }

    #[test]
    fn a_cached_model_is_known_by_its_id() {
        let of = |path: &str| Identity::of_path(Path::new(path));
        let cached = of("/home/x/.cache/huggingface/hub/models--org--a-model/snapshots/1a2b");
        assert_eq!(cached, Identity { name: "org/a-model".into(), revision: Some("1a2b".into()) });
        for (path, name) in [
            ("/x/models--org--a/snapshots/1a2b/transformer", "transformer"),
            ("/x/models--org--a/snapshots/1a2b/model.gguf", "model.gguf"),
            ("/x/models--org--a/snapshots", "snapshots"),
            ("/x/models--gpt2/snapshots/1a2b", "1a2b"),
            ("/x/org--a/snapshots/1a2b", "1a2b"),
            ("/x/style", "style"),
        ] {
            assert_eq!(of(path), Identity { name: name.into(), revision: None }, "{path}");
        }
    }
}
