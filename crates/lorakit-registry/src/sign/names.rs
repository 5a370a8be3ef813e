//! Names of files in a model, and paths that are not part of it.

use std::collections::BTreeSet;

use super::problem::Problem;
use crate::Result;

/// Paths at the root of every model that are never signed (section 6.2).
const DEFAULTS: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];

/// Whether `name` is relative, in its shortest form, and stays in its folder (section 6.1.2).
pub(super) fn is_canonical(name: &str) -> bool {
    let proper = |part: &str| !matches!(part, "" | "." | "..");
    !name.contains('\0') && name.split('/').all(proper)
}

/// Paths that are not part of a model: files, and folders with all that is in them.
///
/// Each is an exact path from the root of the model. Git's own files at the root are always among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored(BTreeSet<String>);

impl Default for Ignored {
    fn default() -> Self {
        Ignored(DEFAULTS.iter().map(ToString::to_string).collect())
    }
}

impl Ignored {
    /// Adds a path, which may begin with `./`.
    ///
    /// # Errors
    /// `ErrorKind::File(Corrupt)` for a path that leaves the model, is the model, or holds `*`, `?` or `[`, which the
    /// specification forbids.
    pub fn insert(&mut self, path: &str) -> Result<()> {
        let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        let wild = path.contains(['*', '?', '[', '\0']);
        if path.starts_with('/') || wild || parts.is_empty() || parts.contains(&"..") {
            return Err(Problem::IgnoredPath { path: path.into() }.into());
        }
        self.0.insert(parts.join("/"));
        Ok(())
    }

    /// Whether the file or folder called `name` is one of the paths, or inside one.
    pub fn covers(&self, name: &str) -> bool {
        let ends = name.match_indices('/').map(|(at, _)| at).chain([name.len()]);
        ends.into_iter().any(|end| self.0.contains(&name[..end]))
    }

    /// The paths, in order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_path_is_exact_and_covers_what_is_in_it() {
        let mut ignored = Ignored::default();
        for path in ["cache", "./a//b/", "logs/x"] {
            ignored.insert(path).unwrap();
        }
        for name in [".git", ".git/HEAD", "cache", "cache/x/y", "a/b", "a/b/c", "logs/x"] {
            assert!(ignored.covers(name), "{name}");
        }
        for name in ["sub/.git", ".gitmodules", "cached", "sub/cache", "a", "a/bc", "logs", "logs/y"] {
            assert!(!ignored.covers(name), "{name}");
        }
    }

    #[test]
    fn a_path_that_would_ignore_more_than_itself_is_refused() {
        for path in ["", ".", "./", "/", "/etc", "..", "a/../..", "*.bin", "a?", "[ab]", "a\0"] {
            let error = Ignored::default().insert(path).unwrap_err();
            assert!(error.to_string().contains("ignore"), "{path:?}: {error}");
        }
    }

    #[test]
    fn names_have_one_form() {
        assert!(["a", "a/b", ".hidden", "a:0:5", "ä ö", "..."].iter().all(|name| is_canonical(name)));
        assert!(
            !["", "/a", "a/", "a//b", "./a", "a/./b", "..", "a/../b", "a\0"].iter().any(|n| is_canonical(n))
        );
    }
}
