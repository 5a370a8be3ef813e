//! Paths and their components.

/// The last component of a path.
pub(crate) fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or_default()
}

/// The module to which a parameter belongs: `m.q` for `m.q.weight`.
pub(crate) fn module_of(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(module, _)| module)
}
