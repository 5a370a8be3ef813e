//! Paths and their components.

/// The last component of a path.
pub(crate) fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or_default()
}

/// The rest of a path after each of its dots: `b.c` and `c` for `a.b.c`.
pub(crate) fn after_dots(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('.').map(|(dot, _)| &path[dot + 1..])
}

/// The path, and the rest of it after each of its dots.
pub(crate) fn ends(path: &str) -> impl Iterator<Item = &str> {
    std::iter::once(path).chain(after_dots(path))
}

/// Whether `path` is `end`, or ends in it after a dot.
pub(crate) fn ends_in(path: &str, end: &str) -> bool {
    path.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The module to which a parameter belongs: `m.q` for `m.q.weight`.
pub(crate) fn module_of(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(module, _)| module)
}
