//! Paths and their components.

/// The last component of a path.
pub(crate) fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or_default()
}

/// The module that a parameter belongs to: `m.q` of `m.q.weight`.
pub(crate) fn module_of(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(module, _)| module)
}
